"""Benchmarks: open-loop load on a cluster, measured and reported."""

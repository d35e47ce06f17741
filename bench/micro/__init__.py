"""Micro benchmarks: what one operation costs (pytest-benchmark)."""

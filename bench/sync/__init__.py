"""Benchmark of catching up: a node that is far behind, and those that serve it."""

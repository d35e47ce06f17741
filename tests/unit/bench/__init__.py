"""The benchmarks' own arithmetic, input and output; no figure is asserted."""

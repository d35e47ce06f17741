"""Small contracts of general use: a SmallBank for benchmarks, a token. Sources, read as text (`contracts.sources`)."""

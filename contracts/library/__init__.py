"""Small contracts of general use: a SmallBank for benchmarks, a token, counters. Sources, read as text (`contracts.sources`)."""

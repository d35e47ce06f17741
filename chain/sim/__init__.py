"""The simulator: the consensus core of several nodes under a virtual clock, with seeded faults, checked after every step."""

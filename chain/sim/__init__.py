"""The simulators: consensus cores, or whole nodes, under a virtual clock; seeded faults, checked after every step."""

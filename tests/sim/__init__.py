"""A deterministic simulator: whole clusters of the unchanged consensus core on a virtual clock, faults drawn from one seed."""

"""A deterministic simulator: clusters of the unchanged core on a virtual clock, all faults drawn from one seed."""

"""Whole nodes under a virtual clock: `chain.node.Node` itself, with its driver, stages, pool, sync and stores.

Below it a simulated network and simulated disks, struck by seeded faults; checked after every commit and message.
"""

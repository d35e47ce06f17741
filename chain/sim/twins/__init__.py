"""Twins: clusters in which validators run as two processes, through enumerated partitions, leaders and rounds."""

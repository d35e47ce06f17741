"""Whole nodes under a virtual clock."""

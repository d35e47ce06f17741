"""Explicit-state search: every order in which a few replicas of the core may hear a few messages."""

"""Bugs planted in consensus, sync, journal and storage, and mutations of every guard: what the tests must notice."""

"""Deterministic multi-contract execution: the bytes of serial execution, on any number of executor processes."""

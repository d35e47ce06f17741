"""Deterministic multi-contract execution: the bytes of serial execution, on any number of executor processes."""

from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats, QueryInput, QueryOutput

__all__ = ["ExecutionInput", "ExecutionOutput", "ExecutionStats", "QueryInput", "QueryOutput"]

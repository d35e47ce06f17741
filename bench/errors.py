"""What can go wrong with a benchmark that is nobody's bug."""

from __future__ import annotations

from chain.errors import HeadraceError


class BenchError(HeadraceError):
    """A run could not be made, a workload failed where it must not, or a result cannot be used."""


class NotAResult(BenchError):
    """A file that a command was given is missing, or holds no result that it could use."""

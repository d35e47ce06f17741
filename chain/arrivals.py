"""How much comes in: what a part that gathers work before it acts needs to know, to wait only where waiting pays."""

from __future__ import annotations

import math
from typing import Final

MEMORY_S: Final = 0.1  # what came in longer ago than this counts little


class Arrivals:
    """An exponentially weighted count. Times are seconds of the caller's clock, never decreasing."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._at = 0.0
        self._level = 0.0

    def add(self, count: int, now: float) -> None:
        """So many came in at `now`."""
        self._level = self._level * math.exp((self._at - now) / MEMORY_S) + count
        self._at = now

    def expected(self, within_s: float) -> float:
        """How many more come within that time of the last arrival, if things go on as they did."""
        return self._level * within_s / MEMORY_S

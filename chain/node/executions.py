"""How recent blocks were executed here, and totals since the start: what the API, the metrics and an operator look at.

All of it is local: two nodes, or two runs of one, execute the same block differently and come to the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import Final

from chain.types import Height
from executor import ExecutionStats

HEIGHTS_KEPT: Final = 4_096
SHARD_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)  # upper bounds of the histogram, included


@dataclass(frozen=True, slots=True)
class BlockExecution:
    """One executed block."""

    height: Height
    transactions: int
    stats: ExecutionStats


class Executions:
    """The last `HEIGHTS_KEPT` heights, and counters of everything that was executed since the start; what was executed
    too early and discarded is not in them."""

    def __init__(self) -> None:
        self._recent: dict[Height, BlockExecution] = {}
        self.decisions: Counter[tuple[str, str]] = Counter()  # blocks by (mode, reason)
        self.transactions = 0
        self.reexecuted = 0
        self.conflicts_predicted = 0
        self.conflicts_actual = 0
        self.busy_us: Counter[int] = Counter()  # by executor
        self.shards_total = 0  # of blocks that ran in parallel
        self.shard_counts = [0] * (len(SHARD_BOUNDS) + 1)  # of these by number of shards; last: beyond

    def add(self, height: int, transactions: int, stats: ExecutionStats) -> None:
        """A block was executed."""
        at = Height(height)
        self._recent[at] = BlockExecution(at, transactions, stats)
        while len(self._recent) > HEIGHTS_KEPT:
            del self._recent[next(iter(self._recent))]
        self.decisions[stats.mode, stats.reason] += 1
        self.transactions += transactions
        self.reexecuted += stats.reexecuted
        self.conflicts_predicted += stats.conflicts_predicted
        self.conflicts_actual += stats.conflicts_actual
        for executor, busy_us in enumerate(stats.busy_us):
            self.busy_us[executor] += busy_us
        if stats.mode == "parallel":
            self.shards_total += stats.shards
            self.shard_counts[bisect_left(SHARD_BOUNDS, stats.shards)] += 1

    def recent(self, first: int, limit: int) -> list[BlockExecution]:
        """Ascending from `first`, at most `limit` heights that are still kept."""
        return [entry for height, entry in sorted(self._recent.items()) if height >= first][:limit]

"""When each stage worked on each height, and how much the stages overlapped: figures, not claims."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from chain.types import Height

STAGES: Final = ("pack", "consensus", "execute", "checkpoint", "store")
HEIGHTS_KEPT: Final = 4_096
SAMPLED: Final = {"accept": 13, "consensus": 7}  # primes, so that what recurs in every block does not fall in step


def now_us() -> int:
    """Microseconds of a clock shared by all processes of one machine."""
    return time.monotonic_ns() // 1_000


@dataclass(slots=True)
class HeightSpans:
    """Start and end of each stage for one height, in microseconds; a stage that has not ended has no span yet."""

    height: Height
    transactions: int = 0
    started: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)


class Spans:
    """The last `HEIGHTS_KEPT` heights' spans."""

    def __init__(self) -> None:
        self._heights: dict[Height, HeightSpans] = {}

    def begin(self, stage: str, height: Height) -> None:
        """The first begin counts: a height proposed again after a view change began when it first did."""
        self._of(height).started.setdefault(stage, now_us())

    def end(self, stage: str, height: Height) -> None:
        entry = self._heights.get(height)
        if entry is not None and stage in entry.started:
            entry.spans.setdefault(stage, (entry.started[stage], now_us()))

    def record(self, stage: str, height: Height, start_us: int, end_us: int) -> None:
        self._of(height).spans[stage] = (start_us, end_us)

    def count(self, height: Height, transactions: int) -> None:
        self._of(height).transactions = transactions

    def recent(self, first: Height, limit: int) -> list[HeightSpans]:
        """Ascending from `first`, at most `limit` heights that are still kept."""
        return [entry for height, entry in sorted(self._heights.items()) if height >= first][:limit]

    def _of(self, height: Height) -> HeightSpans:
        entry = self._heights.get(height)
        if entry is None:
            entry = self._heights[height] = HeightSpans(height)
            while len(self._heights) > HEIGHTS_KEPT:
                del self._heights[next(iter(self._heights))]
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """Of a run of heights: mean milliseconds and busy microseconds per stage, and the overlap.

    `overlap` is the time the stages were busy, summed over stages, over the time at least one was: 1.0 means one after
    the other, 2.0 that on average two stages worked at the same time.
    """

    heights: int
    transactions: int
    mean_ms: dict[str, float]
    busy_us: dict[str, int]
    overlap: float


def summarize(entries: Sequence[HeightSpans]) -> StageSummary:
    mean_ms: dict[str, float] = {}
    busy_us: dict[str, int] = {}
    everything: list[tuple[int, int]] = []
    for stage in STAGES:
        spans = [entry.spans[stage] for entry in entries if stage in entry.spans]
        if not spans:
            continue
        mean_ms[stage] = sum(end - start for start, end in spans) / len(spans) / 1_000
        merged = list(merge(spans))
        busy_us[stage] = sum(end - start for start, end in merged)
        everything.extend(merged)
    union = sum(end - start for start, end in merge(everything))
    return StageSummary(
        heights=len(entries),
        transactions=sum(entry.transactions for entry in entries),
        mean_ms=mean_ms,
        busy_us=busy_us,
        overlap=sum(busy_us.values()) / union if union else 0.0,
    )


def merge(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The union of intervals as disjoint ascending intervals."""
    current: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if current is None:
            current = (start, end)
        elif start <= current[1]:
            current = (current[0], max(current[1], end))
        else:
            yield current
            current = (start, end)
    if current is not None:
        yield current


class CpuMeter:
    """CPU microseconds of the calling thread, by the kind of work. Safe from several threads: one adds at a time
    under the interpreter's lock, and a lost microsecond would not matter.

    Reading the thread's clock is a system call, which costs as much as some of what is measured. So of the works in
    `SAMPLED`, which are many and short, one in so many is measured and counts for all of them.
    """

    def __init__(self) -> None:
        self.spent_us: dict[str, int] = {}
        self._unmeasured = dict.fromkeys(SAMPLED, 0)  # until the next that is

    def measure(self, work: str) -> AbstractContextManager[None]:
        """Around synchronous work only: an await inside would charge other tasks to it."""
        left = self._unmeasured.get(work)
        if left is None:
            return _Measured(self, work, 1)
        if left:
            self._unmeasured[work] = left - 1
            return _UNMEASURED
        self._unmeasured[work] = SAMPLED[work] - 1
        return _Measured(self, work, SAMPLED[work])

    def add(self, work: str, spent_us: int) -> None:
        self.spent_us[work] = self.spent_us.get(work, 0) + spent_us


class _Measured:
    """Charges what runs inside it. A class, because a generator would cost as much as some of what is measured."""

    __slots__ = ("_counts_for", "_meter", "_start", "_work")

    def __init__(self, meter: CpuMeter, work: str, counts_for: int) -> None:
        self._meter = meter
        self._work = work
        self._counts_for = counts_for

    def __enter__(self) -> None:
        self._start = time.thread_time_ns()

    def __exit__(self, *_: object) -> None:
        self._meter.add(self._work, (time.thread_time_ns() - self._start) * self._counts_for // 1_000)


class _Unmeasured:
    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_UNMEASURED: Final = _Unmeasured()

"""The arithmetic of a run: percentiles, the distribution, throughput over time, the knee of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.cluster.records import Records
from bench.cluster.results import Latency, Slices

Times = NDArray[np.float64]

CDF_EVEN: Final = 160  # points up to 99 %
CDF_TAIL: Final = 40  # points beyond, denser and denser
SLICE: Final = 100_000  # transactions; shorter runs are cut into ten slices
SLICES_MIN: Final = 2
SLICES_SHORT: Final = 10


def latencies_ms(records: Records, first: float, last: float) -> Times:
    """Of the transactions due in first..last and certified ever, from the intended send time."""
    counted = (records.due >= first) & (records.due < last) & ~np.isnan(records.certified)
    return (records.certified[counted] - records.due[counted]) * 1_000


def count_between(times: Times, first: float, last: float) -> int:
    """How many lie in first..last, `last` not included; NaN lies nowhere."""
    return int(np.count_nonzero((times >= first) & (times < last)))


def percentile(values: Times, share: float) -> float:
    """The smallest value that `share` percent of all do not exceed: one that was measured, never between two.

    Raises:
        ValueError: there are no values.
    """
    if len(values) == 0:
        raise ValueError("no values")
    return float(np.partition(values, (at := _rank(len(values), share / 100)))[at])


def _rank(count: int, share: float) -> int:
    """The place, in ascending order, of the first of so many values that `share` of them do not exceed."""
    exact = round(share * count, 6)  # 0.999 x 1,000 is a little over 999 in floating point
    return min(count, max(1, math.ceil(exact))) - 1


def latency_of(values: Times) -> Latency | None:
    """None: there are no values."""
    if len(values) == 0:
        return None
    p50, p90, p95, p99, p999 = (round(percentile(values, share), 2) for share in (50, 90, 95, 99, 99.9))
    return Latency(
        p50=p50, p90=p90, p95=p95, p99=p99, p999=p999, max=round(float(values.max()), 2),
        mean=round(float(values.mean()), 2),
    )  # fmt: skip


def distribution(values: Times) -> list[tuple[float, float]]:
    """About 200 points (milliseconds, share of the values that are not above), denser towards the end."""
    if len(values) == 0:
        return []
    even = np.linspace(0, 0.99, CDF_EVEN, endpoint=False)
    tail = 1 - np.logspace(-2, -5, CDF_TAIL)
    shares = np.concatenate((even, tail, [1.0]))
    ordered = np.sort(values)
    return [(round(float(ordered[_rank(len(ordered), share)]), 2), round(float(share), 6)) for share in shares]


def per_second(times: Times, seconds: float) -> list[int]:
    """How many fall into each whole second from 0 on; NaN into none."""
    known = times[~np.isnan(times)]
    counts, _ = np.histogram(known, bins=np.arange(0, int(np.ceil(seconds)) + 1))
    return [int(count) for count in counts]


def slices_of(certified: Times, *, size: int | None = None) -> Slices | None:
    """Throughput of consecutive runs of `size` certified transactions, in the order in which they were certified.

    None: there are too few for two of them.
    """
    times = np.sort(certified[~np.isnan(certified)])
    if size is None:
        size = SLICE if len(times) >= SLICES_MIN * SLICE else len(times) // SLICES_SHORT
    if size == 0 or len(times) <= SLICES_MIN * size:
        return None
    edges = times[::size]  # of slice k: from the moment its first was certified to that of the next slice's first
    lengths = np.diff(edges)
    if not (lengths > 0).all():
        return None
    tps = [round(float(size / length), 1) for length in lengths]
    return Slices(transactions=size, tps=tps, last_against_first=round(tps[-1] / tps[0], 4))


def sustained(*, offered_tps: float, tps: float, p99_ms: float | None, share_min: float, p99_ms_max: float) -> bool:
    """Whether a point of a sweep keeps up: enough of what is offered is certified, and in time."""
    return not falls_short(
        offered_tps=offered_tps, tps=tps, p99_ms=p99_ms, share_min=share_min, p99_ms_max=p99_ms_max
    )


def falls_short(*, offered_tps: float, tps: float, p99_ms: float | None, share_min: float, p99_ms_max: float) -> str:
    """Why a point of a sweep does not keep up, in words; empty: it does."""
    if tps < share_min * offered_tps:  # cut, not rounded: 96.98 % is not 97
        certified = math.floor(round(tps / offered_tps * 1_000, 6)) / 10
        return f"{certified:g} % certified, at least {share_min * 100:g} % needed"
    if p99_ms is None:
        return "nothing certified in time"
    return "" if p99_ms <= p99_ms_max else f"p99 is {p99_ms:g} ms, at most {p99_ms_max:g} ms allowed"


def not_tried(rates: Sequence[float], tried: Sequence[float]) -> str:
    """The rates of a list above all that were tried, in words; empty: there are none."""
    left = [f"{rate:g}" for rate in rates if rate > max(tried, default=0.0)]
    return f"not tried: {', '.join(left)}/s" if left else ""


def next_rate(
    known: Sequence[tuple[float, bool]], *, start: float, factor: float, highest: float, refine: int
) -> float:
    """The rate that a rising sweep tries next, 0.0 when it is over.

    `known` are the rates tried so far and whether each was sustained. It rises by `factor` until one is not, then
    halves the gap between the two `refine` times (on a logarithmic scale).
    """
    good = max((rate for rate, kept in known if kept), default=0.0)
    bad = min((rate for rate, kept in known if not kept), default=0.0)
    if not known:
        return start
    if not bad:
        return good * factor if good * factor <= highest else 0.0
    if not good or bad <= good or _halvings(known) >= refine:
        return 0.0
    return float(np.sqrt(good * bad))


def _halvings(known: Sequence[tuple[float, bool]]) -> int:
    """How many were tried after the first that was not sustained."""
    first_bad = next(at for at, (_, kept) in enumerate(known) if not kept)
    return len(known) - first_bad - 1

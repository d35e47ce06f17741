"""From what was observed of one load to its figures. No input, no output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.cluster.figures import count_between, distribution, latencies_ms, latency_of, per_second, slices_of
from bench.cluster.load import LoadCost
from bench.cluster.measure import NodeSample
from bench.cluster.plan import ClusterPlan
from bench.cluster.records import Records
from bench.cluster.results import (
    Counts,
    Cpu,
    Disk,
    HeightSpan,
    Injected,
    LoadFigures,
    Memory,
    Point,
    Role,
    Series,
    Stages,
)
from bench.cluster.sampling import Sampler
from chain.pipeline.spans import HeightSpans, summarize

SPANS_SHOWN: Final = 20
ORDERED: Final = "consensus"  # the stage at whose end a height is ordered
LAST: Final = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a point is for: `rate` in transactions a second, `seconds` of window after the plan's warm-up. The points of
    one network have different seeds, so that none repeats what another has done."""

    role: Role
    repeat: int
    rate: float
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The measured part of a load. `first` and `last` in seconds from its start, which is `start_s` on the monotonic
    clock and `epoch_us` on the system's. `memory` before the load, in the middle and at the end."""

    start_s: float
    epoch_us: int
    first: float
    last: float
    before: Sequence[NodeSample | None]
    after: Sequence[NodeSample | None]
    memory: list[Memory]
    disk: tuple[float, float] | None

    @property
    def seconds(self) -> float:
        return self.last - self.first


def point_of(
    plan: ClusterPlan, aim: Aim, window: Window, records: Records, cost: LoadCost, sampler: Sampler, *,
    faults: list[Injected], missing: Sequence[str],
) -> Point:  # fmt: skip
    """All figures of a load."""
    first, last = window.first, window.last
    certified = count_between(records.certified, first, last)
    values = latencies_ms(records, first, last)
    inside = heights_between(sampler.heights, window)
    failed = records.failures()
    ends = float(np.nanmax(records.certified)) if not np.isnan(records.certified).all() else last
    transactions = sum(entry.transactions for entry in inside)
    count = max(1, records.offered)
    restarted = any(fault.kind != "freeze" for fault in faults)  # its counters began anew
    return Point(
        role=aim.role,
        repeat=aim.repeat,
        seed=aim.seed,
        offered_tps=aim.rate,
        closed_loop=bool(plan.in_flight_max),
        warmup_s=first,
        seconds=round(window.seconds, 3),
        tps=round(certified / window.seconds, 1),
        counts=Counts(
            offered=count_between(records.due, first, last),
            accepted=count_between(np.where(records.codes == 0, records.answered, np.nan), first, last),
            ordered=None if missing else ordered_in(sampler.heights, window),
            certified=certified,
        ),
        failed=sum(failed.values()),
        failed_by_reason=failed,
        latency_ms=latency_of(values),
        cdf=distribution(values),
        blocks=sum(1 for entry in inside if entry.transactions),
        transactions_per_block=round(transactions / max(1, sum(1 for entry in inside if entry.transactions)), 1),
        cpu=None if restarted else cpu_of(window, records),
        stages=stages_of(inside, window),
        depths=sampler.depths(window.start_s + first, window.start_s + last),
        spans=spans_of(inside, window),
        memory=window.memory,
        disk=_disk(window, certified),
        slices=slices_of(
            records.certified[(records.certified >= first) & (records.certified < last)],
            size=plan.slice_transactions or None,
        ),
        series=Series(
            accepted=per_second(np.where(records.codes == 0, records.answered, np.nan), max(last, ends)),
            certified=per_second(records.certified, max(last, ends)),
        ),
        samples=sampler.samples(window.start_s),
        load=LoadFigures(
            processes=plan.load_processes,
            send_us_per_tx=round(cost.send_s * 1e6 / count, 1),
            watch_us_per_tx=round(cost.watch_s * 1e6 / count, 1),
            sign_us_per_tx=round(cost.sign_s * 1e6 / len(records), 1),
            behind_ms_max=round(cost.behind_ms_max, 1),
        ),
        faults=faults,
        missing=list(missing),
    )


def cpu_of(window: Window, records: Records) -> Cpu | None:
    """Between the two times all nodes were looked at; None: a node was not there, or nothing was certified."""
    before = [one for one in window.before if one is not None]
    after = [one for one in window.after if one is not None]
    if not before or len(before) != len(window.before) or len(after) != len(window.after):
        return None
    start = sum(one.at_s for one in before) / len(before)
    end = sum(one.at_s for one in after) / len(after)
    certified = count_between(records.certified, start - window.start_s, end - window.start_s)
    if not certified:
        return None
    pairs = list(zip(before, after, strict=True))
    nodes = len(pairs)
    spent = sum(late.cpu_s - early.cpu_s for early, late in pairs)
    works = sorted({name for one in after for name in one.work_s})
    by_work = {
        name: sum(late.work_s.get(name, 0.0) - early.work_s.get(name, 0.0) for early, late in pairs) for name in works
    }
    return Cpu(
        us_per_tx_per_node=round(spent * 1e6 / certified / nodes, 1),
        by_work_us={name: round(value * 1e6 / certified / nodes, 1) for name, value in by_work.items()},
        busy_share={name: round(value / (end - start) / nodes, 4) for name, value in by_work.items()},
        cores_per_node=round(spent / (end - start) / nodes, 3),
    )


def heights_between(heights: Sequence[HeightSpans], window: Window) -> list[HeightSpans]:
    """Those that were stored within the window; if the nodes' clock is another, all that were loaded."""
    first_us, last_us = (window.epoch_us + int(at * 1e6) for at in (window.first, window.last))
    inside = [entry for entry in heights if LAST in entry.spans and first_us <= entry.spans[LAST][1] < last_us]
    return inside or [entry for entry in heights if LAST in entry.spans]


def ordered_in(heights: Sequence[HeightSpans], window: Window) -> int:
    """Transactions of the heights that were ordered within the window."""
    first_us, last_us = (window.epoch_us + int(at * 1e6) for at in (window.first, window.last))
    return sum(
        entry.transactions
        for entry in heights
        if ORDERED in entry.spans and first_us <= entry.spans[ORDERED][1] < last_us
    )


def stages_of(heights: Sequence[HeightSpans], window: Window) -> Stages:
    summary = summarize(heights)
    return Stages(
        overlap=round(summary.overlap, 3),
        mean_ms={stage: round(value, 2) for stage, value in summary.mean_ms.items()},
        busy_share={stage: round(busy / 1e6 / window.seconds, 4) for stage, busy in summary.busy_us.items()},
    )


def spans_of(heights: Sequence[HeightSpans], window: Window) -> list[HeightSpan]:
    """Consecutive heights from the middle of those in the window."""
    start = max(0, (len(heights) - SPANS_SHOWN) // 2)
    zero = window.epoch_us + int(window.first * 1e6)
    return [
        HeightSpan(
            height=entry.height,
            transactions=entry.transactions,
            stages={stage: (begin - zero, end - zero) for stage, (begin, end) in entry.spans.items()},
        )
        for entry in heights[start : start + SPANS_SHOWN]
    ]


def _disk(window: Window, certified: int) -> Disk | None:
    if window.disk is None:
        return None
    start, end = window.disk
    return Disk(bytes_start=start, bytes_end=end, bytes_per_tx=round((end - start) / max(1, certified), 1))

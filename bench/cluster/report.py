"""The result of a run: figures computed from what was measured, and their text form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.cluster.load import LoadResult
from bench.cluster.measure import NodeSample

PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p999": 99.9, "max": 100}


def latencies_ms(load: LoadResult, first: float, last: float) -> list[float]:
    """Of the transactions due in the window and certified, from the intended send time."""
    return [
        (certified - due) * 1_000
        for due, certified in zip(load.due, load.certified, strict=True)
        if first <= due < last and certified is not None
    ]


def failures(load: LoadResult) -> dict[str, int]:
    """Of the whole run, by reason: refused at the API, reverted, or not certified in time."""
    reasons = Counter(load.refused)
    reasons["reverted"] = sum(
        certified is not None and not ok for certified, ok in zip(load.certified, load.ok, strict=True)
    )
    reasons["not_certified"] = sum(certified is None for certified in load.certified) - sum(load.refused.values())
    return {reason: count for reason, count in sorted(reasons.items()) if count}


def summarize_run(
    *,
    load: LoadResult,
    before: Sequence[NodeSample],
    after: Sequence[NodeSample],
    window: tuple[float, float],
    overlap: float,
    stage_mean_ms: dict[str, float],
) -> dict[str, Any]:
    """The fields of the JSON report that come from the measured window."""
    first, last = window
    certified = sum(at is not None and first <= at < last for at in load.certified)
    latencies = latencies_ms(load, first, last) or [0.0]
    failed = failures(load)
    nodes = len(before)
    per_tx = 1e6 / certified / nodes if certified else 0.0
    work = sorted({name for node in after for name in node.work_s})
    return {
        "tps": round(certified / (last - first), 1),
        "certified": certified,
        "latency_ms": {
            name: round(float(np.percentile(latencies, share, method="inverted_cdf")), 1)
            for name, share in PERCENTILES.items()
        },
        "cpu_us_per_tx_per_node": round(
            sum(end.cpu_s - start.cpu_s for start, end in zip(before, after, strict=True)) * per_tx, 1
        ),
        "cpu_us_per_tx_per_node_by_work": {
            name: round(
                sum(
                    end.work_s.get(name, 0.0) - start.work_s.get(name, 0.0)
                    for start, end in zip(before, after, strict=True)
                )
                * per_tx,
                1,
            )
            for name in work
        },
        "stage_overlap": round(overlap, 3),
        "stage_mean_ms": {stage: round(value, 2) for stage, value in stage_mean_ms.items()},
        "blocks": after[0].height - before[0].height,
        "failed": sum(failed.values()),
        "failed_by_reason": failed,
        "resident_mib_per_node": round(sum(node.resident_bytes for node in after) / nodes / 2**20, 1),
        "load_generator": {
            "cpu_us_per_tx": round(load.cpu_s * 1e6 / len(load.due), 1),
            "behind_ms_max": round(load.behind_ms_max, 1),
        },
    }


def render(result: dict[str, Any]) -> str:
    """The report for people."""
    latency = result["latency_ms"]
    by_work = result["cpu_us_per_tx_per_node_by_work"]
    load, box = result["load_generator"], result["machine"]
    works = "  ".join(f"{name} {value}" for name, value in by_work.items())
    stages = "  ".join(f"{stage} {value} ms" for stage, value in result["stage_mean_ms"].items())
    rows = {
        "offered": f"{result['offered_tps']:g} tx/s for {result['seconds']:g} s after {result['warmup_s']:g} s",
        "certified": f"{result['tps']} tx/s ({result['certified']} transactions in {result['blocks']} blocks)",
        "latency": f"p50 {latency['p50']}  p90 {latency['p90']}  p99 {latency['p99']}  max {latency['max']} ms",
        "failed": f"{result['failed']} {result['failed_by_reason'] or ''}",
        "CPU": f"{result['cpu_us_per_tx_per_node']} us per transaction and node: {works}",
        "stage overlap": f"{result['stage_overlap']} (1.0 = one after the other): {stages}",
        "memory": f"{result['resident_mib_per_node']} MiB resident per node",
        "load generator": f"{load['cpu_us_per_tx']} us CPU per transaction, at most {load['behind_ms_max']} ms late",
        "machine": f"{box['processor']}, {box['cores']} cores, commit {box['commit']}",
    }
    title = f"{result['workload']}: {result['nodes']} nodes, {result['executors']} executors each"
    return "\n".join([title, *[f"  {name:<16} {text}" for name, text in rows.items()]])

"""A result for people, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.cluster.figures import falls_short, not_tried
from bench.cluster.results import Knee, Memory, Point, Result, Run

_MB: Final = 1_000_000
OTHER_MIN_US: Final = 0.5  # less is rounding


def render(result: Result) -> str:
    """The whole result."""
    lines: list[str] = []
    for run in result.runs:
        lines += [_title(run), *([f"  {run.question}"] if run.question else [])]
        if len(run.points) > 1:
            lines += ["", *_table(run.points), ""]
        for knee in run.knees:
            lines += [f"  {_knee(knee)}", *[f"    {text}" for text in _beyond(run, knee)]]
        detailed = run.points if len(run.points) == 1 else [point for point in run.points if point.role == "soak"]
        for point in detailed or run.points[-1:]:
            lines += _details(run, point)
        lines.append("")
    return "\n".join([*lines, _machine(result)])


def nodes_in_words(plan: Mapping[str, Any]) -> str:
    """For instance "4 nodes", or of a network that ran already "4 validators, 2 of them addressed"."""
    count = plan["nodes"]
    if "urls" not in plan:
        return f"{count} node{'s' if count != 1 else ''}"
    of_them = f", {plan['addressed']} of them addressed" if "addressed" in plan else ""
    return f"{count} validator{'s' if count != 1 else ''}{of_them}"


def _title(run: Run) -> str:
    plan = run.plan
    delay = f", {plan['link_delay_ms']} ms between nodes" if plan["link_delay_ms"] else ""
    ablation = "".join(f", {switch} {setting}" for switch, setting in plan["ablation"].items())
    unsafe = " (UNSAFE: commits are not durable)" if plan["ablation"].get("fsync") == "off" else ""
    executors = f"{plan['executors']} executor{'s' if plan['executors'] != 1 else ''} each"
    return f"{run.name}: {plan['workload']}, {nodes_in_words(plan)}, {executors}{delay}{ablation}{unsafe}"


def _table(points: list[Point]) -> list[str]:
    """One row a point."""
    rows = [("point", "offered/s", "certified/s", "p50 ms", "p99 ms", "CPU us", "failed")]
    for point in points:
        latency = point.latency_ms
        rows.append(
            (
                f"{point.role} {point.repeat + 1}",
                f"{point.offered_tps:g}",
                f"{point.tps:g}",
                f"{latency.p50:g}" if latency else "-",
                f"{latency.p99:g}" if latency else "-",
                f"{point.cpu.us_per_tx_per_node:g}" if point.cpu else "-",
                f"{point.failed:,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _knee(knee: Knee) -> str:
    bound = f"at least {knee.certified_share_min:.0%} certified and p99 at most {knee.p99_ms_max:g} ms"
    if knee.offered_tps is None:
        return f"knee: below the first rate ({bound})"
    return f"knee: {knee.offered_tps:g} transactions a second offered, {knee.tps:g} certified ({bound})"


def _beyond(run: Run, knee: Knee) -> list[str]:
    """Why each rate of the knee's sweep that was not sustained was not, and which of its rates were not tried."""
    points = [point for point in run.points if point.role == "sweep" and point.repeat == knee.repeat]
    found = []
    for point in points:
        why = falls_short(
            offered_tps=point.offered_tps, tps=point.tps, p99_ms=point.latency_ms.p99 if point.latency_ms else None,
            share_min=knee.certified_share_min, p99_ms_max=knee.p99_ms_max,
        )  # fmt: skip
        found += [f"{point.offered_tps:g}/s not sustained: {why}"] if why else []
    left = not_tried((run.plan.get("sweep") or {}).get("rates", ()), [point.offered_tps for point in points])
    return [*found, left] if left else found


def _details(run: Run, point: Point) -> list[str]:
    latency, counts, load = point.latency_ms, point.counts, point.load
    offered = f"{point.offered_tps:g} tx/s" if not point.closed_loop else "closed loop"
    stages = "  ".join(f"{stage} {value} ms" for stage, value in point.stages.mean_ms.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in point.failed_by_reason.items())
    rows = {
        "offered": f"{offered} for {point.seconds:g} s after {point.warmup_s:g} s",
        "certified": f"{point.tps:g} tx/s in {point.blocks} blocks of {point.transactions_per_block:g}",
        "came through": f"offered {counts.offered:,}  accepted {counts.accepted:,}  "
        f"ordered {'unknown' if counts.ordered is None else f'{counts.ordered:,}'}  certified {counts.certified:,}",
        "latency": f"p50 {latency.p50:g}  p90 {latency.p90:g}  p95 {latency.p95:g}  p99 {latency.p99:g}  "
        f"p99.9 {latency.p999:g}  max {latency.max:g} ms"
        if latency
        else "nothing was certified",
        "failed": f"{point.failed:,} {reasons}".rstrip(),
        **_cpu(point),
        "stages": f"overlap {point.stages.overlap} (1.0 = one after the other): {stages}",
        "queues": "  ".join(f"{name} {depth.mean:g} (max {depth.max:g})" for name, depth in point.depths.items()),
        "memory": "; ".join(map(_memory, point.memory)),
        "disk": f"{point.disk.bytes_per_tx:,.0f} bytes a transaction" if point.disk else "unknown",
        "over time": _over_time(run, point),
        "load": f"{load.processes} processes: sending {load.send_us_per_tx}, watching {load.watch_us_per_tx}, signing "
        f"before {load.sign_us_per_tx} us CPU a transaction; at most {load.behind_ms_max} ms late",
        **{
            f"fault {at}": f"{fault.kind} {fault.node} at {fault.start_s:g} s"
            + (f", back at {fault.end_s:g} s" if fault.end_s is not None else "")
            for at, fault in enumerate(point.faults, 1)
        },
        **{f"missing {at}": text for at, text in enumerate(point.missing, 1)},
    }
    return [f"  {name:<13} {text}" for name, text in rows.items() if text]


def _over_time(run: Run, point: Point) -> str:
    """Empty in an open loop that goes by the clock: there the slices are what was offered."""
    if not (point.closed_loop or run.plan.get("transactions")):
        return ""
    if point.slices is None:
        return "too short"
    text = (
        f"slices of {point.slices.transactions:,}: first {point.slices.tps[0]:g}, last {point.slices.tps[-1]:g} tx/s "
        f"({point.slices.last_against_first:.1%})"
    )
    return text if point.closed_loop else f"{text}; in an open loop, below the knee, what was offered"


def _cpu(point: Point) -> dict[str, str]:
    """With what the nodes' own account leaves out of their processes' time as `other`, so that it adds up."""
    if point.cpu is None:
        return {"CPU": "unknown"}
    by_work, by_share = dict(point.cpu.by_work_us), dict(point.cpu.busy_share)
    beyond = point.cpu.us_per_tx_per_node - sum(by_work.values())
    if beyond > OTHER_MIN_US:
        by_work["other"] = round(beyond, 1)
        by_share["other"] = max(0.0, point.cpu.cores_per_node - sum(by_share.values()))
    works = "  ".join(f"{name} {value:g}" for name, value in by_work.items())
    shares = "  ".join(f"{name} {value:.1%}" for name, value in by_share.items())
    return {
        "CPU": f"{point.cpu.us_per_tx_per_node:g} us a transaction and node: {works}",
        "busy": f"{point.cpu.cores_per_node:g} cores a node; of one core: {shares}",
    }


def _memory(memory: Memory) -> str:
    text = f"at {memory.at_s:g} s {memory.resident / _MB:.0f} MB resident"
    if memory.pss is None or memory.pss_without_lmdb is None:
        return text
    return f"{text}, {memory.pss / _MB:.0f} PSS, {memory.pss_without_lmdb / _MB:.0f} PSS without LMDB"


def _machine(result: Result) -> str:
    box = result.machine
    speed = box["calibration"]
    lanes = speed.get("ed25519_verify_lanes_us")
    return (
        f"{box['processor']}, {box['cores']} cores ({speed.get('two_processes_gain', 'unknown')} x the work of one), "
        f"{box['memory_gib']} GiB, Python {box['python']}, commit {box['commit']}; sha256 of 200 bytes "
        f"{speed['sha256_200_bytes_us']} us, Ed25519 {speed['ed25519_verify_us']} us by library, "
        f"{f'{lanes} us' if lanes else 'not'} by lanes"
    )

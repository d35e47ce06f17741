"""A result for people, on the terminal."""

from __future__ import annotations

from typing import Final

from bench.cluster.results import Knee, Memory, Point, Result, Run

_MIB: Final = 2**20


def render(result: Result) -> str:
    """The whole result."""
    lines: list[str] = []
    for run in result.runs:
        lines += [_title(run), *([f"  {run.question}"] if run.question else [])]
        if len(run.points) > 1:
            lines += ["", *_table(run.points), ""]
        lines += [f"  {_knee(knee)}" for knee in run.knees]
        detailed = run.points if len(run.points) == 1 else [point for point in run.points if point.role == "soak"]
        for point in detailed or run.points[-1:]:
            lines += _details(point)
        lines.append("")
    return "\n".join([*lines, _machine(result)])


def _title(run: Run) -> str:
    plan = run.plan
    delay = f", {plan['link_delay_ms']} ms between nodes" if plan["link_delay_ms"] else ""
    ablation = "".join(f", {switch} {setting}" for switch, setting in plan["ablation"].items())
    unsafe = " (UNSAFE: commits are not durable)" if plan["ablation"].get("fsync") == "off" else ""
    return (
        f"{run.name}: {plan['workload']}, {plan['nodes']} nodes, {plan['executors']} executors each{delay}{ablation}"
        f"{unsafe}"
    )


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


def _details(point: Point) -> list[str]:
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
        "over time": f"slices of {point.slices.transactions:,}: first {point.slices.tps[0]:g}, last "
        f"{point.slices.tps[-1]:g} tx/s ({point.slices.last_against_first:.1%})"
        if point.slices
        else "too short",
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


def _cpu(point: Point) -> dict[str, str]:
    if point.cpu is None:
        return {"CPU": "unknown"}
    works = "  ".join(f"{name} {value:g}" for name, value in point.cpu.by_work_us.items())
    shares = "  ".join(f"{name} {value:.1%}" for name, value in point.cpu.busy_share.items())
    return {
        "CPU": f"{point.cpu.us_per_tx_per_node:g} us a transaction and node: {works}",
        "busy": f"{point.cpu.cores_per_node:g} cores a node; of one core: {shares}",
    }


def _memory(memory: Memory) -> str:
    text = f"at {memory.at_s:g} s {memory.resident / _MIB:.0f} MiB resident"
    if memory.pss is None or memory.pss_without_lmdb is None:
        return text
    return f"{text}, {memory.pss / _MIB:.0f} PSS, {memory.pss_without_lmdb / _MIB:.0f} PSS without LMDB"


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

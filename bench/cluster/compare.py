"""Two results side by side: what changed, and whether that is more than what differs between repeats anyway.

The interval is a bootstrap: repeats of either side are drawn again with replacement, and the middle 95 % of the
differences of their means is shown. With fewer than three repeats a side there is none, and the comparison says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from bench.cluster.results import Knee, Memory, Point, Result, Run
from bench.errors import BenchError

REPEATS_MIN: Final = 3  # of each side, for an interval
DRAWS: Final = 10_000
SEED: Final = 20_231
SHARE: Final = 0.95
GAIN_LEAST: Final = 1.8  # of two busy processes against one; below, others used the machine
_MB: Final = 1_000_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one run: means of A and B over repeats. `low` and `high` bound B - A; None: too few repeats.
    `differs` says whether the interval leaves 0 out. `comparable` False: A and B were measured in different ways, and
    nothing is said of their difference."""

    run: str
    role: str
    figure: str
    a: float
    b: float
    repeats_a: int
    repeats_b: int
    relative: float | None  # (B - A) / A
    low: float | None = None
    high: float | None = None
    differs: bool | None = None
    comparable: bool = True


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    a: str
    b: str
    notes: list[str]
    differences: list[Difference]


def compare(a: Result, b: Result) -> Comparison:
    """Runs of the same name; if each result has but one, those.

    Raises:
        BenchError: they have no run in common.
    """
    if len(a.runs) == len(b.runs) == 1:
        pairs = [(a.runs[0], b.runs[0])]
    else:
        others = {run.name: run for run in b.runs}
        pairs = [(run, others[run.name]) for run in a.runs if run.name in others]
    if not pairs:
        raise BenchError(f"no run in common: {_names(a)} and {_names(b)}")
    differences = [entry for one, other in pairs for entry in _differences(one, other)]
    return Comparison(a=_label(a), b=_label(b), notes=_notes(a, b, pairs, differences), differences=differences)


def interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """Bounds of mean(b) - mean(a); None: too few values."""
    if min(len(a), len(b)) < REPEATS_MIN:
        return None
    draw = np.random.default_rng(SEED)
    means = [
        np.asarray(values)[draw.integers(0, len(values), size=(DRAWS, len(values)))].mean(axis=1) for values in (a, b)
    ]
    low, high = np.quantile(means[1] - means[0], [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


_FIGURES: Final[dict[str, Callable[[Point], float | None]]] = {
    "certified, tx/s": lambda point: point.tps,
    "latency p50, ms": lambda point: point.latency_ms.p50 if point.latency_ms else None,
    "latency p99, ms": lambda point: point.latency_ms.p99 if point.latency_ms else None,
    "latency p99.9, ms": lambda point: point.latency_ms.p999 if point.latency_ms else None,
    "CPU, us/tx/node": lambda point: point.cpu.us_per_tx_per_node if point.cpu else None,
    "CPU without verify, us/tx/node": lambda point: (
        point.cpu.us_per_tx_per_node - point.cpu.by_work_us.get("verify", 0.0) if point.cpu else None
    ),
    "stage overlap": lambda point: point.stages.overlap,
    "memory, PSS without LMDB, MB": lambda point: _pss_mb(point.memory),
    "disk, bytes/tx": lambda point: point.disk.bytes_per_tx if point.disk else None,
    "failed": lambda point: float(point.failed),
}
# Of a network of the harness's own as the system says, of one that runs already as its nodes' metrics do.
_BY_METRICS: Final = ("CPU, us/tx/node", "CPU without verify, us/tx/node", "memory, PSS without LMDB, MB")


def _pss_mb(memory: Sequence[Memory]) -> float | None:
    last = memory[-1].pss_without_lmdb if memory else None
    return None if last is None else last / _MB


def _was_running(run: Run) -> bool:
    """Whether it loaded a network that ran already."""
    return "urls" in run.plan


def _differences(a: Run, b: Run) -> list[Difference]:
    found: list[Difference] = []
    knees = [_knees(run.knees) for run in (a, b)]
    if all(knees):
        found.append(_difference(a.name, "sweep", "knee, tx/s offered", *knees))
    for role in ("run", "soak"):
        points = [[point for point in run.points if point.role == role] for run in (a, b)]
        for figure, read in _FIGURES.items():
            values = [[value for point in side if (value := read(point)) is not None] for side in points]
            if all(values):
                comparable = figure not in _BY_METRICS or _was_running(a) == _was_running(b)
                found.append(_difference(a.name, role, figure, *values, comparable=comparable))
    return found


def _difference(
    run: str, role: str, figure: str, a: Sequence[float], b: Sequence[float], *, comparable: bool = True
) -> Difference:
    mean_a, mean_b = (sum(values) / len(values) for values in (a, b))
    bounds = interval(a, b) if comparable else None
    return Difference(
        run=run,
        role=role,
        figure=figure,
        a=round(mean_a, 3),
        b=round(mean_b, 3),
        repeats_a=len(a),
        repeats_b=len(b),
        relative=round((mean_b - mean_a) / mean_a, 4) if mean_a and comparable else None,
        low=round(bounds[0], 3) if bounds else None,
        high=round(bounds[1], 3) if bounds else None,
        differs=not bounds[0] <= 0 <= bounds[1] if bounds else None,
        comparable=comparable,
    )


def _knees(knees: Sequence[Knee]) -> list[float]:
    return [knee.offered_tps for knee in knees if knee.offered_tps is not None]


def _notes(
    a: Result, b: Result, pairs: Sequence[tuple[Run, Run]], differences: Sequence[Difference]
) -> list[str]:
    notes = []
    if any(entry.low is None for entry in differences if entry.comparable):
        fewest = min(min(entry.repeats_a, entry.repeats_b) for entry in differences)
        notes.append(
            f"too few repeats for intervals: {fewest}, at least {REPEATS_MIN} a side are needed; "
            "differences without one may be chance"
        )
    for name in ("processor", "cores", "python"):
        if a.machine.get(name) != b.machine.get(name):
            notes.append(f"{name} differs: {a.machine.get(name)} and {b.machine.get(name)}")
    for side, result in (("A", a), ("B", b)):
        gain = result.machine.get("calibration", {}).get("two_processes_gain")
        if gain is not None and gain < GAIN_LEAST:
            notes.append(f"{side}: two busy processes got {gain} x the work of one done: others used the machine")
    for one, other in pairs:
        if _was_running(one) != _was_running(other):
            side = "A" if _was_running(one) else "B"
            notes.append(
                f"{one.name}: {side} loaded a network that ran already, where CPU and memory are measured differently: "
                "by the nodes' own metrics, not by the system over all processes of a node; they are not compared"
            )
        changed = [key for key in one.plan if key not in ("name", "question") and one.plan[key] != other.plan.get(key)]
        if changed:
            text = "; ".join(f"{key} {one.plan[key]!r} and {other.plan.get(key)!r}" for key in changed)
            notes.append(f"{one.name}: plans differ: {text}")
    return notes


def render(comparison: Comparison) -> str:
    """A table for people."""
    lines = [f"A  {comparison.a}", f"B  {comparison.b}", *[f"!  {note}" for note in comparison.notes], ""]
    rows = [("run", "figure", "A", "B", "B - A", "95 % interval", "")]
    for entry in comparison.differences:
        bounds = "none" if entry.low is None or entry.high is None else f"{entry.low:+g} .. {entry.high:+g}"
        relative = "" if entry.relative is None else f" ({entry.relative:+.1%})"
        verdict = {None: "", True: "differs", False: "may be chance"}[entry.differs]
        where = entry.run if entry.role == "run" else f"{entry.run} {entry.role}"
        difference = f"{entry.b - entry.a:+g}{relative}" if abs(entry.b - entry.a) >= 1e-9 else "0"
        if not entry.comparable:
            difference, verdict = "-", "measured differently"
        rows.append((where, entry.figure, f"{entry.a:g}", f"{entry.b:g}", difference, bounds, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _label(result: Result) -> str:
    return f"{result.name}, {result.created}, commit {result.machine.get('commit', 'unknown')}"


def _names(result: Result) -> str:
    return ", ".join(run.name for run in result.runs) or "none"

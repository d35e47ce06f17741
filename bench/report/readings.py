"""What a report says of results: the points that count, means over repeats, runs that differ in one switch, ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from bench.cluster.compare import DRAWS, REPEATS_MIN, SEED, SHARE
from bench.cluster.results import Point, Run
from bench.report.sources import Source

Read = Callable[[Point], float | None]

MEGABYTE: Final = 1_000_000
UNSAFE: Final = "UNSAFE: commits are not durable"
# Of a plan: what says how it is measured and not what; runs may differ in these and be compared.
_ASIDE: Final = {
    "name", "question", "seed", "repeats", "drain_s", "slice_transactions", "certified_share_min", "p99_ms_max",
    "parameters", "node", "ablation", "executors",
}  # fmt: skip
_ABLATION_DEFAULTS: Final = {"pipeline": "on", "fsync": "on", "signatures": "threads"}
_LOAD_KEYS: Final = {
    "workload", "rate", "sweep", "seconds", "transactions", "warmup_s", "in_flight_max", "load_processes", "urls",
    "soak_seconds", "soak_share", "faults", "nodes", "addressed",
}  # fmt: skip
ABSENT: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of one result, under a name that no other in the report has."""

    label: str
    run: Run

    @property
    def unsafe(self) -> bool:
        return bool(self.run.plan.get("ablation", {}).get("fsync") == "off")


def cases_of(source: Source, *, prefix: bool = False) -> list[Case]:
    """Its runs that have points."""
    runs = [run for run in source.result.runs if run.points]
    return [Case(label=f"{source.label} {run.name}" if prefix else run.name, run=run) for run in runs]


def gain_of(source: Source) -> float | None:
    """How much two busy processes got done on its machine against one; None: an older result does not say."""
    gain = source.result.machine.get("calibration", {}).get("two_processes_gain")
    return None if gain is None else float(gain)


# --- points ---


def counted(run: Run) -> list[Point]:
    """The points that stand for a run, one a repeat: the soak; else the load; else the highest rate of the sweep that
    was sustained (the lowest, if none was)."""
    for role in ("soak", "run"):
        found = [point for point in run.points if point.role == role]
        if found:
            return found
    knees = {knee.repeat: knee.offered_tps for knee in run.knees}
    chosen = []
    for repeat, points in groupby(sorted(run.points, key=lambda point: point.repeat), key=lambda point: point.repeat):
        swept = sorted(points, key=lambda point: point.offered_tps)
        knee = knees.get(repeat)
        chosen.append(next((point for point in swept if point.offered_tps == knee), swept[0]))
    return chosen


def middle(points: Sequence[Point]) -> Point:
    """The one with the median p99 (the lower of two), as an example of all repeats."""
    ranked = sorted(points, key=lambda point: point.latency_ms.p99 if point.latency_ms else float("inf"))
    return ranked[(len(ranked) - 1) // 2]


def swept(run: Run) -> dict[float, list[Point]]:
    """The points of its sweeps and soaks by offered rate, rising; empty: it was no sweep of at least two rates."""
    points = sorted((point for point in run.points if point.role == "sweep"), key=lambda point: point.offered_tps)
    rates = {rate: list(found) for rate, found in groupby(points, key=lambda point: point.offered_tps)}
    return rates if len(rates) > 1 else {}


FIGURES: Final[dict[str, Read]] = {
    "certified": lambda point: point.tps,
    "p50": lambda point: point.latency_ms.p50 if point.latency_ms else None,
    "p99": lambda point: point.latency_ms.p99 if point.latency_ms else None,
    "p999": lambda point: point.latency_ms.p999 if point.latency_ms else None,
    "cpu": lambda point: point.cpu.us_per_tx_per_node if point.cpu else None,
    "cpu_without_verify": lambda point: without_verify(point),
    "overlap": lambda point: point.stages.overlap,
    "memory": lambda point: memory_mb(point),
    "disk": lambda point: point.disk.bytes_per_tx if point.disk else None,
    "block": lambda point: point.transactions_per_block,
    "failed": lambda point: float(point.failed),
}


def values(points: Sequence[Point], figure: str) -> list[float]:
    """Of the points that have it."""
    read = FIGURES[figure]
    return [value for point in points if (value := read(point)) is not None]


def mean(found: Sequence[float]) -> float | None:
    return sum(found) / len(found) if found else None


def of(run: Run, figure: str) -> float | None:
    """The mean over the repeats of a run; None: nobody measured it."""
    return mean(values(counted(run), figure))


def without_verify(point: Point) -> float | None:
    """CPU microseconds a transaction and node, less those of checking signatures."""
    if point.cpu is None or "verify" not in point.cpu.by_work_us:
        return None
    return point.cpu.us_per_tx_per_node - point.cpu.by_work_us["verify"]


def memory_mb(point: Point) -> float | None:
    """Of the largest node, at the end: PSS over all its processes without LMDB's pages, in MB of 10^6 bytes."""
    if not point.memory:
        return None
    last = point.memory[-1]
    size = last.pss_without_lmdb if last.pss_without_lmdb_max is None else last.pss_without_lmdb_max
    return None if size is None else size / MEGABYTE


def knee_of(run: Run) -> tuple[float, float] | None:
    """Offered and certified at the knee, means over the sweeps that had one."""
    offered = [knee.offered_tps for knee in run.knees if knee.offered_tps is not None]
    certified = [knee.tps for knee in run.knees if knee.tps is not None]
    return (sum(offered) / len(offered), sum(certified) / len(certified)) if offered and certified else None


def certified_until(point: Point, at_s: float) -> float:
    """Transactions that were certified from the start of the load until then, by its whole seconds."""
    done = np.concatenate(([0], np.cumsum(point.series.certified)))
    return float(np.interp(max(0.0, at_s), np.arange(len(done)), done))


# --- ratios ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """mean(b) / mean(a), and its 95 % bootstrap interval where both sides have at least three repeats."""

    value: float
    low: float | None = None
    high: float | None = None


def ratio(a: Sequence[float], b: Sequence[float]) -> Ratio | None:
    """None: a side is empty, or a is nothing."""
    if not a or not b or not sum(a):
        return None
    value = (sum(b) / len(b)) / (sum(a) / len(a))
    if min(len(a), len(b)) < REPEATS_MIN:
        return Ratio(value=value)
    draw = np.random.default_rng(SEED)
    means = [np.asarray(side)[draw.integers(0, len(side), size=(DRAWS, len(side)))].mean(axis=1) for side in (a, b)]
    if not (means[0] > 0).all():
        return Ratio(value=value)
    low, high = np.quantile(means[1] / means[0], [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Ratio(value=value, low=float(low), high=float(high))


# --- what runs differ in ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that differ in one switch and in nothing else. `given` says what else sets the group apart from others."""

    given: str
    cases: tuple[tuple[str, Case], ...]  # (setting, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """All groups of a result for one switch, and its settings in order."""

    switch: str
    settings: tuple[str, ...]
    groups: tuple[Group, ...]


def settings_of(run: Run) -> dict[str, str]:
    """Every setting that could make a difference, as text, by its key in a plan."""
    plan = run.plan
    found = {key: _text(value) for key, value in plan.items() if key not in _ASIDE}
    ablation = {**_ABLATION_DEFAULTS, **plan.get("ablation", {})}
    serial = ablation.pop("execution", "parallel") == "serial"
    executors = plan.get("executors", 1)
    found["execution"] = "serial" if serial else f"{executors} executor{'s' if executors != 1 else ''}"
    found |= {f"ablation.{key}": _text(value) for key, value in ablation.items()}
    found |= {f"parameters.{key}": _text(value) for key, value in plan.get("parameters", {}).items()}
    found |= {f"node.{key}": _text(value) for key, value in plan.get("node", {}).items()}
    return found


def ablations(cases: Sequence[Case]) -> list[Ablation]:
    """For each switch that two runs or more differ in, and in nothing else, their groups."""
    settings = [settings_of(case.run) for case in cases]
    keys = sorted({key for one in settings for key in one})
    varied = [key for key in keys if len({one.get(key, ABSENT) for one in settings}) > 1]
    found = []
    for switch in varied:
        if switch in _LOAD_KEYS:
            continue
        others = [key for key in varied if key != switch]
        groups: dict[tuple[str, ...], list[tuple[str, Case]]] = {}
        for one, case in zip(settings, cases, strict=True):
            same = tuple(one.get(key, ABSENT) for key in others)
            groups.setdefault(same, []).append((one.get(switch, ABSENT), case))
        large = {same: sorted(group, key=_rank) for same, group in groups.items() if len(group) > 1}
        if not large:
            continue
        told = _told_apart(others, list(large))
        known = {entry for group in large.values() for entry, _ in group}
        found.append(
            Ablation(
                switch=name_of(switch),
                settings=tuple(sorted(known, key=lambda setting: _order(setting))),
                groups=tuple(Group(given=told[same], cases=tuple(group)) for same, group in large.items()),
            )
        )
    return found


def _told_apart(keys: Sequence[str], groups: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What sets each group apart from the others, in words; how many were in flight only where nothing else does."""
    telling = [at for at in range(len(keys)) if len({same[at] for same in groups}) > 1]
    first = [at for at in telling if keys[at] != "in_flight_max"]
    for chosen in (first, telling):
        texts = [", ".join(in_words(keys[at], same[at]) for at in chosen) for same in groups]
        if len(set(texts)) == len(texts):
            break
    return dict(zip(groups, texts, strict=True))


def pairs_of(cases: Sequence[Case]) -> list[tuple[str, str, Case, Case]]:
    """(what is divided by what, what both share, the divisor, the dividend) of runs that differ in one switch: what is
    on by what is off, and else each by the first of its group."""
    found = []
    for one in ablations(cases):
        for group in one.groups:
            (first, base), *others = group.cases
            for setting, case in others:
                if first == "on":
                    found.append((f"{one.switch}: {first} / {setting}", group.given, case, base))
                else:
                    found.append((f"{one.switch}: {setting} / {first}", group.given, base, case))
    return found


def ratios(a: Case, b: Case, figures: Sequence[str]) -> list[Ratio | None]:
    """b / a, over the repeats of both."""
    return [ratio(values(counted(a.run), figure), values(counted(b.run), figure)) for figure in figures]


def name_of(key: str) -> str:
    """A setting's key for people."""
    known = {
        "ablation.pipeline": "pipeline", "ablation.fsync": "fsync", "ablation.signatures": "signatures checked in",
        "link_delay_ms": "link delay in ms", "parameters.block_transactions_max": "most transactions of a block",
    }  # fmt: skip
    return known.get(key, key.removeprefix("parameters.").removeprefix("node."))


def in_words(key: str, setting: str) -> str:
    """For instance "20 ms between nodes"."""
    if key == "link_delay_ms":
        return f"{setting} ms between nodes"
    if key == "parameters.block_transactions_max":
        return "blocks of any size" if setting == ABSENT else f"blocks of {setting}"
    if key == "in_flight_max":
        return f"{int(setting):,} in flight"
    return setting if key in ("workload", "execution") else f"{name_of(key)} {setting}"


def _rank(entry: tuple[str, Case]) -> tuple[int, float, str]:
    return _order(entry[0])


def _order(setting: str) -> tuple[int, float, str]:
    """What is on or serial first, then by number, then by name, and the default last."""
    first = {"on": 0, "serial": 0, "off": 1, ABSENT: 3}
    head = setting.split(" ")[0]
    if head.replace(".", "", 1).isdigit():
        return 2, float(head), setting
    return first.get(setting, 2), 0.0, setting


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_text(item)}" for key, item in sorted(value.items()))
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""The figures to be reached, and what the published results say of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.cluster.figures import sustained as keeps_up
from bench.cluster.results import Point, Run
from bench.report.readings import FIGURES, counted, knee_of, mean, memory_mb, of, values, without_verify
from bench.report.sources import Source

Published = Mapping[str, Source]  # by the name of the plan
Verdict = Literal["then", "first", "short", "not measured"]

LASTING_S: Final = 58.0  # a window from here on counts as 60 s sustained: it is cut at whole batches
SHARE_MIN: Final = 0.97
P99_MS_MAX: Final = 5_000.0
MILLION: Final = 1_000_000
NODES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was reached. `ran` is the run it is from, `beside` what belongs to it in words."""

    value: float
    source: Source
    ran: str
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure, what resolves it and what is aimed at. `least` says whether larger is better."""

    key: str
    figure: str
    unit: str
    first: float
    then: float
    least: bool
    plan: str
    read: Callable[[Published], Reading | None]

    def verdict(self, found: Reading | None) -> Verdict:
        if found is None:
            return "not measured"
        for name, bound in (("then", self.then), ("first", self.first)):
            if found.value >= bound if self.least else found.value <= bound:
                return "then" if name == "then" else "first"
        return "short"


# --- what counts ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """A rate that every repeat of a run held for a minute."""

    source: Source
    run: Run
    offered_tps: float
    points: Sequence[Point]

    @property
    def tps(self) -> float:
        return sum(point.tps for point in self.points) / len(self.points)


def lasting(published: Published, *, nodes: int) -> list[Lasting]:
    """All of them, by ordinary nodes of that many, rising."""
    found = []
    for name in ("sustained", "send_payment", "single_node"):
        for source, run in _ordinary(published, name, nodes):
            for rate in sorted({point.offered_tps for point in run.points}):
                points = [
                    point for point in run.points
                    if point.offered_tps == rate and point.seconds >= LASTING_S and not point.closed_loop
                ]  # fmt: skip
                if points and all(map(_keeps_up, points)):
                    found.append(Lasting(source=source, run=run, offered_tps=rate, points=points))
    return sorted(found, key=lambda entry: entry.tps)


def _ordinary(published: Published, name: str, nodes: int) -> Iterator[tuple[Source, Run]]:
    """Runs with nothing switched, slowed or broken."""
    source = published.get(name)
    for run in source.result.runs if source else []:
        plan = run.plan
        plain = not any(plan.get(key) for key in ("ablation", "parameters", "node", "link_delay_ms", "faults"))
        if source is not None and plain and plan["nodes"] == nodes and plan["workload"] == "send_payment":
            yield source, run


def _keeps_up(point: Point) -> bool:
    p99 = point.latency_ms.p99 if point.latency_ms else None
    return keeps_up(
        offered_tps=point.offered_tps, tps=point.tps, p99_ms=p99, share_min=SHARE_MIN, p99_ms_max=P99_MS_MAX
    )


def _highest(published: Published, nodes: int) -> Reading | None:
    found = lasting(published, nodes=nodes)
    if not found:
        return None
    best = found[-1]
    p99 = mean(values(best.points, "p99"))
    beside = f"{best.offered_tps:,.0f}/s offered" + (f", p99 {p99:,.0f} ms" if p99 is not None else "")
    knees = [knee for name in ("send_payment", "single_node") for _, run in _ordinary(published, name, nodes)
             if (knee := knee_of(run)) is not None]  # fmt: skip
    if knees:
        beside += f"; knee of the sweep at {max(certified for _, certified in knees):,.0f}/s"
    return Reading(value=best.tps, source=best.source, ran=best.run.name, beside=beside)


def _cpu(read: Callable[[Point], float | None]) -> Callable[[Published], Reading | None]:
    def of_highest(published: Published) -> Reading | None:
        for entry in reversed(lasting(published, nodes=NODES)):
            found = [value for point in entry.points if (value := read(point)) is not None]
            if found:
                kernel = entry.source.result.machine.get("calibration", {}).get("ed25519_verify_lanes_us")
                how = "Ed25519 by the lanes kernel" if kernel else "Ed25519 by library"
                return Reading(
                    value=sum(found) / len(found), source=entry.source, ran=entry.run.name,
                    beside=f"at {entry.tps:,.0f}/s, {how}",
                )  # fmt: skip
        return None

    return of_highest


def _soak_p99(published: Published) -> Reading | None:
    for source, run in _ordinary(published, "send_payment", NODES):
        soaks = [point for point in run.points if point.role == "soak"]
        found = values(soaks, "p99")
        if found:
            offered, seconds = mean([point.offered_tps for point in soaks]), soaks[0].seconds
            beside = f"{offered:,.0f}/s offered for {seconds:.0f} s"
            return Reading(value=sum(found) / len(found), source=source, ran=f"{run.name} soak", beside=beside)
    return None


def _calm(figure: str) -> Callable[[Published], Reading | None]:
    def at_50(published: Published) -> Reading | None:
        for source, run in _ordinary(published, "latency_50", NODES):
            value = of(run, figure)
            if value is not None:
                return Reading(value=value, source=source, ran=run.name)
        return None

    return at_50


def _pipeline(published: Published) -> Reading | None:
    source, runs = _runs(published, "pipeline_on_off")
    on, off = runs.get("on_20_blocks_of_100"), runs.get("off_20_blocks_of_100")
    if source is None or on is None or off is None:
        return None
    beside = []
    if (more := _times(runs.get("on_20_blocks_of_500"), runs.get("off_20_blocks_of_500"))) is not None:
        beside.append(f"blocks of 500: {more:.2f} x")
    others = [run for name, run in runs.items() if name.startswith("off_20")]
    best = max(others, key=lambda run: of(run, "certified") or 0.0)
    if (more := _times(runs.get("on_20_free"), best)) is not None:
        size = best.name.removeprefix("off_20_").replace("_", " ")
        beside.append(f"on at its free size against off at its best ({size}): {more:.2f} x")
    value = _times(on, off)
    return None if value is None else Reading(
        value=value, source=source, ran="on_20_blocks_of_100 / off_20_blocks_of_100", beside="; ".join(beside)
    )  # fmt: skip


def _distance(published: Published) -> Reading | None:
    source, runs = _runs(published, "pipeline_on_off")
    value = _times(runs.get("on_20_free"), runs.get("on_0_free"))
    if source is None or value is None:
        return None
    return Reading(value=value * 100, source=source, ran="on_20_free / on_0_free")


def _million(read: Callable[[Point], float | None]) -> Callable[[Published], Reading | None]:
    def after(published: Published) -> Reading | None:
        source, runs = _runs(published, "million")
        for run in runs.values():
            points = counted(run)
            least = min(sum(point.series.certified) for point in points)
            found = [value for point in points if (value := read(point)) is not None]
            if source is not None and found and least >= MILLION:
                value = sum(found) / len(found)
                return Reading(value=value, source=source, ran=run.name, beside=f"after {least:,} transactions")
        return None

    return after


def _slices(point: Point) -> float | None:
    return point.slices.last_against_first * 100 if point.slices is not None else None


def _runs(published: Published, name: str) -> tuple[Source | None, dict[str, Run]]:
    source = published.get(name)
    return source, {run.name: run for run in source.result.runs if run.points} if source else {}


def _times(one: Run | None, other: Run | None) -> float | None:
    """Throughput of one over that of the other; None: one of them was not measured."""
    if one is None or other is None:
        return None
    above, below = of(one, "certified"), of(other, "certified")
    return above / below if above is not None and below else None


TARGETS: Final = (
    Target(key="certified_tps", figure="certified, send_payment through the API, 60 s sustained", unit="tx/s",
           first=2_500, then=5_000, least=True, plan="sustained", read=lambda published: _highest(published, NODES)),
    Target(key="cpu", figure="CPU a transaction and node, signature check included", unit="µs",
           first=160, then=80, least=False, plan="sustained", read=_cpu(FIGURES["cpu"])),
    Target(key="cpu_without_verify", figure="the same without the signature check", unit="µs",
           first=100, then=50, least=False, plan="sustained", read=_cpu(without_verify)),
    Target(key="p99_at_80", figure="p99 latency at 80 % of the knee", unit="ms",
           first=1_000, then=500, least=False, plan="send_payment", read=_soak_p99),
    Target(key="p50_at_50", figure="p50 latency at 50 transactions a second", unit="ms",
           first=300, then=100, least=False, plan="latency_50", read=_calm("p50")),
    Target(key="p99_at_50", figure="p99 latency at 50 transactions a second", unit="ms",
           first=500, then=250, least=False, plan="latency_50", read=_calm("p99")),
    Target(key="pipeline", figure="pipeline on / off at 20 ms link delay, blocks of exactly 100", unit="x",
           first=2, then=3.6, least=True, plan="pipeline_on_off", read=_pipeline),
    Target(key="distance", figure="pipeline on: throughput at 20 ms against 0 ms, free block size", unit="%",
           first=85, then=95, least=True, plan="pipeline_on_off", read=_distance),
    Target(key="memory", figure="memory of a node after 1,000,000 transactions (PSS, LMDB pages aside)", unit="MB",
           first=600, then=300, least=False, plan="million", read=_million(memory_mb)),
    Target(key="over_time", figure="throughput after 1,000,000 transactions against the first 100,000", unit="%",
           first=90, then=97, least=True, plan="million", read=_million(_slices)),
    Target(key="single_node", figure="single node: certified, 60 s sustained", unit="tx/s",
           first=8_000, then=12_000, least=True, plan="sustained", read=lambda published: _highest(published, 1)),
)  # fmt: skip

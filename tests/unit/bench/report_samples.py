"""Results as the plans of bench/plans would give them, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.cluster import results
from bench.cluster.plan import parse_plan
from bench.cluster.results import Cpu, HeightSpan, Knee, Latency, Memory, Point, Result, Run, Series, Slices
from bench.report.sources import Source, load_results
from tests.unit.bench.cluster_samples import BOX, point

STAGES = ("pack", "consensus", "execute", "checkpoint", "store")


def spans(count: int = 4) -> list[HeightSpan]:
    """Each height half a stage behind the one before it."""
    return [
        HeightSpan(
            height=100 + at,
            transactions=50,
            stages={stage: (at * 5_000 + number * 10_000, at * 5_000 + number * 10_000 + 9_000)
                    for number, stage in enumerate(STAGES)},
        )
        for at in range(count)
    ]  # fmt: skip


def load(tps: float = 100.0, *, p99: float = 4.0, cpu: float | None = 150.0, **changed: Any) -> Point:
    """One load, with everything that a picture is made of."""
    works = {"verify": 0.3, "store": 0.2, "rest": 0.4}
    figures = {
        "tps": tps,
        "offered_tps": tps,
        "failed": 0,
        "failed_by_reason": {},
        "latency_ms": Latency(p50=p99 / 2, p90=p99, p95=p99, p99=p99, p999=p99 * 2, max=p99 * 3, mean=p99 / 2),
        "cdf": [(p99 / 4, 0.01), (p99 / 2, 0.5), (p99, 0.99), (p99 * 3, 1.0)],
        "cpu": None
        if cpu is None
        else Cpu(
            us_per_tx_per_node=cpu, by_work_us={work: cpu * share for work, share in works.items()}, busy_share={},
            cores_per_node=0.3,
        ),
        "spans": spans(),
        "series": Series(accepted=[100, 100, 100, 100], certified=[90, 100, 110, 100]),
        **changed,
    }
    return point(**figures)


def run(name: str, points: list[Point], *, knees: list[Knee] | None = None, **settings: Any) -> Run:
    """A run of a plan with these settings."""
    plan = parse_plan({"run": [{"name": name, **settings}]}, name=name).runs[0]
    return Run(name=name, question=plan.question, plan=plan.document(), points=points, knees=knees or [])


def result(name: str, *runs: Run) -> Result:
    return Result(name=name, created="2026-01-01T00:00:00+00:00", seconds=12.0, machine=BOX, runs=list(runs))


def sources(folder: Path, *made: Result) -> list[Source]:
    """Written and read again, as a report gets them."""
    names = [one.name for one in made]
    paths = [folder / f"{one.name if names.count(one.name) == 1 else f'made-{at}'}.json" for at, one in enumerate(made)]
    for one, path in zip(made, paths, strict=True):
        results.save(one, path)
    return load_results(paths)


def ablation() -> Result:
    """The pipeline on and off at two delays, three repeats each."""
    runs = []
    for delay in (0, 20):
        for setting, tps in (("on", 900.0), ("off", 300.0)):
            repeats = [load(tps + at, cpu=90_000 / tps, closed_loop=True, repeat=at) for at in range(3)]
            settings: dict[str, Any] = {"ablation": {"pipeline": "off"}} if setting == "off" else {}
            runs.append(
                run(f"{setting}_{delay}_blocks_of_100", repeats, link_delay_ms=delay, in_flight_max=800,
                    parameters={"block_transactions_max": 100}, **settings)
            )  # fmt: skip
    return result("pipeline_on_off", *runs)


def sweep() -> Result:
    """Three rates, the last of which is too much, and the soak."""
    points = [load(rate, role="sweep", p99=rate) for rate in (100.0, 200.0)]
    points.append(load(240.0, offered_tps=300.0, role="sweep", p99=9_000.0))
    points.append(load(160.0, role="soak", seconds=60.0, p99=170.0))
    knee = Knee(repeat=0, offered_tps=200.0, tps=200.0, certified_share_min=0.97, p99_ms_max=5_000.0)
    return result("send_payment", run("send_payment", points, knees=[knee], sweep=[100, 200, 300], soak_seconds=60))


def sustained(*, tps: float = 2_500.0, cpu: float = 150.0) -> Result:
    lasting = [load(tps, seconds=60.0, p99=300.0, cpu=cpu, repeat=at) for at in range(2)]
    late = load(4_000.0, offered_tps=5_000.0, seconds=60.0, p99=6_000.0, cpu=60.0)
    return result(
        "sustained", run("four_nodes_2500", lasting, rate=2_500), run("four_nodes_5000", [late], rate=5_000)
    )


def million(certified: int = 1_050_000) -> Result:
    done = load(
        2_000.0, closed_loop=True,
        series=Series(accepted=[certified // 10] * 10, certified=[certified // 10] * 10),
        memory=[Memory(at_s=9.0, resident=5e8, pss=4e8, pss_without_lmdb=2.5e8, pss_without_lmdb_max=2.8e8)],
        slices=Slices(transactions=100_000, tps=[2_000.0, 1_960.0], last_against_first=0.98),
    )  # fmt: skip
    return result("million", run("million", [done], transactions=1_050_000, in_flight_max=8_000))

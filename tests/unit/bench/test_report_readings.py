"""What a report says of results: which points count, which runs differ in one switch, ratios and their intervals."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.cluster.results import Latency
from bench.report import readings
from bench.report.readings import ablations, cases_of, counted, middle, ratio
from tests.unit.bench.report_samples import ablation, load, result, run, sources, sweep


def test_the_soak_stands_for_a_sweep_and_without_one_its_knee() -> None:
    made = sweep().runs[0]
    assert [point.role for point in counted(made)] == ["soak"]
    swept = msgspec.structs.replace(made, points=[point for point in made.points if point.role == "sweep"])
    assert [point.offered_tps for point in counted(swept)] == [200.0]
    below = msgspec.structs.replace(swept, knees=[msgspec.structs.replace(made.knees[0], offered_tps=None, tps=None)])
    assert [point.offered_tps for point in counted(below)] == [100.0]


def test_the_middle_repeat_is_the_example() -> None:
    assert middle([load(p99=9.0), load(p99=3.0), load(p99=5.0)]).latency_ms == load(p99=5.0).latency_ms
    nothing = load(latency_ms=None)
    found = middle([nothing, load(p99=7.0)]).latency_ms
    assert isinstance(found, Latency) and found.p99 == 7.0


def test_runs_that_differ_in_one_switch_are_grouped_and_no_others(tmp_path: Path) -> None:
    cases = cases_of(sources(tmp_path, ablation())[0])
    by_switch = {one.switch: one for one in ablations(cases)}
    assert set(by_switch) == {"pipeline", "link delay in ms"}
    pipeline = by_switch["pipeline"]
    assert pipeline.settings == ("on", "off")
    assert [(group.given, [(setting, case.label) for setting, case in group.cases]) for group in pipeline.groups] == [
        ("0 ms between nodes", [("on", "on_0_blocks_of_100"), ("off", "off_0_blocks_of_100")]),
        ("20 ms between nodes", [("on", "on_20_blocks_of_100"), ("off", "off_20_blocks_of_100")]),
    ]


def test_serial_execution_and_executors_are_one_switch(tmp_path: Path) -> None:
    made = result(
        "executors",
        run("two", [load()], executors=2),
        run("serial", [load()], ablation={"execution": "serial"}),
        run("other", [load()], workload="cpu_heavy"),
    )
    (found,) = ablations(cases_of(sources(tmp_path, made)[0]))
    assert (found.switch, found.settings) == ("execution", ("serial", "2 executors"))


def test_how_it_was_measured_is_no_difference(tmp_path: Path) -> None:
    made = result(
        "fsync",
        run("a", [load()], seed=1, repeats=1),
        run("b", [load()], seed=7, repeats=3, ablation={"fsync": "off"}),
    )
    cases = cases_of(sources(tmp_path, made)[0])
    (found,) = ablations(cases)
    assert found.switch == "fsync"
    assert [case.unsafe for case in cases] == [False, True]


def test_groups_alike_but_for_the_load_are_told_apart_by_it(tmp_path: Path) -> None:
    made = result(
        "sizes",
        *[
            run(f"{size}-{flight}", [load(closed_loop=True)], in_flight_max=flight,
                parameters={"block_transactions_max": size})
            for flight in (3_000, 12_000) for size in (100, 500)
        ],
    )  # fmt: skip
    (found,) = ablations(cases_of(sources(tmp_path, made)[0]))
    assert [group.given for group in found.groups] == ["3,000 in flight", "12,000 in flight"]


def test_what_is_on_is_divided_by_what_is_off(tmp_path: Path) -> None:
    cases = cases_of(sources(tmp_path, ablation())[0])
    pairs = [pair for pair in readings.pairs_of(cases) if pair[0].startswith("pipeline")]
    assert [(what, base.label, other.label) for what, _, base, other in pairs] == [
        ("pipeline: on / off", "off_0_blocks_of_100", "on_0_blocks_of_100"),
        ("pipeline: on / off", "off_20_blocks_of_100", "on_20_blocks_of_100"),
    ]
    (certified,) = readings.ratios(pairs[-1][2], pairs[-1][3], ["certified"])
    assert certified is not None and certified.value == pytest.approx(901 / 301)
    assert certified.low is not None and certified.high is not None
    assert certified.low <= certified.value <= certified.high


def test_a_ratio_has_an_interval_from_three_repeats_on() -> None:
    two = ratio([1.0, 2.0], [4.0, 2.0, 6.0])
    assert two is not None and two.value == pytest.approx(8 / 3) and two.low is two.high is None
    three = ratio([1.0, 1.1, 0.9], [2.0, 2.0, 2.0])
    assert three is not None and three.low is not None and three.low > 1.7
    assert ratio([], [1.0]) is None and ratio([0.0], [1.0]) is None


def test_memory_is_that_of_the_largest_node_in_millions_of_bytes() -> None:
    assert readings.memory_mb(load()) == pytest.approx(110.0)
    assert readings.memory_mb(load(memory=[])) is None


def test_transactions_until_a_moment_come_from_the_series() -> None:
    assert readings.certified_until(load(), 0.0) == 0
    assert readings.certified_until(load(), 1.5) == 140
    assert readings.certified_until(load(), 99.0) == 400

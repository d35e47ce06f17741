"""Percentiles, distribution, slices, the knee and the comparison, on made data whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cluster import results
from bench.cluster.compare import compare, interval, render
from bench.cluster.figures import (
    distribution,
    falls_short,
    latencies_ms,
    latency_of,
    next_rate,
    not_tried,
    per_second,
    percentile,
    slices_of,
    sustained,
)
from bench.cluster.records import Records
from bench.cluster.report import nodes_in_words
from bench.cluster.report import render as report
from bench.cluster.results import Cpu, Knee, Point, Result
from bench.errors import BenchError, NotAResult
from tests.unit.bench.cluster_samples import BOX, point, result
from tests.unit.bench.report_samples import run as planned


def records_of(due: list[float], certified: list[float], *, codes: list[int] | None = None) -> Records:
    return Records(
        due=np.array(due),
        answered=np.array(due) + 0.001,
        codes=np.array(codes or [0] * len(due), dtype=np.int32),
        certified=np.array(certified),
        statuses=np.zeros(len(due), dtype=np.uint16),
    )


def test_latency_counts_from_the_intended_time_of_what_was_due_in_the_window() -> None:
    records = records_of([0.5, 1.0, 1.5, 2.0], [9.0, 1.2, float("nan"), 2.1])
    assert latencies_ms(records, 1.0, 2.0).tolist() == pytest.approx([200.0])


def test_percentiles_are_values_that_were_measured() -> None:
    values = np.arange(1.0, 1_001.0)
    assert [percentile(values, share) for share in (50, 99, 99.9, 100)] == [500, 990, 999, 1_000]
    assert percentile(np.array([7.0]), 99.9) == 7
    found = latency_of(values)
    assert found is not None
    assert (found.p50, found.p90, found.p95, found.p99, found.p999, found.max, found.mean) == (
        500, 900, 950, 990, 999, 1_000, 500.5,
    )  # fmt: skip
    assert latency_of(np.array([])) is None
    with pytest.raises(ValueError, match="no values"):
        percentile(np.array([]), 50)


@given(st.lists(st.floats(min_value=0, max_value=1e5), min_size=1, max_size=300))
@settings(max_examples=50, deadline=None)
def test_the_distribution_rises_to_the_largest_value(values: list[float]) -> None:
    points = distribution(np.array(values))
    assert 190 <= len(points) <= 210
    assert points == sorted(points)
    assert points[-1] == (round(max(values), 2), 1.0)
    ordered = np.sort(np.array(values))
    for value, share in points[1:]:
        assert np.searchsorted(ordered, value + 0.006, side="right") / len(values) >= share - 1e-6


def test_nothing_certified_has_no_distribution() -> None:
    assert distribution(np.array([])) == []


def test_counts_by_second_leave_out_what_never_came() -> None:
    assert per_second(np.array([0.1, 0.9, 2.5, np.nan]), 3.0) == [2, 0, 1]


def test_slices_show_a_chain_that_becomes_slower() -> None:
    first = np.linspace(0.0, 1.0, 100, endpoint=False)  # 100 a second
    second = np.linspace(1.0, 3.0, 101)  # 50 a second
    found = slices_of(np.concatenate((first, second)), size=100)
    assert found is not None
    assert found.tps == [100, 50]
    assert found.last_against_first == 0.5
    assert slices_of(first, size=100) is None
    assert slices_of(np.full(100, np.nan)) is None


def test_a_point_is_sustained_if_enough_is_certified_in_time() -> None:
    def kept(tps: float, p99: float | None) -> bool:
        return sustained(offered_tps=100, tps=tps, p99_ms=p99, share_min=0.97, p99_ms_max=500)

    assert kept(97, 500)
    assert not kept(96.9, 500)
    assert not kept(100, 501)
    assert not kept(100, None)


def test_a_point_that_is_not_sustained_says_why() -> None:
    def why(tps: float, p99: float | None) -> str:
        return falls_short(offered_tps=200, tps=tps, p99_ms=p99, share_min=0.97, p99_ms_max=500)

    assert why(200, 500) == ""
    assert why(193.8, 100) == "96.9 % certified, at least 97 % needed"
    assert why(193.99, 100) == "96.9 % certified, at least 97 % needed"
    assert why(200, 501.5) == "p99 is 501.5 ms, at most 500 ms allowed"
    assert why(200, None) == "nothing certified in time"
    assert not_tried((100, 200, 400, 800), [100, 200]) == "not tried: 400, 800/s"
    assert not_tried((100, 200), [100, 200]) == not_tried((), [300]) == ""


def swept(limit: float, *, highest: float = 10_000, refine: int = 2) -> list[float]:
    """The rates a sweep from 100 on by doubling tries on a chain that sustains up to `limit`."""
    known: list[tuple[float, bool]] = []
    while rate := next_rate(known, start=100, factor=2, highest=highest, refine=refine):
        known.append((rate, rate <= limit))
        assert len(known) < 100
    return [rate for rate, _ in known]


def test_a_sweep_rises_until_the_chain_falls_behind_and_then_halves_the_gap() -> None:
    assert swept(500, refine=0) == [100, 200, 400, 800]
    assert swept(500, refine=2) == pytest.approx([100, 200, 400, 800, 565.69, 475.68], abs=0.01)
    assert swept(50) == [100]
    assert swept(1e9, highest=300) == [100, 200]


def test_a_confidence_interval_needs_three_repeats_a_side() -> None:
    assert interval([1, 2], [3, 4, 5]) is None
    low, high = interval([10, 11, 12], [20, 21, 22]) or (0, 0)
    assert 8 <= low <= 10 <= high <= 12


def test_a_comparison_tells_a_change_from_chance() -> None:
    before = result(runs={"a": [point(tps=tps) for tps in (100, 101, 102)]})
    after = result(runs={"a": [point(tps=tps) for tps in (110, 111, 112)]})
    found = {entry.figure: entry for entry in compare(before, after).differences}
    assert found["certified, tx/s"].differs is True
    assert found["certified, tx/s"].relative == pytest.approx(0.099, abs=0.001)
    assert found["latency p50, ms"].differs is False
    assert "certified, tx/s" in render(compare(before, after))
    assert "differs" in render(compare(before, after))


def test_a_comparison_says_when_there_are_too_few_repeats() -> None:
    found = compare(result(runs={"a": [point()]}), result(runs={"b": [point()]}))
    assert "too few repeats for intervals: 1, at least 3" in found.notes[0]
    assert all(entry.low is None and entry.differs is None for entry in found.differences)


def test_results_without_a_run_in_common_are_refused() -> None:
    two = {"a": [point()], "b": [point()]}
    with pytest.raises(BenchError, match="no run in common: a, b and c, d"):
        compare(result(runs=two), result(runs={"c": [point()], "d": [point()]}))


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    written = result(runs={"a": [point()]})
    results.save(written, path)
    assert results.load(path) == written
    for text, why in (
        ('{"format": "older"}', "its format is 'older', must be 'headrace-bench-cluster-1'"),
        ("# Headrace", "it is not JSON"),
        ("[1]", "it names no format"),
        ('{"workload": "zipf"}', "it names no format"),
        ('{"format": "headrace-bench-cluster-1"}', "Object missing required field"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(NotAResult, match=f"is no result of `headrace bench cluster`: {why}"):
            results.load(path)
    with pytest.raises(NotAResult, match="cannot be read"):
        results.load(tmp_path / "none.json")


def running(name: str, *points: Point) -> Result:
    """Of a network that ran already."""
    made = result(runs={name: list(points)})
    made.runs[0].plan.update(urls=["http://a:1", "http://b:1"], nodes=4, addressed=2)
    return made


def test_a_network_that_ran_already_is_not_compared_in_cpu() -> None:
    own, other = result(runs={"a": [point()] * 3}), running("a", *[point()] * 3)
    for pair in ((own, other), (other, own)):
        found = {entry.figure: entry for entry in compare(*pair).differences}
        for figure in ("CPU, us/tx/node", "CPU without verify, us/tx/node", "memory, PSS without LMDB, MB"):
            assert not found[figure].comparable
            assert found[figure].relative is found[figure].low is found[figure].differs is None
        assert found["certified, tx/s"].comparable and found["certified, tx/s"].relative == 0
        (cpu,) = [line for line in render(compare(*pair)).splitlines() if "CPU, us" in line]
        assert "measured differently" in cpu and "%" not in cpu
        notes = compare(*pair).notes
        assert any("CPU and memory are measured differently" in note for note in notes)
        assert not any("too few repeats" in note for note in notes)
    assert all(entry.comparable for entry in compare(other, other).differences)


def test_memory_is_in_millions_of_bytes_everywhere() -> None:
    made = result(runs={"a": [point()]})
    found = {entry.figure: entry for entry in compare(made, made).differences}
    assert found["memory, PSS without LMDB, MB"].a == 100.0
    text = report(made)
    assert "300 MB resident, 200 PSS, 100 PSS without LMDB" in text and "MiB" not in text


def test_the_report_shows_cpu_that_adds_up() -> None:
    text = report(result(runs={"a": [point()]}))
    assert "150 us a transaction and node: verify 50  other 100" in text
    assert "0.3 cores a node; of one core: verify 10.0%  other 20.0%" in text
    exact = Cpu(us_per_tx_per_node=50.3, by_work_us={"verify": 50.0}, busy_share={}, cores_per_node=0.3)
    assert "node: verify 50\n" in report(result(runs={"a": [point(cpu=exact)]}))


def test_slices_are_reported_where_they_mean_something() -> None:
    assert "over time" not in report(result(runs={"a": [point()]}))
    assert "over time     slices of 100: first 100, last 98 tx/s (98.0%)" in report(
        result(runs={"a": [point(closed_loop=True)]})
    )
    counted = result(runs={"a": [point()]})
    counted.runs[0].plan["transactions"] = 1_100
    assert "(98.0%); in an open loop, below the knee, what was offered" in report(counted)


def sweep_of(*points: Point, knee: float | None) -> Result:
    found = Knee(repeat=0, offered_tps=knee, tps=knee, certified_share_min=0.97, p99_ms_max=500)
    made = planned("a", list(points), knees=[found], sweep=[100, 200, 400])
    return Result(name="made", created="2026-01-01", seconds=1.0, machine=BOX, runs=[made])


def test_the_report_of_a_sweep_says_why_it_ended_and_what_was_not_tried() -> None:
    good, bad = point(role="sweep"), point(role="sweep", offered_tps=200.0, tps=193.8)
    text = report(sweep_of(good, bad, knee=100.0))
    assert "    200/s not sustained: 96.9 % certified, at least 97 % needed\n    not tried: 400/s" in text
    text = report(sweep_of(point(role="sweep", tps=50.0), knee=None))
    assert "knee: below the first rate" in text
    assert "    100/s not sustained: 50 % certified, at least 97 % needed\n    not tried: 200, 400/s" in text


def test_nodes_that_were_not_addressed_are_told() -> None:
    assert "4 validators, 2 of them addressed, 1 executor each" in report(running("a", point()))
    assert "send_payment, 4 nodes, 1 executor each" in report(result(runs={"a": [point()]}))
    assert nodes_in_words({"nodes": 1}) == "1 node"
    assert nodes_in_words({"nodes": 2, "urls": ["a", "b"]}) == "2 validators"  # an older result


def test_the_report_has_the_figures_and_says_what_is_missing() -> None:
    text = report(result(runs={"a": [point(missing=["growth of the disk is not known"])]}))
    for part in ("100 tx/s", "p99.9 8  max 9 ms", "growth of the disk", "expired 2", "overlap 1.5", "commit abc1234"):
        assert part in text

"""From samples to the fields of a report."""

from __future__ import annotations

import msgspec
import pytest

from bench.errors import BenchError
from bench.execute.figures import SERIAL, BlockSample, Repeat, decisions, same_bytes, summarize
from bench.execute.lane import Executed
from bench.execute.limits import least_speedup
from bench.execute.run import GROUP, groups, take
from chain.codec import encode
from chain.model.block import Receipt
from executor.outcome import ExecutionOutput
from tests.unit.bench.samples import output, repeat, report_of, stats

DECIDED = [field for field in ExecutionOutput.__struct_fields__ if field != "stats"]
OTHER = {
    "height": 2, "transaction_root": b"T", "receipt_root": b"R", "state_root": b"S", "gas_used": 10,
    "receipts": (b"x",), "writes": b"W",
}  # fmt: skip


def test_a_speedup_is_that_of_all_blocks_together_and_the_fastest_repeats_count() -> None:
    repeats = [
        repeat([100.0, 100.0], [100.0, 25.0]),  # 1.6
        repeat([100.0, 100.0], [50.0, 50.0]),  # 2
        repeat([200.0, 200.0], [200.0, 200.0]),  # 1, in a slow moment
    ]
    figures = summarize(repeats, transactions=10)
    assert figures["speedup"] == {"1": 1.0, "2": 2.0}
    assert figures["speedup_median"] == {"1": 1.0, "2": 1.6}
    assert figures["by_executors"]["2"]["speedup_of_repeats"] == [1.6, 2.0, 1.0]
    assert figures["serial_us_per_tx"] == 10.0


def test_a_hiccup_in_one_repeat_is_no_worst_block() -> None:
    calm = repeat([100.0, 100.0], [50.0, 80.0])
    figures = summarize([calm, repeat([100.0, 100.0], [5_000.0, 80.0]), calm], transactions=10)
    assert figures["by_executors"]["2"]["worst_block_speedup"] == 1.25
    assert figures["by_executors"]["2"]["wall_us_per_block"] == {"min": 50, "median": 65, "max": 80}


def test_the_gain_of_the_box_is_2_where_the_second_process_costs_the_first_nothing() -> None:
    made = repeat([100.0], [50.0])
    assert summarize([made], transactions=10)["two_processes_gain"] == 1.6
    free = summarize([Repeat(made.lanes, alone_us=[100.0], both_us=[100.0])], transactions=10)
    assert free["two_processes_gain"] == 2.0


def test_cpu_decisions_and_second_runs() -> None:
    figures = summarize(
        [repeat([100.0, 100.0], [50.0, 50.0], reexecuted=3), repeat([100.0, 100.0], [50.0, 50.0])], transactions=10
    )
    two = figures["by_executors"]["2"]
    assert figures["reexecuted"] == two["reexecuted"] == 6, "of the repeat that had most"
    assert two["cpu_us_per_tx"] == 150.0 and figures["serial"]["cpu_us_per_tx"] == 100.0
    assert two["decisions"] == [{"mode": "parallel", "reason": "planned", "blocks": 4}]
    assert (two["shards"], two["largest_shard"], two["plan_us_per_tx"]) == (7, 3, 20.0)
    assert "shards" not in figures["by_executors"]["1"], "nothing was planned"


def test_decisions_are_counted_the_commonest_first() -> None:
    found = decisions([stats(), stats(mode="serial", reason="probe"), stats()])
    assert found == [
        {"mode": "parallel", "reason": "planned", "blocks": 2}, {"mode": "serial", "reason": "probe", "blocks": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("field", DECIDED)
def test_every_field_that_nodes_agree_on_is_compared(field: str) -> None:
    assert same_bytes(output(), output())
    assert not same_bytes(output(), msgspec.structs.replace(output(), **{field: OTHER[field]}))


def test_how_a_block_was_executed_is_not_compared() -> None:
    assert same_bytes(output(), msgspec.structs.replace(output(), stats=stats()))


@pytest.mark.parametrize("lane", ["", "1", "2"])
def test_a_planted_byte_makes_the_report_say_unequal(lane: str) -> None:
    """In the last block, on whichever engine; on none it says equal."""
    samples: dict[str, list[BlockSample]] = {SERIAL: [], "1": [], "2": []}
    ran = {name: [Executed(output(1), 1_000), Executed(output(2), 1_000)] for name in samples}
    if lane:
        ran[lane][1] = Executed(msgspec.structs.replace(output(2), writes=b"v"), 1_000)
    take(samples, ran)
    assert summarize([Repeat(samples, [1.0], [1.0])], transactions=1)["equal"] is (lane == "")


def test_the_baseline_must_be_serial() -> None:
    planned = msgspec.structs.replace(output(), stats=stats())
    with pytest.raises(BenchError, match="executed height 1 in parallel"):
        take({SERIAL: []}, {SERIAL: [Executed(planned, 1_000)]})


def test_a_workload_whose_transactions_fail_is_refused() -> None:
    receipt = Receipt(transaction_hash=bytes(32), status=1, gas_used=1, result=b"", error="no_funds", events=())
    failed = msgspec.structs.replace(output(), receipts=(encode(receipt),))
    with pytest.raises(BenchError, match="a transaction of height 1 failed: 1 no_funds"):
        take({SERIAL: []}, {SERIAL: [Executed(failed, 1_000)]})


def test_no_group_holds_warm_up_and_measured_blocks() -> None:
    assert groups(warmup=7, blocks=GROUP + 1) == [(0, 7), (7, 7 + GROUP), (7 + GROUP, 8 + GROUP)]
    assert groups(warmup=0, blocks=1) == [(0, 1)]


@pytest.mark.parametrize(
    ("report", "least"),
    [
        (report_of("cpu_heavy"), 0.9 * 1.6),
        (report_of("smallbank_uniform"), 1.4),
        (report_of("credit_order"), 1.5),
        (report_of("zipf"), 0.95),
        (report_of("cpu_heavy", predictions="adversarial"), 1 / 2.2),
    ],
)
def test_what_a_speedup_is_held_against(report: dict[str, object], least: float) -> None:
    assert least_speedup(report) == pytest.approx(least)

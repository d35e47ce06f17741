"""The workloads of a cluster: set up and run by the real executor, and how many of their calls succeed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.execute.world import CHAIN, World, block_of
from bench.workloads import WORKLOADS, Call, Workload, account
from bench.workloads.credit import credit_order
from bench.workloads.draws import Mix, Zipf, uniform_pair
from bench.workloads.income import income_verification
from bench.workloads.small import cpu_heavy, do_nothing, token_transfer
from bench.workloads.smallbank import MIX, send_payment, smallbank, smallbank_zipf
from bench.workloads.sources import source
from bench.workloads.workload import Deploy, SetupCall, Start
from bench.workloads.ycsb import ycsb
from chain.codec import decode, unpack
from chain.model.block import Receipt
from chain.store.state import StateReader
from contracts.runtime import Machine
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState

CALLS = 60
SMALL: dict[str, Callable[[], Workload]] = {
    "send_payment": lambda: send_payment(300),
    "smallbank": lambda: smallbank(300),
    "smallbank_zipf": lambda: smallbank_zipf(300),
    "token_transfer": lambda: token_transfer(20),
    "cpu_heavy": cpu_heavy,
    "do_nothing": do_nothing,
    "credit_order": lambda: credit_order(10, 5),
    "income_verification": lambda: income_verification(10),
    "ycsb": lambda: ycsb(50),
}
# What fails, by the reason in the receipt; of 60 calls of the seed 1.
FAILING = {"smallbank_zipf": {"insufficient_funds": 1}}


def run(workload: Workload, folder: Path, calls: list[Call]) -> list[Receipt]:
    """The receipts of `calls` after the workload's set-up, in one block."""
    world = World(folder)
    target = world.set_up(workload.setup)
    block = block_of(world.height + 1, [world.call(call, target) for call in calls])
    world.close()
    base = BaseState(StateReader(folder))
    try:
        result = execute_serially(
            block, base=base, machine=Machine(CHAIN.rule_set), chain=CHAIN, progress=NoProgress()
        )
        return [decode(Receipt, receipt) for receipt in result.receipts]
    finally:
        base.close()


def test_every_workload_is_tried_here() -> None:
    assert set(SMALL) == set(WORKLOADS)


@pytest.mark.parametrize("name", SMALL)
def test_its_calls_succeed_or_fail_as_they_should(name: str, tmp_path: Path) -> None:
    workload = SMALL[name]()
    receipts = run(workload, tmp_path / "state", list(islice(workload.calls(1), CALLS)))
    failed = Counter(receipt.error for receipt in receipts if receipt.status)
    assert len(receipts) == CALLS
    assert failed == FAILING.get(name, {})


@pytest.mark.parametrize("name", WORKLOADS)
def test_calls_follow_from_the_seed_alone(name: str) -> None:
    def first(seed: int) -> list[Call]:
        return list(islice(WORKLOADS[name]().calls(seed), 200))

    assert first(1) == first(1)
    assert (first(1) != first(2)) == (name != "do_nothing")
    assert WORKLOADS[name]().follows


def test_an_order_goes_from_creation_to_delivery_and_every_answer_is_ok(tmp_path: Path) -> None:
    workload = SMALL["credit_order"]()
    calls = list(islice(workload.calls(1), 90))
    receipts = run(workload, tmp_path / "state", calls)
    assert {unpack(receipt.result) for receipt in receipts} == {"ok"}
    assert [call.method for call in calls[:6]] == ["create"] * 6
    assert Counter(call.method for call in calls[30:]) == {"create": 20, "accept": 20, "deliver": 20}
    assert {call.signer for call in calls} == {"bank a", "bank b", "agency"}
    assert len({(call.method, call.arguments[:2]) for call in calls}) == 90  # no step of an order twice


def test_a_step_that_comes_too_early_is_a_failure_in_its_receipt(tmp_path: Path) -> None:
    workload = SMALL["credit_order"]()
    late = [call for call in islice(workload.calls(1), 60) if call.method != "create"]
    receipts = run(workload, tmp_path / "state", late)
    assert all(receipt.status for receipt in receipts)


def test_forged_documents_do_not_match(tmp_path: Path) -> None:
    workload = SMALL["income_verification"]()
    calls = list(islice(workload.calls(3), CALLS))
    answers = [unpack(receipt.result) for receipt in run(workload, tmp_path / "state", calls)]
    assert answers == ["mismatch" if call.arguments[5] == bytes(32) else "match" for call in calls]
    assert 0 < answers.count("mismatch") < CALLS // 4


def test_smallbank_has_its_weights() -> None:
    drawn = Counter(call.method for call in islice(smallbank(1_000).calls(1), 20_000))
    assert {method: round(count / 200) for method, count in drawn.items()} == dict(MIX)
    assert sum(MIX.values()) == 100


def test_ycsb_reads_half_the_time_and_knows_popular_rows() -> None:
    calls = list(islice(ycsb(1_000).calls(1), 20_000))
    methods = Counter(call.method for call in calls)
    assert methods["read"] + methods["update"] == 20_000 and abs(methods["read"] - 10_000) < 200
    popular = Counter(call.arguments[0] for call in calls).most_common(10)
    assert sum(count for _, count in popular) > 20_000 * 0.3  # ten of a thousand rows, by Zipf's law at 0.99: 39 %
    again = Counter(call.arguments[0] for call in islice(ycsb(1_000).calls(2), 20_000)).most_common(1)
    assert again[0][0] == popular[0][0]  # every seed meets the same


def test_pairs_are_of_two() -> None:
    draw = random.Random(1)
    popular = Zipf(3, 0.99, draw)
    for _ in range(200):
        for first, second in (uniform_pair(2, draw), popular.pair(draw)):
            assert first != second
    assert {Mix({"a": 1, "b": 3}).one(draw) for _ in range(50)} == {"a", "b"}


def test_accounts_are_known_by_name() -> None:
    assert account("bank a").address == account("bank a").address != account("bank b").address


def test_a_set_up_that_fails_is_told(tmp_path: Path) -> None:
    def setup(start: Start) -> Iterator[Any]:
        contract = yield Deploy("bench.nothing", source("do_nothing"))
        yield [SetupCall(contract or b"", "something", ())]
        return contract

    world = World(tmp_path / "state")
    with pytest.raises(BenchError, match="set-up failed: status"):
        world.set_up(setup)  # type: ignore[arg-type]
    world.close()

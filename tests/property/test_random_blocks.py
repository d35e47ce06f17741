"""Random blocks, executed every way there is: the bytes of an independent serial execution.

What is generated and which ways there are stands in `tests/blocks`; `make sim` runs ten thousand blocks of it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest

from contracts.runtime import Machine, Status
from tests.blocks.__main__ import replay_command
from tests.blocks.checking import EXECUTORS, RUNS_MAX, Difference, Report, Way, check, compare, expect, ways_of
from tests.blocks.crew import Crew
from tests.blocks.generator import Case, case_of
from tests.blocks.predictions import KINDS, Foresight, colours, conflicts
from tests.blocks.reference import Reference
from tests.blocks.runner import run_seed
from tests.blocks.shrink import shrunk
from tests.blocks.worlds import CHAIN_ID, GAS_MAX, NAMES

ROOT = Path(__file__).resolve().parents[2]
SEEDS, BATCH = 100, 20


@cache
def report_of(seed: int) -> Report:
    return run_seed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_random_blocks_equal_serial_execution(first: int) -> None:
    for seed in range(first, first + BATCH):
        report = report_of(seed)
        assert not report.problem, f"{report.way}: {report.problem}\nreplay: {replay_command(seed)}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 17, 29])
def test_every_prediction_on_every_number_of_executors(seed: int) -> None:
    report = run_seed(seed, every=True)
    assert not report.problem, f"{report.way}: {report.problem}\nreplay: {replay_command(seed, every=True)}"


@pytest.mark.slow
def test_the_blocks_are_worth_running() -> None:
    """The seeds of the suite contain every status, every world, conflicts, losses and discards."""
    reports = [report_of(seed) for seed in range(SEEDS)]
    assert {status for report in reports for status in report.statuses} == {int(status) for status in Status}
    assert {report.world.split("/")[0] for report in reports} == set(NAMES)
    assert {report.world.split("/")[1] for report in reports} == {"1", "2"}
    blocks = sum(report.blocks for report in reports)
    assert blocks >= 200
    assert sum(report.executed_blocks for report in reports) > (len(KINDS) - 1) * blocks
    for what in ("reexecuted", "conflicts", "executors_lost", "discarded"):
        assert sum(getattr(report, what) for report in reports) > blocks / 4, what


def test_every_pair_of_prediction_and_number_of_executors_comes_up() -> None:
    pairs = {(way.prediction, way.executors) for seed in range(len(EXECUTORS)) for way in ways_of(seed)}
    assert pairs == {(kind, count) for kind in KINDS for count in EXECUTORS} | {("serial", 1)}


# --- gas and errors ---


def test_gas_and_errors_are_the_same_on_every_run() -> None:
    """Cold and warm caches of compiled contracts, each in a machine of its own."""
    for seed in range(6):
        case = case_of(seed)
        machine = Machine(case.world.rule_set)
        runs = []
        for _ in range(2):
            world = case.world
            reference = Reference(
                machine, chain_id=CHAIN_ID, transaction_gas_max=GAS_MAX, deployers=world.deployers,
                values=world.values, height=world.height, root=world.root,
            )  # fmt: skip
            runs.append([
                reference.run(block, time_ms=case.time_ms(index)) for index, block in enumerate(case.blocks)
            ])  # fmt: skip
        assert runs[0] == runs[1] == expect(case).results


def digests_under(hash_seed: str) -> list[tuple[str, str]]:
    command = [sys.executable, "-m", "tests.blocks", "--blocks", "40", "--seed", "500", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    runs = json.loads(done.stdout)["runs"]
    return [(run["digest"], run["problem"]) for run in runs]


@pytest.mark.slow
def test_results_do_not_depend_on_string_hashes() -> None:
    """Receipts with gas and error codes, writes and roots; and parallel execution equals serial under both."""
    first, second = digests_under("1"), digests_under("4242")
    assert first == second
    assert len(first) > 10
    assert {problem for _, problem in first} == {""}


# --- the checks themselves ---


def test_the_comparison_notices_every_part() -> None:
    case = case_of(1)
    expected = expect(case)
    world = case.world
    way = Way(2, "inferred", 0)
    crew = Crew(world, executors=2, planner=Foresight("inferred", _draw()).planner, draw=_draw())
    output = crew.execute(case.blocks[0], time_ms=case.time_ms(0))
    compare(output, expected.results[0], block=0)
    changes = {
        "height": output.height + 1,
        "transaction_root": bytes(32),
        "receipt_root": bytes(32),
        "state_root": bytes(32),
        "gas_used": output.gas_used + 1,
        "receipts": (*output.receipts[:-1], output.receipts[0]),
        "writes": b"\x90",
    }
    for name, value in changes.items():
        with pytest.raises(Difference):
            compare(msgspec.structs.replace(output, **{name: value}), expected.results[0], block=0)
    check(case, way, expected)


def test_a_transaction_that_runs_too_often_is_noticed() -> None:
    case = case_of(1)
    expected = expect(case)
    machine = Crew(case.world, executors=2, planner=Foresight("empty", _draw()).planner, draw=_draw()).machine
    execute = machine.execute

    class Eager:
        """Runs the first transaction of every share more often than it is asked to."""

        def __call__(self, *arguments: object, **named: object) -> object:
            machine.runs[expected.results[0].hashes[0]] += RUNS_MAX
            return execute(*arguments, **named)

    machine.execute = Eager()  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(Difference, match="was executed"):
            check(case, Way(2, "empty", 0), expected)
    finally:
        del machine.execute


def test_the_adversary_separates_exactly_what_conflicts() -> None:
    found = 0
    for seed in range(20):
        for traces in expect(case_of(seed)).traces:
            colour = colours(traces)
            for later in range(len(traces)):
                for earlier in range(later):
                    if conflicts(traces[earlier], traces[later]):
                        found += 1
                        assert colour[earlier] != colour[later]
    assert found > 100


def test_a_failing_case_is_made_small() -> None:
    """The problem is one transaction; all others go."""
    case = case_of(2)
    big = sum(len(block) for block in case.blocks)
    assert big > 4
    trouble = case.blocks[0][0]

    def fails(smaller: Case) -> str:
        return "fails" if any(trouble in block for block in smaller.blocks) else ""

    small = shrunk(case, fails)
    assert [list(block) for block in small.blocks if block] == [[trouble]]


def _draw() -> random.Random:
    return random.Random(0)

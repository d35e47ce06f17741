"""Executes a case one way or another and compares every byte with the reference's."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from chain.codec import decode
from chain.model.block import Receipt
from chain.model.merkle import unpack_writes
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import output_of, roots_of
from tests.blocks.crew import Crew, chain_context, shared_machine, store_of
from tests.blocks.generator import Case
from tests.blocks.predictions import KINDS, Foresight
from tests.blocks.reference import Result, Trace

EXECUTORS: Final = (1, 2, 4, 8, 16)
RUNS_MAX: Final = 2  # of a transaction in one attempt at a block
FIELDS: Final = ("transaction_root", "receipt_root", "state_root", "gas_used", "receipts", "writes")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to execute a case. `seed` draws what goes wrong in it and when."""

    executors: int
    prediction: str  # "serial": the serial executor itself, without a lead
    seed: int
    mode: str = "forced"
    faults: float = 0.0
    lag: float = 0.5
    unrest: float = 0.0  # the chance, block by block, of a discard or of a lead that is replaced
    whim: float = 0.0  # the chance, block by block, that all executors but the lead sit it out
    overlap: float = 0.0  # the chance that the next block is planned and sent out before this one is done

    def __str__(self) -> str:
        return (
            f"{self.prediction} on {self.executors}, mode {self.mode}, faults {self.faults}, lag {self.lag}, "
            f"unrest {self.unrest}, whim {self.whim}, overlap {self.overlap}"
        )


@dataclass(slots=True)
class Report:
    """What running one seed came to; `digest` covers the reference's results."""

    seed: int
    world: str
    blocks: int = 0
    transactions: int = 0
    executed_blocks: int = 0  # over all ways
    executions: int = 0  # by the machine, without those of reference and serial executor
    reexecuted: int = 0
    conflicts: int = 0
    executors_lost: int = 0
    discarded: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    digest: str = ""
    problem: str = ""
    way: str = ""
    smallest: list[list[str]] = field(default_factory=list)  # the shrunk blocks of a failing seed


def no_stats() -> ExecutionStats:
    """For results that nobody planned."""
    return ExecutionStats(
        mode="serial", reason="reference", shards=0, largest_shard=0, shard_sizes=(), conflicts_predicted=0,
        conflicts_actual=0, reexecuted=0, executors_lost=0, busy_us=(), plan_us=0, validate_us=0, wall_us=0,
        cpu_us=0,
    )  # fmt: skip


class Difference(Exception):
    """The promise does not hold; the text names the first thing that differs."""


def ways_of(seed: int, executors: Sequence[int] = EXECUTORS, *, every: bool = False) -> list[Way]:
    """The serial executor, and each prediction on one number of executors; over seeds every pair comes up.

    `every`: each prediction on each number of executors.
    """
    draw = random.Random(f"headrace/ways/{seed}")
    made = [Way(1, "serial", seed)]
    for number, kind in enumerate(KINDS):
        for count in executors if every else [executors[(seed + number) % len(executors)]]:
            made.append(
                Way(
                    count, kind, draw.randrange(1 << 30), draw.choice(("forced", "forced", "parallel")),
                    draw.choice((0.0, 0.0, 0.1, 0.5)), draw.choice((0.0, 0.5, 0.8, 1.0)), draw.choice((0.0, 0.3, 0.6)),
                    draw.choice((0.0, 0.4)), draw.choice((0.0, 0.6)),
                )
            )  # fmt: skip
    return made


# --- what must be ---


@dataclass(slots=True)
class Expected:
    """The reference's results and traces, block by block."""

    results: list[Result]
    traces: list[list[Trace]]


def expect(case: Case) -> Expected:
    """Execute a case on the reference."""
    reference = case.world.reference()
    made = Expected([], [])
    for index, block in enumerate(case.blocks):
        made.results.append(reference.run(block, time_ms=case.time_ms(index)))
        made.traces.append(reference.traces)
    return made


def compare(output: ExecutionOutput, expected: Result, *, block: int) -> None:
    """Raises Difference: says what differs first."""
    if output.height != expected.height:
        raise Difference(f"block {block}: height {output.height}, expected {expected.height}")
    for index, (found, wanted) in enumerate(zip(output.receipts, expected.receipts, strict=False)):
        if found != wanted:
            raise Difference(
                f"block {block}, transaction {index}:\n  found    {_receipt(found)}\n  expected {_receipt(wanted)}"
            )
    if output.writes != expected.writes:
        found_writes, wanted_writes = dict(unpack_writes(output.writes)), dict(unpack_writes(expected.writes))
        for key in sorted({*found_writes, *wanted_writes}):
            found_value, wanted_value = found_writes.get(key, b"-"), wanted_writes.get(key, b"-")
            if found_value != wanted_value:
                raise Difference(f"block {block}, key {key!r}: {found_value!r}, expected {wanted_value!r}")
    for name in FIELDS:
        if getattr(output, name) != getattr(expected, name):
            raise Difference(f"block {block}: {name} differs")


def _receipt(raw: bytes) -> str:
    receipt = decode(Receipt, raw) if raw else None
    return "none" if receipt is None else (
        f"status {receipt.status} {receipt.error!r} result {receipt.result.hex()} gas {receipt.gas_used} "
        f"{len(receipt.events)} events"
    )  # fmt: skip


# --- what is ---


def check(case: Case, way: Way, expected: Expected, report: Report | None = None) -> None:
    """Execute a case one way.

    Raises:
        Difference: a byte differs, or a transaction ran too often.
        InvariantError and others: the code under test gave up, which is as bad.
    """
    tally = report if report is not None else Report(case.seed, case.world.name)
    if way.prediction == "serial":
        _check_serial(case, expected)
    else:
        _Attempt(case, way, expected, tally).run()


def _check_serial(case: Case, expected: Expected) -> None:
    world = case.world
    store = store_of(world)
    base = BaseState(store.view())
    root = world.root
    for index, transactions in enumerate(case.blocks):
        base.refresh()
        block = ExecutionInput.of(height=base.height + 1, time_ms=case.time_ms(index), transactions=transactions)
        result = execute_serially(
            block, base=base, machine=shared_machine(world.rule_set), chain=chain_context(world), progress=NoProgress()
        )
        output = output_of(block, result, roots_of(block, result, parent_state_root=root), no_stats())
        compare(output, expected.results[index], block=index)
        root = output.state_root
        base.append(block.height, result.writes)
        if index % 2:
            for stored in (index - 1, index):
                done = expected.results[stored]
                store.store(done.height, unpack_writes(done.writes), done.state_root)


class _Attempt:
    """One way through one case."""

    def __init__(self, case: Case, way: Way, expected: Expected, tally: Report) -> None:
        self._case = case
        self._way = way
        self._expected = expected
        self._tally = tally
        self._draw = random.Random(way.seed)
        self._foresight = Foresight(way.prediction, self._draw)
        self._crew = Crew(
            case.world, executors=way.executors, planner=self._foresight.planner, draw=self._draw, mode=way.mode,
            faults=way.faults, lag=way.lag, whim=way.whim,
        )  # fmt: skip

    def run(self) -> None:
        index, count = 0, len(self._case.blocks)
        while index < count:
            if self._draw.random() < self._way.unrest:
                self._be_restless(index)
            size = 2 if index + 1 < count and self._draw.random() < self._way.overlap else 1
            self._blocks(index, size)
            self._crew.store_some()
            index += size
        self._tally.executors_lost += self._crew.lost

    def _blocks(self, index: int, size: int) -> None:
        """One block, or two that overlap."""
        crew, case = self._crew, self._case
        crew.machine.runs.clear()
        crew.wasted.clear()
        self._foresight.tell(self._expected.traces[index])
        outputs: Sequence[ExecutionOutput]
        if size == 2:
            first, second = case.blocks[index : index + 2]
            outputs = crew.execute_two(first, second, times_ms=(case.time_ms(index), case.time_ms(index + 1)))
        else:
            attempt = 2 if self._draw.random() < self._way.unrest / 4 else 1
            outputs = [crew.execute(case.blocks[index], time_ms=case.time_ms(index), attempt=attempt)]
        runs = Counter(crew.machine.runs)
        runs.subtract(crew.wasted)
        for number, output in enumerate(outputs, index):
            compare(output, self._expected.results[number], block=number)
            self._count(output, number, runs)

    def _count(self, output: ExecutionOutput, index: int, runs: Counter[bytes]) -> None:
        hashes = self._expected.results[index].hashes
        total = sum(runs[digest] for digest in hashes)
        for digest in hashes:
            if not 1 <= runs[digest] <= RUNS_MAX:
                raise Difference(f"block {index}: {digest.hex()} was executed {runs[digest]} times")
        said = len(hashes) + output.stats.reexecuted
        if total > said or (total < said and not self._way.faults):
            raise Difference(
                f"block {index}: {total} executions of {len(hashes)} transactions, "
                f"{output.stats.reexecuted} said to be second ones"
            )
        tally = self._tally
        tally.executed_blocks += 1
        tally.executions += total
        tally.reexecuted += output.stats.reexecuted
        tally.conflicts += output.stats.conflicts_actual

    def _be_restless(self, index: int) -> None:
        """Another block at this height that is discarded again, some heights discarded and done again, a new lead."""
        draw, crew = self._draw, self._crew
        match draw.randrange(3):
            case 0:
                self._decoys(index)
            case 1:
                back = min(draw.randint(1, 3), crew.unstored, index)
                if back:
                    crew.discard(crew.lead.height + 1 - back)
                    self._tally.discarded += back
                    for again in range(index - back, index):
                        self._blocks(again, 1)
            case _:
                crew.restart_lead()

    def _decoys(self, index: int) -> None:
        draw, crew = self._draw, self._crew
        first = crew.lead.height + 1
        lag, crew.lag = crew.lag, 1.0  # what will be discarded must not be stored
        for ahead in range(draw.choice((1, 1, 2, 3))):
            block = self._case.blocks[(index + ahead) % len(self._case.blocks)]
            decoy = draw.choice([*self._case.decoys, draw.sample(block, draw.randint(0, len(block)))])
            crew.execute(decoy, time_ms=self._case.time_ms(index + ahead))
            self._tally.discarded += 1
        crew.lag = lag
        crew.discard(first)
        if crew.lead.height != first - 1:
            raise Difference(f"height {crew.lead.height} after {first} was discarded")


def problem_of(case: Case, way: Way, expected: Expected, report: Report | None) -> str:
    """Empty if every promise held, else what did not."""
    try:
        check(case, way, expected, report)
    except Difference as difference:
        return str(difference)
    except Exception as error:  # noqa: BLE001  whatever the code under test raises is what we are looking for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})"
    return ""

"""What execution costs, part by part and through real processes: microseconds of CPU a transaction in `extra_info`.

Payments are SmallBank's send_payment between 100,000 accounts drawn uniformly; deliveries are the credit suite's.
Parts are measured in this process; the engine's figures are the CPU of all its executor processes, all in.

    test_serial     the serial executor without the roots of the block: what `parallel` is compared with
    test_tracked    the same by an executor that notes what it reads: decoding, metering, tracking, its answer
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import pytest

from bench.execute.lane import Lane
from bench.execute.workloads import WORKLOADS, blocks_of
from bench.execute.world import CHAIN, World, block_of
from chain.store.state import StateReader
from contracts.runtime import Machine
from executor.governor import Mode
from executor.outcome import ExecutionInput
from executor.plan import PlainPlanner, Planner
from executor.planners import planner_of
from executor.predict import SummaryPredictor
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.share import run_share
from executor.state import BaseState
from executor.transactions import call_at, calls_of
from executor.validate import ShareResult, validate

COUNT: Final = 1_000
COUNT_PLANNED: Final = 2_000
BLOCKS: Final = 12
WARMUP: Final = 4
ROUNDS: Final = 8
NOBODY: Final = NoProgress()


class Stage:
    """A stored state, blocks that come after it, and what it takes to run them here."""

    def __init__(self, folder: Path, workload: str, count: int) -> None:
        self.folder = folder / "state"
        world = World(self.folder)
        made = blocks_of(WORKLOADS[workload], world, seed=1, blocks=BLOCKS, transactions=count)
        first = world.height + 1
        world.close()
        self.blocks = [block_of(first + at, block) for at, block in enumerate(made)]
        self.count = count
        self.base = BaseState(StateReader(self.folder))
        self.machine = Machine(CHAIN.rule_set)

    def tools(self, block: ExecutionInput) -> dict[str, Any]:
        context = CHAIN.block(height=block.height, time_ms=block.time_ms)
        return {"base": self.base, "machine": self.machine, "context": context, "progress": NOBODY}


def _stage(factory: pytest.TempPathFactory, workload: str, count: int) -> Iterator[Stage]:
    stage = Stage(factory.mktemp(workload), workload, count)
    yield stage
    stage.base.close()


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from _stage(tmp_path_factory, "smallbank_uniform", COUNT)


@pytest.fixture(scope="module")
def payments_planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from _stage(tmp_path_factory, "smallbank_uniform", COUNT_PLANNED)


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from _stage(tmp_path_factory, "credit_order", COUNT)


def _each(
    benchmark: Any, stage: Stage, action: Callable[..., object], prepare: Callable[..., Any] | None = None
) -> None:
    """Time `action` on one block after the other, all on the same state; `prepare` is not timed."""
    blocks = cycle(stage.blocks)
    cpu_us: list[float] = []

    def timed(given: Any) -> None:
        start_ns = time.process_time_ns()
        action(given)
        cpu_us.append((time.process_time_ns() - start_ns) / 1e3 / stage.count)

    def next_given() -> tuple[tuple[Any], dict[str, Any]]:
        block = next(blocks)
        return (block if prepare is None else prepare(block),), {}

    benchmark.pedantic(timed, setup=next_given, rounds=ROUNDS, warmup_rounds=WARMUP)
    benchmark.extra_info["cpu_us_per_transaction"] = round(min(cpu_us[WARMUP:] or cpu_us), 2)


def test_decode(benchmark: Any, payments: Stage) -> None:
    _each(benchmark, payments, calls_of)


def test_serial(benchmark: Any, payments: Stage) -> None:
    def run(block: ExecutionInput) -> None:
        execute_serially(block, base=payments.base, machine=payments.machine, chain=CHAIN, progress=NOBODY)

    _each(benchmark, payments, run)


def test_tracked(benchmark: Any, payments: Stage) -> None:
    _each(benchmark, payments, lambda block: _share(payments, block, range(COUNT)))


def test_validate(benchmark: Any, payments: Stage) -> None:
    """Of two shares that have run, by the transactions' parity; most saw nothing of each other."""

    def run(block: ExecutionInput) -> tuple[ExecutionInput, list[ShareResult]]:
        return block, [_share(payments, block, range(first, COUNT, 2)) for first in (0, 1)]

    def check(given: tuple[ExecutionInput, list[ShareResult]]) -> None:
        block, results = given
        validate(lambda position: call_at(block, position), COUNT, results, **payments.tools(block))

    _each(benchmark, payments, check, run)


def _share(stage: Stage, block: ExecutionInput, positions: range) -> ShareResult:
    calls = (call_at(block, position) for position in positions)
    return ShareResult(positions, run_share(calls, positions, **stage.tools(block)))


@pytest.mark.parametrize("way", ["kernels", "plain"])
def test_plan(benchmark: Any, payments_planned: Stage, way: str) -> None:
    """Of blocks of 2,000 payments, from raw bytes to shares."""
    planner = planner_of("summary") if way == "kernels" else PlainPlanner(SummaryPredictor())
    _each(benchmark, payments_planned, _planning(payments_planned, planner))


@pytest.mark.parametrize("way", ["kernels", "plain"])
def test_plan_deliveries(benchmark: Any, deliveries: Stage, way: str) -> None:
    planner = planner_of("summary") if way == "kernels" else PlainPlanner(SummaryPredictor())
    _each(benchmark, deliveries, _planning(deliveries, planner))


def _planning(stage: Stage, planner: Planner) -> Callable[[ExecutionInput], object]:
    return lambda block: planner.plan(block, base=stage.base, executors=2, head_start=0.0)


def test_predict_deliveries(benchmark: Any, deliveries: Stage) -> None:
    """Prediction alone, through six contracts."""
    predictor = SummaryPredictor()

    def predict(block: ExecutionInput) -> None:
        predictor.predict(calls_of(block), base=deliveries.base, height=block.height, time_ms=block.time_ms)

    _each(benchmark, deliveries, predict)


@pytest.mark.parametrize(("executors", "mode"), [(1, "serial"), (2, "forced")])
def test_engine(benchmark: Any, payments: Stage, tmp_path: Path, executors: int, mode: Mode) -> None:
    async def run() -> tuple[float, float]:
        """(CPU of the executor processes, wall), microseconds a transaction, of the best block."""
        lane = Lane(payments.folder, tmp_path / "state", executors=executors, mode=mode)
        await lane.start()
        try:
            ran = await lane.run(payments.blocks)
        finally:
            await lane.stop()
        return min(done.output.stats.cpu_us for done in ran), min(done.wall_ns for done in ran[WARMUP:]) / 1e3

    cpu_us, wall_us = benchmark.pedantic(lambda: asyncio.run(run()), rounds=1)
    benchmark.extra_info["cpu_us_per_transaction"] = round(cpu_us / COUNT, 2)
    benchmark.extra_info["wall_us_per_transaction"] = round(wall_us / COUNT, 2)

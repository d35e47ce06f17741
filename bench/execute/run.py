"""The measured run: the same blocks on engines that differ in nothing but how they execute, in turns.

Every engine has a copy of the same state and executes all blocks in order, a group at a time: first the serial engine,
then each number of executors, then two serial engines at once (what the box gains from two processes); the next group
goes the other way round. So whatever slows the box down for a while slows all of them down.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.errors import BenchError
from bench.execute.costs import transaction_costs
from bench.execute.figures import SERIAL, BlockSample, Repeat, same_bytes, summarize
from bench.execute.lane import Executed, Lane
from bench.execute.model import measure_model
from bench.execute.plan import PREDICTIONS, ExecutePlan
from bench.execute.workloads import WORKLOADS, blocks_of
from bench.execute.world import World, block_of
from chain.codec import decode
from chain.model.block import Receipt
from executor.outcome import ExecutionInput, ExecutionOutput

GROUP: Final = 25  # blocks without a pause, as in a loaded node; engines that take turns meet the same weather
TWINS: Final = ("twin 1", "twin 2")

Say = Callable[[str], None]


def run_execute(plan: ExecutePlan, say: Say, *, box: dict[str, Any]) -> dict[str, Any]:
    """The report as a JSON document; `box` is what `bench.machine.machine` says. Folders are temporary.

    Raises:
        BenchError: the workload's set-up or one of its transactions failed.
        InvariantError: execution broke a promise.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        say(f"{plan.workload}: setting up")
        blocks, setup_transactions = _set_up(plan, folder / "state")
        gc.collect()
        gc.freeze()
        try:
            measured = [
                _measure(plan, predictor, blocks, folder, say) for predictor in PREDICTIONS[plan.predictions]
            ]
        finally:
            gc.unfreeze()
        model: dict[str, Any] = {}
        costs = transaction_costs(folder / "state", blocks)
        if plan.model:
            say(f"{plan.workload}: schedule model")
            model = measure_model(folder / "state", blocks)
    worst = min(measured, key=lambda found: min(found["speedup"].values()))
    return {
        "workload": plan.workload,
        "title": WORKLOADS[plan.workload].title,
        "transactions": plan.blocks * plan.transactions,
        **worst,
        "blocks": plan.blocks,
        "transactions_per_block": plan.transactions,
        "repeats": plan.repeats,
        "warmup_blocks": plan.warmup,
        "setup_transactions": setup_transactions,
        "mode": plan.mode,
        "predictions": plan.predictions,
        "by_predictor": {found["predictor"]: found["speedup"] for found in measured},
        "seed": plan.seed,
        "transaction_cpu_us": costs,
        "model": model,
        "machine": box,
        "seconds": round(time.monotonic() - started, 1),
    }


def _set_up(plan: ExecutePlan, folder: Path) -> tuple[list[ExecutionInput], int]:
    """(blocks, warm-up first, as the engines get them; transactions of the set-up)."""
    world = World(folder)
    try:
        made = blocks_of(
            WORKLOADS[plan.workload], world,
            seed=plan.seed, blocks=plan.warmup + plan.blocks, transactions=plan.transactions,
        )  # fmt: skip
        first = world.height + 1
        return [block_of(first + at, block) for at, block in enumerate(made)], world.transactions
    finally:
        world.close()


def _measure(
    plan: ExecutePlan, predictor: str, blocks: Sequence[ExecutionInput], folder: Path, say: Say
) -> dict[str, Any]:
    repeats = []
    for number in range(1, plan.repeats + 1):
        say(f"{plan.workload}: predictions {predictor}, repeat {number} of {plan.repeats}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            repeats.append(runner.run(_repeat(plan, predictor, blocks, folder)))
    return {"predictor": predictor, **summarize(repeats, transactions=plan.transactions)}


@contextlib.asynccontextmanager
async def _lanes(plan: ExecutePlan, predictor: str, folder: Path) -> AsyncIterator[dict[str, Lane]]:
    """All engines, started; whatever happens, no process and no copy outlives this."""
    state = folder / "state"
    lanes: dict[str, Lane] = {}
    try:
        for name in (SERIAL, *TWINS):
            lanes[name] = Lane(state, folder / name, executors=1, mode="serial")
        for count in plan.executors:
            lanes[str(count)] = Lane(
                state, folder / f"lane-{count}", executors=count, mode=plan.mode, predictor=predictor
            )
        await asyncio.gather(*[lane.start() for lane in lanes.values()])
        yield lanes
    finally:
        await asyncio.gather(*[lane.stop() for lane in lanes.values()])


async def _repeat(
    plan: ExecutePlan, predictor: str, blocks: Sequence[ExecutionInput], folder: Path
) -> Repeat:
    samples: dict[str, list[BlockSample]] = {SERIAL: [], **{str(count): [] for count in plan.executors}}
    alone_us: list[float] = []
    both_us: list[float] = []
    async with _lanes(plan, predictor, folder) as lanes:
        twins = [lanes[name] for name in TWINS]
        turns = [*samples, ""]  # "": the twins' turn
        for first, last in groups(warmup=plan.warmup, blocks=plan.blocks):
            group = blocks[first:last]
            ran: dict[str, list[Executed]] = {}
            for turn in turns:
                if turn:
                    ran[turn] = await lanes[turn].run(group)
                else:
                    start_ns = time.perf_counter_ns()
                    outcome = await asyncio.gather(*[twin.run(group) for twin in twins])
                    pair_us = (time.perf_counter_ns() - start_ns) / 1e3
                    ran |= dict(zip(TWINS, outcome, strict=True))
            turns.reverse()
            for name, lane in lanes.items():
                lane.store([executed.output for executed in ran[name]])
            if first < plan.warmup:
                continue
            take(samples, ran)
            alone_us.append(sum(executed.wall_ns for executed in ran[SERIAL]) / 1e3)
            both_us.append(pair_us)
    return Repeat(samples, alone_us, both_us)


def take(samples: dict[str, list[BlockSample]], ran: dict[str, list[Executed]]) -> None:
    """Add a group's samples.

    Raises:
        BenchError: a transaction failed, or what is compared with was not executed serially.
    """
    for executed in ran[SERIAL]:
        check_receipts(executed.output)
        if executed.output.stats.mode != SERIAL:
            raise BenchError(f"the serial engine executed height {executed.output.height} in parallel")
    for name, found in samples.items():
        for executed, serial in zip(ran[name], ran[SERIAL], strict=True):
            output = executed.output
            found.append(BlockSample(executed.wall_ns / 1e3, same_bytes(output, serial.output), output.stats))


def check_receipts(output: ExecutionOutput) -> None:
    """Raises BenchError: a transaction failed, so the workload does not measure what it says."""
    for encoded in output.receipts:
        receipt = decode(Receipt, encoded)
        if receipt.status:
            raise BenchError(f"a transaction of height {output.height} failed: {receipt.status} {receipt.error}")


def groups(*, warmup: int, blocks: int) -> list[tuple[int, int]]:
    """(first, last + 1) of each group; none holds both warm-up blocks and others."""
    spans = [(first, min(first + GROUP, warmup)) for first in range(0, warmup, GROUP)]
    end = warmup + blocks
    return spans + [(first, min(first + GROUP, end)) for first in range(warmup, end, GROUP)]

"""What a transaction costs inside an executor, without messages, plan, validation and roots: CPU, in this process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.execute.world import CHAIN
from chain.store.state import StateReader
from contracts.runtime import Machine
from executor.outcome import ExecutionInput
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.share import run_share
from executor.state import BaseState
from executor.transactions import call_at

BLOCKS: Final = 6  # each executed on the state before the first of them
WARMUP: Final = 2  # compile the contracts


def transaction_costs(state: Path, blocks: Sequence[ExecutionInput]) -> dict[str, float]:
    """CPU microseconds a transaction, decoding and metering included, of the block that nothing disturbed.

    `serial`: as the serial executor runs it. `tracked`: as an executor runs a share, noting every read for validation
    and making its answer.
    """
    machine, nobody = Machine(CHAIN.rule_set), NoProgress()

    def serial(base: BaseState, block: ExecutionInput) -> None:
        execute_serially(block, base=base, machine=machine, chain=CHAIN, progress=nobody)

    def tracked(base: BaseState, block: ExecutionInput) -> None:
        positions = range(len(block.transactions))
        context = CHAIN.block(height=block.height, time_ms=block.time_ms)
        run_share(
            [call_at(block, position) for position in positions], positions,
            base=base, machine=machine, context=context, progress=nobody,
        )  # fmt: skip

    return {"serial": _best(state, blocks, serial), "tracked": _best(state, blocks, tracked)}


def _best(
    state: Path, blocks: Sequence[ExecutionInput], run: Callable[[BaseState, ExecutionInput], None]
) -> float:
    base = BaseState(StateReader(state))
    times: list[float] = []
    for block in blocks[:BLOCKS]:
        gc.collect()
        start_ns = time.process_time_ns()
        run(base, block)
        times.append((time.process_time_ns() - start_ns) / 1e3 / len(block.transactions))
    base.close()
    return round(min(times[min(WARMUP, len(times) - 1) :]), 2)

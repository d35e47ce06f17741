"""The oracle: one transaction after the other in block order. No planning, no tracking, nothing to get wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from chain.model.block import WriteSet
from contracts.runtime import Machine
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats
from executor.state import BaseState, BlockState
from executor.transactions import Call, ChainContext, Progress, decode_call, run_call, seal


class Executed(NamedTuple):
    """A block's output and, beside its bytes, the write set that goes on top of the base state."""

    output: ExecutionOutput
    writes: WriteSet


def execute_serially(
    block: ExecutionInput,
    *,
    base: BaseState,
    machine: Machine,
    chain: ChainContext,
    progress: Progress,
    reason: str,
    calls: Sequence[Call] = (),
) -> Executed:
    """What every other way of executing `block` must equal, except for `stats`; `calls` if they are decoded already.

    Raises:
        InvariantError: our bug; the node stops.
    """
    cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
    context = chain.block(height=block.height, time_ms=block.time_ms)
    state = BlockState(base)
    hashes: list[bytes] = []
    receipts: list[bytes] = []
    gas_used = 0
    for position, raw in enumerate(block.transactions):
        progress.enter(block.height, position)
        call = calls[position] if calls else decode_call(raw)
        receipt, outcome = run_call(machine, state, context, call)
        state.commit(outcome.writes)
        hashes.append(call.hash)
        receipts.append(receipt)
        gas_used += outcome.gas_used
    ran_ns = time.perf_counter_ns()

    def stats() -> ExecutionStats:
        return ExecutionStats(
            mode="serial",
            reason=reason,
            shards=1 if block.transactions else 0,
            largest_shard=len(block.transactions),
            reexecuted=0,
            executors_lost=0,
            busy_us=((ran_ns - start_ns) // 1000,),
            plan_us=0,
            validate_us=(time.perf_counter_ns() - ran_ns) // 1000,
            cpu_us=(time.process_time_ns() - cpu_ns) // 1000,
        )

    writes = state.write_set()
    output = seal(block, hashes=hashes, receipts=receipts, writes=writes, gas_used=gas_used, stats=stats)
    return Executed(output, writes)

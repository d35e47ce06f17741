"""The oracle: one transaction after the other in block order. No planning, no tracking, nothing to get wrong."""

from __future__ import annotations

from contracts.runtime import Machine, settle
from executor.outcome import ExecutionInput
from executor.state import BaseState, BlockState
from executor.transactions import ChainContext, Progress, Result, call_at, run_call


def execute_serially(
    block: ExecutionInput, *, base: BaseState, machine: Machine, chain: ChainContext, progress: Progress
) -> Result:
    """What every other way of executing `block` must equal.

    Raises:
        InvariantError: our bug; the node stops.
    """
    context = chain.block(height=block.height, time_ms=block.time_ms)
    state = BlockState(base)
    receipts: list[bytes] = []
    gas_used = 0
    enter, commit, height = progress.enter, state.commit, block.height
    for position in range(len(block.transactions)):
        enter(height, position)
        receipt, outcome = run_call(machine, state, context, call_at(block, position))
        commit(settle(outcome, state.get) if outcome.adds else outcome.writes)
        receipts.append(receipt)
        gas_used += outcome.gas_used
    return Result.of(receipts, gas_used, state.written())

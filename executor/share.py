"""One executor's part of a block: run its transactions in block order, recording what each one saw."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain

from chain.errors import InvariantError
from contracts.runtime import BlockContext, Machine
from executor.outcome import POSITION_NONE, ShareOutcome
from executor.state import BaseState, TrackedState
from executor.transactions import Call, Progress, run_call


def run_share(
    calls: Iterable[Call],
    positions: Sequence[int],
    *,
    base: BaseState,
    machine: Machine,
    context: BlockContext,
    progress: Progress,
) -> ShareOutcome:
    """What `calls`, which stand at these ascending positions of the block, did on the base state and on each other.

    What they read may be wrong, because other executors run other transactions at the same time. So a broken promise
    of ours in here proves nothing: the transaction counts as not run, and the lead runs it again on the exact prefix.
    """
    cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
    state = TrackedState(base)
    receipts: list[bytes] = []
    gas: list[int] = []
    write_keys: list[bytes] = []
    write_values: list[bytes | None] = []
    write_counts = array("i")
    for position, call in zip(positions, calls, strict=True):
        progress.enter(context.height, position)
        state.begin()
        try:
            receipt, outcome = run_call(machine, state, context, call)
        except (InvariantError, MemoryError, RecursionError):
            state.abandon()
            receipts.append(b"")
            gas.append(0)
            write_counts.append(0)
            continue
        writes = outcome.writes
        state.commit(position, writes.items())
        receipts.append(receipt)
        gas.append(outcome.gas_used)
        write_keys.extend(writes)
        write_values.extend(writes.values())
        write_counts.append(len(writes))
    return ShareOutcome(
        receipts=tuple(receipts),
        gas=tuple(gas),
        read_keys=state.read_keys(),
        read_counts=state.read_counts.tobytes(),
        read_refs=state.read_refs.tobytes(),
        read_versions=state.read_versions.tobytes(),
        scans=tuple(state.scans),
        write_keys=tuple(write_keys),
        write_values=tuple(write_values),
        write_counts=write_counts.tobytes(),
        busy_us=(time.perf_counter_ns() - start_ns) // 1000,
        cpu_us=(time.process_time_ns() - cpu_ns) // 1000,
    )


def integers(data: bytes) -> array[int]:
    """The int32 array in these bytes.

    Raises:
        ValueError: not a multiple of four bytes.
    """
    result = array("i")
    result.frombytes(data)
    return result


def is_well_formed(share: ShareOutcome, positions: Sequence[int]) -> bool:
    """True if the parts of an answer fit together and to what was asked, so that validation cannot stumble over it."""
    try:
        counts, refs, versions, written = (
            integers(data) for data in (share.read_counts, share.read_refs, share.read_versions, share.write_counts)
        )
    except ValueError:
        return False
    count = len(positions)
    return (
        len(share.receipts) == len(share.gas) == len(counts) == len(written) == count
        and min(chain(counts, written, share.gas), default=0) >= 0
        and sum(counts) == len(refs) == len(versions)
        and sum(written) == len(share.write_keys) == len(share.write_values)
        and (not refs or (min(refs) >= 0 and max(refs) < len(share.read_keys)))
        and (not versions or min(versions) >= POSITION_NONE)
        and all(0 <= index < count for index, _, _ in share.scans)
    )

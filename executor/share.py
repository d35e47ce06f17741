"""One executor's part of a block: run its transactions in block order, recording what each one saw."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain

from chain.errors import InvariantError
from chain.model.block import WriteSet
from chain.model.merkle import leaf_hashes, write_leaves
from chain.types import DIGEST_BYTES
from contracts.runtime import BlockContext, Machine
from executor.outcome import ShareOutcome
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
    number: int = 0,
) -> ShareOutcome:
    """What `calls`, which stand at these ascending positions of the block, did on the base state and on each other.

    What they read may be wrong, because other executors run other transactions at the same time. So a broken promise
    of ours in here proves nothing: the transaction counts as not run, and the lead runs it again on the exact prefix.
    """
    cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
    state = TrackedState(base)
    receipts: list[bytes] = []
    gas: list[int] = []
    for position, call in zip(positions, calls, strict=True):
        progress.enter(context.height, position)
        try:
            receipt, outcome = run_call(machine, state, context, call)
        except (InvariantError, MemoryError, RecursionError):
            state.abandon()
            receipts.append(b"")
            gas.append(0)
            continue
        state.commit(outcome)  # not to be survived in part: an error in here ends the process
        receipts.append(receipt)
        gas.append(outcome.gas_used)
    counts, written = state.written()
    keys, values, refs = _by_key(written)
    final = dict(zip(keys, values, strict=True))  # the latest of equal keys wins
    base.last_share = (number, final)
    leaves = write_leaves(list(final.items()))
    return ShareOutcome(
        receipts=tuple(receipts),
        receipt_hashes=leaf_hashes(receipts),
        gas=tuple(gas),
        read_keys=tuple(state.read_keys),
        read_marks=state.read_marks.tobytes(),
        scans=tuple(state.scans),
        write_keys=keys,
        write_values=values,
        write_counts=counts.tobytes(),
        write_refs=refs.tobytes(),
        adds=tuple(state.adds),
        conflicts=state.conflicts,
        leaves=tuple(leaves),
        leaf_hashes=leaf_hashes(leaves),
        number=number,
        busy_us=(time.perf_counter_ns() - start_ns) // 1000,
        cpu_us=(time.process_time_ns() - cpu_ns) // 1000,
        end_ns=time.monotonic_ns(),
    )


def _by_key(
    writes: WriteSet,
) -> tuple[tuple[bytes, ...], tuple[bytes | None, ...], array[int]]:
    """Writes ascending by key, equal keys in the order they came; and where each write has gone."""
    keys = [key for key, _ in writes]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    refs = array("i", bytes(4 * len(order)))
    for place, index in enumerate(order):
        refs[index] = place
    return tuple([keys[index] for index in order]), tuple([writes[index][1] for index in order]), refs


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
        read_marks, write_counts, write_refs = (
            integers(data) for data in (share.read_marks, share.write_counts, share.write_refs)
        )
    except ValueError:
        return False
    count, writes = len(positions), len(share.write_keys)
    return (
        len(share.receipts) == len(share.gas) == count
        and len(share.receipt_hashes) == DIGEST_BYTES * count
        and len(read_marks) == len(write_counts) == count
        and min(chain(write_counts, share.gas), default=0) >= 0
        and sorted(read_marks) == list(read_marks)
        and (read_marks[0] if count else 0) >= 0
        and (read_marks[-1] if count else 0) == len(share.read_keys)
        and sum(write_counts) == len(share.write_values) == len(write_refs) == writes
        and len(set(write_refs)) == writes
        and (writes == 0 or (min(write_refs) >= 0 and max(write_refs) < writes))
        and all(0 <= index < count for index, _ in share.scans)
        and all(0 <= index < count for index, *_ in share.adds)
        and len(share.leaves) == len(set(share.write_keys))
        and len(share.leaf_hashes) == DIGEST_BYTES * len(share.leaves)
    )

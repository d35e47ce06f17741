"""Validation in block order: what an executor saw must be what stood before the transaction, or it is run again.

The fast way: if no executor read a key that another one wrote, each saw exactly the prefix it should have, because it
ran its own transactions in block order. Otherwise every transaction is checked version by version, and one that does
not hold is run at once on the exact prefix; that second run is the last, for nothing before it can change any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from chain.model.block import WriteSet
from contracts.runtime import BlockContext, Machine
from executor.outcome import POSITION_NONE, ShareOutcome
from executor.share import integers
from executor.state import BaseState, BlockState
from executor.transactions import Call, Progress, run_call

_RERUN: Final = -2  # the version of a value written by a second run is `_RERUN - position`
_ABSENT: Final = object()


class ShareResult(NamedTuple):
    """A well-formed answer and the positions it is about, ascending."""

    positions: Sequence[int]
    outcome: ShareOutcome


class Validated(NamedTuple):
    """What the block did: receipts in block order, writes ascending by key."""

    receipts: list[bytes]
    gas_used: int
    writes: WriteSet
    reexecuted: int


def validate(
    calls: Sequence[Call],
    results: Sequence[ShareResult],
    *,
    base: BaseState,
    machine: Machine,
    context: BlockContext,
    progress: Progress,
) -> Validated:
    """The exact result of a block of `calls`, of which `results` cover all or some positions, each at most once.

    Raises:
        InvariantError: a promise of ours broke on validated reads; the node stops.
    """
    if is_undisturbed(len(calls), results):
        return merge(len(calls), results)
    cursors: list[_Cursor | None] = [None] * len(calls)
    for result in results:
        cursor = _Cursor(result.outcome)
        for position in result.positions:
            cursors[position] = cursor
    prefix = _Prefix(base)
    receipts: list[bytes] = []
    gas_used = reexecuted = 0
    for position, call in enumerate(calls):
        found = cursors[position]
        if found is not None:
            receipt, gas = found.next()
            if receipt and prefix.holds(found):
                prefix.accept(position, found)
                receipts.append(receipt)
                gas_used += gas
                continue
        progress.enter(context.height, position)
        receipt, outcome = run_call(machine, prefix.state, context, call)
        prefix.correct(position, outcome.writes, {} if found is None else found.writes())
        receipts.append(receipt)
        gas_used += outcome.gas_used
        reexecuted += 1
    return Validated(receipts, gas_used, prefix.state.write_set(), reexecuted)


# --- the fast way ---


def is_undisturbed(count: int, results: Sequence[ShareResult]) -> bool:
    """True if every transaction ran and no executor read or scanned what another one wrote."""
    if sum([len(result.positions) for result in results]) != count:
        return False
    if not all(all(result.outcome.receipts) for result in results):
        return False
    reads = [frozenset(result.outcome.read_keys) for result in results]
    writes = [frozenset(result.outcome.write_keys) for result in results]
    for reader, result in enumerate(results):
        prefixes = tuple({prefix for _, prefix, _ in result.outcome.scans})
        for writer, written in enumerate(writes):
            if writer == reader:
                continue
            if not reads[reader].isdisjoint(written):
                return False
            if prefixes and any(key.startswith(prefixes) for key in written):
                return False
    return True


def merge(count: int, results: Sequence[ShareResult]) -> Validated:
    """The result where every transaction holds as it ran."""
    receipts = [b""] * count
    gas_used = 0
    final: dict[bytes, bytes | None] = {}
    written = 0
    for result in results:
        outcome = result.outcome
        for position, receipt in zip(result.positions, outcome.receipts, strict=True):
            receipts[position] = receipt
        gas_used += sum(outcome.gas)
        last = dict(zip(outcome.write_keys, outcome.write_values, strict=True))  # the latest of equal keys wins
        written += len(last)
        final.update(last)
    if len(final) != written:  # two executors wrote one key that neither read: block order decides
        final = _merge_in_order(results)
    return Validated(receipts, gas_used, sorted(final.items()), 0)


def _merge_in_order(results: Sequence[ShareResult]) -> dict[bytes, bytes | None]:
    entries: dict[bytes, tuple[int, bytes | None]] = {}
    for result in results:
        at = 0
        for position, count in zip(result.positions, integers(result.outcome.write_counts), strict=True):
            for index in range(at, at + count):
                key = result.outcome.write_keys[index]
                if key not in entries or entries[key][0] <= position:
                    entries[key] = (position, result.outcome.write_values[index])
            at += count
    return {key: value for key, (_, value) in entries.items()}


# --- the exact way ---


class _Cursor:
    """Walks the transactions of one answer in order; the current one's reads and writes are slices of flat arrays."""

    def __init__(self, outcome: ShareOutcome) -> None:
        self.outcome = outcome
        self.refs = integers(outcome.read_refs)
        self.versions = integers(outcome.read_versions)
        self.scans: dict[int, list[tuple[bytes, tuple[tuple[bytes, int], ...]]]] = {}  # (prefix, what was under it)
        for index, prefix, seen in outcome.scans:
            self.scans.setdefault(index, []).append((prefix, seen))
        self.index = -1
        self.first_read = self.last_read = self.first_write = self.last_write = 0
        self._read_counts = integers(outcome.read_counts)
        self._write_counts = integers(outcome.write_counts)

    def next(self) -> tuple[bytes, int]:
        """Move to the next transaction: (receipt, gas); the receipt is empty if it was not run to an end."""
        self.index = index = self.index + 1
        self.first_read, self.last_read = self.last_read, self.last_read + self._read_counts[index]
        self.first_write, self.last_write = self.last_write, self.last_write + self._write_counts[index]
        return self.outcome.receipts[index], self.outcome.gas[index]

    def writes(self) -> dict[bytes, bytes | None]:
        """What the current transaction wrote."""
        first, last = self.first_write, self.last_write
        return dict(zip(self.outcome.write_keys[first:last], self.outcome.write_values[first:last], strict=True))


class _Prefix:
    """The validated part of the block: values, and the version of each."""

    def __init__(self, base: BaseState) -> None:
        self.state = BlockState(base)
        self._versions: dict[bytes, int] = {}

    def holds(self, seen: _Cursor) -> bool:
        """True if every version that the current transaction saw is the latest before it."""
        latest, keys, refs, versions = self._versions, seen.outcome.read_keys, seen.refs, seen.versions
        for at in range(seen.first_read, seen.last_read):
            if latest.get(keys[refs[at]], POSITION_NONE) != versions[at]:
                return False
        for prefix, found in seen.scans.get(seen.index, ()):
            if tuple([(key, latest[key]) for key in self.state.keys_under(prefix)]) != found:
                return False
        return True

    def accept(self, position: int, seen: _Cursor) -> None:
        """Put the writes of a transaction that holds on top."""
        keys, values, versions = seen.outcome.write_keys, seen.outcome.write_values, self._versions
        for at in range(seen.first_write, seen.last_write):
            key = keys[at]
            self.state.put(key, values[at])
            versions[key] = position

    def correct(
        self, position: int, writes: dict[bytes, bytes | None], first_run: dict[bytes, bytes | None]
    ) -> None:
        """Put the writes of a second run on top. Where it wrote what the first had written, those who saw that saw the
        right value, so it keeps its version."""
        self.state.commit(writes)
        for key, value in writes.items():
            same = first_run.get(key, _ABSENT) == value
            self._versions[key] = position if same else _RERUN - position

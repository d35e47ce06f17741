"""Validation in block order: what an executor saw must be what stood before the transaction, or it is run again.

The fast way: if no executor read a key that another one wrote, each saw exactly the prefix it should have, because it
ran its own transactions in block order; keys that several only added to are summed. Otherwise every transaction is
checked version by version, and one that does not hold is run at once on the exact prefix; that second run is the last,
for nothing before it can change any more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Final, NamedTuple

from chain.model.merkle import leaf_hash, write_leaf
from chain.types import DIGEST_BYTES
from contracts.runtime import Add, BlockContext, Machine, integer_bytes, integer_of, settle
from executor.outcome import POSITION_NONE, ShareOutcome
from executor.share import integers
from executor.state import BaseState, BlockState, PrefixIndex
from executor.transactions import Call, Progress, Result, join_leaves, run_call

_RERUN: Final = -2  # the version of a value that differs from what the first run had is `_RERUN - position`
_ABSENT: Final = object()


class ShareResult:
    """A well-formed answer and the positions it is about, ascending; `final` is what it leaves in the keys it wrote."""

    __slots__ = ("final", "outcome", "positions")

    def __init__(self, positions: Sequence[int], outcome: ShareOutcome) -> None:
        self.positions = positions
        self.outcome = outcome
        self.final = dict(zip(outcome.write_keys, outcome.write_values, strict=True))  # the latest of equal keys wins


class Validated(NamedTuple):
    """What the block did, and how many transactions ran a second time.

    `rests[i]`, after the fast way only: the packed writes of the block beside those of `results[i]`.
    """

    result: Result
    reexecuted: int
    rests: list[bytes]


def validate(
    call_at: Callable[[int], Call],
    count: int,
    results: Sequence[ShareResult],
    *,
    base: BaseState,
    machine: Machine,
    context: BlockContext,
    progress: Progress,
) -> Validated:
    """The exact result of a block of `count` transactions, of which `results` cover all or some positions, each at most
    once: both ways in one step; the lead takes the parts one by one. `call_at(position)` is asked for transactions
    that run again.

    Raises:
        InvariantError: a promise of ours broke on validated reads; the node stops.
    """
    common = undisturbed(count, results, base)
    if common is not None:
        return Validated(merge(count, results, common), 0, rests_of(results, common))
    result, reexecuted = validate_exactly(
        call_at, count, results, base=base, machine=machine, context=context, progress=progress
    )
    return Validated(result, reexecuted, [])


# --- the fast way ---

def undisturbed(
    count: int, results: Sequence[ShareResult], base: BaseState
) -> dict[bytes, bytes | None] | None:
    """None if validation must go transaction by transaction. Else every transaction ran and saw what it should; the
    result holds what the block leaves in keys that several executors wrote.

    Every transaction saw what it should if no executor read or scanned what another one wrote, and every add would
    succeed wherever between the lowest and the highest sum the value may be at its position.
    """
    if sum([len(result.positions) for result in results]) != count:
        return None
    if not all(all(result.outcome.receipts) for result in results):
        return None
    for reader in results:
        reads, prefixes = reader.outcome.read_keys, {prefix for _, prefix in reader.outcome.scans}
        for writer in results:
            if writer is reader:
                continue
            if not writer.final.keys().isdisjoint(reads) or _any_under(prefixes, writer.outcome.write_keys):
                return None
    writes = [result.final.keys() for result in results]
    shared = _in_several(writes)
    adders = [frozenset([key for _, key, *_ in result.outcome.adds]) for result in results]
    if not shared and not any(adders):
        return {}
    added = {
        key
        for adder, keys in enumerate(adders)
        for writer, written in enumerate(writes)
        if writer != adder
        for key in keys & written
    }
    sums = _sums(added, results, base) if added else {}
    return None if sums is None else {**_last_writes(shared, results), **sums}


def _in_several(sets: Sequence[Set[bytes]]) -> set[bytes]:
    """What is in more than one of the sets."""
    return {key for at, keys in enumerate(sets) for others in sets[at + 1 :] for key in keys & others}


def _any_under(prefixes: set[bytes], keys: Sequence[bytes]) -> bool:
    """True if one of the keys, which are ascending, begins with one of the prefixes."""
    for prefix in prefixes:
        at = bisect_left(keys, prefix)
        if at < len(keys) and keys[at].startswith(prefix):
            return True
    return False


def _sums(keys: set[bytes], results: Sequence[ShareResult], base: BaseState) -> dict[bytes, bytes] | None:
    """The values of keys that several executors changed, if all of them did so by adds that succeed in any order."""
    written: Counter[bytes] = Counter()
    added: Counter[bytes] = Counter()
    spans: dict[bytes, list[int]] = {key: [0, 0] for key in keys}  # how far the block can take the value down and up
    for result in results:
        written.update([key for key in result.outcome.write_keys if key in keys])
        for _, key, delta, _, _ in result.outcome.adds:
            if delta is not None and key in keys:
                added[key] += 1
                spans[key][delta > 0] += delta
    if written != added:
        return None
    values = {key: integer_of(base.get(key)) for key in keys}
    for result in results:
        for _, key, _, low, high in result.outcome.adds:
            if key in keys:
                value, (down, up) = values[key], spans[key]
                if value is None or value + down < low or value + up > high:
                    return None
    return {key: integer_bytes((value or 0) + sum(spans[key])) for key, value in values.items()}


def merge(count: int, results: Sequence[ShareResult], common: dict[bytes, bytes | None]) -> Result:
    """The result where every transaction holds as it ran; `common` is what `undisturbed` found."""
    receipts, hashes = [b""] * count, [b""] * count
    gas_used = 0
    final: dict[bytes, bytes | None] = {}
    for result in results:
        outcome = result.outcome
        digests = _digests(outcome.receipt_hashes)
        for position, receipt, digest in zip(result.positions, outcome.receipts, digests, strict=True):
            receipts[position] = receipt
            hashes[position] = digest
        gas_used += sum(outcome.gas)
        final.update(result.final)
    keys = list(final)
    leaves = [leaf for result in results for leaf in result.outcome.leaves]
    digests = [digest for result in results for digest in _digests(result.outcome.leaf_hashes)]
    if common:
        pieces = {
            key: piece
            for result in results
            for key, piece in zip(
                result.final,
                zip(result.outcome.leaves, _digests(result.outcome.leaf_hashes), strict=True),
                strict=True,
            )
        }
        for key, value in common.items():
            final[key] = value
            leaf = write_leaf(key, value)
            pieces[key] = (leaf, leaf_hash(leaf))
        leaves, digests = [pieces[key][0] for key in keys], [pieces[key][1] for key in keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # runs that are ascending already
    packed = join_leaves([leaves[at] for at in order])
    ordered = b"".join([digests[at] for at in order])
    return Result(receipts, b"".join(hashes), gas_used, final, packed, ordered)


def _digests(joined: bytes) -> list[bytes]:
    return [joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES)]


def rests_of(results: Sequence[ShareResult], common: dict[bytes, bytes | None]) -> list[bytes]:
    """For each answer the packed writes of the block that are not its own, in any order."""
    leaves = [write_leaf(key, value) for key, value in common.items()]
    return [
        join_leaves([leaf for other in results if other is not own for leaf in other.outcome.leaves] + leaves)
        for own in results
    ]


def _last_writes(keys: set[bytes], results: Sequence[ShareResult]) -> dict[bytes, bytes | None]:
    """What the last transaction in block order wrote to each of some keys."""
    entries: dict[bytes, tuple[int, bytes | None]] = {}
    for result in results:
        outcome = result.outcome
        refs, at = integers(outcome.write_refs), 0
        for position, count in zip(result.positions, integers(outcome.write_counts), strict=True):
            for ref in refs[at : at + count]:
                key = outcome.write_keys[ref]
                if key in keys and (key not in entries or entries[key][0] <= position):
                    entries[key] = (position, outcome.write_values[ref])
            at += count
    return {key: value for key, (_, value) in entries.items()}


# --- the exact way ---


def validate_exactly(
    call_at: Callable[[int], Call],
    count: int,
    results: Sequence[ShareResult],
    *,
    base: BaseState,
    machine: Machine,
    context: BlockContext,
    progress: Progress,
) -> tuple[Result, int]:
    """(the result, transactions that ran again), transaction by transaction; parameters as for `validate`."""
    cursors: list[_Cursor | None] = [None] * count
    for result in results:
        cursor = _Cursor(result.outcome)
        for position in result.positions:
            cursors[position] = cursor
    prefix = _Prefix(base)
    receipts: list[bytes] = []
    gas_used = reexecuted = 0
    for position, found in enumerate(cursors):
        if found is not None:
            receipt = found.next(position)
            if receipt and prefix.holds(found):
                prefix.accept(position, found)
                receipts.append(receipt)
                gas_used += found.outcome.gas[found.index]
                continue
        progress.enter(context.height, position)
        receipt, outcome = run_call(machine, prefix.state, context, call_at(position))
        writes = settle(outcome, prefix.state.get)
        prefix.correct(position, writes, {} if found is None else found.writes)
        receipts.append(receipt)
        gas_used += outcome.gas_used
        reexecuted += 1
    return Result.of(receipts, gas_used, prefix.state.written()), reexecuted


class _Cursor:
    """Walks the transactions of one answer in order; the current one's reads and writes are slices of flat lists."""

    def __init__(self, outcome: ShareOutcome) -> None:
        self.outcome = outcome
        self.scans: dict[int, list[bytes]] = {}
        for index, prefix in outcome.scans:
            self.scans.setdefault(index, []).append(prefix)
        self.adds: dict[int, dict[bytes, Add]] = {}
        for index, key, delta, low, high in outcome.adds:
            self.adds.setdefault(index, {})[key] = Add(delta, low, high)
        self.index = -1
        self.reads: Sequence[bytes] = ()
        self.writes: dict[bytes, bytes | None] = {}  # adds at the value that the executor knew
        self.versions: dict[bytes, int] = {}  # positions of the writers that the executor has seen before this one
        self._read_marks = integers(outcome.read_marks)
        self._write_counts = integers(outcome.write_counts)
        self._write_refs = integers(outcome.write_refs)
        self._reads_to = self._writes_to = 0
        self._position = POSITION_NONE
        self._index: PrefixIndex | None = PrefixIndex(self.versions) if outcome.scans else None

    def next(self, position: int) -> bytes:
        """Move to the next transaction, which stands at `position`; its receipt, empty if it was not run to an end."""
        for key in self.writes:
            if self._index is not None and key not in self.versions:
                self._index.add(key)
            self.versions[key] = self._position
        self._position = position
        self.index = index = self.index + 1
        first, self._reads_to = self._reads_to, self._read_marks[index]
        self.reads = self.outcome.read_keys[first : self._reads_to]
        first, self._writes_to = self._writes_to, self._writes_to + self._write_counts[index]
        keys, values = self.outcome.write_keys, self.outcome.write_values
        self.writes = {keys[ref]: values[ref] for ref in self._write_refs[first : self._writes_to]}
        return self.outcome.receipts[index]

    def seen_under(self, prefix: bytes) -> list[tuple[bytes, int]]:
        """What a scan by the current transaction found of its share's writes: keys with their versions."""
        return [] if self._index is None else [(key, self.versions[key]) for key in self._index.under(prefix)]


class _Prefix:
    """The validated part of the block: values, and the version of each."""

    def __init__(self, base: BaseState) -> None:
        self.state = BlockState(base)
        self._versions: dict[bytes, int] = {}

    def holds(self, seen: _Cursor) -> bool:
        """True if every version that the current transaction saw is the latest before it, and its adds succeed here."""
        latest, known = self._versions, seen.versions
        for key in seen.reads:
            if latest.get(key, POSITION_NONE) != known.get(key, POSITION_NONE):
                return False
        for prefix in seen.scans.get(seen.index, ()):
            if [(key, latest[key]) for key in self.state.keys_under(prefix)] != seen.seen_under(prefix):
                return False
        return all(add.holds(self.state.get(key)) for key, add in seen.adds.get(seen.index, {}).items())

    def accept(self, position: int, seen: _Cursor) -> None:
        """Put the writes of a transaction that holds on top; what it added, on the value that stands here."""
        writes = seen.writes
        adds = seen.adds.get(seen.index)
        if adds:
            writes = dict(writes)
            for key, add in adds.items():
                if add.delta is not None:
                    writes[key] = integer_bytes((integer_of(self.state.get(key)) or 0) + add.delta)
        self.correct(position, writes, seen.writes)

    def correct(
        self, position: int, writes: dict[bytes, bytes | None], first_run: dict[bytes, bytes | None]
    ) -> None:
        """Put the writes of a second run on top. Where it wrote what the first had written, those who saw that saw the
        right value, so it keeps its version."""
        self.state.commit(writes)
        for key, value in writes.items():
            same = first_run.get(key, _ABSENT) == value
            self._versions[key] = position if same else _RERUN - position

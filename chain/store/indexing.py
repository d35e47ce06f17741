"""What finds things in the blocks: transactions by hash, events by contract and name, heights by the key they wrote.

    transactions   runs: first 8 bytes of the hash -> height and position among the executed transactions of the block
    history        runs: first 8 bytes of sha256(state key) -> height that wrote it
    events         contract, event name, height -> (position, event index), one after the other
    meta           "indexed" -> the height up to which all three are on disk

All of it follows from the blocks, so it need not be written with each of them. What the blocks above the *indexed
height* add is kept in memory, and goes to disk for many blocks at once, in the transaction of the last of them and
together with the new indexed height. Whoever opens the environment, the node after a crash or another process while the
node runs, derives the rest from the blocks above that height: at most as many as `IndexLimits` says.

A run holds shortened digests. An entry found there is believed once the block that it names has been asked.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import lmdb
import msgspec

from chain.errors import InvariantError, StoreError
from chain.model.block import Event, Receipt
from chain.model.merkle import unpack_writes
from chain.store.environment import META, Environment, WriteTransaction
from chain.store.layout import height_key, pack_integers, unpack_integers
from chain.types import DIGEST_BYTES

EVENT_NAME_BYTES: Final = 128  # longer names share an index entry; readers compare the whole name
TRANSACTIONS: Final = b"transactions"
EVENTS: Final = b"events"
HISTORY: Final = b"history"
_INDEXED_KEY: Final = b"indexed"
_POSITION_BITS: Final = 24
_POSITION_MASK: Final = (1 << _POSITION_BITS) - 1
_FIRST_SPAN: Final = 1_024  # heights that are searched first for a key
_RECEIPT_HEAD: Final = b"\x96\xc4\x20"  # six fields, the first one of 32 bytes
_RECEIPT_TAIL: Final = len(_RECEIPT_HEAD) + DIGEST_BYTES
_receipt = msgspec.msgpack.Decoder(Receipt).decode

Place = tuple[int, int, int]  # height, position of the transaction, index of the event within it
Location = tuple[int, int]  # height, position of the transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLimits:
    """How much may be kept in memory before it is written; a node that was killed derives as much again."""

    transactions: int = 4_096
    heights: int = 64
    keys: int = 32_768  # state keys written
    events: int = 65_536


INDEX_LIMITS: Final = IndexLimits()


class Indexed(NamedTuple):
    """What the index needs of a block."""

    height: int
    hashes: bytes  # of its executed transactions
    receipts: Sequence[bytes]
    writes: bytes  # its packed write set


class Blocks(Protocol):
    """Where the index looks a block up; None: that part of it is not here."""

    def hashes(self, height: int) -> bytes | None: ...

    def receipts(self, height: int) -> list[bytes] | None: ...

    def writes(self, height: int) -> bytes | None: ...


@dataclass(slots=True)
class Entries:
    """What some blocks add to the index."""

    heights: int = 0
    locations: dict[bytes, int] = field(default_factory=dict)  # by hash: height and position in one number
    events: dict[bytes, list[int]] = field(default_factory=dict)  # as in the database
    emitted: int = 0  # events in it
    written: list[tuple[int, list[bytes]]] = field(default_factory=list)  # height, the state keys it wrote
    keys: int = 0  # of `written`

    def add(self, other: Entries) -> None:
        self.heights += other.heights
        self.locations.update(other.locations)
        self.events.update(other.events)  # no height is in both
        self.emitted += other.emitted
        self.written += other.written
        self.keys += other.keys


class ChainIndex:
    """The index of one blocks environment. One writer at a time; readers need no lock."""

    def __init__(
        self, environment: Environment, blocks: Blocks, *, history: bool, limits: IndexLimits, base: int, tip: int
    ) -> None:
        """Open it and derive what is not on disk. `base` is the first block above genesis that is here, `tip` the last.

        Raises:
            StoreError: a block above the indexed height is missing, or the index is ahead of the blocks.
        """
        self._env = environment
        self._blocks = blocks
        self._history = history
        self._limits = limits
        from chain.store.runs import Runs  # numpy takes 5 MB, and executors, which import this package, do not need it

        self._transaction_runs = Runs(environment, TRANSACTIONS)
        self._history_runs = Runs(environment, HISTORY)
        self._recent = Entries()  # of the heights above the indexed one
        with environment.read() as txn:
            data = txn.get(_INDEXED_KEY, db=environment.database(META))
        self.height = 0 if data is None else int.from_bytes(data, "big")  # all up to here is on disk
        if self.height > tip and not environment.readonly:
            raise StoreError(f"{environment.path}: indexed up to height {self.height}, the blocks end at {tip}")
        for height in range(max(self.height + 1, base), tip + 1):
            self._recent.add(self._entries_of([self._load(height)]))

    def _load(self, height: int) -> Indexed:
        hashes = self._blocks.hashes(height)
        if hashes is None:
            raise StoreError(f"{self._env.path}: block {height} is missing")
        receipts, writes = self._blocks.receipts(height), self._blocks.writes(height)
        return Indexed(height, hashes, receipts or (), writes or b"")

    # --- writing ---

    def check(self, blocks: Sequence[Indexed]) -> Entries:
        """What the next blocks add.

        Raises:
            InvariantError: a transaction that was executed before, or a receipt that is none.
        """
        entries = self._entries_of(blocks)
        count = sum([len(block.hashes) for block in blocks]) // DIGEST_BYTES
        known = self._recent.locations
        if (
            len(entries.locations) != count
            or not known.keys().isdisjoint(entries.locations)
            or any(self._stored_locations(list(entries.locations)))
        ):
            raise InvariantError(f"a transaction of blocks {blocks[0].height}.. was executed before")
        return entries

    def put(self, txn: WriteTransaction, entries: Entries, height: int) -> bool:
        """In the transaction that writes the blocks up to `height`: put all that is in memory, if it is enough.

        Once the transaction is durable, `keep` must be told what this returned.
        """
        recent, limits = self._recent, self._limits
        if (
            len(recent.locations) + len(entries.locations) < limits.transactions
            and recent.heights + entries.heights < limits.heights
            and recent.keys + entries.keys < limits.keys
            and recent.emitted + entries.emitted < limits.events
        ):
            return False
        everything = Entries()
        everything.add(recent)
        everything.add(entries)
        locations, written = everything.locations, everything.written
        self._transaction_runs.add(txn, locations, locations.values(), height=height)
        self._history_runs.add(
            txn,
            [key_digest(key) for _, keys in written for key in keys],
            [at for at, keys in written for _ in keys],
            height=height,
        )
        txn.cursor(self._env.database(EVENTS)).putmulti(
            [(key, pack_integers(places)) for key, places in sorted(everything.events.items())]
        )
        txn.put(_INDEXED_KEY, height_key(height), db=self._env.database(META))
        return True

    def keep(self, entries: Entries, height: int, *, put: bool) -> None:
        """The blocks up to `height` are durable; `put` is what the method of that name returned."""
        if put:
            self._recent, self.height = Entries(), height
        else:
            self._recent.add(entries)

    def _entries_of(self, blocks: Iterable[Indexed]) -> Entries:
        entries = Entries()
        for block in blocks:
            hashes = block.hashes
            first = block.height << _POSITION_BITS
            split = [hashes[at : at + DIGEST_BYTES] for at in range(0, len(hashes), DIGEST_BYTES)]
            entries.locations.update(zip(split, range(first, first + len(split)), strict=True))
            entries.emitted += _add_events(entries.events, block)
            if self._history and block.writes:
                keys = [key for key, _ in unpack_writes(block.writes)]
                entries.written.append((block.height, keys))
                entries.keys += len(keys)
            entries.heights += 1
        return entries

    # --- transactions ---

    def transaction_count(self) -> int:
        recent = self._recent  # before the disk: what is written meanwhile would be counted twice, not lost
        with self._env.read() as txn:
            return self._transaction_runs.entries(txn) + len(recent.locations)

    def locations(self, hashes: Sequence[bytes]) -> list[Location | None]:
        """Where each transaction was executed."""
        known = self._recent.locations  # before the disk, where it may be a moment later
        found = [known.get(item) for item in hashes]
        if None in found:
            rest = [at for at, location in enumerate(found) if location is None]
            for at, location in zip(rest, self._stored_locations([hashes[at] for at in rest]), strict=True):
                found[at] = location
        return [None if item is None else (item >> _POSITION_BITS, item & _POSITION_MASK) for item in found]

    def _stored_locations(self, hashes: Sequence[bytes]) -> list[int | None]:
        """From disk, for hashes of any length."""
        found: list[int | None] = [None] * len(hashes)
        asked = [at for at, item in enumerate(hashes) if len(item) == DIGEST_BYTES]
        with self._env.view() as txn:
            candidates = self._transaction_runs.find(txn, [hashes[at] for at in asked])
        for number, location in candidates:
            height, first = location >> _POSITION_BITS, (location & _POSITION_MASK) * DIGEST_BYTES
            executed, wanted = self._blocks.hashes(height), hashes[asked[number]]
            if executed is not None and executed[first : first + DIGEST_BYTES] == wanted:
                found[asked[number]] = location
        return found

    # --- history ---

    def write_heights(self, key: bytes, first: int, last: int) -> Iterator[int]:
        """Every height in `first`..`last` that wrote (or deleted) a state key, descending. Each one costs a look at its
        block."""
        recent, first = self._recent.written, max(first, 0)
        span = _FIRST_SPAN
        while last >= first:  # in steps, because a key may stand in every block and only the last one be wanted
            lowest = max(first, last - span + 1)
            with self._env.view() as txn:
                stored = self._history_runs.values(txn, key_digest(key), lowest, last)
            heights = {height for height, keys in list(recent) if lowest <= height <= last and key in keys}
            for height in sorted(heights.union(stored), reverse=True):
                writes = self._blocks.writes(height)
                if writes and any(written == key for written, _ in unpack_writes(writes)):
                    yield height
            last, span = lowest - 1, 8 * span

    # --- events ---

    def event_places(self, contract: bytes, name: str | None, first: int, last: int) -> Iterator[Place]:
        """Places in `first`..`last` of a contract's events of one name (None: any), ascending; where names are so long
        that they share an entry, those of the others too."""
        recent = dict(self._recent.events)  # before the disk
        with self._env.read() as txn:
            if name is None:
                prefixes = {key[:-8] for key in recent if key.startswith(contract)}
                prefixes.update(self._event_prefixes(txn, contract))
            else:
                prefixes = {event_prefix(contract, name)}
            streams = [self._events_of(txn, recent, prefix, first, last) for prefix in sorted(prefixes)]
            yield from heapq.merge(*streams)

    def _event_prefixes(self, txn: lmdb.Transaction[bytes], contract: bytes) -> Iterator[bytes]:
        """The key prefix of every event name of a contract, skipping over the heights between them."""
        cursor = txn.cursor(self._env.database(EVENTS))
        found = cursor.set_range(contract)
        while found and cursor.key().startswith(contract):
            prefix = cursor.key()[:-8]
            yield prefix
            found = cursor.set_range(prefix + b"\xff" * 8)

    def _events_of(
        self, txn: lmdb.Transaction[bytes], recent: dict[bytes, list[int]], prefix: bytes, first: int, last: int
    ) -> Iterator[Place]:
        above = {
            int.from_bytes(key[-8:], "big"): places
            for key, places in recent.items()
            if key[:-8] == prefix and key[-8:] >= height_key(first)
        }
        stored_to = min(last, min(above, default=last + 1) - 1)  # what was written since `recent` was taken is in it
        cursor = txn.cursor(self._env.database(EVENTS))
        found = cursor.set_range(prefix + height_key(first))
        while found:
            key = cursor.key()
            height = int.from_bytes(key[-8:], "big")
            if key[:-8] != prefix or height > stored_to:
                break
            yield from _places(height, unpack_integers(cursor.value()))
            found = cursor.next()
        for height in sorted(above):
            if height <= last:
                yield from _places(height, above[height])


def _places(height: int, numbers: Sequence[int]) -> Iterator[Place]:
    return ((height, numbers[at], numbers[at + 1]) for at in range(0, len(numbers), 2))


def key_digest(key: bytes) -> bytes:
    """What stands for a state key in the history."""
    return hashlib.sha256(key).digest()


def event_prefix(contract: bytes, name: str) -> bytes:
    """The events key of a contract's event, up to the height; the length keeps one name out of another's range."""
    encoded = name.encode("utf-8", "surrogatepass")[:EVENT_NAME_BYTES]
    return contract + bytes((len(encoded),)) + encoded


def _add_events(index: dict[bytes, list[int]], block: Indexed) -> int:
    """How many there are. Most receipts differ in the transaction's hash only, so what follows it is looked at once for
    each text."""
    receipts = block.receipts
    tails = {receipt[_RECEIPT_TAIL:]: receipt for receipt in receipts}
    if all(receipt.startswith(_RECEIPT_HEAD) for receipt in receipts) and not any(
        _events_in(block, receipt) for receipt in tails.values()
    ):
        return 0
    at, count = height_key(block.height), 0
    for position, receipt in enumerate(receipts):
        events = _events_in(block, receipt)
        count += len(events)
        for number, event in enumerate(events):
            index.setdefault(event_prefix(event.contract, event.name) + at, []).extend((position, number))
    return count


def _events_in(block: Indexed, receipt: bytes) -> tuple[Event, ...]:
    try:
        return _receipt(receipt).events
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        position = block.receipts.index(receipt)
        raise InvariantError(f"block {block.height}: receipt {position}: {error}") from None

"""The state a transaction reads, in layers: stored snapshot, write sets not stored yet, what the block wrote so far.

    BaseState      the state after the parent block: snapshot (LMDB, read-only) + write sets of heights not in it yet
    BlockState     BaseState + writes of the block so far: what the serial executor and a re-run read
    TrackedState   the same for one executor's share, recording every read, missing key and scan with the version seen
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

from chain.errors import InvariantError
from chain.model.block import WriteSet
from contracts.runtime import Outcome, settle

CACHE_BYTES_MAX: Final = 64 * 1024 * 1024  # values of the base state kept in memory, a process
CACHE_ENTRY_BYTES: Final = 150  # what Python adds to a key and its value

_WORD: Final = 2**63 - 1
ALL_ROWS: Final = 2**40  # a scan without a limit

Writes: TypeAlias = Mapping[bytes, bytes | None]

_MISSING: Final = b"\x00missing"  # told apart by identity; no value of the state is this object


class Reader(Protocol):
    """A read-only snapshot of the stored state (`chain.store.state.StateReader`)."""

    def refresh(self) -> int:
        """Move to the newest snapshot; its height."""
        ...

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]: ...

    def state_root(self) -> bytes:
        """The state root at the snapshot's height."""
        ...

    def release(self) -> None:
        """Let go of the snapshot until the next `refresh`."""
        ...

    def close(self) -> None: ...


class PrefixIndex:
    """The keys of a mapping in order, made at the first scan and kept up from then on: no scan, no cost."""

    __slots__ = ("_keys", "_sorted")

    def __init__(self, keys: Mapping[bytes, object]) -> None:
        self._keys = keys
        self._sorted: list[bytes] | None = None

    def under(self, prefix: bytes) -> list[bytes]:
        """Keys that start with `prefix`, ascending."""
        ordered = self._sorted
        if ordered is None:
            ordered = self._sorted = sorted(self._keys)
        first = last = bisect_left(ordered, prefix)
        while last < len(ordered) and ordered[last].startswith(prefix):
            last += 1
        return ordered[first:last]

    @property
    def active(self) -> bool:
        """True once it must be told of new keys."""
        return self._sorted is not None

    def add(self, key: bytes) -> None:
        """A key that is new in the mapping."""
        if self._sorted is not None:
            insort(self._sorted, key)

    def reset(self) -> None:
        """Keys have left the mapping."""
        self._sorted = None


def merge_scan(
    below: Callable[[bytes, int], list[tuple[bytes, bytes]]], prefix: bytes, limit: int, changes: WriteSet
) -> list[tuple[bytes, bytes]]:
    """The first `limit` pairs under `prefix`, ascending, of a scan with later changes under it laid over.

    As many more are asked of the scan below as there are changes, for each of them may delete one.
    """
    rows = below(prefix, limit + len(changes))
    if not changes:
        return rows
    merged: dict[bytes, bytes | None] = dict(rows)
    merged.update(changes)
    return sorted((key, value) for key, value in merged.items() if value is not None)[:limit]


class BaseState:
    """The state after `height`: the newest snapshot plus the write sets of executed heights that it lacks.

    `refresh` is called between blocks only, so one block never sees two snapshots.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._layers: deque[tuple[int, Writes]] = deque()  # unstored heights, ascending, with what they wrote
        self._merged: dict[bytes, bytes | None] | None = None  # all layers; made at the first scan after a change
        self._index = PrefixIndex({})  # of `_merged`
        self._cache: dict[bytes, bytes | None] = {}  # values as of `height`; all that the layers hold, and more
        self._cache_bytes = 0
        self.snapshot_height = reader.refresh()
        self.height = self.snapshot_height
        self.last_share: tuple[int, Writes] = (0, {})  # number and writes of the share that ran here last

    def refresh(self) -> int:
        """Move to the newest snapshot and drop the write sets it holds; the snapshot's height."""
        snapshot = self._reader.refresh()
        if snapshot < self.snapshot_height:
            raise InvariantError(f"state snapshot went back from height {self.snapshot_height} to {snapshot}")
        self.snapshot_height = snapshot
        if snapshot > self.height:  # blocks this process was not told of, because others executed and stored them
            self._layers.clear()
            self._forget_cache()
            self.height = snapshot
            self._changed()
        while self._layers and self._layers[0][0] <= snapshot:
            self._layers.popleft()
            self._changed()
        return snapshot

    def append(self, height: int, writes: Writes) -> None:
        """Lay the write set of an executed block on top; a height that the snapshot holds is ignored.

        A height that was executed before is executed again because it was discarded: it takes the place of the old one
        and of everything above it.

        Raises:
            InvariantError: heights between were never told.
        """
        if height <= self.snapshot_height:
            return
        if height <= self.height:
            self.discard(height)
        if height != self.height + 1:
            raise InvariantError(f"write set of height {height} on top of height {self.height}")
        self._layers.append((height, writes))
        known = len(self._cache)
        self._cache.update(writes)
        # A key that was there takes the place of its entry; of its value the size is counted again, it may have grown.
        self._charge((len(self._cache) - known) * CACHE_ENTRY_BYTES + sum(map(len, filter(None, writes.values()))))
        self.height = height
        self._changed()

    def discard(self, height: int) -> None:
        """Forget the write sets of `height` and everything above.

        Raises:
            InvariantError: `height` is stored.
        """
        if height <= self.snapshot_height:
            raise InvariantError(f"asked to discard height {height}; the state is stored up to {self.snapshot_height}")
        if height > self.height:
            return
        while self._layers and self._layers[-1][0] >= height:
            _, writes = self._layers.pop()
            for key in writes:
                self._cache.pop(key, None)
        self._cache_layers()
        self.height = height - 1
        self._changed()

    @property
    def snapshot_root(self) -> bytes:
        """The state root at `snapshot_height`."""
        return self._reader.state_root()

    @property
    def unstored_heights(self) -> int:
        """Heights that are held because the snapshot lacks them."""
        return len(self._layers)

    def get(self, key: bytes) -> bytes | None:
        value = self._cache.get(key, _MISSING)
        if value is not _MISSING:
            return value
        value = self._cache[key] = self._reader.get(key)  # no layer has it, or it would be in the cache
        self._charge(CACHE_ENTRY_BYTES + len(key) + (0 if value is None else len(value)))
        return value

    peek = get  # nothing is recorded here

    def scan(self, prefix: bytes, limit: int = ALL_ROWS) -> list[tuple[bytes, bytes]]:
        """The first `limit` pairs under `prefix`, ascending."""
        if not self._layers:
            return self._reader.scan(prefix, limit)
        merged = self._merged
        if merged is None:
            merged = {}
            for _, writes in self._layers:
                merged.update(writes)
            self._merged, self._index = merged, PrefixIndex(merged)
        return merge_scan(
            self._reader.scan, prefix, limit, [(key, merged[key]) for key in self._index.under(prefix)]
        )

    def release(self) -> None:
        """Let go of the snapshot until the next `refresh`, so that the store can use the pages it would keep."""
        self._reader.release()

    def close(self) -> None:
        self._reader.close()

    def _changed(self) -> None:
        self._merged = None

    def _charge(self, size: int) -> None:
        self._cache_bytes += size
        if self._cache_bytes > CACHE_BYTES_MAX:
            self._forget_cache()

    def _forget_cache(self) -> None:
        self._cache.clear()
        self._cache_bytes = 0  # what the layers hold is there anyway
        self._cache_layers()

    def _cache_layers(self) -> None:
        cache = self._cache
        for _, writes in self._layers:
            cache.update(writes)


class BlockState:
    """The state before the next transaction of a block: what is committed so far on top of the base."""

    __slots__ = ("_base", "_entries", "_index")

    def __init__(self, base: BaseState) -> None:
        self._base = base
        self._entries: dict[bytes, bytes | None] = {}
        self._index = PrefixIndex(self._entries)

    def get(self, key: bytes) -> bytes | None:
        value = self._entries.get(key, _MISSING)
        return self._base.get(key) if value is _MISSING else value

    peek = get  # nothing is recorded here

    def scan(self, prefix: bytes, limit: int = ALL_ROWS) -> list[tuple[bytes, bytes]]:
        entries = self._entries
        if not entries:
            return self._base.scan(prefix, limit)
        return merge_scan(
            self._base.scan, prefix, limit, [(key, entries[key]) for key in self._index.under(prefix)]
        )

    def keys_under(self, prefix: bytes) -> list[bytes]:
        """Keys under `prefix` that the block wrote or deleted so far, ascending."""
        return self._index.under(prefix)

    def commit(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Lay a transaction's writes on top."""
        if self._index.active:
            for key in writes:
                if key not in self._entries:
                    self._index.add(key)
        self._entries.update(writes)

    def written(self) -> Writes:
        """What the block wrote so far."""
        return self._entries


class TrackedState:
    """One executor's view of a block, in which only its own transactions have written.

    Everything goes to flat lists that become a `ShareOutcome`; `commit` or `abandon` ends each transaction.
    """

    __slots__ = (
        "_base_get", "_base_scan", "_commits", "_index", "_note", "_values", "adds", "conflicts", "read_keys",
        "read_marks", "scans",
    )  # fmt: skip

    def __init__(self, base: BaseState) -> None:
        self._base_get, self._base_scan = base.get, base.scan
        self._values: dict[bytes, bytes | None] = {}  # what the share wrote so far
        self._index = PrefixIndex(self._values)
        self.read_keys: list[bytes] = []
        self.read_marks = array("i")  # where the reads of each transaction end
        self._note = self.read_keys.append
        self.scans: list[tuple[int, bytes]] = []
        self._commits: list[Writes] = []  # what each transaction wrote
        self.adds: list[tuple[int, bytes, int | None, int, int]] = []
        self.conflicts = 0  # reads and scans that found what an earlier transaction of the share wrote

    def get(self, key: bytes) -> bytes | None:
        self._note(key)
        value = self._values.get(key, _MISSING)
        if value is _MISSING:
            return self._base_get(key)
        self.conflicts += 1
        return value

    def peek(self, key: bytes) -> bytes | None:
        """The value as far as this executor knows; for adds, which record what must hold of it instead."""
        value = self._values.get(key, _MISSING)
        return self._base_get(key) if value is _MISSING else value

    def scan(self, prefix: bytes, limit: int = ALL_ROWS) -> list[tuple[bytes, bytes]]:
        values = self._values
        touched = self._index.under(prefix) if values else []
        self.scans.append((len(self.read_marks), prefix))
        self.conflicts += bool(touched)
        return merge_scan(self._base_scan, prefix, limit, [(key, values[key]) for key in touched])

    def commit(self, outcome: Outcome) -> None:
        """End a transaction; the next ones see its writes."""
        writes = self._settle(outcome) if outcome.adds else outcome.writes
        if self._index.active:
            for key in writes:
                if key not in self._values:
                    self._index.add(key)
        self._values.update(writes)
        self._commits.append(writes)
        self.read_marks.append(len(self.read_keys))

    def _settle(self, outcome: Outcome) -> dict[bytes, bytes | None]:
        """The writes with adds at the value known here, each noted so that it can be put right."""
        writes = settle(outcome, self.peek)
        for key, (delta, low, high) in outcome.adds.items():
            if (delta is None or -_WORD < delta < _WORD) and low <= _WORD and high >= -_WORD:
                # A narrower interval than the true one is safe: the transaction runs again if the value is outside.
                self.adds.append((len(self.read_marks), key, delta, max(low, -_WORD), min(high, _WORD)))
            else:
                self.get(key)  # too wide or too far out for a message: an ordinary read and write
        return writes

    def abandon(self) -> None:
        """End a transaction as if it had never run."""
        transaction = len(self.read_marks)
        del self.read_keys[self.read_marks[-1] if transaction else 0 :]
        for kept in (self.scans, self.adds):
            while kept and kept[-1][0] == transaction:
                kept.pop()
        self.read_marks.append(len(self.read_keys))
        self._commits.append({})

    def written(self) -> tuple[array[int], WriteSet]:
        """How many writes each transaction has made, and all writes in the order of the transactions."""
        commits = self._commits
        return array("i", map(len, commits)), [item for writes in commits for item in writes.items()]

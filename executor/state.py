"""The state a transaction reads, in layers: stored snapshot, write sets not stored yet, what the block wrote so far.

    BaseState      the state after the parent block: snapshot (LMDB, read-only) + write sets of heights not in it yet
    BlockState     BaseState + writes of the block so far: what the serial executor and a re-run read
    TrackedState   the same for one executor's share, recording every read, missing key and scan with the version seen
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from chain.errors import InvariantError
from chain.model.block import WriteSet
from executor.outcome import POSITION_NONE

CACHE_BYTES_MAX: Final = 64 * 1024 * 1024  # values of the base state kept in memory, a process
CACHE_ENTRY_BYTES: Final = 150  # what Python adds to a key and its value

_MISSING: Final = b"\x00missing"  # told apart by identity; no value of the state is this object


class Reader(Protocol):
    """A read-only snapshot of the stored state (`chain.store.state.StateReader`)."""

    def refresh(self) -> int:
        """Move to the newest snapshot; its height."""
        ...

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]: ...

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


def merge_scan(below: list[tuple[bytes, bytes]], changes: WriteSet) -> list[tuple[bytes, bytes]]:
    """A scan's result with later changes under the same prefix laid over it, ascending by key."""
    if not changes:
        return below
    merged: dict[bytes, bytes | None] = dict(below)
    merged.update(changes)
    return sorted((key, value) for key, value in merged.items() if value is not None)


class BaseState:
    """The state after `height`: the newest snapshot plus the write sets of executed heights that it lacks.

    `refresh` is called between blocks only, so one block never sees two snapshots.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._overlay: dict[bytes, tuple[int, bytes | None]] = {}  # the last writer among unstored heights
        self._heights: deque[tuple[int, list[bytes]]] = deque()  # unstored heights, ascending, with the keys they wrote
        self._index = PrefixIndex(self._overlay)
        self._cache: dict[bytes, bytes | None] = {}  # values as of `height`; overlay and snapshot say the same
        self._cache_bytes = 0
        self.snapshot_height = reader.refresh()
        self.height = self.snapshot_height

    def refresh(self) -> int:
        """Move to the newest snapshot and drop the write sets it holds; the snapshot's height."""
        snapshot = self._reader.refresh()
        if snapshot < self.snapshot_height:
            raise InvariantError(f"state snapshot went back from height {self.snapshot_height} to {snapshot}")
        self.snapshot_height = snapshot
        if snapshot > self.height:  # blocks this process was not told of, because others executed and stored them
            self._overlay.clear()
            self._heights.clear()
            self._index.reset()
            self._forget_cache()
            self.height = snapshot
        while self._heights and self._heights[0][0] <= snapshot:
            height, keys = self._heights.popleft()
            for key in keys:
                if self._overlay[key][0] == height:
                    del self._overlay[key]
            self._index.reset()
        return snapshot

    def append(self, height: int, writes: WriteSet) -> None:
        """Lay the write set of an executed block on top; a height that is already in is ignored.

        Raises:
            InvariantError: heights between were never told.
        """
        if height <= self.height:
            return
        if height != self.height + 1:
            raise InvariantError(f"write set of height {height} on top of height {self.height}")
        self._overlay.update([(key, (height, value)) for key, value in writes])
        self._heights.append((height, [key for key, _ in writes]))
        self._index.reset()
        self._cache.update(writes)
        self._charge(len(writes) * CACHE_ENTRY_BYTES + sum([len(value) for _, value in writes if value is not None]))
        self.height = height

    @property
    def overlay_size(self) -> int:
        """Keys held for heights that are not stored yet."""
        return len(self._overlay)

    def get(self, key: bytes) -> bytes | None:
        value = self._cache.get(key, _MISSING)
        if value is not _MISSING:
            return value
        entry = self._overlay.get(key)
        value = self._reader.get(key) if entry is None else entry[1]
        self._cache[key] = value
        self._charge(CACHE_ENTRY_BYTES + len(key) + (0 if value is None else len(value)))
        return value

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Every (key, value) under `prefix`, ascending."""
        overlay = self._overlay
        below = self._reader.scan(prefix)
        return merge_scan(below, [(key, overlay[key][1]) for key in self._index.under(prefix)]) if overlay else below

    def close(self) -> None:
        self._reader.close()

    def _charge(self, size: int) -> None:
        self._cache_bytes += size
        if self._cache_bytes > CACHE_BYTES_MAX:
            self._forget_cache()

    def _forget_cache(self) -> None:
        self._cache.clear()
        self._cache_bytes = 0


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

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        entries = self._entries
        below = self._base.scan(prefix)
        return merge_scan(below, [(key, entries[key]) for key in self._index.under(prefix)]) if entries else below

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

    def put(self, key: bytes, value: bytes | None) -> None:
        """Lay one write on top."""
        if self._index.active and key not in self._entries:
            self._index.add(key)
        self._entries[key] = value

    def write_set(self) -> WriteSet:
        """What the block wrote so far, ascending by key."""
        return sorted(self._entries.items())


class TrackedState:
    """One executor's view of a block, in which only its own transactions have written.

    Reads go to flat arrays that become a `ShareOutcome`; `begin` opens a transaction, `commit` or `abandon` ends it.
    """

    __slots__ = (
        "_base", "_entries", "_index", "_mark", "_refs", "_scan_mark", "_transaction", "read_counts", "read_refs",
        "read_versions", "scans",
    )  # fmt: skip

    def __init__(self, base: BaseState) -> None:
        self._base = base
        self._entries: dict[bytes, tuple[int, bytes | None]] = {}  # key -> (position of the writer, value)
        self._index = PrefixIndex(self._entries)
        self._refs: dict[bytes, int] = {}
        self._mark = self._scan_mark = 0
        self._transaction = POSITION_NONE
        self.read_counts = array("i")
        self.read_refs = array("i")
        self.read_versions = array("i")
        self.scans: list[tuple[int, bytes, tuple[tuple[bytes, int], ...]]] = []

    def begin(self) -> None:
        self._transaction += 1
        self._mark = len(self.read_refs)
        self._scan_mark = len(self.scans)

    def get(self, key: bytes) -> bytes | None:
        refs = self._refs
        self.read_refs.append(refs.setdefault(key, len(refs)))
        entry = self._entries.get(key)
        if entry is None:
            self.read_versions.append(POSITION_NONE)
            return self._base.get(key)
        self.read_versions.append(entry[0])
        return entry[1]

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        entries = self._entries
        touched = self._index.under(prefix) if entries else []
        self.scans.append((self._transaction, prefix, tuple([(key, entries[key][0]) for key in touched])))
        return merge_scan(self._base.scan(prefix), [(key, entries[key][1]) for key in touched])

    def commit(self, position: int, writes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """End the transaction that stands at `position` of the block; the next ones see its writes."""
        self.read_counts.append(len(self.read_refs) - self._mark)
        entries, index = self._entries, self._index
        active = index.active
        for key, value in writes:
            if active and key not in entries:
                index.add(key)
            entries[key] = (position, value)

    def abandon(self) -> None:
        """End the transaction as if it had never run."""
        del self.read_refs[self._mark :]
        del self.read_versions[self._mark :]
        del self.scans[self._scan_mark :]
        self.read_counts.append(0)

    def read_keys(self) -> tuple[bytes, ...]:
        """Distinct keys read, in the order that `read_refs` counts them."""
        return tuple(self._refs)

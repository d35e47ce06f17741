"""A state store in memory: every stored height stays readable, and each reader moves on only when it is told to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from chain.model.block import WriteSet


class _Version:
    """The state at one height."""

    __slots__ = ("_ordered", "root", "values")

    def __init__(self, values: Mapping[bytes, bytes], root: bytes) -> None:
        self.values = values
        self.root = root
        self._ordered: list[bytes] | None = None

    def ordered(self) -> list[bytes]:
        """Its keys, ascending; sorted at the first scan."""
        if self._ordered is None:
            self._ordered = sorted(self.values)
        return self._ordered


class MemoryStore:
    """Heights stored so far."""

    def __init__(self, height: int = 0, values: Mapping[bytes, bytes] | None = None, root: bytes = bytes(32)) -> None:
        self._first = height
        self._versions = [_Version(values or {}, root)]

    @property
    def height(self) -> int:
        """The highest height stored."""
        return self._first + len(self._versions) - 1

    def store(self, height: int, writes: WriteSet, root: bytes = bytes(32)) -> None:
        """Put the write set of the next height on top."""
        assert height == self.height + 1
        values = {**self._versions[-1].values, **{key: value for key, value in writes if value is not None}}
        for key, value in writes:
            if value is None:
                values.pop(key, None)
        self._versions.append(_Version(values, root))

    def fork(self) -> MemoryStore:
        """A store that goes its own way from here."""
        copy = MemoryStore()
        copy._first, copy._versions = self._first, list(self._versions)
        return copy

    def view(self) -> MemoryReader:
        """A reader at the highest height."""
        return MemoryReader(self)

    def newest(self) -> _Version:
        return self._versions[-1]


class MemoryReader:
    """A read-only snapshot, `executor.state.Reader`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._snapshot: _Version | None = store.newest()
        self.gets = 0

    @property
    def _seen(self) -> _Version:
        assert self._snapshot is not None, "read after the snapshot was released"
        return self._snapshot

    def refresh(self) -> int:
        self._snapshot = self._store.newest()
        return self._store.height

    def get(self, key: bytes) -> bytes | None:
        self.gets += 1
        return self._seen.values.get(key)

    def scan(self, prefix: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        ordered, values = self._seen.ordered(), self._seen.values
        first = last = bisect_left(ordered, prefix)
        while last < len(ordered) and ordered[last].startswith(prefix) and (limit is None or last - first < limit):
            last += 1
        return [(key, values[key]) for key in ordered[first:last]]

    def state_root(self) -> bytes:
        return self._seen.root

    def release(self) -> None:
        self._snapshot = None

    def close(self) -> None:
        pass

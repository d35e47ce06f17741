"""Which transactions are executed: a filter in memory says "certainly not", and only the rest asks the store."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Final, Protocol

import numpy
import numpy.typing

from chain.types import DIGEST_BYTES, Digest, Height

FILTER_KEYS_MIN: Final = 2**20  # of the first table: 2 MiB
FILTER_KEYS_MAX: Final = 2**25  # of all tables: 64 MiB; beyond that every question goes to the store
FILTER_BITS_PER_KEY: Final = 16
FILL_AT_ONCE_MAX: Final = 100_000  # so many stored transactions are read while the node starts, more in a thread
_BY_ARRAY_MIN: Final = 32  # from so many questions on, numpy is quicker than a loop

_Words = numpy.typing.NDArray[numpy.uint32]
_BIT: Final = numpy.array([1 << bit for bit in range(8)], dtype=numpy.uint8)
_words = struct.Struct("<4I").unpack_from


class StoredIndex(Protocol):
    def transaction_locations(self, hashes: Sequence[bytes]) -> Sequence[object | None]: ...

    def transaction_count(self) -> int: ...

    def transaction_hashes(self) -> Iterator[bytes]:
        """All stored ones in some order, any number of them joined in each item."""
        ...


class _Table:
    """A Bloom filter of a fixed size: four bits for each key, taken from its first 16 bytes. Never forgets.

    Keys are digests, so their bytes are as good as any hash of them. Whoever grinds for collisions gains questions to
    the store, not answers.
    """

    __slots__ = ("_array", "_bits", "_mask", "capacity", "count")

    def __init__(self, capacity: int) -> None:
        """`capacity` keys, a power of two: one question in 400 is then answered with a wrong "maybe"."""
        self.capacity = capacity
        self.count = 0
        size = capacity * FILTER_BITS_PER_KEY
        self._mask = size - 1
        self._bits = bytearray(size // 8)
        self._array = numpy.frombuffer(self._bits, dtype=numpy.uint8)

    def add(self, words: _Words) -> None:
        self.count += len(words)
        at = (words & numpy.uint32(self._mask)).ravel()
        numpy.bitwise_or.at(self._array, at >> numpy.uint32(3), _BIT[at & numpy.uint32(7)])

    def may_hold_each(self, words: _Words) -> numpy.typing.NDArray[numpy.bool_]:
        at = words & numpy.uint32(self._mask)
        set_ = self._array[at >> numpy.uint32(3)] & _BIT[at & numpy.uint32(7)]
        found: numpy.typing.NDArray[numpy.bool_] = set_.all(axis=1)
        return found

    def may_hold(self, hashes: Sequence[bytes]) -> list[int]:
        """`may_hold_each` for a few: the positions of those it may hold."""
        bits, mask = self._bits, self._mask
        found = []
        for place, key in enumerate(hashes):
            for word in _words(key):
                at = word & mask
                if not bits[at >> 3] >> (at & 7) & 1:
                    break
            else:
                found.append(place)
        return found


class ExecutedFilter:
    """Transactions that may be executed. Tables are added as it grows, each twice as large as the last."""

    def __init__(self, expected: int = 0) -> None:
        self._tables = [_Table(_table_size(expected))]
        self.is_full = False

    @property
    def bytes_held(self) -> int:
        return sum(table.capacity for table in self._tables) * FILTER_BITS_PER_KEY // 8

    def add(self, joined: bytes) -> None:
        """Digests, one behind the other."""
        if self.is_full or not joined:
            return
        table = self._tables[-1]
        if table.count >= table.capacity:
            if sum(each.capacity for each in self._tables) + 2 * table.capacity > FILTER_KEYS_MAX:
                self.is_full = True
                self._tables = []
                return
            table = _Table(2 * table.capacity)
            self._tables.append(table)
        table.add(_first_words(joined))

    def take(self, other: ExecutedFilter) -> None:
        """Hold from now on what `other` holds as well; `other` must not be used any more."""
        self.is_full = self.is_full or other.is_full
        self._tables = [] if self.is_full else other._tables + self._tables

    def maybe(self, hashes: Sequence[bytes]) -> list[int]:
        """The positions of those that may be in it; the others are certainly not."""
        if self.is_full:
            return list(range(len(hashes)))
        if len(hashes) < _BY_ARRAY_MIN:
            return sorted({at for table in self._tables for at in table.may_hold(hashes)})
        words = _first_words(b"".join(hashes))
        found = self._tables[0].may_hold_each(words)
        for table in self._tables[1:]:
            found |= table.may_hold_each(words)
        return [int(at) for at in found.nonzero()[0]]


def _table_size(expected: int) -> int:
    size = FILTER_KEYS_MIN
    while size < min(expected, FILTER_KEYS_MAX // 2):
        size *= 2
    return size


def _first_words(joined: bytes) -> _Words:
    return numpy.frombuffer(joined, dtype="<u4").reshape(-1, DIGEST_BYTES // 4)[:, :4]


class ExecutedTransactions:
    """Which transactions are in executed blocks: those of unstored heights here, the rest in the store's index.

    This is what makes execution's word on duplicates the same everywhere: it depends on the chain alone. What is
    executed stands in the filter before it is in the store, for good; while the filter does not know all that was
    stored before the node started (`is_filled`), every question goes to the store.
    """

    def __init__(self, stored: StoredIndex, latest: Height) -> None:
        self._stored = stored
        self._recent: dict[Height, frozenset[Digest]] = {}
        self.latest = latest  # executed height
        self.filter = ExecutedFilter()
        count = stored.transaction_count()
        self.is_filled = count == 0
        if 0 < count <= FILL_AT_ONCE_MAX:
            self.fill(self.load_filter())

    async def fill_from_store(self, thread: Executor) -> None:
        """Where it was not done at once: until it is, every question costs one to the store."""
        if not self.is_filled:
            self.fill(await asyncio.get_running_loop().run_in_executor(thread, self.load_filter))

    def load_filter(self) -> ExecutedFilter:
        """All that is stored now: reads the whole index, so in a thread where it is large. To be given to `fill`."""
        loaded = ExecutedFilter(self._stored.transaction_count())
        for joined in self._stored.transaction_hashes():
            loaded.add(joined)
        return loaded

    def fill(self, loaded: ExecutedFilter) -> None:
        """`loaded` was made after this index, so it and what was added since are everything."""
        self.filter.take(loaded)
        self.is_filled = True

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        """Whether each is in an executed block, stored or not."""
        doubtful: Sequence[int] = self.filter.maybe(hashes) if self.is_filled else range(len(hashes))
        verdicts = [False] * len(hashes)
        if doubtful:
            asked = [hashes[at] for at in doubtful]
            for at, key, location in zip(doubtful, asked, self._stored.transaction_locations(asked), strict=True):
                verdicts[at] = location is not None or any(key in recent for recent in self._recent.values())
        return verdicts

    def executed_since(self, height: Height, hashes: Sequence[Digest]) -> list[bool]:
        """`executed`, for those who asked when `height` was the latest: usually nothing of them is in later blocks."""
        later = [hashes_of for at, hashes_of in self._recent.items() if at > height]
        if len(later) == self.latest - height and all(recent.isdisjoint(hashes) for recent in later):
            return [False] * len(hashes)
        return self.executed(hashes)

    def add(self, height: Height, hashes: Sequence[Digest]) -> None:
        """`height` is executed."""
        self.filter.add(b"".join(hashes))
        self._recent[height] = frozenset(hashes)
        self.latest = height

    def stored(self, height: Height) -> None:
        """Blocks up to `height` are in the store's index."""
        for known in [known for known in self._recent if known <= height]:
            del self._recent[known]

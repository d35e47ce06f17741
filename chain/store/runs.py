"""Sorted runs: an index of random numbers whose price an entry hardly grows with their count.

A tree of random keys changes a page, 4 KiB to write, for nearly every key that is put into it, and more surely so the
larger it is. Here the entries of many blocks are written at once, as one sorted run. Four runs of about the same size
are merged into one, so that an entry is written again each time the index has grown fourfold, and a look-up has a
dozen runs to search. A run of a million entries is left as it is.

    number of entries, height at which it was written -> the keys, ascending, 8 bytes each | their values, 8 bytes each

A key is the first eight bytes of a digest of 32, so equal ones may stand for different things, by chance or because
somebody has looked for them: whoever finds one must look at what it stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

import lmdb
import numpy as np
from numpy.typing import NDArray

from chain.store.environment import Environment, WriteTransaction
from chain.store.layout import height_key
from chain.types import DIGEST_BYTES

MERGED: Final = 4  # runs of one size class become one of the next
ENTRY_BYTES: Final = 16
_SMALL_CLASS: Final = 4  # below 1,024 entries size makes no difference
_LARGEST_CLASS: Final = 9  # runs of 4 ** 10 entries and more, 16 MiB, are not merged: a commit must not take seconds
_WORD: Final = np.dtype("<u8")

_Words: TypeAlias = NDArray[np.uint64]


class Runs:
    """One database of runs. A write belongs to the transaction that it is given, like every other put."""

    def __init__(self, environment: Environment, database: bytes) -> None:
        self._database = environment.database(database)

    def add(self, txn: WriteTransaction, digests: Collection[bytes], values: Collection[int], *, height: int) -> None:
        """Entries in any order, at most once for each height; values are 0..2^64-1."""
        if not digests:
            return
        keys = _keys_of(digests)
        self._put(txn, keys, np.fromiter(values, np.uint64, len(values)), height)
        size_class = _class_of(len(keys))
        while size_class <= _LARGEST_CLASS:
            alike = [name for name in self._names(txn) if _class_of(_entries(name)) == size_class]
            if len(alike) < MERGED:
                return
            parts = [_split(data) for name in alike if (data := txn.pop(name, db=self._database)) is not None]
            keys, merged = (np.concatenate(columns) for columns in zip(*parts, strict=True))
            self._put(txn, keys, merged, height)
            size_class = _class_of(len(keys))

    def _put(self, txn: WriteTransaction, keys: _Words, values: _Words, height: int) -> None:
        order = np.argsort(keys, kind="stable")  # quick where most of it is in order
        data = keys[order].astype(_WORD).tobytes() + values[order].astype(_WORD).tobytes()
        txn.put(height_key(len(keys)) + height_key(height), data, db=self._database)

    def _names(self, txn: lmdb.Transaction[bytes]) -> list[bytes]:
        return list(txn.cursor(self._database).iternext(keys=True, values=False))

    def entries(self, txn: lmdb.Transaction[bytes]) -> int:
        """How many there are."""
        return sum(map(_entries, self._names(txn)))

    def find(self, txn: lmdb.Transaction[memoryview], digests: Sequence[bytes]) -> list[tuple[int, int]]:
        """(position in `digests`, value) of every entry that has the key of one of them, in no order."""
        found: list[tuple[int, int]] = []
        if not digests:
            return found
        keys = _keys_of(digests)
        order = np.argsort(keys)  # neighbours are looked for where the one before was, with its memory at hand
        keys = keys[order]
        for _, data in txn.cursor(self._database):
            known, values = _split(data)
            at = np.searchsorted(known, keys)
            for number in np.flatnonzero(known[np.minimum(at, len(known) - 1)] == keys).tolist():
                place = int(at[number])
                while place < len(known) and known[place] == keys[number]:
                    found.append((int(order[number]), int(values[place])))
                    place += 1
        return found

    def values(self, txn: lmdb.Transaction[memoryview], digest: bytes, first: int, last: int) -> list[int]:
        """The values `first`..`last` of every entry that has the key of a digest, in no order."""
        (key,) = _keys_of([digest])
        found: list[int] = []
        for _, data in txn.cursor(self._database):
            known, values = _split(data)
            alike = values[np.searchsorted(known, key) : np.searchsorted(known, key, side="right")]
            found += alike[(alike >= first) & (alike <= last)].tolist()
        return found


def _keys_of(digests: Collection[bytes]) -> _Words:
    return np.frombuffer(b"".join(digests), ">u8")[:: DIGEST_BYTES // 8].astype(np.uint64)


def _class_of(entries: int) -> int:
    """The power of four below it."""
    return max((entries.bit_length() - 1) // 2, _SMALL_CLASS)


def _entries(name: bytes) -> int:
    return int.from_bytes(name[:8], "big")


def _split(data: bytes | memoryview) -> tuple[_Words, _Words]:
    words = np.frombuffer(data, _WORD)
    half = len(words) // 2
    return words[:half], words[half:]

"""Signed transactions in files, so that a run of any length needs little memory and nothing is encoded while sending.

A part is three files: NAME.raws, the transactions one after the other, each with its msgpack length before it as the
node's binary path takes it; NAME.ends, where each ends (unsigned 64-bit, little-endian); NAME.hashes, 32 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError
from chain.codec import encode
from chain.model.transaction import Transaction
from chain.types import DIGEST_BYTES

ScalarT = TypeVar("ScalarT", bound=np.generic)

CHUNK: Final = 2_000  # transactions written at a time
WORDS: Final = DIGEST_BYTES // 8  # of a hash


def write_part(path: Path, transactions: Iterable[Transaction]) -> int:
    """Write a part; how many it holds. Memory stays at a chunk."""
    count = end = 0
    with (
        path.with_suffix(".raws").open("wb") as raws,
        path.with_suffix(".ends").open("wb") as ends,
        path.with_suffix(".hashes").open("wb") as hashes,
    ):
        items: list[bytes] = []
        digests: list[bytes] = []

        def flush() -> None:
            nonlocal count, end
            sizes = np.fromiter(map(len, items), dtype="<u8", count=len(items))
            ends.write((sizes.cumsum() + end).astype("<u8").tobytes())
            raws.write(b"".join(items))
            hashes.write(b"".join(digests))
            count, end = count + len(items), end + int(sizes.sum())
            items.clear()
            digests.clear()

        for transaction in transactions:
            items.append(encode(transaction.raw))
            digests.append(transaction.hash)
            if len(items) == CHUNK:
                flush()
        flush()
    return count


class Part:
    """A part read back through memory maps."""

    def __init__(self, path: Path) -> None:
        """Raises BenchError: a file is missing, or they do not fit each other."""
        try:
            self._ends = _mapped(path.with_suffix(".ends"), np.uint64)
            self._raws = _mapped(path.with_suffix(".raws"), np.uint8)
            hashes = _mapped(path.with_suffix(".hashes"), np.uint64)
        except (OSError, ValueError) as error:
            raise BenchError(f"{path}: no signed transactions: {error}") from None
        last = int(self._ends[-1]) if len(self._ends) else 0
        if len(hashes) != WORDS * len(self._ends) or len(self._raws) != last:
            raise BenchError(f"{path}: {len(self._ends)} transactions, {len(self._raws)} bytes: cut off")
        self.hashes: NDArray[np.uint64] = hashes.reshape(-1, WORDS)

    def __len__(self) -> int:
        return len(self._ends)

    def items(self, first: int, last: int) -> bytes:
        """The transactions `first..last`, `last` not included, as they stand in a request."""
        start = int(self._ends[first - 1]) if first else 0
        return self._raws[start : int(self._ends[last - 1])].tobytes() if last > first else b""


class Share:
    """Several parts, one after the other: what one load process sends."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts = [Part(path) for path in paths]
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def request(self, first: int, last: int) -> bytes:
        """The body of a request with `first..last`, `last` not included."""
        pieces = [array_head(last - first)]
        for start, part in zip(self._starts, self._parts, strict=False):
            low, high = max(first - int(start), 0), min(last - int(start), len(part))
            if low < high:
                pieces.append(part.items(low, high))
        return b"".join(pieces)

    def hashes(self) -> NDArray[np.uint64]:
        """A row of four words each."""
        return np.concatenate([part.hashes for part in self._parts])


def hash_rows(blob: bytes) -> NDArray[np.uint64]:
    """Hashes one after the other as rows of four words."""
    return np.frombuffer(blob, dtype="<u8").reshape(-1, WORDS)


def array_head(count: int) -> bytes:
    """The msgpack head of an array, in its shortest form."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def _mapped(path: Path, kind: type[ScalarT]) -> NDArray[ScalarT]:
    """An empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")

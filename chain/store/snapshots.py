"""Snapshots on disk: one file each, made in one pass over the state and served from then on.

    the leaves of all chunks | end of each chunk, 8 bytes, and its hash, 32 | encode(SnapshotHead) | its length, 4 bytes

A file has its name only when it is whole and on disk; what a crash left half written is removed at the next start.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from chain.codec import decode, encode
from chain.errors import DecodeError, StoreError
from chain.model.snapshot import CHUNK_LEAVES, Pair, SnapshotHead, chunk_count, pack_chunk, root_of_chunks
from chain.types import DIGEST_BYTES

SNAPSHOTS_KEPT: Final = 2
_SUFFIX: Final = ".snapshot"
_PARTIAL: Final = ".partial"
_ENTRY: Final = struct.Struct(f">Q{DIGEST_BYTES}s")
_LENGTH: Final = struct.Struct(">I")


class SnapshotFile:
    """A whole snapshot, open for reading; safe for threads."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError: not a snapshot, or cut short."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            self.head, self._index = self._load()
        except BaseException:
            os.close(self._file)
            raise

    def _load(self) -> tuple[SnapshotHead, bytes]:
        size = os.fstat(self._file).st_size
        try:
            (length,) = _LENGTH.unpack(os.pread(self._file, _LENGTH.size, size - _LENGTH.size))
            at = size - _LENGTH.size - length
            head = decode(SnapshotHead, os.pread(self._file, length, at))
            table = chunk_count(head.count) * _ENTRY.size
            if at != head.leaf_bytes + table:
                raise DecodeError(f"{size} bytes do not fit its head")
        except (OSError, struct.error, DecodeError) as error:
            raise StoreError(f"{self.path}: not a whole snapshot: {error}; remove it") from None
        return head, os.pread(self._file, table, head.leaf_bytes)

    def hashes(self, first: int, count: int) -> bytes:
        """The hashes of `count` chunks from `first` on, 32 bytes each; fewer at the end."""
        entries = self._index[first * _ENTRY.size : (first + count) * _ENTRY.size]
        return b"".join([entry[1] for entry in _ENTRY.iter_unpack(entries)])

    def chunk_bytes(self, index: int) -> int:
        """The size of a chunk. Raises IndexError."""
        start, end = self._place(index)
        return end - start

    def chunk(self, index: int, *, offset: int = 0, bytes_max: int = 2**62) -> bytes:
        """The leaves of a chunk, or a part of their bytes. Raises IndexError."""
        start, end = self._place(index)
        return os.pread(self._file, max(0, min(bytes_max, end - start - offset)), start + offset)

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < chunk_count(self.head.count):
            raise IndexError(f"chunk {index} of {chunk_count(self.head.count)}")
        start = _ENTRY.unpack_from(self._index, (index - 1) * _ENTRY.size)[0] if index else 0
        return start, _ENTRY.unpack_from(self._index, index * _ENTRY.size)[0]

    def close(self) -> None:
        os.close(self._file)


class SnapshotFolder:
    """The snapshots of a data folder; the newest `SNAPSHOTS_KEPT` stay. One writer, any number of readers."""

    def __init__(self, path: Path) -> None:
        """Opens what is whole and removes what is not.

        Raises:
            StoreError: a whole file is damaged, or the folder cannot be used.
        """
        self.path = path
        self._files: dict[int, SnapshotFile] = {}
        self._lock = threading.Lock()
        try:
            path.mkdir(parents=True, exist_ok=True)
            for partial in path.glob(f"*{_PARTIAL}"):
                partial.unlink()
            for file in path.glob(f"*{_SUFFIX}"):
                snapshot = SnapshotFile(file)
                self._files[snapshot.head.height] = snapshot
        except OSError as error:
            raise StoreError(f"{path}: cannot be used: {error.strerror}") from None

    def heights(self) -> tuple[int, ...]:
        """The heights there is a snapshot of, ascending."""
        return tuple(sorted(self._files))

    def head(self, height: int) -> SnapshotHead | None:
        file = self._files.get(height)
        return None if file is None else file.head

    @contextlib.contextmanager
    def reading(self, height: int) -> Iterator[SnapshotFile | None]:
        """The snapshot, which is not closed while the block runs; None if there is none."""
        with self._lock:
            yield self._files.get(height)

    def write(self, height: int, pairs: Iterator[Pair], *, pause: Callable[[], None] = lambda: None) -> SnapshotHead:
        """Make the snapshot of the state `pairs`, ascending by key: durable when this returns. Memory is bounded by a
        chunk and 40 bytes for each; `pause` is called after each.

        Raises:
            StoreError: the disk refuses; no file is left.
        """
        partial = self.path / f"{height:016d}{_PARTIAL}"
        try:
            with partial.open("wb", buffering=0) as file:
                head = _write(file.fileno(), height, pairs, pause)
                os.fsync(file.fileno())
            target = partial.with_suffix(_SUFFIX)
            partial.rename(target)
            sync_folder(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreError(f"{partial}: cannot be written: {error.strerror}") from None
        self._put(height, SnapshotFile(target))
        return head

    def _put(self, height: int, file: SnapshotFile) -> None:
        with self._lock:
            replaced = self._files.pop(height, None)
            self._files[height] = file
            dropped = [self._files.pop(old) for old in sorted(self._files)[:-SNAPSHOTS_KEPT]]
            for old in dropped:
                old.close()
                old.path.unlink(missing_ok=True)
            if replaced is not None:
                replaced.close()

    def close(self) -> None:
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()


def _write(file: int, height: int, pairs: Iterator[Pair], pause: Callable[[], None]) -> SnapshotHead:
    index, hashes = bytearray(), bytearray()
    count = size = 0
    ahead = list(islice(pairs, CHUNK_LEAVES))
    while ahead:
        chunk, ahead = ahead, list(islice(pairs, CHUNK_LEAVES))
        data, digest = pack_chunk(chunk, alone=not count and not ahead)
        _write_all(file, data)
        count += len(chunk)
        size += len(data)
        index += _ENTRY.pack(size, digest)
        hashes += digest
        pause()
    root = root_of_chunks(bytes(hashes), count)
    head = SnapshotHead(height=height, root=root, count=count, leaf_bytes=size)
    tail = encode(head)
    _write_all(file, index + tail + _LENGTH.pack(len(tail)))
    return head


def _write_all(file: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""One process a data folder: two would sign with one validator key and write one journal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from chain.errors import StoreError


class FolderLock:
    """Holds `folder/lock` until `release` or the end of the process. The file says who holds it.

    The lock is advisory (flock), goes with the process however it ends, and is not handed to children.
    """

    def __init__(self, folder: Path) -> None:
        """Raises StoreError naming the process that holds the folder, or why the file cannot be used."""
        self.path = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(
                f"{folder} is in use by process {holder}; one node a data folder. Stop that process, or give this node "
                "a folder of its own"
            ) from None
        except OSError as error:
            os.close(self._file)
            raise StoreError(f"{self.path}: this file system cannot lock files: {error.strerror}") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Give the folder up; again is nothing."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # also where a child just forked has not closed its copy yet
        self.forget()

    def forget(self) -> None:
        """Close the file and leave the lock to whoever else has it open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        _held.discard(self)


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked child would hold the lock on after its parent's death."""
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock.forget()


os.register_at_fork(after_in_child=_close_in_child)

"""A disk that can be looked at, or can fail, at every single write, sync and rename of the stores.

What LMDB does passes through stand-ins for its environment and write transaction, what the stores do with files through
the functions of `os`. Nothing else is replaced, and without a fault everything is done as asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import lmdb

PAGE_BYTES: Final = 4_096
META_PAGES: Final = 2
_CHANGES: Final = ("put", "delete", "replace", "drop", "pop")
_FILE_CALLS: Final = ("write", "fsync", "rename", "replace", "unlink", "rmdir", "mkdir")

Files = dict[str, bytes]


class Disk:
    """Use as a context; `point` is called before every operation, `after` behind those that change files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.point: Callable[[str], None] = lambda name: None
        self.after: Callable[[str, Files], None] | None = None
        self.count = 0
        self.unsynced: dict[str, int] = {}  # name of a file -> bytes of it that are surely on disk
        self._saved: dict[str, Any] = {}
        self._lmdb_open = vars(lmdb)["open"]

    def files(self) -> Files:
        """Everything under the folder, but LMDB's lock files: they mean nothing after a crash."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name not in ("lock.mdb", "lock"):
                found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found

    def __enter__(self) -> Disk:
        vars(lmdb)["open"] = self._open
        for name in _FILE_CALLS:
            self._saved[name] = getattr(os, name)
            setattr(os, name, self._file_call(name, self._saved[name]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        vars(lmdb)["open"] = self._lmdb_open
        for name, call in self._saved.items():
            setattr(os, name, call)

    def operation(self, name: str, work: Callable[[], Any]) -> Any:
        """One operation that may change files."""
        self.count += 1
        self.point(name)
        before = {} if self.after is None else self.files()
        result = work()
        if self.after is not None:
            self.after(name, before)
        return result

    def _open(self, path: str, *arguments: Any, **options: Any) -> Any:
        if not Path(path).is_relative_to(self.folder):
            return self._lmdb_open(path, *arguments, **options)
        name = Path(path).name
        opened = self.operation(f"{name}: open", lambda: self._lmdb_open(path, *arguments, **options))
        return _Environment(self, name, opened)

    def _file_call(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*arguments: Any, **options: Any) -> Any:
            target = arguments[0]
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
            if not path.is_relative_to(self.folder) or path.name in ("lock", "lock.mdb"):
                return call(*arguments, **options)
            at = str(path.relative_to(self.folder))

            def work() -> Any:
                result = call(*arguments, **options)
                if name == "write":
                    self.unsynced.setdefault(at, 0)
                elif name == "fsync":
                    self.unsynced.pop(at, None)
                elif name in ("rename", "replace") and at in self.unsynced:
                    self.unsynced[str(Path(arguments[1]).relative_to(self.folder))] = self.unsynced.pop(at)
                elif name == "unlink":
                    self.unsynced.pop(at, None)
                return result

            return self.operation(f"{at}: {name}", work)

        return stand_in


class _Environment:
    """LMDB's environment, with its write transactions and its making of databases watched."""

    def __init__(self, disk: Disk, name: str, opened: Any) -> None:
        self._disk = disk
        self._name = name
        self._opened = opened

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._opened, attribute)

    def open_db(self, *arguments: Any, **options: Any) -> Any:
        return self._disk.operation(f"{self._name}: open_db", lambda: self._opened.open_db(*arguments, **options))

    def begin(self, *arguments: Any, **options: Any) -> Any:
        begun = self._opened.begin(*arguments, **options)
        return _Transaction(self._disk, self._name, begun) if options.get("write") else begun


class _Transaction:
    def __init__(self, disk: Disk, name: str, begun: Any) -> None:
        self._disk = disk
        self._name = name
        self._begun = begun

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._begun, attribute)
        return self._watched(attribute, found) if attribute in _CHANGES else found

    def _watched(self, attribute: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self._disk.count += 1
            self._disk.point(f"{self._name}: {attribute}")  # no page reaches the file before the commit
            return call(*arguments, **options)

        return watched

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        return _Cursor(self, self._begun.cursor(*arguments, **options))

    def commit(self) -> None:
        def work() -> None:
            self._begun.commit()

        try:
            self._disk.operation(f"{self._name}: commit", work)
        except BaseException:
            self._begun.abort()  # nothing, if it was committed
            raise


class _Cursor:
    def __init__(self, transaction: _Transaction, cursor: Any) -> None:
        self._transaction = transaction
        self._cursor = cursor

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._cursor, attribute)
        return self._transaction._watched(attribute, found) if attribute == "putmulti" else found

    def __iter__(self) -> Any:
        return iter(self._cursor)


def torn(before: Files, after: Files) -> list[Files]:
    """What power loss may leave between the two: some of the new pages, and not yet the page that makes them count.

    LMDB writes data pages, syncs, then writes one of its two first pages. Other files: a part of what was added.
    """
    images: list[Files] = []
    for name, new in after.items():
        old = before.get(name, b"")
        if new == old:
            continue
        if Path(name).name != "data.mdb":
            if new.startswith(old):
                images.append({**after, name: new[: len(old) + (len(new) - len(old)) // 2]})
            continue
        if len(old) < META_PAGES * PAGE_BYTES:
            continue
        pages = [at for at in range(META_PAGES, -(-len(new) // PAGE_BYTES)) if _page(new, at) != _page(old, at)]
        for chosen in (pages, pages[::2], pages[1::2], pages[: len(pages) // 2], pages[len(pages) // 2 :]):
            images.append({**before, name: _with_pages(old, new, chosen)})
    return images


def _page(data: bytes, at: int) -> bytes:
    return data[at * PAGE_BYTES : (at + 1) * PAGE_BYTES]


def _with_pages(old: bytes, new: bytes, chosen: list[int]) -> bytes:
    end = max([len(old), *((at + 1) * PAGE_BYTES for at in chosen)])
    data = bytearray(old.ljust(end, b"\0"))
    for at in chosen:
        data[at * PAGE_BYTES : (at + 1) * PAGE_BYTES] = _page(new, at)
    return bytes(data)


def without_unsynced(files: Files, unsynced: dict[str, int]) -> Files:
    """What power loss leaves where nobody has waited for the disk: the names, and none of the later bytes."""
    return {name: data[: unsynced[name]] if name in unsynced else data for name, data in files.items()}


def write_files(files: Files, folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def no_space(name: str) -> Exception:
    """How the operation fails on a full disk."""
    return lmdb.DiskError(name) if name.split(": ")[-1] in ("commit", "open_db", *_CHANGES, "putmulti", "open") else (
        OSError(errno.ENOSPC, "No space left on device")
    )  # fmt: skip

"""An LMDB environment in memory, as far as this package uses one: for the simulator, whose disks are its own.

It stands where `lmdb.open` stands (`chain.store.environment.openers`), so all code above it is the real one. Values are
kept in immutable tables: a transaction is a set of tables, a commit puts another set in its place.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import lmdb

KEY_BYTES_MAX: Final = 511
Tables = dict[bytes, "Table"]


class DiskFull(lmdb.DiskError):
    """No room for this commit; nothing of it was kept."""


class Table:
    """A sorted map of bytes; shared between snapshots until a write transaction copies it."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes]) -> None:
        self.keys = keys
        self.values = values

    def copy(self) -> Table:
        return Table(self.keys.copy(), self.values.copy())

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            insort(self.keys, key)
        self.values[key] = value

    def pop(self, key: bytes) -> bytes | None:
        value = self.values.pop(key, None)
        if value is not None:
            del self.keys[bisect_left(self.keys, key)]
        return value


def _no_fault(kind: Literal["before", "after"]) -> None:
    return None


@dataclass(slots=True)
class MemoryFile:
    """What is on the disk for one environment. `committed` is what its process sees, `durable` what a crash of the
    machine leaves: they differ only in an environment that was opened without sync.

    `at_commit` is called before and after each commit and may raise: `DiskFull`, or whatever ends the process.
    """

    committed: Tables = field(default_factory=dict)
    durable: Tables = field(default_factory=dict)
    at_commit: Callable[[Literal["before", "after"]], None] = _no_fault
    on_commit: Callable[[Tables, Tables], None] = lambda before, after: None
    commits: int = 0

    def crash(self) -> None:
        """The machine lost power."""
        self.committed = self.durable

    def open(self, path: str, **options: Any) -> MemoryEnvironment:
        """Takes the arguments of `lmdb.open`."""
        folder = Path(path)
        if not options["readonly"]:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "data.mdb").write_bytes(b"in memory")  # some code looks whether there is a file
        return MemoryEnvironment(self, synced=options["sync"] and options["metasync"], writable=not options["readonly"])


class MemoryEnvironment:
    """What `lmdb.open` gives."""

    def __init__(self, file: MemoryFile, *, synced: bool, writable: bool) -> None:
        self._file = file
        self._synced = synced
        self._writable = writable
        self.closed = False

    def begin(self, *, write: bool = False, buffers: bool = False) -> MemoryTransaction:
        if self.closed:
            raise lmdb.Error("the environment is closed")
        return MemoryTransaction(self, self._file.committed, write=write, buffers=buffers)

    def commit(self, before: Tables, after: Tables) -> None:
        file = self._file
        if self.closed:
            raise lmdb.Error("the environment is closed")
        file.at_commit("before")
        file.commits += 1
        file.committed = after
        if self._synced:
            file.durable = after
        file.on_commit(before, after)
        file.at_commit("after")

    def open_db(self, name: bytes, create: bool = True) -> bytes:
        if name not in self._file.committed:
            if not create or not self._writable:
                raise lmdb.NotFoundError(name.decode())
            self._file.committed = self._file.durable = {**self._file.committed, name: Table([], {})}
        return name

    def info(self) -> dict[str, int]:
        return {"last_pgno": sum(len(table.keys) for table in self._file.committed.values()), "map_size": 2**40}

    def stat(self) -> dict[str, int]:
        return {"psize": 0}

    def flags(self) -> dict[str, bool]:
        return {"sync": self._synced, "metasync": self._synced, "writemap": False}

    def reader_check(self) -> int:
        return 0

    def sync(self, force: bool = False) -> None:
        self._file.durable = self._file.committed

    def close(self) -> None:
        self.closed = True


class MemoryTransaction:
    """One snapshot; a write transaction copies the tables it changes."""

    def __init__(self, environment: MemoryEnvironment, tables: Tables, *, write: bool, buffers: bool) -> None:
        self._environment = environment
        self._before = tables
        self._tables = dict(tables) if write else tables
        self._copied: set[bytes] = set()
        self._write = write
        self._buffers = buffers

    def __enter__(self) -> MemoryTransaction:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._write:
            self.commit()
        else:
            self.abort()

    def table(self, name: bytes) -> Table:
        return self._tables[name]

    def changing(self, name: bytes) -> Table:
        if not self._write:
            raise lmdb.ReadonlyError("a read transaction")
        if name not in self._copied:
            self._copied.add(name)
            self._tables[name] = self._tables[name].copy()
        return self._tables[name]

    def shown(self, value: bytes) -> Any:
        return memoryview(value) if self._buffers else value

    def get(self, key: bytes, default: bytes | None = None, db: bytes = b"") -> Any:
        _check(key)
        value = self._tables[db].values.get(key)
        return default if value is None else self.shown(value)

    def put(self, key: bytes, value: bytes, overwrite: bool = True, append: bool = False, db: bytes = b"") -> bool:
        _check(key)
        table = self.changing(db)
        if append and table.keys and key <= table.keys[-1]:
            return False
        if not overwrite and key in table.values:
            return False
        table.put(bytes(key), bytes(value))
        return True

    def replace(self, key: bytes, value: bytes, db: bytes = b"") -> bytes | None:
        _check(key)
        table = self.changing(db)
        before = table.values.get(key)
        table.put(bytes(key), bytes(value))
        return before

    def delete(self, key: bytes, db: bytes = b"") -> bool:
        _check(key)
        return self.changing(db).pop(bytes(key)) is not None

    def pop(self, key: bytes, db: bytes = b"") -> bytes | None:
        _check(key)
        return self.changing(db).pop(bytes(key))

    def drop(self, db: bytes, delete: bool = True) -> None:
        self.changing(db)
        self._tables[db] = Table([], {})

    def stat(self, db: bytes) -> dict[str, int]:
        return {"entries": len(self._tables[db].keys)}

    def cursor(self, db: bytes) -> MemoryCursor:
        return MemoryCursor(self, db)

    def commit(self) -> None:
        self._environment.commit(self._before, self._tables)

    def abort(self) -> None:
        self._tables = self._before


class MemoryCursor:
    """A place in a table, kept by key."""

    def __init__(self, transaction: MemoryTransaction, db: bytes) -> None:
        self._transaction = transaction
        self._db = db
        self._at: bytes | None = None

    def _table(self) -> Table:
        return self._transaction.table(self._db)

    def _stand(self, index: int) -> bool:
        keys = self._table().keys
        self._at = keys[index] if 0 <= index < len(keys) else None
        return self._at is not None

    def first(self) -> bool:
        return self._stand(0)

    def last(self) -> bool:
        return self._stand(len(self._table().keys) - 1)

    def next(self) -> bool:
        if self._at is None:
            return self.first()
        index = bisect_left(self._table().keys, self._at)
        found = index < len(self._table().keys) and self._table().keys[index] == self._at
        return self._stand(index + found)

    def prev(self) -> bool:
        return self.last() if self._at is None else self._stand(bisect_left(self._table().keys, self._at) - 1)

    def set_range(self, key: bytes) -> bool:
        return self._stand(bisect_left(self._table().keys, bytes(key)))

    def set_key(self, key: bytes) -> bool:
        self._at = bytes(key) if bytes(key) in self._table().values else None
        return self._at is not None

    def key(self) -> Any:
        return self._transaction.shown(self._at or b"")

    def value(self) -> Any:
        return self._transaction.shown(b"" if self._at is None else self._table().values[self._at])

    def item(self) -> tuple[Any, Any]:
        return self.key(), self.value()

    def delete(self) -> bool:
        if self._at is None:
            return False
        index = bisect_left(self._table().keys, self._at)
        gone = self._transaction.delete(self._at, db=self._db)
        self._stand(index)
        return gone

    def putmulti(
        self, items: Iterable[tuple[bytes, bytes]], overwrite: bool = True, append: bool = False
    ) -> tuple[int, int]:
        """(items given, items added)."""
        given = added = 0
        for key, value in items:
            given += 1
            added += self._transaction.put(key, value, overwrite=overwrite, append=append, db=self._db)
        return given, added

    def iternext(self, keys: bool = True, values: bool = True) -> Iterator[Any]:
        found = self._at is not None or self.first()
        while found:
            yield self.item() if keys and values else self.key() if keys else self.value()
            found = self.next()

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self.iternext()


def _check(key: bytes) -> None:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise lmdb.BadValsizeError(f"a key of {len(key)} bytes")

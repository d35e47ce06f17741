"""One LMDB environment: opening with its checks, transactions, and errors in our words.

Every commit is synced: data pages, then the meta page. A process killed at any moment leaves the last commit whole; so
does a machine that loses power, as far as its disk keeps its word. (A folder in `unsynced` has the first promise only.)

What is refused at opening, with a text that says what to do: a file that is no LMDB file or of another version, one cut
short, one stamped with another format, another kind or another chain, and one without a stamp that is not empty.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import lmdb
from lmdb.verify import VerifyError, verify

from chain.codec import Record, decode, encode
from chain.errors import ConfigError, DecodeError, InvariantError, StoreError

STORE_FORMAT: Final = 2  # 1: indices of the blocks as trees, written with each block
READERS_MAX: Final = 256
KEY_BYTES_MAX: Final = 511
STAMP_KEY: Final = b"stamp"
META: Final = b"meta"
_SPARE_READS: Final = 8  # ended read transactions kept for the next one

unsynced: Final[set[Path]] = set()  # data folders whose commits do not wait for the disk: a crash may damage them
openers: Final[dict[Path, Callable[..., Any]]] = {}  # data folders whose environments are not files (the simulator's)

WriteTransaction: TypeAlias = "lmdb.Transaction[bytes]"
Database: TypeAlias = Any  # lmdb's handle type has no public name


class Stamp(Record, frozen=True, kw_only=True):
    """What an environment says about itself."""

    format: int
    kind: str  # blocks, state or journal
    chain_id: bytes


class Environment:
    """An open LMDB environment with its named databases; safe for threads.

    LMDB must not have one file open twice in a process, so a reader of a file that is open here already shares it
    (`open_environment`); the last `close` closes it. It must not be used, or opened again, after a fork.
    """

    def __init__(self, path: Path, *, kind: str, databases: tuple[bytes, ...], map_bytes: int, readonly: bool) -> None:
        self.path = path
        self.kind = kind
        self.readonly = readonly
        self.map_bytes = map_bytes
        self.users = 1
        self._failure: str | None = None
        self._writing = threading.Lock()
        self._env = self._open(len(databases) + 1)
        try:
            self._refuse_cut_file()
            self._db: dict[bytes, Database] = {name: self._open_database(name) for name in (META, *databases)}
        except lmdb.Error as error:
            self._env.close()
            raise StoreError(f"{self.path}: not a {self.kind} environment of this program: {error}") from None
        except StoreError:
            self._env.close()
            raise

    def _open(self, databases: int) -> lmdb.Environment:
        if self.readonly and not (self.path / "data.mdb").exists():
            raise StoreError(f"{self.path}: no {self.kind} environment here; the node makes it when it starts")
        try:
            if not self.readonly:
                self.path.mkdir(parents=True, exist_ok=True)
            synced = self.path.parent not in unsynced
            return openers.get(self.path.parent, lmdb.open)(  # type: ignore[no-any-return]
                str(self.path), map_size=self.map_bytes, subdir=True, readonly=self.readonly, metasync=synced,
                sync=synced, lock=True, create=not self.readonly, readahead=False, max_readers=READERS_MAX,
                max_dbs=databases, max_spare_txns=_SPARE_READS, mode=0o640,
            )  # fmt: skip
        except lmdb.VersionMismatchError as error:
            raise StoreError(f"{self.path}: written by another version of LMDB: {error}") from None
        except (lmdb.InvalidError, lmdb.CorruptedError) as error:
            raise StoreError(
                f"{self.path}/data.mdb is damaged or no LMDB file: {error}. Restore it from a backup of this node, or "
                "move the whole data folder away and let the node sync again"
            ) from None
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"{self.path}: cannot be opened: {error}") from None

    def _refuse_cut_file(self) -> None:
        """A page beyond the end of the file kills the process at the first touch, so look before touching."""
        file = self.path / "data.mdb"
        expected = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if (size := file.stat().st_size) >= expected:
            return
        # Free pages at the end may never have been written. Only the walk over all pages tells them from lost ones.
        if faults := check_file(self.path):
            raise StoreError(
                f"{file} is cut short: {size} bytes where {expected} are in use ({faults[0]}). Restore it from a "
                "backup of this node, or move the whole data folder away and let the node sync again"
            )

    def _open_database(self, name: bytes) -> Database:
        try:
            return self._env.open_db(name, create=not self.readonly)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            raise StoreError(f"{self.path}: the {self.kind} environment was never finished; start its node") from None

    def database(self, name: bytes) -> Database:
        return self._db[name]

    # --- transactions ---

    def begin_read(self) -> lmdb.Transaction[bytes]:
        """A snapshot that lasts until it is aborted; its values are copies."""
        try:
            try:
                return self._env.begin()
            except lmdb.ReadersFullError:
                self._env.reader_check()  # slots of processes that died
                return self._env.begin()
        except lmdb.Error as error:
            raise self._error("cannot be read", error) from None

    @contextlib.contextmanager
    def read(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A snapshot for the length of the block; its values are copies."""
        with self.begin_read() as txn:
            try:
                yield txn
            except lmdb.Error as error:
                raise self._error("cannot be read", error) from None

    @contextlib.contextmanager
    def view(self) -> Iterator[lmdb.Transaction[memoryview]]:
        """A snapshot whose values are views of the map, valid inside the block only."""
        try:
            with self._env.begin(buffers=True) as txn:
                yield txn
        except lmdb.Error as error:
            raise self._error("cannot be read", error) from None

    @contextlib.contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        """One writer at a time; durable when the block ends, nothing of it kept when it raises.

        Raises:
            StoreError: the map or the disk is full, or the disk failed. After a failed commit other than a full map
                every later write is refused: what the disk kept is known only after a restart.
        """
        with self._writing:
            if self._failure is not None:
                raise StoreError(f"{self.path}: an earlier write failed ({self._failure}); restart the node")
            self._env.reader_check()  # a killed reader must not pin old pages for ever
            txn = self._begin_write()
            try:
                yield txn
            except BaseException as error:
                txn.abort()
                if isinstance(error, lmdb.Error):
                    raise self._error("cannot be written", error) from None
                raise
            try:
                txn.commit()
            except lmdb.Error as error:
                if not isinstance(error, lmdb.MapFullError | lmdb.TxnFullError):
                    self._failure = str(error)
                raise self._error("cannot be committed", error) from None

    def _begin_write(self) -> WriteTransaction:
        try:
            return self._env.begin(write=True)
        except lmdb.Error as error:
            raise self._error("cannot be written", error) from None

    def _error(self, doing: str, error: lmdb.Error) -> StoreError | InvariantError:
        if isinstance(error, lmdb.BadValsizeError):
            return InvariantError(f"{self.path}: a key is empty or over {KEY_BYTES_MAX} bytes")
        if isinstance(error, lmdb.MapFullError):
            return StoreError(
                f"{self.path}: full, all {self.map_bytes} bytes of its map are used; nothing of this write was kept. "
                f"Raise the map size of the {self.kind} environment in the node's configuration and restart the node"
            )
        if isinstance(error, lmdb.DiskError):
            return StoreError(f"{self.path}: the disk is full; nothing of this write was kept. Free space and restart")
        return StoreError(f"{self.path}: {doing}: {error}")

    # --- stamp ---

    def read_stamp(self) -> Stamp | None:
        """The stamp, or None in a new environment.

        Raises:
            StoreError: no stamp although there is data, or a stamp this program cannot read.
        """
        with self.read() as txn:
            data = txn.get(STAMP_KEY, db=self._db[META])
            if data is None:
                if any(txn.stat(db)["entries"] for db in self._db.values()):
                    raise StoreError(f"{self.path}: holds data without a format stamp; not made by this program")
                return None
        try:
            return decode(Stamp, data)
        except DecodeError as error:
            raise StoreError(f"{self.path}: the format stamp cannot be read: {error}") from None

    def check_stamp(self, chain_id: bytes) -> bool:
        """True if the environment is new; else its stamp fits.

        Raises:
            StoreError: another format or another kind of environment.
            ConfigError: the environment of another chain.
        """
        stamp = self.read_stamp()
        if stamp is None:
            return True
        if stamp.format != STORE_FORMAT:
            raise StoreError(
                f"{self.path}: has store format {stamp.format}, this program reads {STORE_FORMAT}: move the whole data "
                "folder away and let the node sync again, or use the version that wrote it"
            )
        if stamp.kind != self.kind:
            raise StoreError(f"{self.path}: holds a {stamp.kind} environment where {self.kind} belongs")
        if stamp.chain_id != chain_id:
            raise ConfigError(
                f"{self.path}: belongs to chain {stamp.chain_id.hex()}, the configured genesis makes chain "
                f"{chain_id.hex()}; use that chain's genesis or another data folder"
            )
        return False

    def put_stamp(self, txn: WriteTransaction, chain_id: bytes) -> None:
        """To be called in the transaction that writes the first data."""
        stamp = Stamp(format=STORE_FORMAT, kind=self.kind, chain_id=chain_id)
        txn.put(STAMP_KEY, encode(stamp), db=self._db[META])

    # --- upkeep ---

    def used_bytes(self) -> int:
        """Bytes of the map in use, free pages inside it included."""
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def is_synced(self) -> bool:
        """True if every commit waits for data and meta page to be on disk."""
        flags = self._env.flags()
        return flags["sync"] and flags["metasync"] and not flags["writemap"]

    def close(self) -> None:
        """Give up one use; the last one closes. Must not be called inside a transaction of this thread."""
        with _registry_lock:
            self.users -= 1
            if self.users:
                return
            _open.pop(os.path.realpath(self.path), None)
            with self._writing:
                self._env.close()


_open: dict[str, Environment] = {}
_registry_lock = threading.RLock()
# A child must not touch its parent's environments; LMDB refuses to open one of them again there, and says so.
os.register_at_fork(after_in_child=_open.clear)


def open_environment(
    path: Path, *, kind: str, databases: tuple[bytes, ...], map_bytes: int, readonly: bool = False
) -> Environment:
    """The environment at `path`. A reader shares one that this process has open already.

    Raises:
        StoreError: it cannot be opened, or is open in this process and cannot be shared.
    """
    with _registry_lock:
        key = os.path.realpath(path)
        environment = _open.get(key)
        if environment is None:
            environment = Environment(path, kind=kind, databases=databases, map_bytes=map_bytes, readonly=readonly)
            _open[key] = environment
        elif readonly:
            environment.users += 1
        else:
            raise StoreError(f"{path}: the {kind} environment is already open in this process")
        return environment


def check_file(path: Path) -> list[str]:
    """What is structurally wrong with the environment at `path`, empty if nothing; it must not be in use.

    Reads every page in Python without handing the file to LMDB: slow (about 50 MB/s), and safe on any bytes.
    """
    try:
        return list(verify(str(path / "data.mdb")))  # type: ignore[no-untyped-call]
    except (VerifyError, OSError) as error:
        return [str(error)]

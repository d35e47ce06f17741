"""The state environment: the value of every key after the stored height, for the node and its executors.

    state   key -> value
    meta    "position" -> height and state root, written with the values of that height

`StateStore` is the node's, `StateReader` any other process's. A height is all there or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from chain.codec import Record, decode, encode
from chain.errors import DecodeError, InvariantError, StoreError
from chain.model.block import WriteSet
from chain.store.environment import META, Database, Environment, open_environment
from chain.types import Digest

STATE_MAP_BYTES: Final = 256 * 1024**3
_STATE: Final = b"state"
_POSITION_KEY: Final = b"position"


class _Position(Record, frozen=True, kw_only=True):
    height: int
    state_root: bytes


class StateStore:
    """The only writer of the state; safe for threads."""

    def __init__(
        self, path: Path, *, chain_id: bytes, genesis_state_root: bytes, map_bytes: int = STATE_MAP_BYTES
    ) -> None:
        """Open, or make it empty at height 0.

        Raises:
            StoreError, ConfigError: as `Environment` and `Environment.check_stamp` say.
        """
        self.path = path
        self._env: Environment = open_environment(path, kind="state", databases=(_STATE,), map_bytes=map_bytes)
        try:
            if self._env.check_stamp(chain_id):
                with self._env.write() as txn:
                    self._env.put_stamp(txn, chain_id)
                    position = encode(_Position(height=0, state_root=genesis_state_root))
                    txn.put(_POSITION_KEY, position, db=self._env.database(META))
            with self._env.read() as txn:
                self._position = _load_position(self._env, txn)
        except BaseException:
            self._env.close()
            raise

    def height(self) -> int:
        """The stored height."""
        return self._position.height

    def state_root(self) -> Digest:
        """The state root at `height()`."""
        return Digest(self._position.state_root)

    def apply(self, items: Sequence[tuple[int, bytes, WriteSet]]) -> None:
        """Make the write sets of a run of blocks durable in one transaction; items are (height, state root, writes).

        Raises:
            InvariantError: not the next heights in order, an empty value, or a key of no or too many bytes.
            StoreError: the disk refuses. Nothing of the run is kept in either case.
        """
        if not items:
            return
        merged: dict[bytes, bytes | None] = {}
        with self._env.write() as txn:
            height = self._position.height
            for at, _, writes in items:
                if at != height + 1:
                    raise InvariantError(f"state: height {at} where {height + 1} is next")
                merged.update(writes)
                height = at
            database = self._env.database(_STATE)
            puts = sorted((key, value) for key, value in merged.items() if value is not None)
            if not all(value for _, value in puts):
                raise InvariantError(f"state: an empty value in heights up to {height}")
            for key in sorted(key for key, value in merged.items() if value is None):
                txn.delete(key, db=database)
            txn.cursor(database).putmulti(puts)
            position = _Position(height=height, state_root=items[-1][1])
            txn.put(_POSITION_KEY, encode(position), db=self._env.database(META))
        self._position = position

    def get(self, key: bytes) -> bytes | None:
        """The value at the stored height."""
        with self._env.read() as txn:
            return txn.get(key, db=self._env.database(_STATE)) if key else None

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All (key, value) whose key starts with `prefix`, ascending, at the stored height."""
        with self._env.read() as txn:
            return _scan(txn, self._env.database(_STATE), prefix)

    @property
    def environment(self) -> Environment:
        """For the other modules of this package."""
        return self._env

    def close(self) -> None:
        self._env.close()


class StateReader:
    """A snapshot of the state for another process; for one thread. Renew it with `refresh`.

    It pins the pages of its snapshot, so a reader that is kept must be refreshed (or closed) as the chain goes on. The
    process must not have forked from one that had this environment open: start executors by spawn or exec.
    """

    def __init__(self, path: Path, *, map_bytes: int = STATE_MAP_BYTES) -> None:
        """`path` is the state folder (`StateStore.path`).

        Raises:
            StoreError: no state there yet, or it cannot be read.
        """
        self.path = path
        self._env: Environment = open_environment(
            path, kind="state", databases=(_STATE,), map_bytes=map_bytes, readonly=True
        )
        try:
            if self._env.read_stamp() is None:
                raise StoreError(f"{path}: the state was never finished; start its node")
            self._database: Database = self._env.database(_STATE)
            self._txn = self._env.begin_read()
            self._position = _load_position(self._env, self._txn)
        except BaseException:
            self._env.close()
            raise

    def refresh(self) -> int:
        """Move to the newest stored height and return it."""
        self._txn.abort()
        self._txn = self._env.begin_read()
        self._position = _load_position(self._env, self._txn)
        return self._position.height

    def release(self) -> None:
        """Let go of the snapshot, so that its pages can be used again; nothing may be read before `refresh`."""
        self._txn.abort()

    def height(self) -> int:
        """The height of the snapshot."""
        return self._position.height

    def state_root(self) -> Digest:
        """The state root of the snapshot."""
        return Digest(self._position.state_root)

    def get(self, key: bytes) -> bytes | None:
        """The value in the snapshot. Raises StoreError if the reader is closed or the file fails."""
        try:
            return self._txn.get(key, None, self._database)
        except lmdb.BadValsizeError:
            return None  # no such key was ever written
        except lmdb.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from None

    def scan(self, prefix: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """The first `limit` (None: all) pairs whose key starts with `prefix`, ascending, in the snapshot."""
        try:
            return _scan(self._txn, self._database, prefix, limit)
        except lmdb.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from None

    def close(self) -> None:
        self._txn.abort()
        self._env.close()


def _load_position(environment: Environment, txn: lmdb.Transaction[bytes]) -> _Position:
    data = txn.get(_POSITION_KEY, db=environment.database(META))
    try:
        if data is None:
            raise DecodeError("missing")
        return decode(_Position, data)
    except DecodeError as error:
        raise StoreError(f"{environment.path}: its height cannot be read: {error}") from None


def _scan(
    txn: lmdb.Transaction[bytes], database: Database, prefix: bytes, limit: int | None = None
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    cursor = txn.cursor(database)
    if not (cursor.set_range(prefix) if prefix else cursor.first()):
        return found
    for key, value in islice(cursor, limit):
        if not key.startswith(prefix):
            break
        found.append((key, value))
    return found

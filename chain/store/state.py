"""The state environment: the value of every key after the stored height, for the node and its executors.

    state   key -> value
    undo    key -> value at the snapshot height (empty: none), of the keys written since
    meta    "position" -> height and state root, written with the values of that height
            "snapshot" -> the snapshot height that state and undo together still hold

`StateStore` is the node's, `StateReader` any other process's. A height is all there or not at all. The state at the
last snapshot height can be read until `release_snapshot`, over restarts too (docs/adr/0016-snapshots.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from chain.codec import Record, decode, encode
from chain.errors import DecodeError, InvariantError, StoreError
from chain.model.block import WriteSet
from chain.model.snapshot import Pair
from chain.store.environment import META, Database, Environment, WriteTransaction, open_environment
from chain.store.layout import height_key
from chain.types import Digest

STATE_MAP_BYTES: Final = 256 * 1024**3
STATE: Final = b"state"
UNDO: Final = b"undo"
_POSITION_KEY: Final = b"position"
_SNAPSHOT_KEY: Final = b"snapshot"


class _Position(Record, frozen=True, kw_only=True):
    height: int
    state_root: bytes


class StateStore:
    """The only writer of the state; safe for threads."""

    def __init__(
        self,
        path: Path,
        *,
        chain_id: bytes,
        genesis_state_root: bytes,
        map_bytes: int = STATE_MAP_BYTES,
        snapshot_interval: int = 0,
    ) -> None:
        """Open, or make it empty at height 0. `snapshot_interval` is the chain's; 0: it has no snapshots.

        Raises:
            StoreError, ConfigError: as `Environment` and `Environment.check_stamp` say.
        """
        self.path = path
        self._env: Environment = open_environment(path, kind="state", databases=(STATE, UNDO), map_bytes=map_bytes)
        self._interval = snapshot_interval
        self._released = 0
        try:
            if self._env.check_stamp(chain_id):
                with self._env.write() as txn:
                    self._env.put_stamp(txn, chain_id)
                    position = encode(_Position(height=0, state_root=genesis_state_root))
                    txn.put(_POSITION_KEY, position, db=self._env.database(META))
            with self._env.read() as txn:
                self._position = _load_position(self._env, txn)
                self._snapshot = _load_snapshot(self._env, txn)
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

        A snapshot height ends a transaction: the state stands at it exactly, once.

        Raises:
            InvariantError: not the next heights in order, an empty value, or a key of no or too many bytes.
            StoreError: the disk refuses. Nothing of the transaction is kept in either case.
        """
        for expected, (at, _, _) in enumerate(items, self._position.height + 1):
            if at != expected:
                raise InvariantError(f"state: height {at} where {expected} is next")
        first = 0
        for end, (at, _, _) in enumerate(items, 1):
            if end == len(items) or self._is_snapshot_height(at):
                self._apply(items[first:end])
                first = end

    def _is_snapshot_height(self, height: int) -> bool:
        return self._interval > 0 and height % self._interval == 0

    def _apply(self, items: Sequence[tuple[int, bytes, WriteSet]]) -> None:
        merged: dict[bytes, bytes | None] = {}
        for _, _, writes in items:
            merged.update(writes)
        height = items[-1][0]
        snapshot = None if self._snapshot == self._released else self._snapshot
        with self._env.write() as txn:
            database = self._env.database(STATE)
            if snapshot is not None:
                self._keep_old(txn, merged)
            puts = sorted((key, value) for key, value in merged.items() if value is not None)
            if not all(value for _, value in puts):
                raise InvariantError(f"state: an empty value in heights up to {height}")
            for key in sorted(key for key, value in merged.items() if value is None):
                txn.delete(key, db=database)
            txn.cursor(database).putmulti(puts)
            position = _Position(height=height, state_root=items[-1][1])
            txn.put(_POSITION_KEY, encode(position), db=self._env.database(META))
            if self._is_snapshot_height(height):
                snapshot = height
            if snapshot != self._snapshot:
                self._begin_snapshot(txn, snapshot)
        self._position, self._snapshot = position, snapshot

    def _keep_old(self, txn: WriteTransaction, keys: Iterable[bytes]) -> None:
        """The values at the snapshot height, of keys that are written for the first time since."""
        state, undo = self._env.database(STATE), self._env.database(UNDO)
        for key in sorted(keys):
            if txn.get(key, db=undo) is None:
                txn.put(key, txn.get(key, db=state) or b"", db=undo)

    def _begin_snapshot(self, txn: WriteTransaction, height: int | None) -> None:
        txn.drop(self._env.database(UNDO), delete=False)
        if height is None:
            txn.delete(_SNAPSHOT_KEY, db=self._env.database(META))
        else:
            put_snapshot_height(self._env, txn, height)

    # --- the state at the last snapshot height ---

    @property
    def snapshot_height(self) -> int | None:
        """The height whose state `snapshot` gives, besides the stored one; None: there is none, or it was released."""
        return None if self._snapshot == self._released else self._snapshot

    @contextlib.contextmanager
    def snapshot(self, height: int) -> Iterator[Iterator[Pair]]:
        """All pairs of the state at `snapshot_height`, ascending by key, while blocks above it are applied.

        Raises:
            StoreError: the state of that height is not kept, or cannot be read.
        """
        with self._env.read() as txn:
            if _load_snapshot(self._env, txn) != height:
                raise StoreError(f"{self.path}: the state at height {height} is no longer kept")
            changed = iter(txn.cursor(self._env.database(UNDO)))
            yield _undone(iter(txn.cursor(self._env.database(STATE))), changed)

    def release_snapshot(self, height: int) -> None:
        """The state at `height` is needed no more; the next write drops what was kept for it."""
        self._released = height

    def get(self, key: bytes) -> bytes | None:
        """The value at the stored height."""
        with self._env.read() as txn:
            return txn.get(key, db=self._env.database(STATE)) if key else None

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All (key, value) whose key starts with `prefix`, ascending, at the stored height."""
        with self._env.read() as txn:
            return _scan(txn, self._env.database(STATE), prefix)

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
            path, kind="state", databases=(STATE,), map_bytes=map_bytes, readonly=True
        )
        try:
            if self._env.read_stamp() is None:
                raise StoreError(f"{path}: the state was never finished; start its node")
            self._database: Database = self._env.database(STATE)
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


def put_position(environment: Environment, txn: WriteTransaction, *, height: int, state_root: bytes) -> None:
    """For a state that is loaded, not executed."""
    position = _Position(height=height, state_root=state_root)
    txn.put(_POSITION_KEY, encode(position), db=environment.database(META))


def put_snapshot_height(environment: Environment, txn: WriteTransaction, height: int) -> None:
    txn.put(_SNAPSHOT_KEY, height_key(height), db=environment.database(META))


def _load_snapshot(environment: Environment, txn: lmdb.Transaction[bytes]) -> int | None:
    data = txn.get(_SNAPSHOT_KEY, db=environment.database(META))
    return None if data is None else int.from_bytes(data, "big")


def _undone(state: Iterator[Pair], undo: Iterator[Pair]) -> Iterator[Pair]:
    """The pairs of `state` with those of `undo` in their places; an empty value says that there was none."""
    old = next(undo, None)
    for pair in state:
        while old is not None and old[0] < pair[0]:
            if old[1]:
                yield old
            old = next(undo, None)
        if old is not None and old[0] == pair[0]:
            if old[1]:
                yield old
            old = next(undo, None)
        else:
            yield pair
    while old is not None:
        if old[1]:
            yield old
        old = next(undo, None)


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

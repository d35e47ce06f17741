"""A chain that is being loaded from a snapshot, in a folder of its own until all of it is there and checked.

    joining/plan        what is being loaded; written first
    joining/state       the state; "loaded" says which chunks are in it, each written with its keys
    joining/blocks      the last blocks up to the snapshot's height
    joining/complete    written last: only with it the folder takes the place of the node's own

A data folder is opened with its own blocks and state, so nothing half loaded is ever used; `adopt_joined`, at the next
opening, puts the loaded ones in their place, and can be cut short at any moment and done again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from chain.errors import InvariantError, StoreError
from chain.model.block import Header
from chain.model.snapshot import Pair
from chain.store.blocks import BLOCKS_MAP_BYTES, BlockStore
from chain.store.environment import Environment, open_environment
from chain.store.layout import height_key
from chain.store.snapshots import sync_folder
from chain.store.state import STATE, STATE_MAP_BYTES, UNDO, put_position, put_snapshot_height

JOINING: Final = "joining"
_LOADED: Final = b"loaded"
_PLAN: Final = "plan"
_COMPLETE: Final = "complete"
_PARTS: Final = ("blocks", "state")


class JoinFolder:
    """The folder `joining` of a data folder. `close` it; `complete` or `discard` end it."""

    def __init__(
        self,
        data: Path,
        genesis: Header,
        *,
        blocks_map_bytes: int = BLOCKS_MAP_BYTES,
        state_map_bytes: int = STATE_MAP_BYTES,
        history: bool = True,
    ) -> None:
        self._path = data / JOINING
        self._genesis = genesis
        self._blocks_map_bytes = blocks_map_bytes
        self._state_map_bytes = state_map_bytes
        self._history = history
        self._state: Environment | None = None
        self._blocks: BlockStore | None = None

    def plan(self) -> bytes | None:
        """What was saved by `begin`; None: nothing is being loaded."""
        file = self._path / _PLAN
        return file.read_bytes() if file.exists() else None

    def begin(self, plan: bytes) -> None:
        """Start loading from nothing."""
        self.discard()
        self._path.mkdir(parents=True)
        _write_file(self._path / _PLAN, plan)

    def discard(self) -> None:
        """Forget all that was loaded."""
        self.close()
        if self._path.exists():
            shutil.rmtree(self._path)

    # --- state ---

    @property
    def _environment(self) -> Environment:
        if self._state is None:
            self._state = open_environment(
                self._path / "state", kind="state", databases=(STATE, UNDO, _LOADED), map_bytes=self._state_map_bytes
            )
            if self._state.check_stamp(self._genesis.chain_id):
                with self._state.write() as txn:
                    self._state.put_stamp(txn, self._genesis.chain_id)
        return self._state

    def loaded(self) -> frozenset[int]:
        """The chunks that are in the state."""
        environment = self._environment
        with environment.read() as txn:
            keys = txn.cursor(environment.database(_LOADED)).iternext(keys=True, values=False)
            return frozenset(int.from_bytes(key, "big") for key in keys)

    def put(self, chunks: Sequence[tuple[int, Sequence[Pair]]]) -> None:
        """Durable on return: the pairs of checked chunks, with a mark for each."""
        environment = self._environment
        with environment.write() as txn:
            cursor = txn.cursor(environment.database(STATE))
            for _, pairs in chunks:
                cursor.putmulti(pairs)
            for index, _ in chunks:
                txn.put(height_key(index), b"1", db=environment.database(_LOADED))

    def pairs(self) -> Iterator[Pair]:
        """All that is loaded, ascending by key."""
        environment = self._environment
        with environment.read() as txn:
            yield from txn.cursor(environment.database(STATE))

    # --- blocks ---

    @property
    def blocks(self) -> BlockStore:
        if self._blocks is None:
            self._blocks = BlockStore(
                self._path / "blocks", self._genesis, map_bytes=self._blocks_map_bytes, history=self._history
            )
        return self._blocks

    # --- the end ---

    def complete(self, *, height: int, state_root: bytes) -> None:
        """All is there and checked: from the next opening on it is the node's chain, standing at `height`.

        Raises:
            InvariantError: the blocks do not end there.
        """
        if self.blocks.height() != height or self.blocks.tip().state_root != state_root:
            raise InvariantError(f"joining: blocks up to {self.blocks.height()} for a state at {height}")
        environment = self._environment
        with environment.write() as txn:
            put_position(environment, txn, height=height, state_root=state_root)
            put_snapshot_height(environment, txn, height)
            txn.drop(environment.database(_LOADED), delete=False)
        self.close()
        _write_file(self._path / _COMPLETE, height_key(height))

    def close(self) -> None:
        for part in (self._state, self._blocks):
            if part is not None:
                part.close()
        self._state = self._blocks = None


def adopt_joined(data: Path) -> bool:
    """Put a loaded chain in the place of the folder's own, if one is complete; True if it was.

    Raises:
        StoreError: the folder cannot be changed.
    """
    joining = data / JOINING
    if not (joining / _COMPLETE).exists():
        return False
    try:
        for part in _PARTS:
            if (joining / part).exists():
                if (data / part).exists():
                    shutil.rmtree(data / part)
                (joining / part).rename(data / part)
        sync_folder(joining)
        sync_folder(data)
        shutil.rmtree(joining)
    except OSError as error:
        raise StoreError(f"{joining}: cannot be moved into its place: {error.strerror}") from None
    return True


def _write_file(path: Path, data: bytes) -> None:
    """Whole or not at all, durable on return."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)
    sync_folder(path.parent.parent)

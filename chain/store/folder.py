"""A data folder: its lock, its three environments, and the recovery between them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.errors import BadInput, ConfigError, InvariantError, StoreError
from chain.model.block import Header, WriteSet, decode_header
from chain.model.merkle import state_root
from chain.model.proofs import receipt_proof, value_proof
from chain.model.validators import ValidatorSet
from chain.store.blocks import BLOCKS_MAP_BYTES, BlockStore
from chain.store.indexing import INDEX_LIMITS, IndexLimits
from chain.store.joining import adopt_joined
from chain.store.journal import JOURNAL_MAP_BYTES, JournalStore
from chain.store.lock import FolderLock
from chain.store.snapshots import SnapshotFolder
from chain.store.state import STATE_MAP_BYTES, StateStore

MAP_BYTES_MIN: Final = 1024 * 1024
REPLAY_BLOCKS: Final = 64  # write sets applied in one transaction
PROOF_HEIGHTS_MAX: Final = 100_000  # a value proof walks every height since the last write


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """Map sizes in bytes: how far each environment may grow. The files are sparse, so room unused costs nothing."""

    blocks_map_bytes: int = BLOCKS_MAP_BYTES
    state_map_bytes: int = STATE_MAP_BYTES
    journal_map_bytes: int = JOURNAL_MAP_BYTES
    history: bool = True  # keep which heights wrote a key: value proofs of the past need it
    index: IndexLimits = INDEX_LIMITS  # what is derived again when the store is opened

    def __post_init__(self) -> None:
        for field in ("blocks_map_bytes", "state_map_bytes", "journal_map_bytes"):
            value = getattr(self, field)
            if value < MAP_BYTES_MIN or value % 4096:
                raise ConfigError(f"store {field} is {value}, must be a multiple of 4096, at least {MAP_BYTES_MIN}")


class Store:
    """The open data folder of a node."""

    def __init__(
        self,
        path: Path,
        *,
        lock: FolderLock,
        blocks: BlockStore,
        state: StateStore,
        journal: JournalStore,
        snapshots: SnapshotFolder,
    ) -> None:
        self.path = path
        self.blocks = blocks
        self.state = state
        self.journal = journal
        self.snapshots = snapshots
        self.replayed = 0  # blocks whose write sets were applied to the state when it was opened
        self._lock = lock

    def close(self) -> None:
        """Close the environments, then give up the folder."""
        for part in (self.snapshots, self.journal, self.state, self.blocks):
            part.close()
        self._lock.release()

    def used_bytes(self) -> dict[str, tuple[int, int]]:
        """(bytes in use, map size) of each environment, for metrics and warnings before one is full."""
        environments = (self.blocks.environment, self.state.environment, self.journal.environment)
        return {item.kind: (item.used_bytes(), item.map_bytes) for item in environments}

    def transaction(self, transaction_hash: bytes) -> bytes | None:
        """The raw bytes of an executed transaction."""
        location = self.blocks.transaction_location(transaction_hash)
        return None if location is None else self.transaction_at(*location)

    def transaction_at(self, height: int, position: int) -> bytes | None:
        """The raw bytes of the transaction executed at `position` of block `height`."""
        digest = self.blocks.proposal_digest(height)
        at = self.blocks.proposal_position(height, position)
        return None if digest is None or at is None else self.journal.body(digest, at)

    # --- proofs ---

    def receipt_proof(self, transaction_hash: bytes, validators: ValidatorSet) -> dict[str, Any] | None:
        """The proof document of a transaction's receipt and body; None if it was never executed.

        `validators` is the set that signed its block.
        """
        location = self.blocks.transaction_location(transaction_hash)
        if location is None:
            return None
        height, position = location
        hashes, receipts = self.blocks.hashes(height), self.blocks.receipts(height)
        header, certificate = self.blocks.header(height), self.blocks.certificate(height)
        if height < self.blocks.executed_from:
            raise BadInput("pruned", f"the receipts below height {self.blocks.executed_from} are not kept by this node")
        if hashes is None or receipts is None or header is None or certificate is None:
            raise InvariantError(f"{self.path}: the index names block {height}, which is not whole")
        return receipt_proof(
            header=header, certificate=certificate, validators=validators, hashes=hashes, receipts=receipts,
            position=position, transaction=self.transaction_at(height, position),
        )  # fmt: skip

    def value_proof(self, key: bytes, height: int, validators: ValidatorSet) -> dict[str, Any]:
        """The proof document of a key's value (or of its absence) at a stored height above genesis.

        Raises:
            BadInput: no such height, or more than `PROOF_HEIGHTS_MAX` heights since the last write.
            StoreError: this store keeps no history.
        """
        header, certificate = self.blocks.header(height), self.blocks.certificate(height)
        if header is None or certificate is None:
            raise BadInput("out_of_range", f"height is {height}, must be 1..{self.blocks.height()}")
        written_at = self.blocks.last_write_height(key, height)
        first = written_at or 1
        if first < self.blocks.executed_from:
            raise BadInput("pruned", f"the writes below height {self.blocks.executed_from} are not kept by this node")
        if height - first >= PROOF_HEIGHTS_MAX:
            raise BadInput("proof_too_long", f"last written {height - first} heights ago, at most {PROOF_HEIGHTS_MAX}")
        before = self.blocks.header(first - 1)
        if before is None:
            raise InvariantError(f"{self.path}: block {first - 1} is missing")
        return value_proof(
            key=key, header=header, certificate=certificate, validators=validators,
            parent_state_root=decode_header(before).state_root,
            write_sets=(self.blocks.write_set(at) for at in range(first, height + 1)),
        )  # fmt: skip


def open_store(
    path: Path, genesis: Header, *, limits: StoreLimits | None = None, snapshot_interval: int = 0
) -> Store:
    """Open (or make) the data folder of the chain that starts with `genesis`, alone, with the state caught up.

    Raises:
        ConfigError: the folder belongs to another chain.
        StoreError: another process has it, a file is damaged, or the environments do not belong together.
    """
    limits = limits or StoreLimits()
    with contextlib.ExitStack() as undo:
        lock = FolderLock(path)
        undo.callback(lock.release)
        adopt_joined(path)
        blocks = BlockStore(
            path / "blocks", genesis, map_bytes=limits.blocks_map_bytes, history=limits.history,
            index_limits=limits.index,
        )  # fmt: skip
        undo.callback(blocks.close)
        _refuse_lost_journal(path, blocks.height())
        journal = JournalStore(path / "journal", chain_id=genesis.chain_id, map_bytes=limits.journal_map_bytes)
        undo.callback(journal.close)
        state = StateStore(
            path / "state", chain_id=genesis.chain_id, genesis_state_root=genesis.state_root,
            map_bytes=limits.state_map_bytes, snapshot_interval=snapshot_interval,
        )  # fmt: skip
        undo.callback(state.close)
        snapshots = SnapshotFolder(path / "snapshots")
        undo.callback(snapshots.close)
        store = Store(path, lock=lock, blocks=blocks, state=state, journal=journal, snapshots=snapshots)
        store.replayed = _recover(blocks, state)
        undo.pop_all()
        return store


def _refuse_lost_journal(path: Path, height: int) -> None:
    data = path / "journal" / "data.mdb"
    if height > 0 and (not data.exists() or data.stat().st_size == 0):
        raise StoreError(
            f"{path}: has {height} blocks but no journal. Without it this node could contradict votes it has sent, and "
            "its blocks have no bodies. Move the whole data folder away and let the node sync again, with a new "
            "validator key if this one may have votes in flight"
        )


def _recover(blocks: BlockStore, state: StateStore) -> int:
    """Apply the write sets that the state lacks; returns how many blocks."""
    behind = blocks.height() - state.height()
    if behind < 0:
        raise StoreError(
            f"{state.path}: the state stands at height {state.height()}, the blocks end at {blocks.height()}. Blocks "
            "are always written first, so one of the folders was replaced. Move the state folder away: it is made "
            "again from the blocks"
        )
    if state.height() + 1 < blocks.executed_from:
        raise StoreError(
            f"{state.path}: the state stands at height {state.height()}; this node joined by snapshot and has the "
            f"writes from height {blocks.executed_from} on only. Move the whole data folder away: it will join again"
        )
    root = _header(blocks, state.height()).state_root
    if state.state_root() != root:
        raise StoreError(
            f"{state.path}: its state root at height {state.height()} is {state.state_root().hex()}, the block's is "
            f"{root.hex()}. Move the state folder away: it is made again from the blocks"
        )
    run: list[tuple[int, bytes, WriteSet]] = []
    for height in range(state.height() + 1, blocks.height() + 1):
        writes = blocks.write_set(height)
        root = state_root(root, writes)
        if root != _header(blocks, height).state_root:
            raise StoreError(f"{blocks.path}: the write set of block {height} does not lead to its state root")
        run.append((height, root, writes))
        if len(run) == REPLAY_BLOCKS or height == blocks.height():
            state.apply(run)
            run = []
    return behind


def _header(blocks: BlockStore, height: int) -> Header:
    data = blocks.header(height)
    if data is None:
        raise StoreError(f"{blocks.path}: block {height} is missing")
    return decode_header(data)

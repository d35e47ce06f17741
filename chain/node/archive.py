"""Between the pipeline's records and the store's bytes: journal, blocks, and what peers ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from chain.codec import decode, encode
from chain.errors import InvariantError, StoreError
from chain.model.block import SNAPSHOT_LAG, Proposal, encode_header
from chain.model.genesis import Genesis, genesis_header
from chain.model.merkle import unpack_writes
from chain.model.signing import decode_transaction
from chain.model.snapshot import chunk_count
from chain.pipeline.bodies import LiveProposal
from chain.pipeline.store import CertifiedBlock
from chain.pool import Pool
from chain.store import KEPT, JournalProposal, JournalStore, Store, StoredBlock, open_store
from chain.store import JournalRecord as StoredRecord
from chain.store.environment import unsynced
from chain.sync.wire import FetchedBlock, ProposalBodies, SnapshotAnswer, TipAnswer
from chain.types import Digest, Height
from consensus.effects import (
    CertificateRecord,
    JournalRecord,
    NewViewRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)

_records: msgspec.msgpack.Decoder[JournalRecord] = msgspec.msgpack.Decoder(JournalRecord)


def open_node_store(path: Path, genesis: Genesis, *, synced: bool = True) -> Store:
    """Without `synced` no commit waits for the disk: for measurements, when the machine crashes the folder is lost.

    Raises:
        StoreError, ConfigError: in use, damaged, or of another chain.
    """
    (unsynced.discard if synced else unsynced.add)(path)
    return open_store(path, genesis_header(genesis), snapshot_interval=genesis.parameters.snapshot_interval)


def load_journal(store: Store) -> list[JournalRecord]:
    """The core's records above the last stored block, in the order they were written."""
    try:
        return [_records.decode(data) for data in store.journal.load()]
    except msgspec.DecodeError as error:
        raise StoreError(f"{store.journal.path}: a journal record cannot be read: {error}") from None


def _stored(record: JournalRecord) -> StoredRecord:
    """Records of a height go when it is stored; of the view records only the last counts."""
    match record:
        case VoteRecord(height=height):
            return StoredRecord(height, encode(record))
        case ProposalRecord(proposal=proposal):
            return StoredRecord(proposal.height, encode(record))
        case CertificateRecord(certificate=certificate):
            return StoredRecord(certificate.height, encode(record))
        case ViewChangeRecord():
            return StoredRecord(KEPT, encode(record), "view-change")
        case NewViewRecord():
            return StoredRecord(KEPT, encode(record), "new-view")


class JournalWriter:
    """The consensus stage's journal. `prune_below` rides on the next write: it is not worth a sync of its own."""

    def __init__(self, journal: JournalStore) -> None:
        self._journal = journal
        self.prune_below = 0

    def write(self, records: Sequence[JournalRecord], proposals: Sequence[LiveProposal]) -> None:
        prune_below, self.prune_below = self.prune_below, 0
        self._journal.write(
            [_stored(record) for record in records],
            [
                JournalProposal(
                    live.proposal.height,
                    live.digest,
                    encode(live.proposal),
                    [transaction.raw for transaction in live.transactions],
                )
                for live in proposals
            ],
            prune_below=prune_below,
        )


class BlockWriter:
    """The store stage's writer: blocks first, then the state, so that a crash in between leaves the state behind and
    the write sets are replayed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, blocks: Sequence[CertifiedBlock]) -> None:
        self._store.blocks.append([_stored_block(block) for block in blocks])
        self._store.state.apply(
            [
                (
                    block.executed.header.height,
                    block.executed.header.state_root,
                    unpack_writes(block.executed.output.writes),
                )
                for block in blocks
            ]
        )
        for block in blocks:
            self._store.journal.prune_proposals(block.executed.header.height, block.executed.proposal_digest)


def _stored_block(block: CertifiedBlock) -> StoredBlock:
    executed = block.executed
    return StoredBlock(
        header=encode_header(executed.header),
        certificate=encode(block.certificate),
        proposal_digest=executed.proposal_digest,
        skipped=executed.skipped,
        hashes=b"".join(executed.hashes),
        receipts=executed.output.receipts,
        writes=executed.output.writes,
    )


class NodeArchive:
    """Proposals, bodies and blocks by what they are asked for: for the pipeline after a restart, and for peers."""

    def __init__(self, store: Store, pool: Pool) -> None:
        self._store = store
        self._pool = pool

    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        found = self._store.journal.proposal(digest)
        if found is None:
            return None
        proposal, raws = found
        return LiveProposal(digest, decode(Proposal, proposal), [decode_transaction(raw) for raw in raws])

    def tip(self) -> TipAnswer:
        blocks = self._store.blocks
        return TipAnswer(height=blocks.height(), base=blocks.base, snapshots=self._store.snapshots.heights())

    def load_block(self, height: Height) -> FetchedBlock | None:
        parts = self._store.blocks.parts_for_peers(height)
        if parts is None:
            return None
        header, certificate, digest, skipped = parts
        bodies = self._store.journal.proposal_parts(digest)
        if bodies is None:
            raise InvariantError(f"block {height} is stored, its proposal {digest.hex()} is not")
        return FetchedBlock(bodies=bodies, header=header, certificate=certificate, skipped=skipped)

    # --- snapshots ---

    def load_snapshot(self, height: int) -> SnapshotAnswer | None:
        blocks, head = self._store.blocks, self._store.snapshots.head(height)
        commit = height + SNAPSHOT_LAG
        headers, certificate = blocks.headers(height, commit), blocks.certificate(commit)
        if head is None or certificate is None:
            return None
        return SnapshotAnswer(head=encode(head), headers=tuple(headers), certificate=certificate)

    def load_chunk_hashes(self, height: int, first: int, count: int) -> bytes | None:
        with self._store.snapshots.reading(height) as file:
            return None if file is None else file.hashes(first, count)

    def load_chunk(self, height: int, index: int, offset: int, bytes_max: int) -> tuple[bytes, int] | None:
        with self._store.snapshots.reading(height) as file:
            if file is None or not 0 <= index < chunk_count(file.head.count):
                return None
            data = file.chunk(index, offset=offset, bytes_max=bytes_max)
            return data, max(0, file.chunk_bytes(index) - offset - len(data))

    def load_bodies(self, digest: Digest) -> ProposalBodies | None:
        """Only what is durable here is served: a prepared proposal always is."""
        return self._stored_bodies(digest)

    def _stored_bodies(self, digest: Digest) -> ProposalBodies | None:
        found = self._store.journal.proposal(digest)
        return None if found is None else ProposalBodies(proposal=found[0], transactions=tuple(found[1]))

    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        transaction = self._pool.get(transaction_hash)
        return None if transaction is None else transaction.raw

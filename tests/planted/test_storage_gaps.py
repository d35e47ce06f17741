"""What the planted bugs found to be tested nowhere else in journal and storage."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from chain.codec import encode
from chain.errors import InvariantError, StoreError
from chain.model.block import Certificate, Proposal, WriteSet
from chain.model.merkle import pack_writes
from chain.node.archive import BlockWriter, JournalWriter, NodeArchive, load_journal
from chain.pool import Pool, PoolLimits
from chain.store import JournalRecord as StoredRecord
from chain.store import Store, StoredBlock, open_store
from chain.types import Height
from consensus.effects import (
    CertificateRecord,
    JournalRecord,
    NewViewRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import MessageType, NewView, ViewChange
from tests.unit.store.factory import ChainFactory

FACTORY = ChainFactory()


@contextmanager
def store_at(path: Path) -> Iterator[Store]:
    with closing(open_store(path, FACTORY.genesis_header)) as store:
        yield store


def vote(height: int, kind: MessageType = MessageType.PREPARE) -> VoteRecord:
    return VoteRecord(kind=kind, view=1, height=height, digest=bytes(32))


def certificate(height: int) -> CertificateRecord:
    return CertificateRecord(
        certificate=Certificate(kind=int(MessageType.COMMIT), view=1, height=height, digest=bytes(32), signatures=())
    )


NEW_VIEW = NewViewRecord(sender=bytes(20), message=NewView(view=1, view_changes=()), signature=bytes(64))
VIEW_CHANGE = ViewChangeRecord(message=ViewChange(view=2, stable=None, prepared=()), signature=bytes(64))


def test_the_last_view_records_outlive_every_height_and_each_other(tmp_path: Path) -> None:
    with store_at(tmp_path) as store:
        writer = JournalWriter(store.journal)
        writer.write([vote(1), NEW_VIEW, certificate(2), VIEW_CHANGE, vote(6)], [])
        writer.prune_below = 6
        writer.write([vote(7)], [])
    with store_at(tmp_path) as store:
        assert load_journal(store) == [NEW_VIEW, VIEW_CHANGE, vote(6), vote(7)]


def test_each_record_goes_with_its_own_height(tmp_path: Path) -> None:
    empty = Proposal(chain_id=FACTORY.genesis_header.chain_id, height=5, timestamp_ms=0, proposer=bytes(20), hashes=b"")
    records: list[JournalRecord] = [ProposalRecord(view=9, proposal=empty), certificate(5), vote(5)]
    with store_at(tmp_path) as store:
        writer = JournalWriter(store.journal)
        writer.write(records, [])
        writer.prune_below = 5
        writer.write([vote(8)], [])
        assert load_journal(store) == [*records, vote(8)]
        writer.prune_below = 6
        writer.write([], [])
        assert load_journal(store) == [vote(8)]


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x93\x01", b"\xc1\xc1", b"{}"])
def test_a_record_that_cannot_be_read_stops_the_node(tmp_path: Path, data: bytes) -> None:
    with store_at(tmp_path) as store:
        store.journal.write([StoredRecord(1, data)])
        with pytest.raises(StoreError, match="cannot be read"):
            load_journal(store)


def test_a_certificate_of_the_same_height_for_another_header_is_not_stored(tmp_path: Path) -> None:
    factory = ChainFactory()
    made = factory.block([])
    other = factory.certify(msgspec.structs.replace(made.header, gas_used=made.header.gas_used + 1))
    wrong = msgspec.structs.replace(made.block, certificate=encode(other))
    with store_at(tmp_path) as store:
        with pytest.raises(InvariantError, match="certificate of another header"):
            store.blocks.append([wrong])
        assert store.blocks.height() == 0
        store.blocks.append([made.block])
        assert store.blocks.height() == 1


class Recorder:
    """Stands in for a store; tells in which order its parts are written."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.blocks = self.state = self.journal = self

    def append(self, blocks: Sequence[StoredBlock]) -> None:
        self.log.append("blocks")

    def apply(self, items: Sequence[tuple[int, bytes, WriteSet]]) -> None:
        self.log.append("state")


def test_blocks_are_written_first_and_then_the_state() -> None:
    """A crash in between leaves the state behind, and what it lacks is in the blocks."""
    recorder = Recorder()
    BlockWriter(cast("Store", recorder)).write([])
    assert recorder.log == ["blocks", "state"]


def test_a_write_set_that_does_not_lead_to_its_blocks_state_root_is_not_replayed(tmp_path: Path) -> None:
    factory = ChainFactory()
    made = [factory.block([(b"k%d" % at, b"v")]).block for at in range(3)]
    made[1] = msgspec.structs.replace(made[1], writes=pack_writes([(b"k1", b"another")]))
    with store_at(tmp_path) as store:
        store.blocks.append(made)  # and the process dies before the state is written
    with pytest.raises(StoreError, match="write set of block 2 does not lead"):
        open_store(tmp_path, factory.genesis_header)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Writes beyond it fail, in all of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_after_a_commit_that_failed_nothing_is_written_until_a_restart(tmp_path: Path) -> None:
    with store_at(tmp_path) as store:
        store.journal.write([StoredRecord(1, b"one")])
        with (
            no_file_longer_than((tmp_path / "journal" / "data.mdb").stat().st_size),
            pytest.raises(StoreError, match="cannot be committed"),
        ):
            store.journal.write([StoredRecord(1, bytes(4_000_000))])
        with pytest.raises(StoreError, match="an earlier write failed"):
            store.journal.write([StoredRecord(1, b"two")])
    with store_at(tmp_path) as store:
        assert store.journal.load() == [b"one"]
        store.journal.write([StoredRecord(1, b"two")])
        assert store.journal.load() == [b"one", b"two"]


def test_a_block_whose_bodies_are_gone_is_our_bug_and_not_served(tmp_path: Path) -> None:
    with store_at(tmp_path) as store:
        store.blocks.append([ChainFactory().block([]).block])
        archive = NodeArchive(store, Pool(PoolLimits()))
        assert archive.load_block(Height(2)) is None
        with pytest.raises(InvariantError, match="block 1 is stored, its proposal"):
            archive.load_block(Height(1))

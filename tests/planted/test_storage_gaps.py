"""What the planted bugs found to be tested nowhere else in journal and storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chain.errors import StoreError
from chain.model.block import Certificate, Proposal
from chain.node.archive import JournalWriter, load_journal
from chain.store import JournalRecord as StoredRecord
from chain.store import Store, open_store
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

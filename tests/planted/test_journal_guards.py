"""What the mutations of the journal found to be tested nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.errors import InvariantError, StoreError
from chain.store import KEPT, JournalRecord, JournalStore
from chain.store.environment import Environment, open_environment
from chain.store.journal import SLOT_BYTES_MAX
from chain.store.layout import pack_parts
from chain.types import DIGEST_BYTES

CHAIN = bytes(32)
MAP = 16 * 1024 * 1024


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalStore]:
    store = JournalStore(tmp_path / "journal", chain_id=CHAIN, map_bytes=MAP)
    yield store
    store.close()


def digest(number: int) -> bytes:
    return number.to_bytes(DIGEST_BYTES, "big")


def test_a_journal_that_was_never_finished_is_not_read_but_one_that_was_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    JournalStore(path, chain_id=CHAIN, map_bytes=MAP).close()
    reader = JournalStore(path, chain_id=CHAIN, map_bytes=MAP, readonly=True)
    assert (reader.is_new, reader.load()) == (False, [])
    with pytest.raises((InvariantError, StoreError)):
        reader.write([(1, b"x")])
    reader.close()


def test_what_a_crash_left_of_a_new_journal_is_not_read_by_another_process(tmp_path: Path) -> None:
    """It died before the stamp was written; the node itself goes on from there."""
    path = tmp_path / "journal"
    databases = (b"records", b"slots", b"proposals", b"digests")
    open_environment(path, kind="journal", databases=databases, map_bytes=MAP).close()
    with pytest.raises(StoreError, match="never finished"):
        JournalStore(path, chain_id=CHAIN, map_bytes=MAP, readonly=True)
    journal = JournalStore(path, chain_id=CHAIN, map_bytes=MAP)
    assert journal.is_new
    journal.close()


def test_heights_digests_and_slots_reach_their_bounds_and_no_further(journal: JournalStore) -> None:
    journal.write(
        [(0, b"lowest"), (KEPT, b"highest"), JournalRecord(1, b"named", "s" * SLOT_BYTES_MAX)],
        [(0, digest(1), b"lowest", []), (KEPT - 1, digest(2), b"highest", [])],
    )
    assert journal.load() == [b"lowest", b"highest", b"named"]
    assert (journal.proposal_bytes(digest(1)), journal.proposal_bytes(digest(2))) == (b"lowest", b"highest")
    for proposal in ((-1, digest(3)), (KEPT, digest(3)), (1, digest(3)[1:]), (1, digest(3) + b"x")):
        with pytest.raises(InvariantError, match="a proposal of height"):
            journal.write([], [(*proposal, b"", [])])
    for record in (JournalRecord(-1, b""), JournalRecord(KEPT + 1, b"")):
        with pytest.raises(InvariantError, match="a record of height"):
            journal.write([record])
    with pytest.raises(InvariantError, match="more than 64 bytes"):
        journal.write([JournalRecord(1, b"", "s" * (SLOT_BYTES_MAX + 1))])


def test_proposals_are_found_at_every_height_that_one_can_have(journal: JournalStore) -> None:
    journal.write([], [(height, digest(at), b"p", []) for at, height in enumerate((0, 1, KEPT - 1))])
    found = [journal.proposals_at(height) for height in (0, 1, 2, KEPT - 1)]
    assert found == [[digest(0)], [digest(1)], [], [digest(2)]]
    for height in (-1, KEPT, KEPT + 1, 2**64):
        assert journal.proposals_at(height) == []


def test_parts_bodies_and_proposals_that_are_not_here(journal: JournalStore) -> None:
    journal.write([], [(1, digest(1), b"proposal", [b"one", b"two"])])
    assert journal.proposal_parts(digest(1)) == pack_parts((b"proposal", b"one", b"two"))
    assert [journal.body(digest(1), at) for at in (-1, 0, 1, 2)] == [None, b"one", b"two", None]
    for missing in (digest(2), b"", digest(1)[1:], digest(1) + b"x", b"x" * 600):
        assert journal.proposal_parts(missing) is None
        assert journal.body(missing, 0) is None


@pytest.mark.parametrize("how", ["prune", "remove"])
def test_the_slot_of_a_dropped_record_is_forgotten_with_it(journal: JournalStore, how: str) -> None:
    """Its sequence number is given out again: a slot that still had it would take another record's place."""
    journal.write([JournalRecord(KEPT, b"stays", "other"), (9, b"unnamed"), JournalRecord(1, b"goes", "slot")])
    if how == "prune":
        journal.prune(2)
    else:
        assert journal.remove(lambda data: data == b"goes") == 1
    assert journal.load() == [b"stays", b"unnamed"]
    journal.write([(9, b"takes its number")])
    journal.write([JournalRecord(9, b"again", "slot")])
    assert journal.load() == [b"stays", b"unnamed", b"takes its number", b"again"]
    journal.write([JournalRecord(KEPT, b"instead", "other")])
    assert journal.load() == [b"unnamed", b"takes its number", b"again", b"instead"]


def test_what_is_removed_is_what_was_pointed_out(journal: JournalStore) -> None:
    journal.write([(1, b"a"), (2, b"b"), JournalRecord(3, b"c", "slot")])
    assert journal.remove(lambda data: data == b"x") == 0
    assert journal.remove(lambda data: data in (b"a", b"c")) == 2
    assert journal.load() == [b"b"]


def test_where_no_proposal_lost_nobody_waits_for_the_writer(
    journal: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write([], [(1, digest(1), b"p", []), (2, digest(2), b"p", []), (2, digest(3), b"p", [])])

    def refuse(environment: Environment) -> None:
        raise AssertionError("a write")

    with monkeypatch.context() as patch:
        patch.setattr(Environment, "write", refuse)
        assert [journal.prune_proposals(1, digest(1)), journal.prune_proposals(7, digest(1))] == [0, 0]
    assert journal.prune_proposals(2, digest(2)) == 1
    assert (journal.proposals_at(2), journal.has_proposal(digest(3))) == ([digest(2)], False)
    assert journal.prune_proposals(2, digest(9)) == 1, "also if the one that won is not here"
    assert journal.proposals_at(2) == []

"""The journal: durable in one write, loaded in order, pruned by height, bodies kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.errors import ConfigError, InvariantError
from chain.store import KEPT, JournalProposal, JournalRecord, JournalStore

CHAIN = bytes(32)
MAP = 16 * 1024 * 1024


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalStore]:
    store = JournalStore(tmp_path / "journal", chain_id=CHAIN, map_bytes=MAP)
    yield store
    store.close()


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_new_journal_is_empty_and_says_it_is_new(tmp_path: Path) -> None:
    for is_new in (True, False):
        journal = JournalStore(tmp_path / "journal", chain_id=CHAIN, map_bytes=MAP)
        assert journal.is_new is is_new
        assert journal.load() == []
        journal.close()
    with pytest.raises(ConfigError, match="belongs to chain"):
        JournalStore(tmp_path / "journal", chain_id=bytes([1]) * 32, map_bytes=MAP)


def test_records_load_in_the_order_they_were_written(journal: JournalStore) -> None:
    journal.write([(5, b"a"), (3, b"b")])
    journal.write([JournalRecord(4, b"c"), (3, b"b"), (KEPT, b"")])
    journal.write()
    assert journal.load() == [b"a", b"b", b"c", b"b", b""]


def test_pruning_drops_lower_heights_only(journal: JournalStore) -> None:
    journal.write([(height, f"{height}".encode()) for height in (1, 3, 2, 4)] + [(KEPT, b"kept")])
    journal.prune(0)
    assert len(journal.load()) == 5
    journal.prune(3)
    assert journal.load() == [b"3", b"4", b"kept"]
    journal.write([(4, b"again")], prune_below=4)
    assert journal.load() == [b"4", b"kept", b"again"]
    journal.write([(9, b"9")], prune_below=-5)
    journal.prune(10)
    assert journal.load() == [b"kept"]
    journal.write([(11, b"11")])
    assert journal.load() == [b"kept", b"11"]


def test_a_slot_holds_its_latest_record_only(journal: JournalStore) -> None:
    journal.write([JournalRecord(KEPT, b"view 1", "view"), (1, b"vote")])
    journal.write([JournalRecord(KEPT, b"view 2", "view"), JournalRecord(KEPT, b"other", "other")])
    assert journal.load() == [b"vote", b"view 2", b"other"]
    journal.write([JournalRecord(KEPT, b"view 3", "view"), JournalRecord(KEPT, b"view 4", "view")])
    assert journal.load() == [b"vote", b"other", b"view 4"]
    journal.prune(2)
    assert journal.load() == [b"other", b"view 4"]


def test_a_pruned_slot_may_be_written_again(journal: JournalStore) -> None:
    journal.write([JournalRecord(1, b"one", "slot")])
    journal.prune(5)
    journal.write([(9, b"nine")])
    journal.write([JournalRecord(7, b"seven", "slot")])
    journal.write([JournalRecord(8, b"eight", "slot")])
    assert journal.load() == [b"nine", b"eight"]


def test_proposals_and_their_bodies(journal: JournalStore) -> None:
    bodies = [bytes([number]) * (100 * number) for number in range(5)]
    journal.write([(1, b"vote")], [JournalProposal(1, digest(1), b"proposal", bodies), (2, digest(2), b"empty", [])])
    assert journal.proposal(digest(1)) == (b"proposal", bodies)
    assert journal.proposal(digest(2)) == (b"empty", [])
    assert journal.proposal_bytes(digest(1)) == b"proposal"
    assert [journal.body(digest(1), at) for at in range(5)] == bodies
    assert journal.has_proposal(digest(1))
    for missing in (digest(3), b"", b"x" * 600):
        assert journal.proposal(missing) is None
        assert journal.proposal_bytes(missing) is None
        assert journal.body(missing, 0) is None
        assert not journal.has_proposal(missing)
    for position in (-1, 5):
        assert journal.body(digest(1), position) is None


def test_a_proposal_is_written_once(journal: JournalStore) -> None:
    journal.write([], [(1, digest(1), b"first", [b"body"])])
    used = journal.environment.used_bytes()
    journal.write([], [(1, digest(1), b"second", [b"x" * 1_000_000])])
    assert journal.proposal(digest(1)) == (b"first", [b"body"])
    assert journal.environment.used_bytes() - used < 100_000


def test_proposals_that_lost_are_pruned(journal: JournalStore) -> None:
    journal.write([], [(height, digest(10 * height + at), b"p", [b"b"]) for height in (1, 2) for at in range(3)])
    assert journal.proposals_at(1) == [digest(10), digest(11), digest(12)]
    assert journal.prune_proposals(1, digest(11)) == 2
    assert journal.prune_proposals(1, digest(11)) == 0
    assert journal.proposals_at(1) == [digest(11)]
    assert journal.proposal(digest(10)) is None
    assert journal.body(digest(11), 0) == b"b"
    assert journal.proposals_at(2) == [digest(20), digest(21), digest(22)]
    assert journal.proposals_at(-1) == journal.proposals_at(3) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": [(-1, b"x")]},
        {"records": [(KEPT + 1, b"x")]},
        {"records": [JournalRecord(1, b"x", "s" * 65)]},
        {"proposals": [(1, b"short", b"", [])]},
        {"proposals": [(KEPT, bytes(32), b"", [])]},
    ],
)
def test_what_cannot_be_is_refused_whole(journal: JournalStore, wrong: dict[str, list[object]]) -> None:
    records: list[object] = [(1, b"good"), *wrong.get("records", [])]
    proposals: list[object] = [(1, digest(1), b"good", []), *wrong.get("proposals", [])]
    with pytest.raises(InvariantError):
        journal.write(records, proposals)  # type: ignore[arg-type]
    assert journal.load() == []
    assert not journal.has_proposal(digest(1))


def test_threads_may_write_at_once(journal: JournalStore) -> None:
    def write(thread: int) -> None:
        for number in range(20):
            journal.write([(1, f"{thread}.{number}".encode())])

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded = journal.load()
    assert len(loaded) == 80
    for number in range(4):
        own = [item for item in loaded if item.startswith(f"{number}.".encode())]
        assert own == [f"{number}.{at}".encode() for at in range(20)]


def test_every_write_waits_for_the_disk(journal: JournalStore) -> None:
    assert journal.environment.is_synced()

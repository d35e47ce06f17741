"""Which transactions are executed: the filter may doubt, it never forgets, and the store has the last word."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.node import executed
from chain.node.executed import ExecutedFilter, ExecutedTransactions
from chain.types import Digest, Height


def digest(number: int) -> Digest:
    return Digest(hashlib.sha256(b"%d" % number).digest())


def digests(*numbers: int) -> list[Digest]:
    return [digest(number) for number in numbers]


class Stored:
    """The store's index, and which transactions it was asked for."""

    def __init__(self, hashes: Sequence[bytes] = ()) -> None:
        self.hashes = dict.fromkeys(hashes)
        self.asked: list[bytes] = []

    def transaction_locations(self, hashes: Sequence[bytes]) -> list[tuple[int, int] | None]:
        self.asked += hashes
        return [(1, 0) if transaction_hash in self.hashes else None for transaction_hash in hashes]

    def transaction_count(self) -> int:
        return len(self.hashes)

    def transaction_hashes(self) -> Iterator[bytes]:
        held = list(self.hashes)
        for at in range(0, len(held), 7):
            yield b"".join(held[at : at + 7])


def test_executed_is_what_is_stored_and_what_waits_to_be() -> None:
    one, two, three = digests(1, 2, 3)
    stored = Stored([one])
    index = ExecutedTransactions(stored, Height(4))
    index.add(Height(5), [two])
    assert index.executed([one, two, three]) == [True, True, False]
    assert index.latest == 5
    assert index.executed([]) == []
    stored.hashes[two] = None
    index.stored(Height(5))
    assert index.executed([two]) == [True]


def test_what_is_new_does_not_ask_the_store() -> None:
    stored = Stored(digests(*range(100)))
    index = ExecutedTransactions(stored, Height(1))
    assert index.is_filled
    fresh = digests(*range(100, 2_100))
    assert not any(index.executed(fresh))
    for one in fresh:
        assert index.executed([one]) == [False]
    assert len(stored.asked) < 20


def test_a_long_chain_is_read_later_and_until_then_the_store_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executed, "FILL_AT_ONCE_MAX", 10)
    stored = Stored(digests(*range(50)))
    index = ExecutedTransactions(stored, Height(1))
    assert not index.is_filled
    index.add(Height(2), digests(60))
    assert index.executed(digests(7, 60, 61)) == [True, True, False]
    assert stored.asked == digests(7, 60, 61)
    loaded = index.load_filter()
    index.add(Height(3), digests(62))  # while a thread was reading
    stored.hashes |= dict.fromkeys(digests(60, 62))
    index.stored(Height(3))
    index.fill(loaded)
    assert index.is_filled
    assert index.executed(digests(*range(50), 60, 61, 62)) == [True] * 51 + [False, True]


def test_it_is_read_in_a_thread_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executed, "FILL_AT_ONCE_MAX", 10)
    index = ExecutedTransactions(Stored(digests(*range(50))), Height(1))
    with ThreadPoolExecutor(1) as thread:
        asyncio.run(index.fill_from_store(thread))
        held = index.filter.bytes_held
        asyncio.run(index.fill_from_store(thread))
    assert index.is_filled
    assert index.filter.bytes_held == held
    assert index.executed(digests(49, 50)) == [True, False]


def test_the_filter_never_forgets_however_much_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executed, "FILTER_KEYS_MIN", 8)
    monkeypatch.setattr(executed, "FILTER_KEYS_MAX", 2_000)
    held = ExecutedFilter()
    for at in range(0, 600, 3):
        held.add(b"".join(digests(at, at + 1, at + 2)))
        known = digests(*range(at + 3))
        assert held.maybe(known) == list(range(len(known)))
        assert all(held.maybe([one]) == [0] for one in known[-20:])
    assert held.bytes_held <= 2_000 * executed.FILTER_BITS_PER_KEY // 8
    assert len(held.maybe(digests(*range(1_000, 3_000)))) < 100


def test_beyond_its_bound_everything_may_be_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executed, "FILTER_KEYS_MIN", 8)
    monkeypatch.setattr(executed, "FILTER_KEYS_MAX", 16)
    held = ExecutedFilter()
    for at in range(9):
        held.add(digest(at))
    assert held.is_full
    assert held.bytes_held == 0
    assert held.maybe(digests(1, 100, 200)) == [0, 1, 2]
    other = ExecutedFilter()
    other.take(held)
    assert other.maybe(digests(300)) == [0]


def test_later_blocks_only_are_asked_about_what_was_asked_before() -> None:
    stored = Stored()
    index = ExecutedTransactions(stored, Height(1))
    index.add(Height(2), digests(2))
    index.add(Height(3), digests(3))
    assert index.executed_since(Height(2), digests(3, 4)) == [True, False]
    assert index.executed_since(Height(1), digests(4, 5)) == [False, False]
    stored.hashes = dict.fromkeys(digests(2, 3))
    index.stored(Height(3))
    assert index.executed_since(Height(1), digests(2, 3, 4)) == [True, True, False]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(min_size=32, max_size=32), max_size=60), st.lists(st.binary(min_size=32, max_size=32)))
def test_one_question_is_answered_as_many_are(held: list[bytes], others: list[bytes]) -> None:
    index = ExecutedFilter()
    index.add(b"".join(held))
    asked = held + others
    together = index.maybe(asked + [bytes(32)] * 32)
    assert [at for at in together if at < len(asked)] == [
        at for at, one in enumerate(asked) if index.maybe([one])
    ]
    assert set(range(len(held))) <= set(together)

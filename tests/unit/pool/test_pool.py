"""The pool: order of arrival, reservation, release, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import BadInput, InvariantError
from chain.model.transaction import Transaction
from chain.pool import Pool, PoolLimits
from chain.pool.pool import LISTED_SPARE
from chain.types import Digest, Height, Instant
from tests.unit.pool.transactions import make_transaction

HEIGHT = Height(1)
NOW = Instant(1_000)
FIRST = Digest(b"\x01" * 32)
SECOND = Digest(b"\x02" * 32)


def fill(pool: Pool, count: int, *, expiry: int = 100, gas_limit: int = 1_000) -> list[Transaction]:
    transactions = [make_transaction(at, expiry=expiry, gas_limit=gas_limit) for at in range(count)]
    for transaction in transactions:
        assert pool.add(transaction, NOW)
    return transactions


def select(
    pool: Pool, count: int = 100, *, height: int = 1, bytes_max: int = 10**9, gas: int = 10**12
) -> list[Transaction]:
    return pool.select(height=Height(height), count_max=count, bytes_max=bytes_max, gas_max=gas)


def test_transactions_are_packed_in_order_of_arrival() -> None:
    pool = Pool(PoolLimits())
    transactions = fill(pool, 10)
    assert select(pool, 4) == transactions[:4]
    assert select(pool, 4) == transactions[:4], "selecting does not reserve"


def test_adding_twice_changes_nothing() -> None:
    pool = Pool(PoolLimits())
    [transaction] = fill(pool, 1)
    held = pool.bytes_held
    assert not pool.add(transaction, NOW)
    assert (len(pool), pool.bytes_held) == (1, held)


def test_a_reserved_transaction_is_not_packed_again_and_comes_back_first_when_released() -> None:
    pool = Pool(PoolLimits())
    transactions = fill(pool, 6)
    pool.reserve(FIRST, transactions[:2], NOW)
    pool.reserve(SECOND, transactions[2:4], NOW)
    assert select(pool) == transactions[4:]
    assert pool.release(SECOND) == 2
    assert select(pool) == [*transactions[2:4], *transactions[4:]]
    assert pool.reserved_by(transactions[0].hash) == FIRST


def test_one_transaction_in_two_live_proposals_is_our_bug() -> None:
    pool = Pool(PoolLimits())
    transactions = fill(pool, 1)
    pool.reserve(FIRST, transactions, NOW)
    with pytest.raises(InvariantError):
        pool.reserve(SECOND, transactions, NOW)


def test_a_full_pool_refuses_and_keeps_what_it_acknowledged() -> None:
    pool = Pool(PoolLimits(transactions_max=3))
    kept = fill(pool, 3)
    with pytest.raises(BadInput) as refusal:
        pool.add(make_transaction(99), NOW)
    assert refusal.value.code == "pool_full"
    assert select(pool) == kept


def test_bytes_are_bounded_too() -> None:
    size = len(make_transaction(0).raw)
    pool = Pool(PoolLimits(bytes_max=2 * size + size // 2))
    fill(pool, 2)
    with pytest.raises(BadInput, match="bytes"):
        pool.add(make_transaction(99), NOW)


def test_reserving_takes_in_bodies_a_full_pool_would_refuse() -> None:
    pool = Pool(PoolLimits(transactions_max=1))
    fill(pool, 1)
    stranger = make_transaction(99)
    pool.reserve(FIRST, [stranger], NOW)
    assert stranger.hash in pool


def test_a_block_is_limited_by_bytes_and_declared_gas() -> None:
    pool = Pool(PoolLimits())
    transactions = fill(pool, 5, gas_limit=10)
    size = len(transactions[0].raw)
    assert len(select(pool, bytes_max=3 * size)) == 3
    assert len(select(pool, gas=25)) == 2


def test_expired_transactions_are_not_packed_and_leave() -> None:
    pool = Pool(PoolLimits())
    old = fill(pool, 2, expiry=5)
    young = make_transaction(50, expiry=50)
    pool.add(young, NOW)
    assert select(pool, height=5) == [*old, young], "expiry is the last height at which it may execute"
    assert select(pool, height=6) == [young]
    assert pool.expire(Height(5)) == sorted(transaction.hash for transaction in old)
    assert len(pool) == 1


def test_overdue_are_those_that_wait_longest() -> None:
    pool = Pool(PoolLimits())
    early, late = make_transaction(1), make_transaction(2)
    pool.add(early, Instant(10))
    pool.add(late, Instant(20))
    assert pool.overdue(before=Instant(20), count_max=10) == [early]


def test_what_is_gone_does_not_pile_up_by_expiry() -> None:
    pool = Pool(PoolLimits())
    kept = make_transaction(0, expiry=900)
    pool.add(kept, NOW)
    for at in range(1, 3 * LISTED_SPARE):
        transaction = make_transaction(1, expiry=100 + at % 5)
        pool.add(transaction, NOW)
        pool.remove([transaction.hash])
        assert sum(map(len, pool._by_expiry.values())) <= 2 * len(pool) + LISTED_SPARE + 1
    assert pool.expire(Height(899)) == []
    assert pool.expire(Height(900)) == [kept.hash]
    assert pool.arrivals == 3 * LISTED_SPARE


def test_what_comes_back_after_it_was_removed_expires_once() -> None:
    pool = Pool(PoolLimits())
    [transaction] = fill(pool, 1)
    pool.remove([transaction.hash])
    pool.add(transaction, NOW)
    assert pool.expire(Height(100)) == [transaction.hash]
    assert (len(pool), pool.bytes_held, pool.expire(Height(200))) == (0, 0, [])


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "reserve", "release", "remove", "expire"]), st.integers(0, 7)), max_size=60
    )
)
def test_counts_and_bytes_stay_right_whatever_happens(steps: list[tuple[str, int]]) -> None:
    pool = Pool(PoolLimits())
    all_of_them = [make_transaction(at, expiry=at + 1) for at in range(8)]
    held: dict[Digest, Transaction] = {}
    for action, at in steps:
        transaction = all_of_them[at]
        digest = Digest(bytes((at,)) * 32)
        if action == "add" and transaction.hash not in held:
            pool.add(transaction, NOW)
            held[transaction.hash] = transaction
        elif action == "reserve" and pool.reserved_by(transaction.hash) in (None, digest):
            pool.reserve(digest, [transaction], NOW)
            held[transaction.hash] = transaction
        elif action == "release":
            pool.release(digest)
        elif action == "remove":
            pool.remove([transaction.hash])
            held.pop(transaction.hash, None)
        elif action == "expire":
            for gone in pool.expire(Height(at)):
                del held[gone]
        assert len(pool) == len(held)
        assert pool.bytes_held == sum(len(transaction.raw) for transaction in held.values())
        assert pool.waiting_count == sum(pool.reserved_by(known) is None for known in held)


def test_a_reserved_transaction_expires_too() -> None:
    """It can execute nowhere any more, whatever becomes of the proposal that holds it."""
    pool = Pool(PoolLimits())
    [old] = fill(pool, 1, expiry=5)
    pool.reserve(FIRST, [old], NOW)
    assert pool.expire(Height(5)) == [old.hash]
    assert pool.reserved_by(old.hash) is None

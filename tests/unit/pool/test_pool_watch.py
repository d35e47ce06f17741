"""What the core is told of the pool: once when something waits, again when it waits too long, and when that is over."""

from __future__ import annotations

from collections.abc import Sequence

from chain.model.transaction import Transaction
from chain.node.pool_watch import PoolWatch
from chain.pool import Pool, PoolLimits
from chain.types import Digest, Instant
from consensus.events import Event, PoolDrained, TransactionsWaiting
from tests.unit.pool.transactions import make_transaction

WAITING = TransactionsWaiting(overdue=False)


def overdue(transaction: Transaction) -> TransactionsWaiting:
    """The oldest of those that wait for too long is named: a leader may leave out just that one."""
    return TransactionsWaiting(overdue=True, oldest=transaction.hash)


class World:
    def __init__(self) -> None:
        self.pool = Pool(PoolLimits())
        self.now = 10_000
        self.leader_there = True
        self.told: list[Event] = []
        self.sent: list[Sequence[Transaction]] = []
        self.watch = PoolWatch(
            pool=self.pool,
            pooled_ms_max=3_000,
            now=lambda: Instant(self.now),
            leader_in_reach=lambda: self.leader_there,
            post=self.told.append,
            send_to_all=self.sent.append,
            wake=lambda: None,
        )

    def add(self, number: int) -> Transaction:
        transaction = make_transaction(number)
        self.pool.add(transaction, Instant(self.now))
        self.watch.changed()
        return transaction


def test_the_core_hears_of_the_first_and_of_the_last_only() -> None:
    world = World()
    first, second = world.add(1), world.add(2)
    assert world.told == [WAITING]
    world.pool.remove([first.hash])
    world.watch.changed()
    world.pool.reserve(Digest(bytes(32)), [second], Instant(0))
    world.watch.changed()
    assert world.told == [WAITING, PoolDrained()]
    world.pool.release(Digest(bytes(32)))
    world.watch.changed()
    assert world.told[-1] == WAITING


def test_one_that_waits_too_long_is_sent_to_all_and_the_leader_suspected() -> None:
    world = World()
    transaction = world.add(1)
    world.now += 3_000
    world.watch.look()
    assert (world.told, world.sent) == ([WAITING], [])
    world.now += 1
    world.watch.look()
    world.watch.look()
    assert world.told == [WAITING, overdue(transaction), overdue(transaction)]
    assert world.sent == [[transaction]], "not more often than once in the time it may wait"


def test_the_suspicion_is_taken_back_when_the_old_ones_are_gone() -> None:
    world = World()
    old = world.add(1)
    world.now += 4_000
    world.watch.look()
    world.add(2)
    world.pool.remove([old.hash])
    world.watch.look()
    assert world.told == [WAITING, overdue(old), WAITING]


def test_a_leader_that_is_gone_is_suspected_at_the_second_look() -> None:
    world = World()
    transaction = world.add(1)
    world.leader_there = False
    world.now += 250
    world.watch.look()
    assert world.told == [WAITING]
    world.now += 250
    world.watch.look()
    assert world.told == [WAITING, overdue(transaction)]
    world.leader_there = True
    world.watch.look()
    assert world.told == [WAITING, overdue(transaction), WAITING]

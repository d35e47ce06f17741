"""Transactions on their way to the store, and who is woken when one moves."""

from __future__ import annotations

import asyncio

from chain.node.tracker import OrderedTransactions, Waiters
from chain.types import Digest, Height

ONE, TWO, THREE = (Digest(bytes((at,)) * 32) for at in (1, 2, 3))


def test_ordered_transactions_are_known_until_their_block_is_stored() -> None:
    ordered = OrderedTransactions()
    ordered.put(Height(4), [TWO, ONE])
    ordered.put(Height(5), [THREE])
    assert [ordered.height_of(each) for each in (ONE, TWO, THREE, Digest(bytes(32)))] == [4, 4, 5, None]
    assert list(ordered.at(4)) == [TWO, ONE]
    assert len(ordered) == 3
    assert list(ordered.take(4)) == [TWO, ONE]
    assert ordered.height_of(ONE) is None
    assert list(ordered.at(4)) == list(ordered.take(4)) == []
    assert len(ordered) == 1


def test_a_waiter_is_woken_once_and_nothing_is_left_behind() -> None:
    async def scenario() -> None:
        waiters = Waiters()
        waiting = [asyncio.create_task(waiters.transaction_moved(ONE, 5)) for _ in range(2)]
        await asyncio.sleep(0)
        waiters.wake_transactions([TWO, ONE])
        assert await asyncio.gather(*waiting) == [True, True]
        assert len(waiters) == 0

    asyncio.run(scenario())


def test_a_waiter_whose_time_is_over_or_who_goes_away_leaves_nothing() -> None:
    async def scenario() -> None:
        waiters = Waiters()
        assert not await waiters.transaction_moved(ONE, 0.001)
        assert not await waiters.height_reached(9, 0.001)
        gone = asyncio.create_task(waiters.transaction_moved(ONE, 5))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert len(waiters) == 0

    asyncio.run(scenario())


def test_a_height_wakes_all_that_wait_for_it_or_less() -> None:
    async def scenario() -> None:
        waiters = Waiters()
        low, high = (asyncio.create_task(waiters.height_reached(height, 5)) for height in (5, 6))
        await asyncio.sleep(0)
        waiters.wake_heights(Height(5))
        assert await low
        assert not high.done()
        waiters.wake_heights(Height(7))
        assert await high

    asyncio.run(scenario())

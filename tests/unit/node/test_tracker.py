"""Where transactions are: executed or not, and who is woken when one moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chain.node.tracker import ExecutedTransactions, Waiters
from chain.types import Digest, Height

ONE, TWO, THREE = (Digest(bytes((at,)) * 32) for at in (1, 2, 3))


class Stored:
    def __init__(self) -> None:
        self.hashes: set[bytes] = set()

    def transaction_locations(self, hashes: Sequence[bytes]) -> list[tuple[int, int] | None]:
        return [(1, 0) if transaction_hash in self.hashes else None for transaction_hash in hashes]


def test_executed_is_what_is_stored_and_what_waits_to_be() -> None:
    stored = Stored()
    index = ExecutedTransactions(stored, Height(4))
    stored.hashes.add(ONE)
    index.add(Height(5), [TWO])
    assert index.executed([ONE, TWO, THREE]) == [True, True, False]
    assert index.latest == 5
    stored.hashes.add(TWO)
    index.stored([TWO])
    assert index.executed([TWO]) == [True]


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

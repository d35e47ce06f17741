"""Transactions between order and store, and who waits for one, or for the chain, to get further."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chain.types import Digest, Height


class OrderedTransactions:
    """Transactions whose position is fixed and whose block is not stored: by height, as there are few heights and few
    questions."""

    def __init__(self) -> None:
        self._hashes: dict[Height, list[Digest]] = {}
        self._sets: dict[Height, frozenset[Digest]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._hashes.values()))

    def put(self, height: Height, hashes: list[Digest]) -> None:
        self._hashes[height] = hashes
        self._sets[height] = frozenset(hashes)

    def height_of(self, transaction_hash: bytes) -> Height | None:
        """Where it is ordered and not stored."""
        for height, hashes in self._sets.items():
            if transaction_hash in hashes:
                return height
        return None

    def at(self, height: int) -> Sequence[Digest]:
        """In the proposal's order; nothing where nothing is ordered, or where the block is stored."""
        return self._hashes.get(Height(height), ())

    def take(self, height: int) -> Sequence[Digest]:
        """`at`; the block is stored."""
        self._sets.pop(Height(height), None)
        return self._hashes.pop(Height(height), ())


class Waiters:
    """Futures of those who wait for a transaction to change its state, or for a height."""

    def __init__(self) -> None:
        self._transactions: dict[bytes, list[asyncio.Future[bool]]] = {}
        self._heights: list[tuple[int, asyncio.Future[bool]]] = []

    def __len__(self) -> int:
        return len(self._transactions) + len(self._heights)

    async def transaction_moved(self, transaction_hash: bytes, timeout_s: float) -> bool:
        """True when the transaction's state changed; False when the time is over."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        waiting = self._transactions.setdefault(transaction_hash, [])
        waiting.append(future)
        alarm = loop.call_at(loop.time() + timeout_s, _tell, future, False)
        try:
            return await future
        finally:
            alarm.cancel()
            if self._transactions.get(transaction_hash) is waiting:  # nobody woke it
                waiting.remove(future)
                if not waiting:
                    del self._transactions[transaction_hash]

    def wake_transactions(self, hashes: Sequence[bytes]) -> None:
        if not self._transactions:
            return
        for transaction_hash in hashes:
            for future in self._transactions.pop(transaction_hash, ()):
                _tell(future, True)

    async def height_reached(self, height: int, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        entry = (height, future)
        self._heights.append(entry)
        alarm = loop.call_at(loop.time() + timeout_s, _tell, future, False)
        try:
            return await future
        finally:
            alarm.cancel()
            if entry in self._heights:
                self._heights.remove(entry)

    def wake_heights(self, stored: Height) -> None:
        reached = [entry for entry in self._heights if entry[0] <= stored]
        self._heights = [entry for entry in self._heights if entry[0] > stored]
        for _, future in reached:
            _tell(future, True)


def _tell(future: asyncio.Future[bool], answer: bool) -> None:
    if not future.done():
        future.set_result(answer)

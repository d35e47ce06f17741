"""Where each transaction is, and who waits for it to get further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from chain.types import Digest, Height


class StoredIndex(Protocol):
    def transaction_locations(self, hashes: Sequence[bytes]) -> Sequence[object | None]: ...


class ExecutedTransactions:
    """Which transactions are in executed blocks: those of unstored heights here, the rest in the store's index.

    This is what makes execution's word on duplicates the same everywhere: it depends on the chain alone.
    """

    def __init__(self, stored: StoredIndex, latest: Height) -> None:
        self._stored = stored
        self._recent: dict[Digest, Height] = {}
        self.latest = latest  # executed height

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        if not hashes:
            return []
        recent = self._recent
        return [
            location is not None or transaction_hash in recent
            for transaction_hash, location in zip(hashes, self._stored.transaction_locations(hashes), strict=True)
        ]

    def add(self, height: Height, hashes: Sequence[Digest]) -> None:
        self._recent.update(dict.fromkeys(hashes, height))
        self.latest = height

    def stored(self, hashes: Iterable[Digest]) -> None:
        for transaction_hash in hashes:
            self._recent.pop(transaction_hash, None)


class Waiters:
    """Futures of those who wait for a transaction to change its state, or for a height."""

    def __init__(self) -> None:
        self._transactions: dict[bytes, list[asyncio.Future[None]]] = {}
        self._heights: list[tuple[int, asyncio.Future[bool]]] = []

    def __len__(self) -> int:
        return len(self._transactions) + len(self._heights)

    async def transaction_moved(self, transaction_hash: bytes, timeout_s: float) -> bool:
        """True when the transaction's state changed; False when the time is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._transactions.setdefault(transaction_hash, [])
        waiting.append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            if not future.done() or future.cancelled():
                waiting.remove(future)
            if not waiting and self._transactions.get(transaction_hash) is waiting:
                del self._transactions[transaction_hash]
        return True

    def wake_transactions(self, hashes: Iterable[bytes]) -> None:
        if not self._transactions:
            return
        for transaction_hash in hashes:
            for future in self._transactions.pop(transaction_hash, ()):
                if not future.done():
                    future.set_result(None)

    async def height_reached(self, height: int, timeout_s: float) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = (height, future)
        self._heights.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return False
        finally:
            if entry in self._heights:
                self._heights.remove(entry)

    def wake_heights(self, stored: Height) -> None:
        reached = [entry for entry in self._heights if entry[0] <= stored]
        self._heights = [entry for entry in self._heights if entry[0] > stored]
        for _, future in reached:
            if not future.done():
                future.set_result(True)

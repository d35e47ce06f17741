"""Hands new transactions on to the other validators, several in one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from chain.codec import Record, encode
from chain.model.transaction import Transaction

GOSSIP_WAIT_S: Final = 0.003
GOSSIP_BYTES: Final = 128 * 1024  # a message goes out when so much has piled up


class TransactionsMessage(Record, frozen=True, kw_only=True):
    transactions: tuple[bytes, ...]


class Gossip:
    """Collects for a moment, then broadcasts. Only the node that a client gave a transaction to hands it on, and any
    node one that has become overdue."""

    def __init__(self, broadcast: Callable[[bytes], None]) -> None:
        self._broadcast = broadcast
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, transactions: Sequence[Transaction]) -> None:
        for transaction in transactions:
            self._pending.append(transaction.raw)
            self._pending_bytes += len(transaction.raw)
            if self._pending_bytes >= GOSSIP_BYTES:
                self.flush()
        if self._pending and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GOSSIP_WAIT_S, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            self._broadcast(encode(TransactionsMessage(transactions=tuple(self._pending))))
            self._pending = []
            self._pending_bytes = 0

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""Hands new transactions on to the other validators, several in one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from chain.arrivals import Arrivals
from chain.codec import Record, encode
from chain.model.transaction import Transaction

GOSSIP_WAIT_S: Final = 0.003
GOSSIP_WAIT_S_MAX: Final = 0.040  # a message costs sender and receivers what ten of its transactions do
GOSSIP_COMPANY_MIN: Final = 8  # so many must be expected to come for the longer wait
GOSSIP_BYTES: Final = 128 * 1024  # a message goes out when so much has piled up


class TransactionsMessage(Record, frozen=True, kw_only=True):
    transactions: tuple[bytes, ...]


class Gossip:
    """Collects for a moment, which is longer where much comes in, then broadcasts. Only the node that a client gave a
    transaction to hands it on, and any node one that has become overdue."""

    def __init__(self, broadcast: Callable[[bytes], None]) -> None:
        self._broadcast = broadcast
        self._arrivals = Arrivals()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, transactions: Sequence[Transaction]) -> None:
        loop = asyncio.get_running_loop()
        self._arrivals.add(len(transactions), loop.time())
        for transaction in transactions:
            self._pending.append(transaction.raw)
            self._pending_bytes += len(transaction.raw)
            if self._pending_bytes >= GOSSIP_BYTES:
                self.flush()
        if self._pending and self._timer is None:
            crowded = self._arrivals.expected(GOSSIP_WAIT_S_MAX) >= GOSSIP_COMPANY_MIN
            self._timer = loop.call_later(GOSSIP_WAIT_S_MAX if crowded else GOSSIP_WAIT_S, self.flush)

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

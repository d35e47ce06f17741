"""Tells the core what it must know of the pool: that transactions wait, that one waits too long, that none is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from chain.model.transaction import Transaction
from chain.pool import Pool
from chain.types import Instant
from consensus.events import Event, PoolDrained, TransactionsWaiting

LOOK_S: Final = 0.25  # while transactions wait: are they too old, is the leader still there?
OVERDUE_SENT_MAX: Final = 1_000
OVERDUE_BYTES_SENT_MAX: Final = 1024 * 1024


class PoolWatch:
    """`changed` after everything that may change what waits; `run` as a task. An idle pool runs no timer.

    A transaction that waits longer than `pooled_ms_max` is sent to all and the leader suspected. A leader whose
    connection is gone will order nothing: at two looks in a row that is reason enough.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        pooled_ms_max: int,
        now: Callable[[], Instant],
        leader_in_reach: Callable[[], bool],
        post: Callable[[Event], None],
        send_to_all: Callable[[Sequence[Transaction]], None],
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._pooled_ms_max = pooled_ms_max
        self._now = now
        self._leader_in_reach = leader_in_reach
        self._post = post
        self._send_to_all = send_to_all
        self._wake = wake
        self._something_waits = asyncio.Event()
        self._told_waiting = False
        self._told_overdue = False
        self._leader_lost = False
        self._sent_at: Instant = Instant(-pooled_ms_max)

    def changed(self) -> None:
        """Tell the core when waiting transactions appear or are gone, and the pack stage always."""
        waiting = self._pool.waiting_count > 0
        if waiting:
            self._something_waits.set()
        if waiting != self._told_waiting:
            self._told_waiting = waiting
            self._post(TransactionsWaiting(overdue=False) if waiting else PoolDrained())
        self._wake()

    async def run(self) -> None:
        while True:
            if self._pool.waiting_count == 0:
                self._told_overdue = self._leader_lost = False
                self._something_waits.clear()
                await self._something_waits.wait()
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """One look: send what is overdue, tell the core, or take the suspicion back."""
        lost = not self._leader_in_reach()
        patience_ms = 0 if lost and self._leader_lost else self._pooled_ms_max
        self._leader_lost = lost
        now = self._now()
        overdue = self._pool.overdue(before=Instant(now - patience_ms), count_max=OVERDUE_SENT_MAX)
        if overdue and now - self._sent_at >= self._pooled_ms_max:
            self._sent_at = now
            self._send_to_all(_up_to_bytes(overdue, OVERDUE_BYTES_SENT_MAX))
        if self._told_waiting and (overdue or self._told_overdue):
            self._told_overdue = bool(overdue)
            oldest = overdue[0].hash if overdue else None
            self._post(TransactionsWaiting(overdue=self._told_overdue, oldest=oldest))


def _up_to_bytes(transactions: Sequence[Transaction], bytes_max: int) -> list[Transaction]:
    chosen: list[Transaction] = []
    size = 0
    for transaction in transactions:
        size += len(transaction.raw)
        if chosen and size > bytes_max:
            break
        chosen.append(transaction)
    return chosen

"""Transactions that peers pass on: checked like those of clients, in bounded numbers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from chain.codec import decode
from chain.errors import BadInput
from chain.model.transaction import TRANSACTION_BYTES_MAX
from chain.pool import GOSSIP_BYTES, Intake, TransactionsMessage
from chain.types import ValidatorId

GOSSIP_BATCHES_MAX: Final = 64  # of one peer, being checked at once
GOSSIP_PAYLOAD_MAX: Final = GOSSIP_BYTES + TRANSACTION_BYTES_MAX + 4_096  # an honest message is never larger


class GossipIntake:
    """Takes gossip messages; `added` is called when the pool got something new."""

    def __init__(
        self,
        *,
        intake: Intake,
        fault: Callable[[ValidatorId, str], None],
        added: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._intake = intake
        self._fault = fault
        self._added = added
        self._spawn = spawn
        self._batches: dict[ValidatorId, int] = {}

    def receive(self, peer: ValidatorId, payload: bytes) -> None:
        """A message of an authenticated peer."""
        if len(payload) > GOSSIP_PAYLOAD_MAX:
            self._fault(peer, "gossip_too_large")
        elif self._batches.get(peer, 0) >= GOSSIP_BATCHES_MAX:
            self._fault(peer, "gossip_dropped")  # it is sent to all again when it is overdue
        else:
            self._batches[peer] = self._batches.get(peer, 0) + 1
            self._spawn(self._take(peer, payload))

    async def _take(self, peer: ValidatorId, payload: bytes) -> None:
        try:
            message = decode(TransactionsMessage, payload)
            results, added = await self._intake.submit(message.transactions, gossip=True)
        except BadInput as error:
            self._fault(peer, error.code)
            return
        finally:
            self._batches[peer] -= 1
        if any(result.error is not None and result.error.code == "bad_signature" for result in results):
            self._fault(peer, "bad_signature")
        if added:
            self._added()

"""The way into the pool: decode once, cheap checks first, signatures in batches, each transaction checked once.

The same path serves clients, gossip and bodies fetched for a proposal; only what happens with the verdict differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from chain.errors import BadInput
from chain.model.signing import decode_transaction, signature_item
from chain.model.transaction import Transaction
from chain.pool.pool import Pool
from chain.types import Digest, Height, Instant


class SignatureVerifier(Protocol):
    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[bool]:
        """(scheme, public key, message, signature) each; one verdict each."""
        ...


class KnownTransactions(Protocol):
    @property
    def latest(self) -> Height:
        """The last executed height."""
        ...

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        """Whether each is in an executed block, stored or not."""
        ...


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """`hash` is given whenever the bytes could be decoded; `error` is None if the transaction is in the pool."""

    hash: Digest | None
    error: BadInput | None


class Intake:
    """Checks raw transactions and puts the good ones into the pool.

    `on_added` is told the new transactions of each batch (gossip, pack stage).
    """

    def __init__(
        self,
        *,
        pool: Pool,
        verifier: SignatureVerifier,
        known: KnownTransactions,
        chain_id: Digest,
        lifetime_max: int,
        transaction_gas_max: int,
        height: Callable[[], Height],
        now: Callable[[], Instant],
        lifetime_slack: int = 0,
        measure: Callable[[str], AbstractContextManager[None]] = lambda work: nullcontext(),
    ) -> None:
        """`lifetime_slack`: heights by which another node may be ahead, so that what it took is taken here too;
        `measure("accept")` is entered around the synchronous work."""
        self._pool = pool
        self._verifier = verifier
        self._known = known
        self._chain_id = chain_id
        self._lifetime_max = lifetime_max
        self._lifetime_slack = lifetime_slack
        self._transaction_gas_max = transaction_gas_max
        self._height = height
        self._now = now
        self._measure = measure
        self.refused: dict[str, int] = {}  # by code; codes are a fixed list

    async def submit(
        self, raws: Sequence[bytes], *, gossip: bool = False
    ) -> tuple[list[IntakeResult], list[Transaction]]:
        """(a result for each raw transaction, the transactions that are new in the pool).

        `gossip`: another validator has taken them, so an expiry at the edge of its window is fine.
        """
        results: list[IntakeResult | None] = [None] * len(raws)
        with self._measure("accept"):
            latest = self._known.latest
            candidates = self._check_cheaply(raws, results, self._lifetime_slack if gossip else 0)
            items = [signature_item(transaction) for _, transaction in candidates]
        verdicts = await self._verifier.verify(items)
        with self._measure("accept"):
            if self._known.latest != latest:
                candidates, verdicts = self._drop_executed(candidates, verdicts, results)
            added = self._add_genuine(candidates, verdicts, results)
        return [result for result in results if result is not None], added

    def _add_genuine(
        self,
        candidates: Sequence[tuple[int, Transaction]],
        verdicts: Sequence[bool],
        results: list[IntakeResult | None],
    ) -> list[Transaction]:
        added: list[Transaction] = []
        now, height = self._now(), self._height()
        for (at, transaction), genuine in zip(candidates, verdicts, strict=True):
            try:
                if transaction.body.expiry <= height:
                    raise BadInput("expired", "the transaction expired while its signature was checked")
                if not genuine:
                    raise BadInput("bad_signature", "the signature does not match the public key and the body")
                if not self._pool.add(transaction, now):
                    raise BadInput("duplicate", "the transaction is in the pool already")
                added.append(transaction)
                results[at] = IntakeResult(transaction.hash, None)
            except BadInput as error:
                results[at] = self._refuse(transaction.hash, error)
        return added

    def _drop_executed(
        self,
        candidates: Sequence[tuple[int, Transaction]],
        verdicts: Sequence[bool],
        results: list[IntakeResult | None],
    ) -> tuple[list[tuple[int, Transaction]], list[bool]]:
        """What another copy brought into a block meanwhile must not enter the pool, where nothing would remove it."""
        executed = self._known.executed([transaction.hash for _, transaction in candidates])
        kept: list[tuple[int, Transaction]] = []
        kept_verdicts: list[bool] = []
        for candidate, genuine, done in zip(candidates, verdicts, executed, strict=True):
            if done:
                results[candidate[0]] = self._refuse(candidate[1].hash, _executed_already())
            else:
                kept.append(candidate)
                kept_verdicts.append(genuine)
        return kept, kept_verdicts

    def _check_cheaply(
        self, raws: Sequence[bytes], results: list[IntakeResult | None], slack: int
    ) -> list[tuple[int, Transaction]]:
        """Everything that needs no signature check; a body is looked at once per batch."""
        decoded: list[tuple[int, Transaction]] = []
        in_batch: set[Digest] = set()
        for at, raw in enumerate(raws):
            transaction = None
            try:
                transaction = decode_transaction(raw)
                self._check_fields(transaction, slack)
                if transaction.hash in self._pool or transaction.hash in in_batch:
                    raise BadInput("duplicate", "the transaction is in the pool already")
                self._pool.check_room(transactions=len(in_batch) + 1, transaction_bytes=len(raw))
                in_batch.add(transaction.hash)
                decoded.append((at, transaction))
            except BadInput as error:
                results[at] = self._refuse(transaction.hash if transaction else None, error)
        executed = self._known.executed([transaction.hash for _, transaction in decoded])
        fresh: list[tuple[int, Transaction]] = []
        for (at, transaction), done in zip(decoded, executed, strict=True):
            if done:
                results[at] = self._refuse(transaction.hash, _executed_already())
            else:
                fresh.append((at, transaction))
        return fresh

    def _check_fields(self, transaction: Transaction, slack: int) -> None:
        body = transaction.body
        if body.chain_id != self._chain_id:
            raise BadInput("wrong_chain", f"signed for chain {body.chain_id.hex()}, this is {self._chain_id.hex()}")
        height = self._height()
        if body.expiry <= height:
            raise BadInput("expired", f"expiry height {body.expiry} is not above the certified height {height}")
        if body.expiry > height + self._lifetime_max + slack:
            raise BadInput(
                "expiry_too_far", f"expiry height {body.expiry} is more than {self._lifetime_max} above {height}"
            )
        if not 0 < body.gas_limit <= self._transaction_gas_max:
            raise BadInput("gas_limit", f"gas limit {body.gas_limit}, must be 1..{self._transaction_gas_max}")

    def _refuse(self, transaction_hash: Digest | None, error: BadInput) -> IntakeResult:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        return IntakeResult(transaction_hash, error)


def _executed_already() -> BadInput:
    return BadInput("duplicate", "the transaction is executed already")

"""The way into the pool: decode once, cheap checks first, signatures in batches, each transaction checked once.

The same path serves clients, gossip and bodies fetched for a proposal; only what happens with the verdict differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    ) -> None:
        self._pool = pool
        self._verifier = verifier
        self._known = known
        self._chain_id = chain_id
        self._lifetime_max = lifetime_max
        self._transaction_gas_max = transaction_gas_max
        self._height = height
        self._now = now
        self.refused: dict[str, int] = {}  # by code; codes are a fixed list

    async def submit(self, raws: Sequence[bytes]) -> tuple[list[IntakeResult], list[Transaction]]:
        """(a result for each raw transaction, the transactions that are new in the pool)."""
        results: list[IntakeResult | None] = [None] * len(raws)
        candidates = self._check_cheaply(raws, results)
        verdicts = await self._verifier.verify([signature_item(transaction) for _, transaction in candidates])
        added: list[Transaction] = []
        now = self._now()
        for (at, transaction), genuine in zip(candidates, verdicts, strict=True):
            try:
                if not genuine:
                    raise BadInput("bad_signature", "the signature does not match the public key and the body")
                if not self._pool.add(transaction, now):
                    raise BadInput("duplicate", "the transaction is in the pool already")
                added.append(transaction)
                results[at] = IntakeResult(transaction.hash, None)
            except BadInput as error:
                results[at] = self._refuse(transaction.hash, error)
        return [result for result in results if result is not None], added

    async def check(self, raws: Sequence[bytes]) -> list[Transaction]:
        """Decode and verify bodies fetched for a proposal, without putting them into the pool.

        Raises:
            BadInput: the first thing that is wrong with any of them.
        """
        transactions = [decode_transaction(raw) for raw in raws]
        for transaction in transactions:
            self._check_fields(transaction)
        verdicts = await self._verifier.verify([signature_item(transaction) for transaction in transactions])
        if not all(verdicts):
            raise BadInput("bad_signature", "a body of the proposal has a wrong signature")
        return transactions

    def _check_cheaply(
        self, raws: Sequence[bytes], results: list[IntakeResult | None]
    ) -> list[tuple[int, Transaction]]:
        """Everything that needs no signature check; a body is looked at once per batch."""
        decoded: list[tuple[int, Transaction]] = []
        in_batch: set[Digest] = set()
        for at, raw in enumerate(raws):
            transaction = None
            try:
                transaction = decode_transaction(raw)
                self._check_fields(transaction)
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
                results[at] = self._refuse(transaction.hash, BadInput("duplicate", "the transaction is executed"))
            else:
                fresh.append((at, transaction))
        return fresh

    def _check_fields(self, transaction: Transaction) -> None:
        body = transaction.body
        if body.chain_id != self._chain_id:
            raise BadInput("wrong_chain", f"signed for chain {body.chain_id.hex()}, this is {self._chain_id.hex()}")
        height = self._height()
        if body.expiry <= height:
            raise BadInput("expired", f"expiry height {body.expiry} is not above the certified height {height}")
        if body.expiry > height + self._lifetime_max:
            raise BadInput(
                "expiry_too_far", f"expiry height {body.expiry} is more than {self._lifetime_max} above {height}"
            )
        if not 0 < body.gas_limit <= self._transaction_gas_max:
            raise BadInput("gas_limit", f"gas limit {body.gas_limit}, must be 1..{self._transaction_gas_max}")

    def _refuse(self, transaction_hash: Digest | None, error: BadInput) -> IntakeResult:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        return IntakeResult(transaction_hash, error)

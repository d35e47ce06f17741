"""The way into the pool: decode once, cheap checks first, signatures in batches, each transaction checked once.

The same path serves clients, gossip and bodies fetched for a proposal; only what happens with the verdict differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from chain.errors import BadInput
from chain.model.signing import decode_transaction, signature_item
from chain.model.transaction import Transaction, TransactionBody
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

    def executed_since(self, height: Height, hashes: Sequence[Digest]) -> list[bool]:
        """`executed`, for hashes that were not when `height` was the latest."""
        ...


class IntakeResult(NamedTuple):
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
        if not candidates:
            return [result for result in results if result is not None], []
        verdicts = await self._verifier.verify(items)
        with self._measure("accept"):
            executed = [False] * len(candidates)
            if self._known.latest != latest:
                executed = self._known.executed_since(latest, [transaction.hash for _, transaction in candidates])
            added = self._add_genuine(candidates, verdicts, executed, results)
        return [result for result in results if result is not None], added

    def _add_genuine(
        self,
        candidates: Sequence[tuple[int, Transaction]],
        verdicts: Sequence[bool],
        executed: Sequence[bool],
        results: list[IntakeResult | None],
    ) -> list[Transaction]:
        """What another copy brought into a block meanwhile must not enter the pool, where nothing would remove it."""
        added: list[Transaction] = []
        now, height = self._now(), self._height()
        for (at, transaction), genuine, done in zip(candidates, verdicts, executed, strict=True):
            error: BadInput | None = None
            if done:
                error = _executed_already()
            elif transaction.body.expiry <= height:
                error = BadInput("expired", "the transaction expired while its signature was checked")
            elif not genuine:
                error = BadInput("bad_signature", "the signature does not match the public key and the body")
            else:
                try:
                    if self._pool.add(transaction, now):
                        added.append(transaction)
                    else:
                        error = _pooled_already()
                except BadInput as full:
                    error = full
            results[at] = IntakeResult(transaction.hash, None) if error is None else self._refuse(transaction, error)
        return added

    def _check_cheaply(
        self, raws: Sequence[bytes], results: list[IntakeResult | None], slack: int
    ) -> list[tuple[int, Transaction]]:
        """Everything that needs no signature check; a body is looked at once per batch."""
        pool, height = self._pool, self._height()
        is_roomy = pool.has_room(transactions=len(raws), transaction_bytes=sum(map(len, raws)))
        fresh: dict[Digest, tuple[int, Transaction]] = {}
        for at, raw in enumerate(raws):
            transaction = None
            try:
                transaction = decode_transaction(raw)
                self._check_fields(transaction.body, height, slack)
                if transaction.hash in pool or transaction.hash in fresh:
                    raise _pooled_already()
                if not is_roomy:
                    pool.check_room(transactions=len(fresh) + 1, transaction_bytes=len(raw))
                fresh[transaction.hash] = (at, transaction)
            except BadInput as error:
                results[at] = self._refuse(transaction, error)
        executed = self._known.executed(list(fresh))
        if not any(executed):
            return list(fresh.values())
        for (at, transaction), done in zip(fresh.values(), executed, strict=True):
            if done:
                results[at] = self._refuse(transaction, _executed_already())
        return [candidate for candidate, done in zip(fresh.values(), executed, strict=True) if not done]

    def _check_fields(self, body: TransactionBody, height: Height, slack: int) -> None:
        if body.chain_id != self._chain_id:
            raise BadInput("wrong_chain", f"signed for chain {body.chain_id.hex()}, this is {self._chain_id.hex()}")
        if body.expiry <= height:
            raise BadInput("expired", f"expiry height {body.expiry} is not above the certified height {height}")
        if body.expiry > height + self._lifetime_max + slack:
            raise BadInput(
                "expiry_too_far", f"expiry height {body.expiry} is more than {self._lifetime_max} above {height}"
            )
        if not 0 < body.gas_limit <= self._transaction_gas_max:
            raise BadInput("gas_limit", f"gas limit {body.gas_limit}, must be 1..{self._transaction_gas_max}")

    def _refuse(self, transaction: Transaction | None, error: BadInput) -> IntakeResult:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        error.__traceback__ = error.__context__ = None  # their frames hold the batch: a cycle for each refusal
        return IntakeResult(None if transaction is None else transaction.hash, error)


def _executed_already() -> BadInput:
    return BadInput("duplicate", "the transaction is executed already")


def _pooled_already() -> BadInput:
    return BadInput("duplicate", "the transaction is in the pool already")

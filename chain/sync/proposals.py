"""Obtains every body of a proposal: from the pool, from what is durable here, from the leader or those who prepared it.

A fresh proposal is refused if this node must not vote for its contents; one that a certificate requires never is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chain.codec import decode, encode
from chain.errors import BadInput, PeerFault
from chain.model.block import Proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.model.signing import decode_transaction, signature_item
from chain.model.transaction import Transaction
from chain.sync.wire import (
    Ask,
    ProposalBodies,
    ProposalRequest,
    RequestKind,
    Spawn,
    TransactionsAnswer,
    TransactionsRequest,
)
from chain.types import Digest, Height, Instant, ValidatorId

ARRIVAL_WAIT_S: Final = 0.015  # bodies on their way by gossip usually arrive within this
REQUEST_TIMEOUT_S: Final = 2.0
RETRY_S: Final = 0.1
RETRY_S_MAX: Final = 2.0


class BodyPool(Protocol):
    def get(self, transaction_hash: Digest) -> Transaction | None: ...

    def reserved_by(self, transaction_hash: Digest) -> Digest | None: ...

    def reserve(self, digest: Digest, transactions: Sequence[Transaction], now: Instant) -> None: ...


class BodyVerifier(Protocol):
    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[bool]: ...


class ExecutedIndex(Protocol):
    def executed(self, hashes: Sequence[Digest]) -> list[bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One `ObtainProposal` of the core."""

    height: Height
    digest: Digest
    proposal: Proposal | None
    fresh: bool
    sources: tuple[ValidatorId, ...]


class ProposalObtainer:
    """One task a wanted proposal; the window bounds how many there are."""

    def __init__(
        self,
        *,
        chain_id: Digest,
        parameters: ChainParameters,
        pool: BodyPool,
        verifier: BodyVerifier,
        index: ExecutedIndex,
        ask: Ask,
        find: Callable[[Digest], tuple[Proposal, Sequence[Transaction]] | None],
        obtained: Callable[[Digest, Proposal, Sequence[Transaction]], None],
        refused: Callable[[Height, Digest, str], None],
        now: Callable[[], Instant],
        spawn: Spawn,
    ) -> None:
        self._chain_id = chain_id
        self._parameters = parameters
        self._pool = pool
        self._verifier = verifier
        self._index = index
        self._ask = ask
        self._find = find
        self._obtained = obtained
        self._refused = refused
        self._now = now
        self._spawn = spawn
        self._tasks: dict[tuple[Height, Digest], tuple[Wanted, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def want(self, wanted: Wanted) -> None:
        key = (wanted.height, wanted.digest)
        open_task = self._tasks.get(key)
        if open_task is not None and not open_task[1].done():
            if not open_task[0].fresh or wanted.fresh:
                return
            open_task[1].cancel()  # what may be refused becomes what must be had
        task = self._spawn(self._run(wanted))
        self._tasks[key] = (wanted, task)
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: tuple[Height, Digest], task: asyncio.Task[None]) -> None:
        open_task = self._tasks.get(key)
        if open_task is not None and open_task[1] is task:
            del self._tasks[key]

    def cancel_fresh(self) -> None:
        """The view is over: fresh proposals are wanted no more."""
        self._cancel(key for key, (wanted, _) in self._tasks.items() if wanted.fresh)

    def cancel(self, digest: Digest) -> None:
        """The proposal lost its place."""
        self._cancel(key for key in self._tasks if key[1] == digest)

    def cancel_up_to(self, height: Height) -> None:
        self._cancel(key for key in self._tasks if key[0] <= height)

    def _cancel(self, keys: Iterable[tuple[Height, Digest]]) -> None:
        for key in list(keys):
            _, task = self._tasks.pop(key)
            task.cancel()

    async def _run(self, wanted: Wanted) -> None:
        try:
            proposal, transactions = await self._obtain(wanted)
        except BadInput as error:
            if not wanted.fresh:
                raise
            self._refused(wanted.height, wanted.digest, f"{error.code}: {error.message}")
            return
        self.reserve(wanted.digest, transactions)
        self._obtained(wanted.digest, proposal, transactions)

    def reserve(self, digest: Digest, transactions: Sequence[Transaction]) -> None:
        """Have the pool hold the bodies for this proposal: those not executed nor promised to another live one."""
        done = self._index.executed([transaction.hash for transaction in transactions])
        held = [
            transaction
            for transaction, settled in zip(transactions, done, strict=True)
            if not settled and self._pool.reserved_by(transaction.hash) is None
        ]
        self._pool.reserve(digest, held, self._now())

    async def _obtain(self, wanted: Wanted) -> tuple[Proposal, Sequence[Transaction]]:
        known = self._find(wanted.digest)
        if known is not None:
            if wanted.fresh:
                self._judge(wanted, known[1])
            return known
        if wanted.proposal is None or not wanted.fresh:
            return await self._fetch_whole(wanted)
        if wanted.proposal.count > self._parameters.block_transactions_max:
            raise BadInput("too_many", f"{wanted.proposal.count} transactions in one proposal")
        transactions = await self._gather(wanted, wanted.proposal)
        self._judge(wanted, transactions)
        return wanted.proposal, transactions

    def _judge(self, wanted: Wanted, transactions: Sequence[Transaction]) -> None:
        """Raises BadInput if this node must not vote for a fresh proposal's contents."""
        limits = self._parameters
        if sum(len(transaction.raw) for transaction in transactions) > limits.block_bytes_max:
            raise BadInput("too_large", f"the bodies exceed {limits.block_bytes_max} bytes")
        if sum(transaction.body.gas_limit for transaction in transactions) > limits.block_gas_max:
            raise BadInput("too_much_gas", f"the declared gas exceeds {limits.block_gas_max}")
        if any(self._index.executed([transaction.hash for transaction in transactions])):
            raise BadInput("already_executed", "the proposal holds an executed transaction")
        for transaction in transactions:
            holder = self._pool.reserved_by(transaction.hash)
            if holder is not None and holder != wanted.digest:
                raise BadInput("in_two_proposals", "a transaction is in another live proposal")
            if not wanted.height <= transaction.body.expiry <= wanted.height + limits.lifetime_max:
                raise BadInput("expired", "the proposal holds an expired transaction, or one that expires too late")

    async def _gather(self, wanted: Wanted, proposal: Proposal) -> list[Transaction]:
        """Bodies from the pool; what is missing after a moment is asked for."""
        hashes = proposal.transaction_hashes()
        found: dict[Digest, Transaction] = {}

        def look(missing: Sequence[Digest]) -> list[Digest]:
            for transaction_hash in missing:
                transaction = self._pool.get(transaction_hash)
                if transaction is not None:
                    found[transaction_hash] = transaction
            return [transaction_hash for transaction_hash in missing if transaction_hash not in found]

        missing = look(hashes)
        if missing:
            await asyncio.sleep(ARRIVAL_WAIT_S)
            missing = look(missing)
        delay = RETRY_S
        while missing:
            for transaction in await self._fetch_some(wanted.sources, missing):
                found[transaction.hash] = transaction
            missing = look(missing)
            if missing:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_S_MAX)
        return [found[transaction_hash] for transaction_hash in hashes]

    async def _fetch_some(self, sources: Sequence[ValidatorId], missing: Sequence[Digest]) -> list[Transaction]:
        """Genuine bodies of the hashes asked for; whatever else a peer sends is left unread."""
        request = encode(TransactionsRequest(hashes=b"".join(missing)))
        wanted = frozenset(missing)
        for source in sources:
            try:
                answer = await self._ask(source, RequestKind.TRANSACTIONS, request, REQUEST_TIMEOUT_S)
                bodies = [decode_transaction(raw) for raw in decode(TransactionsAnswer, answer).transactions]
                return await self._genuine([body for body in bodies if body.hash in wanted])
            except (PeerFault, BadInput, TimeoutError):
                continue
        return []

    async def _genuine(self, transactions: Sequence[Transaction]) -> list[Transaction]:
        """Raises BadInput if any is of another chain, asks for more gas than one may, or has a wrong signature."""
        for transaction in transactions:
            if transaction.body.chain_id != self._chain_id:
                raise BadInput("wrong_chain", "a body of another chain")
            if not 0 < transaction.body.gas_limit <= self._parameters.transaction_gas_max:
                raise BadInput("gas_limit", "a body with a gas limit out of range")
        if not all(await self._verifier.verify([signature_item(transaction) for transaction in transactions])):
            raise BadInput("bad_signature", "a body with a wrong signature")
        return list(transactions)

    async def _fetch_whole(self, wanted: Wanted) -> tuple[Proposal, Sequence[Transaction]]:
        """By digest, from one source after the other, until somebody has it."""
        request = encode(ProposalRequest(digest=wanted.digest))
        delay = RETRY_S
        while True:
            for source in wanted.sources:
                try:
                    answer = await self._ask(source, RequestKind.PROPOSAL, request, REQUEST_TIMEOUT_S)
                    bodies = decode(ProposalBodies, answer)
                    if not bodies.proposal:
                        continue
                    proposal = decode(Proposal, bodies.proposal)
                    if proposal_digest(proposal) != wanted.digest:
                        raise BadInput("wrong_digest", "the answer is another proposal")
                    return proposal, await self._genuine(match_bodies(proposal, bodies.transactions))
                except (PeerFault, BadInput, TimeoutError):
                    continue
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_S_MAX)
            known = self._find(wanted.digest)
            if known is not None:
                return known


def match_bodies(proposal: Proposal, raws: Sequence[bytes]) -> list[Transaction]:
    """Decode bodies and check that they are exactly the proposal's transactions, in order.

    Signatures are not checked here: a quorum checked some signature of each, but not necessarily these bytes.

    Raises:
        BadInput: a body is malformed, missing or another one.
    """
    hashes = proposal.transaction_hashes()
    if len(hashes) != len(raws):
        raise BadInput("wrong_bodies", f"{len(raws)} bodies for {len(hashes)} hashes")
    transactions = [decode_transaction(raw) for raw in raws]
    for transaction, transaction_hash in zip(transactions, hashes, strict=True):
        if transaction.hash != transaction_hash:
            raise BadInput("wrong_bodies", "a body does not hash to the proposal's entry")
    return transactions

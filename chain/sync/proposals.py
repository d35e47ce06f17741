"""Obtains every body of a proposal: from the pool, from what is durable here, from the leader or those who prepared it.

A fresh proposal is refused if this node must not vote for its contents; one that a certificate requires never is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chain.codec import decode, encode
from chain.errors import BadInput, InvariantError, PeerFault
from chain.model.block import Proposal, proposal_digest
from chain.model.signing import decode_transaction
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


class BodyChecker(Protocol):
    async def check(self, raws: Sequence[bytes]) -> list[Transaction]:
        """Decode and verify bodies; raises BadInput."""
        ...


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
        pool: BodyPool,
        checker: BodyChecker,
        index: ExecutedIndex,
        ask: Ask,
        find: Callable[[Digest], tuple[Proposal, Sequence[Transaction]] | None],
        obtained: Callable[[Digest, Proposal, Sequence[Transaction]], None],
        refused: Callable[[Height, Digest, str], None],
        now: Callable[[], Instant],
        spawn: Spawn,
    ) -> None:
        self._pool = pool
        self._checker = checker
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
        if open_task is not None:
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

    def cancel_up_to(self, height: Height) -> None:
        self._cancel(key for key in self._tasks if key[0] <= height)

    def _cancel(self, keys: Iterable[tuple[Height, Digest]]) -> None:
        for key in list(keys):
            _, task = self._tasks.pop(key)
            task.cancel()

    async def _run(self, wanted: Wanted) -> None:
        try:
            proposal, transactions = await self._obtain(wanted)
            self.reserve(wanted.digest, transactions)
        except (BadInput, InvariantError) as error:
            if not wanted.fresh:
                raise
            self._refused(wanted.height, wanted.digest, str(error))
            return
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
        transactions = await self._gather(wanted, wanted.proposal)
        self._judge(wanted, transactions)
        return wanted.proposal, transactions

    def _judge(self, wanted: Wanted, transactions: Sequence[Transaction]) -> None:
        """Raises BadInput if a fresh proposal holds what must not be ordered again."""
        if any(self._index.executed([transaction.hash for transaction in transactions])):
            raise BadInput("already_executed", "the proposal holds an executed transaction")
        for transaction in transactions:
            holder = self._pool.reserved_by(transaction.hash)
            if holder is not None and holder != wanted.digest:
                raise BadInput("in_two_proposals", "a transaction is in another live proposal")
            if transaction.body.expiry < wanted.height:
                raise BadInput("expired", "the proposal holds an expired transaction")

    async def _gather(self, wanted: Wanted, proposal: Proposal) -> list[Transaction]:
        """Bodies from the pool; what is missing after a moment is asked for."""
        hashes = proposal.transaction_hashes()
        get = self._pool.get
        found = {transaction_hash: get(transaction_hash) for transaction_hash in hashes}
        delay = RETRY_S
        first = True
        while missing := [transaction_hash for transaction_hash in hashes if found[transaction_hash] is None]:
            if first:
                await asyncio.sleep(ARRIVAL_WAIT_S)
                first = False
            else:
                for transaction in await self._fetch_some(wanted.sources, missing):
                    if transaction.hash in found:
                        found[transaction.hash] = transaction
            still = False
            for transaction_hash in missing:
                if found[transaction_hash] is None:
                    found[transaction_hash] = get(transaction_hash)
                    still = still or found[transaction_hash] is None
            if still and not first:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_S_MAX)
        return [body for transaction_hash in hashes if (body := found[transaction_hash]) is not None]

    async def _fetch_some(self, sources: Sequence[ValidatorId], missing: Sequence[Digest]) -> list[Transaction]:
        request = encode(TransactionsRequest(hashes=b"".join(missing)))
        for source in sources:
            try:
                answer = await self._ask(source, RequestKind.TRANSACTIONS, request, REQUEST_TIMEOUT_S)
                return await self._checker.check(decode(TransactionsAnswer, answer).transactions)
            except (PeerFault, BadInput, TimeoutError):
                continue
        return []

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
                    return proposal, match_bodies(proposal, bodies.transactions)
                except (PeerFault, BadInput, TimeoutError):
                    continue
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_S_MAX)
            known = self._find(wanted.digest)
            if known is not None:
                return known


def match_bodies(proposal: Proposal, raws: Sequence[bytes]) -> list[Transaction]:
    """Decode bodies and check that they are exactly the proposal's transactions, in order.

    Their signatures need no check here: a quorum, hence an honest validator, checked them before it prepared.

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

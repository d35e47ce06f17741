"""Fetches certified blocks this node missed, checks them and feeds them to the core in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from chain.codec import decode, encode
from chain.errors import BadInput, PeerFault
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.model.signing import verify_transactions
from chain.model.transaction import Transaction
from chain.sync.proposals import match_bodies
from chain.sync.wire import BLOCKS_PER_ANSWER_MAX, Ask, BlocksAnswer, BlocksRequest, RequestKind, Spawn
from chain.types import Digest, Height, ValidatorId

REQUEST_TIMEOUT_S: Final = 5.0
STORED_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class CheckedBlock:
    proposal: Proposal
    digest: Digest
    transactions: Sequence[Transaction]
    header: Header
    certificate: Certificate


class BlockFetcher:
    """One run at a time; what the core asks for while one runs extends its target.

    `deliver` makes the bodies durable and posts the block to the core. The next batch is asked for when the last is
    stored, so that a long catch-up runs in bounded memory.
    """

    def __init__(
        self,
        *,
        ask: Ask,
        check_certificate: Callable[[Certificate, Header], None],
        deliver: Callable[[Sequence[CheckedBlock]], Awaitable[None]],
        stored_height: Callable[[], Height],
        wait_stored: Callable[[Height, float], Awaitable[bool]],
        fault: Callable[[ValidatorId, str], None],
        spawn: Spawn,
        thread: Executor,
    ) -> None:
        self._ask = ask
        self._check_certificate = check_certificate
        self._deliver = deliver
        self._stored_height = stored_height
        self._wait_stored = wait_stored
        self._fault = fault
        self._spawn = spawn
        self._thread = thread
        self._target = Height(0)
        self._sources: list[ValidatorId] = []  # whom to ask next first
        self._task: asyncio.Task[None] | None = None
        self.fetched = 0

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def want(self, first: Height, last: Height, sources: Sequence[ValidatorId]) -> None:
        self._target = max(self._target, last)
        self._sources = [*sources, *(known for known in self._sources if known not in sources)]
        if not self.running:
            self._task = self._spawn(self._run())

    async def _run(self) -> None:
        failures = 0
        while (first := Height(self._stored_height() + 1)) <= self._target and failures < 2 * len(self._sources):
            source = self._sources[0]
            try:
                blocks = await self._fetch(source, first)
            except (PeerFault, TimeoutError):
                blocks = []  # out of reach: nobody's fault
            except BadInput as error:
                self._fault(source, f"sync_{error.code}: {error.message}")
                blocks = []
            if len(blocks) <= self._target - first and source in self._sources:
                self._sources.remove(source)  # less than asked for: the next one first
                self._sources.append(source)
            if not blocks:
                failures += 1
                await asyncio.sleep(0.05 * failures)
                continue
            failures = 0
            await self._deliver(blocks)
            self.fetched += len(blocks)
            if not await self._wait_stored(Height(blocks[-1].header.height), STORED_WAIT_S):
                break  # the core asks again when it still needs them
        self._sources = []

    async def _fetch(self, source: ValidatorId, first: Height) -> list[CheckedBlock]:
        """Raises PeerFault, BadInput or TimeoutError if the source does not give what it should."""
        last = min(self._target, first + BLOCKS_PER_ANSWER_MAX - 1)
        request = encode(BlocksRequest(first=first, last=last))
        answer = await self._ask(source, RequestKind.BLOCKS, request, REQUEST_TIMEOUT_S)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._check, first, last, answer)

    def _check(self, first: int, last: int, answer: bytes) -> list[CheckedBlock]:
        """In a thread: header, certificate and genuine bodies belong together and to the heights asked for."""
        checked: list[CheckedBlock] = []
        for at, block in enumerate(decode(BlocksAnswer, answer).blocks[: last - first + 1]):
            header = decode(Header, block.header)
            certificate = decode(Certificate, block.certificate)
            proposal = decode(Proposal, block.bodies.proposal)
            digest = proposal_digest(proposal)
            if header.height != first + at or proposal.height != header.height:
                raise BadInput("wrong_height", f"block {header.height} where {first + at} was asked for")
            if certificate.digest != header_hash(header) or header.proposal_digest != digest:
                raise BadInput("wrong_block", f"header, certificate and proposal of block {header.height} differ")
            try:
                self._check_certificate(certificate, header)
            except PeerFault as fault:
                raise BadInput("bad_certificate", str(fault)) from None
            transactions = match_bodies(proposal, block.bodies.transactions)
            if not all(verify_transactions(transactions)):
                raise BadInput("bad_signature", f"a body of block {header.height} has a wrong signature")
            checked.append(CheckedBlock(proposal, digest, transactions, header, certificate))
        return checked

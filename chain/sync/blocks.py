"""Fetches certified blocks this node missed, checks them and feeds them to the core in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chain.codec import decode, encode
from chain.errors import BadInput, PeerFault
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.model.transaction import Transaction
from chain.sync.proposals import match_bodies
from chain.sync.wire import Ask, BlocksAnswer, BlocksRequest, FetchedBlock, RequestKind, Spawn
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
    ) -> None:
        self._ask = ask
        self._check_certificate = check_certificate
        self._deliver = deliver
        self._stored_height = stored_height
        self._wait_stored = wait_stored
        self._fault = fault
        self._spawn = spawn
        self._target = Height(0)
        self._task: asyncio.Task[None] | None = None
        self.fetched = 0

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def want(self, first: Height, last: Height, sources: Sequence[ValidatorId]) -> None:
        self._target = max(self._target, last)
        if not self.running:
            self._task = self._spawn(self._run(list(sources)))

    async def _run(self, sources: list[ValidatorId]) -> None:
        failures = 0
        while (first := Height(self._stored_height() + 1)) <= self._target and failures < 2 * len(sources):
            source = sources[0]
            try:
                blocks = await self._fetch(source, first)
            except (PeerFault, BadInput, TimeoutError) as error:
                self._fault(source, f"sync: {error or type(error).__name__}")
                blocks = []
            if not blocks:
                failures += 1
                sources.append(sources.pop(0))  # ask the next one
                await asyncio.sleep(0.05 * failures)
                continue
            failures = 0
            await self._deliver(blocks)
            self.fetched += len(blocks)
            if not await self._wait_stored(Height(blocks[-1].header.height), STORED_WAIT_S):
                break  # the core asks again when it still needs them

    async def _fetch(self, source: ValidatorId, first: Height) -> list[CheckedBlock]:
        """Raises PeerFault, BadInput or TimeoutError if the source does not give what it should."""
        request = encode(BlocksRequest(first=first, last=self._target))
        answer = decode(BlocksAnswer, await self._ask(source, RequestKind.BLOCKS, request, REQUEST_TIMEOUT_S))
        return await asyncio.get_running_loop().run_in_executor(None, self._check, first, answer.blocks)

    def _check(self, first: Height, fetched: Sequence[FetchedBlock]) -> list[CheckedBlock]:
        """In a thread: header, certificate and bodies belong together and to the height asked for."""
        checked: list[CheckedBlock] = []
        for at, block in enumerate(fetched):
            header = decode(Header, block.header)
            certificate = decode(Certificate, block.certificate)
            proposal = decode(Proposal, block.bodies.proposal)
            digest = proposal_digest(proposal)
            if header.height != first + at or proposal.height != header.height:
                raise BadInput("wrong_height", f"block {header.height} where {first + at} was asked for")
            if certificate.digest != header_hash(header) or header.proposal_digest != digest:
                raise BadInput("wrong_block", f"header, certificate and proposal of block {header.height} differ")
            self._check_certificate(certificate, header)
            checked.append(CheckedBlock(proposal, digest, match_bodies(proposal, block.bodies.transactions), header,
                                        certificate))  # fmt: skip
        return checked

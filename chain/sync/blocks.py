"""Fetches certified blocks this node missed, from several peers at once, and feeds them to the core in order.

Ranges travel and are checked while earlier blocks are executed and stored. What is far ahead is checked against the
validator set its header names, if that is known here; when the block's turn comes, and its height's set is certain, the
two must be the same. So an epoch may end inside the range, and no block is taken on a certificate of another set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Final

from chain.codec import decode, encode
from chain.errors import BadInput, PeerFault
from chain.model.validators import ValidatorSchedule
from chain.sync.checking import BlockChecker, CheckedBlock
from chain.sync.download import Download, Run
from chain.sync.wire import BLOCKS_PER_ANSWER_MAX, Ask, BlocksAnswer, BlocksRequest, RequestKind, Spawn, TipAnswer
from chain.types import Height, ValidatorId

REQUEST_TIMEOUT_S: Final = 5.0
TIP_TIMEOUT_S: Final = 2.0
PROGRESS_WAIT_S: Final = 10.0  # without progress here the run ends; the core asks again when it still needs blocks
BLOCKS_AHEAD: Final = 512  # fetched or on their way, beyond the next one to hand over


class BlockFetcher:
    """One run at a time; what the core asks for while one runs extends its target.

    `keep` makes bodies durable, `post` gives a block to the core. A block is posted when its height is `deliverable`:
    its validator set is certain, and the core takes it.
    """

    def __init__(
        self,
        *,
        ask: Ask,
        checker: BlockChecker,
        schedule: Callable[[], ValidatorSchedule],
        keep: Callable[[Sequence[CheckedBlock]], Awaitable[None]],
        post: Callable[[CheckedBlock], None],
        certified_height: Callable[[], Height],
        deliverable: Callable[[], Height],
        peers: Callable[[], Sequence[ValidatorId]],
        fault: Callable[[ValidatorId, str], None],
        spawn: Spawn,
        thread: Executor,
    ) -> None:
        """`certified_height` is what the core has; `deliverable` the highest height that may be posted now; `peers`
        those in reach, who may have blocks that the core has not heard of."""
        self._ask = ask
        self._checker = checker
        self._schedule = schedule
        self._keep = keep
        self._post = post
        self._certified_height = certified_height
        self._deliverable = deliverable
        self._peers = peers
        self._fault = fault
        self._spawn = spawn
        self._thread = thread
        self._target = Height(0)
        self._sources: dict[ValidatorId, int] = {}  # the last block that each has
        self._refused: set[ValidatorId] = set()
        self._download: Download[CheckedBlock] | None = None
        self._task: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._posted = 0  # the last height posted
        self.fetched = 0

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def want(self, first: Height, last: Height, sources: Sequence[ValidatorId]) -> None:
        """The core misses `first`..`last`, and `sources` say that they have them."""
        self._target = max(self._target, last)
        for source in sources:
            self._add(source, last)
        if not self.running:
            self._task = self._spawn(self._run())

    def progressed(self) -> None:
        """A block was executed or stored."""
        self._progress.set()

    def _add(self, source: ValidatorId, last: int) -> None:
        if source in self._refused:
            return
        self._sources[source] = max(last, self._sources.get(source, 0))
        if self._download is not None:
            self._download.extend(self._target, {source: last})

    async def _run(self) -> None:
        """Until the target is posted, or nobody can give the next block."""
        asked = {peer: asyncio.ensure_future(self._ask_tip(peer)) for peer in dict.fromkeys(self._peers())}
        self._posted = 0
        try:
            while (first := max(self._certified_height(), self._posted) + 1) <= self._target and self._sources:
                self._download = Download(
                    first=first, last=self._target, sources=self._sources, fetch=self._fetch, fault=self._refuse,
                    per_request=BLOCKS_PER_ANSWER_MAX, ahead=BLOCKS_AHEAD,
                )  # fmt: skip
                lied = len(self._refused)
                async with aclosing(self._download.runs()) as runs:
                    async for run in runs:
                        if not await self._give(run, self._download):
                            break
                if not self._download.complete and len(self._refused) == lied:
                    break  # nobody has more, or this node does not get on
        finally:
            for task in asked.values():
                task.cancel()
            self._download, self._target = None, Height(0)
            self._sources, self._refused = {}, set()

    async def _ask_tip(self, peer: ValidatorId) -> None:
        """Those who have more than the core has heard of take part."""
        try:
            tip = decode(TipAnswer, await self._ask(peer, RequestKind.TIP, b"", TIP_TIMEOUT_S))
        except (PeerFault, BadInput, TimeoutError):
            return
        if tip.base <= self._certified_height() + 1:
            self._target = Height(max(self._target, tip.height))
            self._add(peer, tip.height)

    def _refuse(self, source: ValidatorId, reason: str) -> None:
        self._refused.add(source)
        self._sources.pop(source, None)
        self._fault(source, reason)

    async def _fetch(self, source: ValidatorId, first: int, last: int) -> list[CheckedBlock]:
        """Raises PeerFault, BadInput or TimeoutError if the source does not give what it should."""
        request = encode(BlocksRequest(first=first, last=last))
        answer = await self._ask(source, RequestKind.BLOCKS, request, REQUEST_TIMEOUT_S)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._check, first, last, answer)

    def _check(self, first: int, last: int, answer: bytes) -> list[CheckedBlock]:
        """In a thread."""
        return self._checker.check(decode(BlocksAnswer, answer).blocks[: last - first + 1], first)

    # --- in order ---

    async def _give(self, run: Run[CheckedBlock], download: Download[CheckedBlock]) -> bool:
        """Hand a run over; False if one of its blocks is none of this chain, or this node does not get on."""
        blocks = [block for block in run.units if block.header.height > self._certified_height()]
        kept = next((at for at, block in enumerate(blocks) if block.certified_by is None), len(blocks))
        if kept:
            await self._keep(blocks[:kept])
        for at, block in enumerate(blocks):
            height = Height(block.header.height)
            if not await self._wait_for_turn(height):
                return False
            if height <= self._certified_height():
                continue  # it came by itself meanwhile
            try:
                await self._check_set(block)
            except BadInput as error:
                download.refuse(run.source, f"sync_{error.code}: {error.message}")
                return False
            if at >= kept:
                await self._keep([block])
            self._posted = height
            self.fetched += 1
            self._post(block)
        return True

    async def _wait_for_turn(self, height: Height) -> bool:
        while height > self._deliverable():
            self._progress.clear()
            try:
                async with asyncio.timeout(PROGRESS_WAIT_S):
                    await self._progress.wait()
            except TimeoutError:
                return False
        return True

    async def _check_set(self, block: CheckedBlock) -> None:
        """The set whose quorum has signed is the one in force at the height, which is certain now. Raises BadInput."""
        validators = self._schedule().at(block.header.height)
        if block.header.validator_set_hash != validators.digest:
            raise BadInput("wrong_set", f"block {block.header.height} names another validator set than is in force")
        if block.certified_by != validators.digest:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._checker.check_certificate, block.certificate, validators)

"""Whether a node with an empty folder loads a snapshot rather than executing the chain from genesis, and doing so.

It is decided when the core first asks for blocks. While the snapshot is loaded the node runs, follows and answers; then
it is stopped and opened again on what was loaded (`chain.node.run`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Final

import structlog

from chain.codec import decode
from chain.errors import BadInput, PeerFault
from chain.model.genesis import Genesis, genesis_header
from chain.model.validators import ValidatorSchedule
from chain.store import JoinFolder, Store
from chain.sync import CheckedBlock, RequestKind
from chain.sync.checking import VerifyBatch
from chain.sync.snapshots import NoSource, SnapshotLoader
from chain.sync.wire import Ask, Spawn, TipAnswer
from chain.types import ValidatorId
from consensus.effects import FetchBlocks

GAP_INTERVALS: Final = 2  # further behind than so many snapshot intervals: the snapshot is cheaper
TIP_TIMEOUT_S: Final = 2.0
ATTEMPTS_MAX: Final = 5  # to load; then the blocks are executed from genesis
PAUSE_S: Final = 1.0

log = structlog.get_logger("headrace.node")


class SnapshotJoining:
    """`takes` what the core asks for while it is open whether blocks are fetched at all."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        store: Store,
        enabled: bool,
        ask: Ask,
        peers: Callable[[], Sequence[ValidatorId]],
        check_trust: Callable[[bytes], ValidatorSchedule],
        save_trust: Callable[[bytes], None],
        keep: Callable[[Sequence[CheckedBlock]], Awaitable[None]],
        fault: Callable[[ValidatorId, str], None],
        fetch: Callable[[FetchBlocks], None],
        joined: Callable[[int], None],
        spawn: Spawn,
        thread: Executor,
        verify: VerifyBatch,
    ) -> None:
        """`fetch` gets the request if blocks are the way; `joined` is told the height of a chain that is loaded."""
        self._genesis = genesis
        self._interval = genesis.parameters.snapshot_interval
        self._store = store
        self._ask = ask
        self._peers = peers
        self._check_trust = check_trust
        self._save_trust = save_trust
        self._keep = keep
        self._fault = fault
        self._fetch = fetch
        self._joined = joined
        self._spawn = spawn
        self._thread = thread
        self._verify = verify
        self._open = enabled and self._interval > 0 and store.blocks.height() == 0
        self._wanted: FetchBlocks | None = None
        self._task: asyncio.Task[None] | None = None
        self.progress = ("", 0, 0)  # what is loaded, how far it is, how far it goes
        self._folder = JoinFolder(store.path, genesis_header(genesis))
        if not self._open:
            self._folder.discard()

    def takes(self, effect: FetchBlocks) -> bool:
        """True: blocks are not to be fetched (yet)."""
        if self._open and self._store.blocks.height() > 0:
            self._open = False  # the chain has begun here
        if not self._open:
            return False
        self._wanted = effect
        if self._task is None:
            self._task = self._spawn(self._run())
        return True

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def close(self) -> None:
        self._folder.close()

    async def _run(self) -> None:
        for attempt in range(ATTEMPTS_MAX):
            tips = await self._tips()
            height = max((tip.height for tip in tips.values()), default=0)
            if height <= GAP_INTERVALS * self._interval or not any(tip.snapshots for tip in tips.values()):
                break
            log.info("snapshot_loading", behind=height, attempt=attempt)
            try:
                joined = await self._loader().load(tips)
            except NoSource as error:
                log.warning("snapshot_not_loaded", reason=str(error))
                await asyncio.sleep(PAUSE_S)
            else:
                log.info("snapshot_loaded", height=joined)
                self._joined(joined)
                return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.discard)
        self._open = False
        if self._wanted is not None:
            self._fetch(self._wanted)

    async def _tips(self) -> dict[ValidatorId, TipAnswer]:
        peers = tuple(self._peers())
        answers = await asyncio.gather(*(self._tip(peer) for peer in peers))
        return {peer: tip for peer, tip in zip(peers, answers, strict=True) if tip is not None}

    async def _tip(self, peer: ValidatorId) -> TipAnswer | None:
        try:
            return decode(TipAnswer, await self._ask(peer, RequestKind.TIP, b"", TIP_TIMEOUT_S))
        except (PeerFault, BadInput, TimeoutError):
            return None

    def _loader(self) -> SnapshotLoader:
        return SnapshotLoader(
            genesis=self._genesis,
            folder=self._folder,
            snapshots=self._store.snapshots,
            ask=self._ask,
            check_trust=self._check_trust,
            save_trust=self._save_trust,
            keep=self._keep,
            fault=self._fault,
            thread=self._thread,
            told=self._tell,
            verify=self._verify,
        )

    def _tell(self, what: str, done: int, total: int) -> None:
        self.progress = (what, done, total)

"""The parts of a node by which it catches up, and helps others to: blocks, snapshots, what peers ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from chain.node.joining import SnapshotJoining
from chain.node.members import save_trust, schedule_of_trust
from chain.pipeline.bodies import LiveProposal
from chain.pipeline.snapshots import SnapshotTaker
from chain.sync import BlockChecker, BlockFetcher, CheckedBlock, ServingBudget, SyncServer
from chain.sync.wire import Ask
from chain.types import Height
from consensus.catch_up import FETCH_BLOCKS_MAX
from consensus.effects import FetchBlocks
from consensus.events import BlockFetched

if TYPE_CHECKING:
    from chain.node.node import Node


class CatchingUp:
    """Built by its node, once the node's store, members and gateway are there."""

    def __init__(self, node: Node, *, ask: Ask, journal_thread: Executor, snapshot_thread: Executor) -> None:
        """`node.execute_stage` is used when blocks run, `node.joined` when a chain is loaded."""
        self._node = node
        self._journal_thread = journal_thread
        members, thread = node.members, node.peer_thread
        self.serving = ServingBudget(
            SyncServer(node.archive, trust=lambda: members.links), thread, cpu_ns=node.around.thread_cpu_ns
        )
        self.fetcher = BlockFetcher(
            ask=ask,
            checker=BlockChecker(
                chain_id=node.chain_id, schedule=lambda: members.schedule, verify=node.verifier.check_now
            ),
            schedule=lambda: members.schedule,
            keep=self._keep,
            post=self._post,
            certified_height=lambda: node.replica.certified_height,
            deliverable=self._deliverable,
            peers=lambda: node.gateway.connected(),
            fault=node.report_fault,
            spawn=node.spawn,
            thread=thread,
        )
        self.joining = SnapshotJoining(
            genesis=node.genesis,
            store=node.store,
            enabled=node.config.sync.snapshot == "auto",
            ask=ask,
            peers=lambda: node.gateway.connected(),
            check_trust=lambda data: schedule_of_trust(node.genesis, data),
            save_trust=lambda data: save_trust(node.store.path, data),
            keep=self._keep,
            fault=node.report_fault,
            fetch=self._fetch,
            joined=node.open_anew,
            spawn=node.spawn,
            thread=thread,
            verify=node.verifier.check_now,
        )
        self.snapshots = SnapshotTaker(
            store=node.store,
            interval=node.parameters.snapshot_interval,
            thread=snapshot_thread,
            cpu=node.cpu,
            taken=lambda: node.execute_stage.wake(),
            failed=node.fail,
        )

    def start(self) -> None:
        self.snapshots.start()

    def close(self) -> None:
        """When no thread of the node runs any more."""
        self.joining.close()

    def wanted(self, effect: FetchBlocks) -> None:
        """The core asks for blocks."""
        if not self.joining.takes(effect):
            self._fetch(effect)

    def executed(self) -> None:
        """A block was executed."""
        self.fetcher.progressed()

    def stored(self, height: Height) -> None:
        """Blocks up to `height` are durable."""
        self.snapshots.stored(height)
        self.fetcher.progressed()

    @property
    def running(self) -> bool:
        """This node is behind, and knows it."""
        return self.fetcher.running or self.joining.running

    def _fetch(self, effect: FetchBlocks) -> None:
        self.fetcher.want(effect.first, effect.last, effect.sources)

    def _deliverable(self) -> Height:
        """The highest fetched block that may go to the core: its set is certain, it belongs to the epoch of the next
        block to be stored, and the core takes it."""
        node = self._node
        replica = node.replica
        height = min(replica.certified_height + FETCH_BLOCKS_MAX, replica.executed_height + node.parameters.window)
        boundary = node.members.schedule.boundary(node.last_header.height + 1)
        return Height(height if boundary is None else min(height, boundary))

    async def _keep(self, blocks: Sequence[CheckedBlock]) -> None:
        live = [LiveProposal(block.digest, block.proposal, block.transactions) for block in blocks]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._journal_thread, self._node.journal.write, (), live)

    def _post(self, block: CheckedBlock) -> None:
        self._node.bodies.put(LiveProposal(block.digest, block.proposal, block.transactions))
        self._node.post(BlockFetched(proposal=block.proposal, header=block.header, certificate=block.certificate))

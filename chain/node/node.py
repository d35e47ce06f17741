"""One node: everything wired together, started and stopped in order.

    clients -> RPC -> intake -> pool -> pack -> consensus -> execute -> consensus (checkpoint) -> store

This module holds no rules of its own; each part keeps its own promises, and what they need of each other is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from chain.codec import decode
from chain.config import NodeConfig
from chain.crypto import Scheme, Verifier, verify
from chain.errors import BadInput, InvariantError, PeerFault
from chain.model.block import Certificate, Header, Proposal
from chain.model.genesis import Genesis, chain_id
from chain.model.signing import ValidatorKey
from chain.model.transaction import TRANSACTION_BYTES_MAX, Transaction
from chain.model.validators import ValidatorSet
from chain.net import Channel, Gateway, GatewayHandlers
from chain.node.archive import BlockWriter, JournalWriter, NodeArchive
from chain.node.divergence import write_divergence
from chain.node.executions import Executions
from chain.node.pool_watch import PoolWatch
from chain.node.tracker import ExecutedTransactions, Waiters
from chain.pipeline import ConsensusStage, ExecuteStage, PackStage, Stage, StoreStage
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.execute import ExecutedBlock
from chain.pipeline.pack import PackRequest
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.pipeline.store import CertifiedBlock
from chain.pool import GOSSIP_BYTES, Gossip, Intake, IntakeResult, Pool, PoolLimits, TransactionsMessage
from chain.store import Store
from chain.sync import BlockFetcher, ProposalObtainer, RequestKind, SyncServer, Wanted
from chain.sync.blocks import CheckedBlock
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus import Replica, ReplicaConfig, verify_certificate
from consensus.effects import Diverged, FetchBlocks, JournalRecord, ObtainProposal
from consensus.effects import Store as StoreEffect
from consensus.events import (
    BlockFetched,
    Event,
    Executed,
    PeerConnected,
    ProposalObtained,
    ProposalPacked,
    ProposalRefused,
    Started,
)
from executor.engine import Engine

BACKLOG_HEIGHTS_MAX: Final = 8  # ordered and not yet stored: the leader packs no more
QUEUE_HEIGHTS_MAX: Final = 512
GOSSIP_BATCHES_MAX: Final = 64  # of one peer, being checked at once
GOSSIP_PAYLOAD_MAX: Final = GOSSIP_BYTES + TRANSACTION_BYTES_MAX + 4_096  # an honest message is never larger
EVIDENCE_LOGGED_MAX: Final = 4_096  # bytes
FAULTS_LOGGED: Final = frozenset({1, 10, 100, 1_000})  # of one peer; after that every ten-thousandth

log = structlog.get_logger("headrace.node")


class Node:
    """Runs until `stop`; `failed` is set when a promise broke or a stage died, and then the process must end."""

    def __init__(
        self, *, config: NodeConfig, genesis: Genesis, key: ValidatorKey, store: Store, records: list[JournalRecord]
    ) -> None:
        self.config = config
        self.genesis = genesis
        self.chain_id = chain_id(genesis)
        self.parameters = genesis.parameters
        self.validators = ValidatorSet(genesis.validators)
        self.store = store
        self.validator_id = key.validator_id
        self.started_ms = wall_ms()
        self.clock_offset_us = time.time_ns() // 1_000 - now_us()  # spans are shown by the wall clock
        self.faults: dict[ValidatorId, int] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.diverged = ""
        self.spans = Spans()
        self.cpu = CpuMeter()
        self.waiters = Waiters()
        self.verifier = Verifier(threads=config.crypto.threads)
        self.pool = Pool(PoolLimits(transactions_max=config.pool.transactions_max, bytes_max=config.pool.bytes_max))
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: list[ThreadPoolExecutor] = []
        self._executed: dict[Height, ExecutedBlock] = {}
        self.ordered: dict[Digest, Height] = {}  # transactions whose position is fixed and which are not stored
        self._gossip_batches: dict[ValidatorId, int] = {}
        self._stopping = False
        self._executor_cpu_us = 0
        self.executions = Executions()

        self.last_header = store.blocks.tip()
        self.transactions_total = store.blocks.transaction_count()
        self.index = ExecutedTransactions(store.blocks, Height(self.last_header.height))
        self.journal = JournalWriter(store.journal)
        self.archive = NodeArchive(store, self.pool)
        self.bodies = Bodies(self.archive)
        self.engine = Engine(
            state_path=store.state.path,
            executors=config.executor.count,
            chain_id=self.chain_id,
            rule_set=self.parameters.rule_set,
            transaction_gas_max=self.parameters.transaction_gas_max,
            deployers=frozenset(genesis.deployers),
            mode="parallel" if config.executor.mode == "parallel" else "serial",
        )
        self.replica = self._make_replica(key, records)
        self._journal_thread = self._thread("journal")
        self.peer_thread = self._thread("peers", 2)  # what peers ask for, and what is fetched from them
        self.read_thread = self._thread("reads", 2)  # what clients ask for
        self._build_network(key)
        self._build_sync()
        self._build_line(key)
        self._reserve_standing()

    def _make_replica(self, key: ValidatorKey, records: list[JournalRecord]) -> Replica:
        certificate = self.store.blocks.certificate(self.last_header.height)
        times = self.config.consensus
        return Replica(
            config=ReplicaConfig(
                view_timeout_ms=times.view_timeout_ms,
                view_timeout_ms_max=times.view_timeout_ms_max,
                retransmit_ms=times.retransmit_ms,
                timestamp_drift_ms_max=self.parameters.timestamp_drift_ms_max,
            ),
            signer=key,
            validators=self.validators,
            chain_id=self.chain_id,
            window=self.parameters.window,
            last=(self.last_header, decode(Certificate, certificate) if certificate else None),
            journal=records,
        )

    def _build_network(self, key: ValidatorKey) -> None:
        self.gateway = Gateway.from_config(
            self.config,
            own=key.validator_id,
            chain_id=self.chain_id,
            authority_sha256=self.genesis.ca_certificate_sha256,
            handlers=GatewayHandlers(
                on_frame=self._on_frame,
                on_request=self._on_request,
                on_connected=self._on_connected,
                on_fault=self._on_gateway_fault,
            ),
        )
        self.intake = Intake(
            pool=self.pool,
            verifier=self.verifier,
            known=self.index,
            chain_id=self.chain_id,
            lifetime_max=self.parameters.lifetime_max,
            transaction_gas_max=self.parameters.transaction_gas_max,
            height=lambda: Height(self.last_header.height),
            now=monotonic_ms,
            lifetime_slack=2 * self.parameters.window + BACKLOG_HEIGHTS_MAX,
            measure=self.cpu.measure,
        )
        self.gossip = Gossip(self._broadcast_transactions)
        self.sync_server = SyncServer(self.archive)

    def _thread(self, name: str, count: int = 1) -> ThreadPoolExecutor:
        thread = ThreadPoolExecutor(count, thread_name_prefix=f"headrace-{name}")
        self._threads.append(thread)
        return thread

    def _build_sync(self) -> None:
        self.obtainer = ProposalObtainer(
            chain_id=self.chain_id,
            parameters=self.parameters,
            pool=self.pool,
            verifier=self.verifier,
            index=self.index,
            ask=self._ask,
            find=self._find_bodies,
            obtained=self._on_obtained,
            refused=self._on_refused,
            now=monotonic_ms,
            spawn=self.spawn,
        )
        self.fetcher = BlockFetcher(
            ask=self._ask,
            check_certificate=self._check_certificate,
            deliver=self._deliver,
            stored_height=lambda: Height(self.last_header.height),
            wait_stored=self._wait_stored,
            fault=self.report_fault,
            spawn=self.spawn,
            thread=self.peer_thread,
        )

    def _build_line(self, key: ValidatorKey) -> None:
        replica = self.replica
        self.consensus = ConsensusStage(
            replica=replica,
            validators=self.validators,
            chain_id=self.chain_id,
            window=self.parameters.window,
            verifier=self.verifier,
            transport=self,
            journal=self.journal,
            journal_thread=self._journal_thread,
            bodies=self.bodies,
            neighbours=self,
            spans=self.spans,
            cpu=self.cpu,
            now=wall_ms,
        )
        self.pack = PackStage(
            chain_id=self.chain_id,
            proposer=key.validator_id,
            parameters=self.parameters,
            pool=self.pool,
            bodies=self.bodies,
            spans=self.spans,
            cpu=self.cpu,
            block_interval_ms=self.config.consensus.block_interval_ms,
            in_flight=lambda: len(replica.in_flight),
            backlog=lambda: replica.ordered_height - self.last_header.height,
            backlog_max=BACKLOG_HEIGHTS_MAX,
            wall_ms=wall_ms,
            packed=self._on_packed,
        )
        self.execute_stage = ExecuteStage(
            last=self.last_header,
            bodies=self.bodies,
            engine=self.engine,
            index=self.index,
            spans=self.spans,
            cpu=self.cpu,
            queue_max=QUEUE_HEIGHTS_MAX,
            executed=self._on_executed,
        )
        self.store_stage = StoreStage(
            last=Height(self.last_header.height),
            writer=BlockWriter(self.store),
            thread=self._thread("store"),
            spans=self.spans,
            cpu=self.cpu,
            queue_max=QUEUE_HEIGHTS_MAX,
            stored=self._on_stored,
        )
        self.pool_watch = PoolWatch(
            pool=self.pool,
            pooled_ms_max=self.config.pool.pooled_ms_max,
            now=monotonic_ms,
            leader_in_reach=self._leader_in_reach,
            post=self.post,
            send_to_all=self.gossip.add,
            wake=self.pack.wake,
        )
        self.stages: tuple[Stage, ...] = (self.pack, self.consensus, self.execute_stage, self.store_stage)

    def _reserve_standing(self) -> None:
        """After a restart: what live proposals of the journal hold must not be packed a second time."""
        for digest in self.replica.standing:
            live = self.bodies.find(digest)
            if live is not None:
                self.obtainer.reserve(digest, live.transactions)

    # --- life ---

    async def start(self) -> None:
        await self.engine.start()
        await self.gateway.start()
        for stage in self.stages:
            self.spawn(stage.run()).add_done_callback(self._on_stage_done)
        self.spawn(self.pool_watch.run())
        self.post(Started())

    async def stop(self) -> None:
        """Everything ends in order; what is durable stays, what is not was never promised."""
        self._stopping = True
        self.consensus.halt()
        self.gossip.stop()
        await self.gateway.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.consensus.stop()
        await self.verifier.close()
        await self.engine.stop()
        for thread in self._threads:
            thread.shutdown()
        self.store.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure stops the node: a dead stage must not look like a slow one."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _on_stage_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and not self._stopping:
            self.fail(InvariantError(f"stage task {task.get_name()} was cancelled while the node runs"))

    def fail(self, error: BaseException) -> None:
        """The process must end: nothing is stepped or signed from now on, and the first reason counts."""
        self.consensus.halt()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not self.failed.done():
            self.failed.set_exception(error)

    def report_bug(self, error: BaseException) -> None:
        """An API method raised what it should not: told, and fatal only if a promise broke."""
        log.error("api_bug", error=repr(error))
        if isinstance(error, InvariantError):
            self.fail(error)

    def post(self, event: Event) -> None:
        """An event for the core; whatever it raises is our bug, leaves it half changed and ends the process."""
        try:
            self.consensus.post(event)
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    # --- standing ---

    @property
    def is_ready(self) -> bool:
        """It can take part: enough validators are in reach, it votes, and it is not far behind."""
        reachable = {self.validator_id, *self.gateway.connected()}
        return not self.diverged and not self.fetcher.running and self.validators.is_quorum(reachable)

    def executor_cpu_us(self) -> int:
        return self._executor_cpu_us

    def cpu_by_work(self) -> dict[str, int]:
        """CPU microseconds by kind of work, executors included; `rest` is what no meter covers."""
        spent = dict(self.cpu.spent_us)
        spent["verify"] = self.verifier.cpu_us
        total = time.process_time_ns() // 1_000
        spent["rest"] = max(0, total - sum(spent.values()))
        spent["execute"] = self._executor_cpu_us
        return spent

    # --- from the network ---

    def _on_connected(self, peer: ValidatorId) -> None:
        self.post(PeerConnected(peer=peer))

    def _on_frame(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        if channel is Channel.CONSENSUS:
            self.consensus.receive(peer, payload)
        elif channel is Channel.TRANSACTIONS:
            if len(payload) > GOSSIP_PAYLOAD_MAX:
                self.report_fault(peer, "gossip_too_large")
            elif self._gossip_batches.get(peer, 0) >= GOSSIP_BATCHES_MAX:
                self.report_fault(peer, "gossip_dropped")  # it is sent to all again when it is overdue
            else:
                self._gossip_batches[peer] = self._gossip_batches.get(peer, 0) + 1
                self.spawn(self._take_gossip(peer, payload))

    async def _take_gossip(self, peer: ValidatorId, payload: bytes) -> None:
        try:
            message = decode(TransactionsMessage, payload)
            results, added = await self.intake.submit(message.transactions, gossip=True)
        except BadInput as error:
            self.report_fault(peer, error.code)
            return
        finally:
            self._gossip_batches[peer] -= 1
        if any(result.error is not None and result.error.code == "bad_signature" for result in results):
            self.report_fault(peer, "bad_signature")
        if added:
            self.pool_watch.changed()

    async def _on_request(self, peer: ValidatorId, kind: int, payload: bytes) -> bytes:
        """Reads of stored blocks take milliseconds: in a thread, so that votes do not wait for them."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.peer_thread, self.sync_server.answer, kind, payload)

    def _on_gateway_fault(self, peer: ValidatorId | None, reason: str) -> None:
        if peer is None:
            log.warning("stranger_refused", reason=reason[:200])
        else:
            self.report_fault(peer, reason)

    async def _ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        return await self.gateway.request(peer, int(kind), payload, timeout_s)

    def broadcast(self, payload: bytes) -> None:
        self.gateway.broadcast(Channel.CONSENSUS, payload)

    def _broadcast_transactions(self, payload: bytes) -> None:
        self.gateway.broadcast(Channel.TRANSACTIONS, payload)

    def send(self, peer: ValidatorId, payload: bytes) -> None:
        self.gateway.send(peer, Channel.CONSENSUS, payload)

    # --- from clients ---

    async def submit(self, raws: Sequence[bytes]) -> list[IntakeResult]:
        results, added = await self.intake.submit(raws)
        if added:
            self.gossip.add(added)
            self.pool_watch.changed()
        return results

    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        """A raw transaction that is not stored yet: in the pool, or in a proposal that is on its way to the store."""
        raw = self.archive.find_transaction(transaction_hash)
        height = self.ordered.get(transaction_hash)
        if raw is not None or height is None:
            return raw
        return self.bodies.transaction(height, transaction_hash)

    def _leader_in_reach(self) -> bool:
        leader = self.replica.leader
        return leader == self.validator_id or leader in self.gateway.connected()

    # --- neighbours of the consensus stage ---

    def request_proposal(self, request: PackRequest) -> None:
        self.pack.request(request)

    def cancel_requests(self, view: View) -> None:
        self.pack.cancel(view)
        self.obtainer.cancel_fresh()

    def obtain(self, effect: ObtainProposal) -> None:
        self.obtainer.want(
            Wanted(
                height=effect.height,
                digest=effect.digest,
                proposal=effect.proposal,
                fresh=effect.fresh,
                sources=effect.sources,
            )
        )

    def abandon(self, digest: Digest) -> None:
        self.obtainer.cancel(digest)
        self.pool.release(digest)
        self.bodies.forget(digest)
        self.pool_watch.changed()

    def speculate(self, proposal: Proposal, digest: Digest) -> None:
        if self.config.executor.speculate:
            self.execute_stage.speculate(proposal, digest)

    def execute(self, proposal: Proposal, digest: Digest) -> None:
        hashes = proposal.transaction_hashes()
        self.ordered.update(dict.fromkeys(hashes, Height(proposal.height)))
        self.waiters.wake_transactions(hashes)
        self.execute_stage.put(proposal, digest)

    def store_block(self, effect: StoreEffect) -> None:
        height = Height(effect.header.height)
        executed = self._executed.pop(height, None)
        if executed is None or executed.header != effect.header:
            raise InvariantError(f"certificate of height {height} for a header that was not executed here")
        self.store_stage.put(CertifiedBlock(executed, effect.certificate))

    def fetch_blocks(self, effect: FetchBlocks) -> None:
        self.fetcher.want(effect.first, effect.last, effect.sources)

    def report_fault(self, peer: ValidatorId, reason: str, evidence: bytes = b"") -> None:
        """Counted each time; logged at the first, tenth, hundredth, so that a faulty peer does not fill the disk."""
        count = self.faults[peer] = self.faults.get(peer, 0) + 1
        if count in FAULTS_LOGGED or count % 10_000 == 0:
            log.warning(
                "peer_fault", peer=peer.hex(), reason=reason[:200], count=count,
                evidence=evidence[:EVIDENCE_LOGGED_MAX].hex(),
            )  # fmt: skip

    def report_divergence(self, effect: Diverged) -> None:
        self.diverged = f"height {effect.height}: {effect.reason}"
        write_divergence(self.store.path, effect, self._executed.get(effect.height))
        log.error(
            "diverged",
            height=effect.height,
            own=effect.own.hex(),
            certified=effect.certified.hex() if effect.certified else None,
            reason=effect.reason,
        )

    # --- answers to the core ---

    def _on_packed(self, view: View, proposal: Proposal) -> None:
        self.pool_watch.changed()
        self.post(ProposalPacked(view=view, proposal=proposal))

    def _find_bodies(self, digest: Digest) -> tuple[Proposal, Sequence[Transaction]] | None:
        live = self.bodies.find(digest)
        return (live.proposal, live.transactions) if live is not None else None

    def _on_obtained(self, digest: Digest, proposal: Proposal, transactions: Sequence[Transaction]) -> None:
        self.bodies.put(LiveProposal(digest, proposal, transactions))
        self.pool_watch.changed()
        self.post(ProposalObtained(digest=digest, proposal=proposal))

    def _on_refused(self, height: Height, digest: Digest, reason: str) -> None:
        log.warning("proposal_refused", height=height, digest=digest.hex(), reason=reason)
        self.post(ProposalRefused(height=height, digest=digest, reason=reason))

    def _on_executed(self, block: ExecutedBlock) -> None:
        self._executed[Height(block.header.height)] = block
        self._executor_cpu_us += block.output.stats.cpu_us
        self.executions.add(block.header.height, len(block.hashes), block.output.stats)
        self.pool.remove(block.proposal.transaction_hashes())
        self.pool_watch.changed()
        self.post(Executed(header=block.header))

    def _on_stored(self, blocks: Sequence[CertifiedBlock]) -> None:
        last = blocks[-1].executed.header
        height = Height(last.height)
        self.last_header = last
        self.engine.stored(height)
        self.execute_stage.stored(height)
        self.journal.prune_below = height + 1
        for block in blocks:
            self.transactions_total += len(block.executed.hashes)
            self.index.stored(block.executed.hashes)
            hashes = block.executed.proposal.transaction_hashes()
            for transaction_hash in hashes:
                self.ordered.pop(transaction_hash, None)
            self.waiters.wake_transactions(hashes)
        self.waiters.wake_transactions(self.pool.expire(height))
        self.bodies.forget_up_to(height)
        self.obtainer.cancel_up_to(height)
        self.waiters.wake_heights(height)
        self.pool_watch.changed()

    # --- sync ---

    def _check_certificate(self, certificate: Certificate, header: Header) -> None:
        """In a thread. Raises PeerFault."""
        if header.chain_id != self.chain_id:
            raise PeerFault("block of another chain")
        verify_certificate(
            certificate, validators=self.validators, chain_id=self.chain_id, verify_signature=verify_vote
        )

    async def _wait_stored(self, height: Height, timeout_s: float) -> bool:
        return height <= self.last_header.height or await self.waiters.height_reached(height, timeout_s)

    async def _deliver(self, blocks: Sequence[CheckedBlock]) -> None:
        live = [LiveProposal(block.digest, block.proposal, block.transactions) for block in blocks]
        await asyncio.get_running_loop().run_in_executor(self._journal_thread, self.journal.write, (), live)
        for block, bodies in zip(blocks, live, strict=True):
            if block.header.height <= self.last_header.height:
                continue
            self.bodies.put(bodies)
            self.post(BlockFetched(proposal=block.proposal, header=block.header, certificate=block.certificate))


def verify_vote(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return verify(Scheme.ED25519, public_key, message, signature)


def monotonic_ms() -> Instant:
    """For ages: a clock that is set back or forward must not make a leader look silent."""
    return Instant(time.monotonic_ns() // 1_000_000)


def wall_ms() -> Instant:
    return Instant(time.time_ns() // 1_000_000)

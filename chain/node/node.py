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
from chain.errors import InvariantError
from chain.model.block import Certificate, Proposal
from chain.model.genesis import Genesis, chain_id
from chain.model.signing import ValidatorKey
from chain.model.transaction import Transaction
from chain.model.validators import ValidatorSet
from chain.net import Channel, DuplicateValidatorError, Gateway, GatewayHandlers, duplicate_validator
from chain.node.admission import Admission
from chain.node.archive import BlockWriter, JournalWriter, NodeArchive
from chain.node.catching_up import CatchingUp
from chain.node.divergence import write_divergence
from chain.node.executed import ExecutedTransactions
from chain.node.executions import Executions
from chain.node.faults import count_fault, count_stranger
from chain.node.gossip import GossipIntake
from chain.node.members import NodeMembers
from chain.node.pool_watch import PoolWatch
from chain.node.surroundings import REAL, Surroundings
from chain.node.tracker import OrderedTransactions, Waiters
from chain.pipeline import ConsensusStage, ExecuteStage, PackStage, Stage, StoreStage
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.execute import ExecutedBlock
from chain.pipeline.pack import PackRequest, bounded_interval_ms
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.pipeline.store import CertifiedBlock
from chain.pool import Gossip, Intake, IntakeResult, Pool, PoolLimits
from chain.store import Store
from chain.sync import ProposalObtainer, RequestKind, Wanted
from chain.types import Digest, Height, ValidatorId, View
from consensus import ReplicaConfig, Succession
from consensus.effects import Diverged, FetchBlocks, JournalRecord, ObtainProposal
from consensus.effects import Store as StoreEffect
from consensus.events import (
    Event,
    Executed,
    PeerConnected,
    ProposalObtained,
    ProposalPacked,
    ProposalRefused,
    Started,
)
from contracts.system.membership import members_of_genesis, scheduled_set

BACKLOG_HEIGHTS_MAX: Final = 8  # ordered and not yet stored: the leader packs no more
QUEUE_HEIGHTS_MAX: Final = 512

log = structlog.get_logger("headrace.node")


class Node:
    """Runs until `stop`; `failed` is set when a promise broke or a stage died, and then the process must end."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        genesis: Genesis,
        key: ValidatorKey,
        store: Store,
        records: list[JournalRecord],
        next_key: ValidatorKey | None = None,
        around: Surroundings = REAL,
    ) -> None:
        """`next_key` signs once the chain says so: the node rotates its key."""
        self.around = around
        self.config = config
        self.genesis = genesis
        self.chain_id = chain_id(genesis)
        self.parameters = genesis.parameters
        self.store = store
        keys = (key,) if next_key is None else (key, next_key)
        self.members = NodeMembers(config=config, genesis=genesis, keys=keys, store=store)
        self.started_ms = around.wall_ms()
        self.clock_offset_us = time.time_ns() // 1_000 - now_us()  # spans are shown by the wall clock
        self.faults: dict[ValidatorId, int] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.joined: asyncio.Future[int] = asyncio.get_running_loop().create_future()  # see `open_anew`
        self.diverged = ""
        self.spans = Spans()
        self.cpu = CpuMeter()
        self.waiters = Waiters()
        self.verifier = around.verifier(threads=config.crypto.threads)
        self.pool = Pool(PoolLimits(transactions_max=config.pool.transactions_max, bytes_max=config.pool.bytes_max))
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: list[ThreadPoolExecutor] = []
        self._executed: dict[Height, ExecutedBlock] = {}
        self.ordered = OrderedTransactions()
        self._stopping = False
        self._executor_cpu_us = 0
        self.executions = Executions()

        self.last_header = store.blocks.tip()
        self.transactions_total = store.blocks.transaction_count()
        self.index = ExecutedTransactions(store.blocks, Height(self.last_header.height))
        self.journal = JournalWriter(store.journal)
        self.archive = NodeArchive(store, self.pool)
        self.bodies = Bodies(self.archive)
        self.engine = around.engine(
            state_path=store.state.path,
            executors=config.executor.count,
            chain_id=self.chain_id,
            rule_set=self.parameters.rule_set,
            transaction_gas_max=self.parameters.transaction_gas_max,
            deployers=frozenset(genesis.deployers),
            window=self.parameters.window,
            validators=members_of_genesis(genesis),
            mode="parallel" if config.executor.mode == "parallel" else "serial",
        )
        self.replica = self._make_replica(records)
        self._journal_thread = self._thread("journal")
        self.peer_thread = self._thread("peers", 2)  # what peers ask for, and what is fetched from them
        self.read_thread = self._thread("reads", 2)  # what clients ask for
        self._build_network()
        self._build_sync()
        self._build_line()
        self._reserve_standing()

    @property
    def validator_id(self) -> ValidatorId:
        """This node's; another one after it rotated its key."""
        return self.members.own

    @property
    def validators(self) -> ValidatorSet:
        """The set in force for the next height."""
        return self.members.validators

    def _make_replica(self, records: list[JournalRecord]) -> Succession:
        certificate = self.store.blocks.certificate(self.last_header.height)
        times = self.config.consensus
        return Succession(
            config=ReplicaConfig(
                view_timeout_ms=times.view_timeout_ms,
                view_timeout_ms_max=times.view_timeout_ms_max,
                retransmit_ms=times.retransmit_ms,
                timestamp_drift_ms_max=self.parameters.timestamp_drift_ms_max,
            ),
            signers=self.members.keys,
            schedule=self.members.schedule,
            chain_id=self.chain_id,
            window=self.parameters.window,
            last=(self.last_header, decode(Certificate, certificate) if certificate else None),
            journal=records,
        )

    def _build_network(self) -> None:
        self.admission = Admission(self.members, self._open_gateway)
        self.gateway = self.admission.gateway
        self.intake = Intake(
            pool=self.pool,
            verifier=self.verifier,
            known=self.index,
            chain_id=self.chain_id,
            lifetime_max=self.parameters.lifetime_max,
            transaction_gas_max=self.parameters.transaction_gas_max,
            height=lambda: Height(self.last_header.height),
            now=self.around.monotonic_ms,
            lifetime_slack=2 * self.parameters.window + BACKLOG_HEIGHTS_MAX,
            measure=self.cpu.measure,
        )
        self.gossip = Gossip(self._broadcast_transactions)
        self.gossip_intake = GossipIntake(
            intake=self.intake, fault=self.report_fault, added=lambda: self.pool_watch.changed(), spawn=self.spawn
        )

    def _open_gateway(self, config: NodeConfig, own: ValidatorId) -> Gateway:
        return self.around.gateway(
            config,
            own=own,
            chain_id=self.chain_id,
            authority_sha256=self.genesis.ca_certificate_sha256,
            handlers=GatewayHandlers(
                on_frame=self._on_frame,
                on_request=self._on_request,
                on_connected=self._on_connected,
                on_lost=lambda peer: self.admission.reconsider(),
                on_fault=self._on_gateway_fault,
                on_duplicate=self._on_duplicate,
            ),
        )

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
            now=self.around.monotonic_ms,
            spawn=self.spawn,
        )
        self.catching_up = CatchingUp(
            self, ask=self._ask, journal_thread=self._journal_thread, snapshot_thread=self._thread("snapshot")
        )
        self.fetcher = self.catching_up.fetcher

    def _build_line(self) -> None:
        replica, times = self.replica, self.config.consensus
        self.consensus = ConsensusStage(
            replica=replica,
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
            now=self.around.wall_ms,
        )
        self.pack = PackStage(
            chain_id=self.chain_id,
            proposer=self.members.own,
            parameters=self.parameters,
            pool=self.pool,
            bodies=self.bodies,
            spans=self.spans,
            cpu=self.cpu,
            block_interval_ms=bounded_interval_ms(
                times.block_interval_ms, view_timeout_ms=times.view_timeout_ms,
                pooled_ms_max=self.config.pool.pooled_ms_max,
            ),
            in_flight=lambda: len(replica.in_flight),
            backlog=self._backlog,
            backlog_max=BACKLOG_HEIGHTS_MAX if self.config.is_pipelined else 1,
            wall_ms=self.around.wall_ms,
            clock_us=self.around.now_us,
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
            schedule=self.members.schedule,
            window=self.parameters.window,
            scheduled=scheduled_set,
            snapshots=self.catching_up.snapshots,
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
            now=self.around.monotonic_ms,
            leader_in_reach=self._leader_in_reach,
            post=self.post,
            send_to_all=self.gossip.add,
            wake=self.pack.wake,
        )
        self.stages: tuple[Stage, ...] = (self.pack, self.consensus, self.execute_stage, self.store_stage)

    def _backlog(self) -> int:
        """Heights ordered and not stored yet; without pipelining those that are only proposed count too."""
        ordered = self.replica.ordered_height - self.last_header.height
        return ordered if self.config.is_pipelined else max(ordered, len(self.replica.in_flight))

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
        self.spawn(self.index.fill_from_store(self.read_thread))
        self.catching_up.start()
        self.post(Started())

    async def stop(self) -> None:
        """Everything ends in order; what is durable stays, what is not was never promised."""
        self._stopping = True
        self.consensus.halt()
        self.gossip.stop()
        self.admission.stop()
        await self.gateway.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.consensus.stop()
        await self.verifier.close()
        await self.engine.stop()
        for thread in self._threads:
            thread.shutdown()
        self.catching_up.close()
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
        return not self.diverged and not self.catching_up.running and self.validators.is_quorum(reachable)

    def executor_cpu_us(self) -> int:
        return self._executor_cpu_us

    def cpu_by_work(self) -> dict[str, int]:
        """CPU microseconds by kind of work, executors included; `rest` is what no meter covers."""
        spent = dict(self.cpu.spent_us)
        spent["verify"] = self.verifier.cpu_us
        total = time.process_time_ns() // 1_000
        spent["rest"] = max(0, total - sum(spent.values()))
        spent["verify"] += self.around.check_cpu_us()
        spent["execute"] = self._executor_cpu_us
        return spent

    # --- from the network ---

    def _on_connected(self, peer: ValidatorId) -> None:
        self.admission.connected(peer)
        self.post(PeerConnected(peer=peer))

    def _on_frame(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        if channel is Channel.CONSENSUS:
            self.consensus.receive(peer, payload)
        elif channel is Channel.TRANSACTIONS:
            self.gossip_intake.receive(peer, payload)

    async def _on_request(self, peer: ValidatorId, kind: int, payload: bytes) -> bytes:
        """Reads of stored blocks take milliseconds: in a thread, so that votes do not wait for them."""
        return await self.catching_up.serving.serve(peer, kind, payload)

    def _on_duplicate(self, peer: ValidatorId, address: str) -> None:
        """A peer refuses us: another process answers there under our key. Enough of them, and this one must end."""
        log.error("duplicate_validator", peer=peer.hex(), seen_at=address)
        text = duplicate_validator(self.gateway.duplicate_at, self.validators)
        if text is not None:
            self.fail(DuplicateValidatorError(text))

    def _on_gateway_fault(self, peer: ValidatorId | None, reason: str) -> None:
        if peer is None:
            count_stranger(self.gateway.strangers[reason], reason)
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
        height = self.ordered.height_of(transaction_hash)
        if raw is not None or height is None:
            return raw
        return self.bodies.transaction(height, transaction_hash)

    def _leader_in_reach(self) -> bool:
        leader = self.replica.leader
        return leader == self.validator_id or leader in self.gateway.connected()

    # --- neighbours of the consensus stage ---

    def request_proposal(self, request: PackRequest) -> None:
        self.pack.request(request)

    def cancel_requests(self) -> None:
        self.pack.cancel()
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
        if self.config.executor.speculate and self.config.is_pipelined:
            self.execute_stage.speculate(proposal, digest)

    def execute(self, proposal: Proposal, digest: Digest) -> None:
        hashes = proposal.transaction_hashes()
        self.ordered.put(Height(proposal.height), hashes)
        self.waiters.wake_transactions(hashes)
        self.execute_stage.put(proposal, digest)

    def store_block(self, effect: StoreEffect) -> None:
        height = Height(effect.header.height)
        executed = self._executed.pop(height, None)
        if executed is None or executed.header != effect.header:
            raise InvariantError(f"certificate of height {height} for a header that was not executed here")
        self.store_stage.put(CertifiedBlock(executed, effect.certificate))

    def fetch_blocks(self, effect: FetchBlocks) -> None:
        self.catching_up.wanted(effect)

    def report_fault(self, peer: ValidatorId, reason: str, evidence: bytes = b"") -> None:
        count_fault(self.faults, peer, reason, evidence)

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
        self.pool.remove(self.ordered.at(block.header.height))
        self.pool_watch.changed()
        if block.validators is not None:
            log.info("validators_scheduled", height=block.header.height, validators=len(block.validators))
            self._load_next_key()
        self.post(Executed(header=block.header, validators=block.validators))
        self.catching_up.executed()

    def _on_stored(self, blocks: Sequence[CertifiedBlock]) -> None:
        last = blocks[-1].executed.header
        height = Height(last.height)
        self.last_header = last
        if self.members.stored(height, [block.executed.output.writes for block in blocks]):
            self._follow_members()
        self.admission.reconsider()
        self.engine.stored(height)
        self.execute_stage.stored(height)
        self.journal.prune_below = height + 1
        for block in blocks:
            self.transactions_total += len(block.executed.hashes)
            self.waiters.wake_transactions(self.ordered.take(block.executed.header.height))
        self.index.stored(height)
        self.waiters.wake_transactions(self.pool.expire(height))
        self.bodies.forget_up_to(height)
        self.obtainer.cancel_up_to(height)
        self.waiters.wake_heights(height)
        self.pool_watch.changed()
        self.consensus.on_stored(height)
        self.catching_up.stored(height)

    def _load_next_key(self) -> None:
        next_key = self.members.load_next_key()
        if next_key is not None:
            self.replica.add_signer(next_key)
            log.info("next_key_loaded", validator=next_key.validator_id.hex())

    def _follow_members(self) -> None:
        """Who belongs to the chain has changed, or this node has another key now."""
        members = self.members
        self.pack.proposer = members.own
        self.admission.follow()
        height, count = self.last_header.height, len(members.validators)
        log.info("members_changed", height=height, validators=count, role=members.role)

    def reload_certificates(self) -> None:
        """Use the TLS files as they are now, and a next validator key if there is one. Connections stay, unless the
        key that counts is another one now. Raises ConfigError: not this node's files; the gateway goes on with its own.
        """
        self._load_next_key()
        self.members.settle_identity()
        self.pack.proposer = self.members.own
        self.admission.use_certificate()
        self.admission.update()
        if self.replica.is_following and self.members.own in self.validators:
            log.info("reopening_to_vote", reason="the key was loaded after its set came into force")
            self.open_anew(self.last_header.height)

    def open_anew(self, height: int) -> None:
        """Have the process make another node of this folder: a restart from what is stored, with the whole journal."""
        if not self.joined.done():
            self.joined.set_result(height)

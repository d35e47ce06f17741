"""One simulated node: the unchanged core, and around it a journal, a pool, an executor, stored blocks and timers.

Effects are carried out in list order. What stands behind a `Persist` waits for the sync that makes it durable; a crash
in between loses both. `later` binds an action to the present life: a crash forgets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_never

from chain.codec import Record
from chain.errors import BadInput, PeerFault
from chain.model.block import Header, Proposal, proposal_digest
from chain.model.validators import ValidatorSet
from chain.pipeline.ahead import AheadStats
from chain.sim.blocks_sync import BlockFetcher
from chain.sim.disk import Blocks, Journal, StoredBlock, record_height
from chain.sim.executor import SimExecution
from chain.sim.obtain import Obtainer
from chain.sim.pool import SimPool
from chain.sim.trace import describe, describe_message
from chain.types import Digest, Instant, ValidatorId
from consensus import OtherEpoch, Succession, decode_signed
from consensus.effects import (
    Abandon,
    Broadcast,
    CancelRequests,
    CancelTimer,
    Diverged,
    Effect,
    Execute,
    FetchBlocks,
    JournalRecord,
    ObtainProposal,
    Persist,
    ReportFault,
    RequestProposal,
    Send,
    SetTimer,
    Speculate,
    Store,
    VoteRecord,
)
from consensus.events import (
    BlockFetched,
    Event,
    Executed,
    MessageReceived,
    PeerConnected,
    PeerStatus,
    PoolDrained,
    ProposalPacked,
    ProposalRefused,
    Started,
    Stored,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.messages import MessageType

if TYPE_CHECKING:
    from chain.sim.world import World

EPOCH_MS = 1_000_000_000  # what every clock shows at the start, give or take its skew


class Gossip(Record, frozen=True, kw_only=True):
    """Transactions on their way to a pool."""

    transactions: tuple[bytes, ...]


class SimNode:
    """A process of a validator. `honest` is False for what a checker must not hold to the promises."""

    def __init__(self, world: World, *, slot: int, validator: ValidatorId, name: str, honest: bool) -> None:
        self.world = world
        self.slot = slot
        self.validator = validator
        self.name = name
        self.honest = honest
        self.alive = False
        self.life = 0
        self.skew_ms = 0
        self.disk_slow = False
        self.frozen_until = 0  # it does nothing before this instant
        self.journal = Journal()
        self.disk_blocks = Blocks()
        self.pool = SimPool()
        self.diverged: Diverged | None = None
        self.faults_reported: dict[str, int] = {}
        self.steps = 0
        self.crashes = 0
        self._ahead = AheadStats()  # of earlier lives

    # --- lives ---

    def boot(self) -> None:
        world = self.world
        self.alive = True
        self.life += 1
        stored = self.disk_blocks.items
        self.outbox: deque[Effect] = deque()
        self._inbox: deque[Event] = deque()  # what waits for a sync where the driver does not overlap
        self._syncing = False
        self._covered = 0  # of the pending journal records, how many the running sync makes durable
        self._durable_ahead = 0  # `Persist`s at the head of the outbox that are durable already
        self.timers: dict[Timer, int] = {}  # kind -> generation of the armed timer
        self._generation = 0
        self.requests: dict[int, int] = {}  # height -> view of open `RequestProposal`s
        self._may_be_empty: set[int] = set()  # those that are to be answered even with nothing
        self.obtained: dict[bytes, Proposal] = {}
        self._store_queue: deque[StoredBlock] = deque()
        self._storing = False
        self.ordered_proposals: dict[int, Proposal] = {}
        self._fetched: set[tuple[int, bytes]] = set()  # (height, proposal digest) of fetched blocks
        self._pack_scheduled = False
        self._told: tuple[bool, bool, bytes | None] = (False, False, None)  # waiting, overdue, the oldest of those
        self.obtainer = Obtainer(self)
        self.fetcher = BlockFetcher(self)
        if not world.node_faults.pool_survives:
            self.pool = SimPool()
        self.pool.reserved.clear()
        executed: set[bytes] = set()
        self.members = world.new_members()
        for block in stored:
            fresh = [known for known in block.proposal.transaction_hashes() if known not in executed]
            executed.update(fresh)
            self.members.execute(block.header.height, fresh)
        self.pool.order(executed)
        tip = stored[-1].header if stored else world.genesis_header
        self.execution = SimExecution(
            tip=tip,
            executed=executed,
            members=self.members,
            soon=lambda action: self.later(0, action),
            work_later=lambda action: self.later(world.random.randint(*world.node_faults.execute_ms), action),
            published=self._executed,
        )
        if self.honest:
            world.checkers.on_boot(self.validator, len(stored))
        self.tell("boot", f"life {self.life}, {len(stored)} blocks, {len(self.journal.records)} journal records")
        journal = self.journal.load()
        highest = max((record_height(record) or 0 for record in journal), default=0)
        self.restored_heights = max(0, highest - len(stored))  # what the journal knows and the blocks lack
        self.replica: Succession = world.core.replica(
            self.validator, schedule=self.members.schedule, last=world.last_block(self), journal=journal
        )
        self._reclaim()
        self.step(Started())
        for peer in world.peers(self):
            world.network.breaks(self.slot, peer.slot)
        for transaction in list(self.pool.waiting):
            self._watch(transaction)
        self.pool_changed()

    def _reclaim(self) -> None:
        """Transactions of journalled proposals: reserved where the proposal still stands, waiting otherwise."""
        standing = self.replica.standing
        for digest, proposal in self.journal.proposals.items():
            if proposal.height > self.disk_blocks.height:
                for transaction in proposal.transaction_hashes():
                    self.pool.add(transaction, self.world.clock.now)
                if digest in standing:
                    self.pool.reserve(digest, proposal.transaction_hashes(), self.world.clock.now)

    def crash(self) -> None:
        self.tell("crash", f"{len(self.outbox)} effects and {len(self.journal.pending)} records pending")
        self._ahead = self.ahead
        self.alive = False
        self.frozen_until = 0
        self.life += 1
        self.crashes += 1
        self.journal.crash(self.world.random)

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        life = self.life

        def run() -> None:
            if self.life != life:
                return
            frozen_ms = self.frozen_until - self.world.clock.now
            if frozen_ms > 0:
                self.world.clock.after(frozen_ms, run)
            else:
                action()

        self.world.clock.after(delay_ms, run)

    def while_alive(self, answer: Callable[[Any], None]) -> Callable[[Any], None]:
        life = self.life

        def run(data: Any) -> None:
            if self.life == life:
                self.later(0, lambda: answer(data))

        return run

    def tell(self, what: str, text: str = "") -> None:
        self.world.trace.add(self.world.clock.now, self.name, f"{what} {text}")

    @property
    def ahead(self) -> AheadStats:
        """What was executed ahead of order, and what became of it, in all lives."""
        before, now = self._ahead, self.execution.line.stats if self.alive else AheadStats()
        return AheadStats(
            before.speculated + now.speculated, before.kept + now.kept, before.discarded + now.discarded
        )

    @property
    def frozen(self) -> bool:
        return self.world.clock.now < self.frozen_until

    @property
    def view(self) -> int:
        """The view of the present or last life, in its epoch."""
        return self.replica.view

    @property
    def place(self) -> tuple[int, int]:
        """The base of the epoch it is in, and the view: what comes later is greater."""
        return self.replica.epoch_base, self.replica.view

    @property
    def local_now(self) -> Instant:
        return Instant(EPOCH_MS + self.world.clock.now + self.skew_ms)

    # --- the core ---

    def step(self, event: Event) -> None:
        if self._syncing and not self.world.node_faults.overlap:
            self._inbox.append(event)
            return
        self.tell(">", describe(event))
        self.steps += 1
        if self.honest and isinstance(event, ProposalRefused):
            self.world.checkers.on_refused(
                self.validator, view=self.replica.view, height=event.height, digest=event.digest
            )
        if isinstance(event, BlockFetched):
            self._fetched.add((event.header.height, event.header.proposal_digest))
        effects = self.replica.step(event, self.local_now)
        self.world.after_step(self)
        for effect in effects:
            if isinstance(effect, Persist):
                self._check_record(effect.record)
                self.journal.append(effect.record)
        self.outbox.extend(effects)
        self._drain()

    def _check_record(self, record: JournalRecord) -> None:
        if self.honest and isinstance(record, VoteRecord) and record.kind == MessageType.CHECKPOINT:
            self.world.checkers.check_checkpoint(self.validator, record.height, record.digest)

    def _drain(self) -> None:
        life = self.life
        while self.outbox and self.life == life:
            effect = self.outbox[0]
            if isinstance(effect, Persist):
                if not self._durable_ahead:
                    self._start_sync()
                    return
                self._durable_ahead -= 1
            if self.world.strikes_now(self):
                return
            self.outbox.popleft()
            self.tell("<", describe(effect))
            self._carry_out(effect)

    def _start_sync(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        self._covered = len(self.journal.pending)
        faults = self.world.node_faults
        span = faults.slow_disk_ms if self.disk_slow else faults.sync_ms
        self.later(self.world.random.randint(*span), self._synced)

    def _synced(self) -> None:
        self._syncing = False
        self.journal.sync(self._covered)
        self._durable_ahead += self._covered
        self._drain()
        while self._inbox and not self._syncing and self.alive:
            self.step(self._inbox.popleft())

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist():
                pass
            case Broadcast() | Send():
                self.world.transmit(self, effect)
            case SetTimer():
                self._set_timer(effect)
            case CancelTimer():
                self.timers.pop(effect.timer, None)
            case RequestProposal():
                self.requests[effect.height] = effect.view
                if effect.may_be_empty:
                    self._may_be_empty.add(effect.height)
                self._schedule_pack()
            case CancelRequests():
                self.requests.clear()
                self._may_be_empty.clear()
                self.obtainer.cancel_fresh()
            case ObtainProposal():
                self.obtainer.start(effect)
            case Abandon():
                self._abandon(effect)
            case Speculate():
                self._speculate(effect.proposal)
            case Execute():
                self._order(effect.proposal)
            case Store():
                self._store(effect)
            case FetchBlocks():
                self.fetcher.start(effect)
            case ReportFault():
                self.faults_reported[effect.reason] = self.faults_reported.get(effect.reason, 0) + 1
                self.world.on_fault_reported(self, effect)
            case Diverged():
                self.diverged = effect
                self.world.on_diverged(self, effect)
            case _:
                assert_never(effect)

    def _set_timer(self, effect: SetTimer) -> None:
        self._generation += 1
        generation = self.timers[effect.timer] = self._generation

        def fire() -> None:
            if self.timers.get(effect.timer) == generation:
                del self.timers[effect.timer]
                self.step(TimerFired(timer=effect.timer))

        self.later(effect.at - self.local_now, fire)

    # --- messages ---

    def receive(self, source: int, data: bytes) -> None:
        """A frame from the peer at slot `source`: gossip or a signed message, as bytes off the wire."""
        if self.frozen:
            self.later(self.frozen_until - self.world.clock.now, lambda: self.receive(source, data))
            return
        if data[:1] == b"G":
            self.add_transactions([data[at : at + 32] for at in range(1, len(data), 32)])
            return
        try:
            signed = decode_signed(data)
        except BadInput as error:
            self.tell("bad", error.code)
            self.world.on_unverified(self, source, error.message)
            return
        try:
            verified = self.world.core.verify(signed, self.replica.epoch)
        except OtherEpoch as other:
            self.tell("other epoch", describe_message(signed.message))
            if other.certified is not None and signed.sender == self.world.nodes[source].validator:
                self.step(PeerStatus(peer=signed.sender, certified=other.certified))
            return
        except PeerFault as fault:
            self.tell("bad", str(fault))
            self.world.on_unverified(self, source, str(fault))
            return
        self.world.on_verified(verified)
        if not self.honest:
            self.world.byzantine.heard(verified)
        self.step(MessageReceived(message=verified))

    def connected(self, peer: int) -> None:
        if self.frozen:
            self.later(self.frozen_until - self.world.clock.now, lambda: self.connected(peer))
            return
        validator = self.world.nodes[peer].validator
        if validator != self.validator:
            self.step(PeerConnected(peer=validator))

    # --- transactions ---

    def add_transactions(self, transactions: list[bytes]) -> None:
        if self.frozen:
            self.later(self.frozen_until - self.world.clock.now, lambda: self.add_transactions(transactions))
            return
        added = [transaction for transaction in transactions if self.pool.add(transaction, self.world.clock.now)]
        for transaction in added:
            self._watch(transaction)
        if added and self.world.node_faults.gossip:
            self._gossip(added)
        self.pool_changed()

    def _watch(self, transaction: bytes) -> None:
        self.later(self.world.node_faults.overdue_ms, lambda: self._overdue(transaction, told_all=False))

    def _overdue(self, transaction: bytes, *, told_all: bool) -> None:
        """Pooled too long: tell all, again and again; if that did not help, the core must know."""
        if transaction not in self.pool.waiting:
            return
        if self._counts(transaction):
            self._gossip([transaction])
            if told_all:
                self.pool.overdue.add(transaction)
                self.pool_changed()
        self.later(self.world.node_faults.overdue_ms, lambda: self._overdue(transaction, told_all=True))

    def _counts(self, transaction: bytes) -> bool:
        """Whether a transaction that is not ordered counts as waiting."""
        return self.world.node_faults.reserved_waits or transaction not in self.pool.reserved

    def _gossip(self, transactions: list[bytes]) -> None:
        frame = b"G" + b"".join(transactions)
        for peer in self.world.peers(self):
            self.world.network.send(self.slot, peer.slot, frame)

    def pool_changed(self) -> None:
        """Tell the core when the pool stops or starts being empty, or overdue; pack if that was asked for."""
        if not self.alive:
            return
        overdue = (known for known in self.pool.waiting if known in self.pool.overdue and self._counts(known))
        oldest = next(overdue, None)
        state = (any(map(self._counts, self.pool.waiting)), oldest is not None, oldest)
        if state != self._told:
            self._told = state
            waiting = TransactionsWaiting(overdue=state[1], oldest=None if oldest is None else Digest(oldest))
            self.step(waiting if state[0] else PoolDrained())
        self._schedule_pack()

    # --- packing ---

    def _schedule_pack(self) -> None:
        if self.alive and self.requests and not self._pack_scheduled and self._can_pack():
            self._pack_scheduled = True
            self.later(self.world.random.randint(*self.world.node_faults.pack_ms), self._pack)

    def _can_pack(self) -> bool:
        return bool(self.pool.select(1)) or (bool(self.requests) and min(self.requests) in self._may_be_empty)

    def _pack(self) -> None:
        self._pack_scheduled = False
        chosen = self.pool.select(self.world.plan.block_transactions_max)
        if not self.requests or not self._can_pack():
            return
        height = min(self.requests)
        view = self.requests.pop(height)
        self._may_be_empty.discard(height)
        proposal = Proposal(
            chain_id=self.world.chain_id,
            height=height,
            timestamp_ms=self.local_now,
            proposer=self.validator,
            hashes=b"".join(chosen),
        )
        digest = proposal_digest(proposal)
        self.pool.reserve(digest, chosen, self.world.clock.now)
        self.obtained[digest] = proposal
        self.step(ProposalPacked(view=view, proposal=proposal))  # type: ignore[arg-type]
        self.pool_changed()

    def _abandon(self, effect: Abandon) -> None:
        proposal = self.proposal(effect.digest)
        self.pool.release(effect.digest)
        if proposal is not None:
            for transaction in proposal.transaction_hashes():
                if self.pool.add(transaction, self.world.clock.now):
                    self._watch(transaction)
        self.later(0, self.pool_changed)

    def proposal(self, digest: bytes) -> Proposal | None:
        """The proposal, if this node holds it with every body."""
        held = self.obtained.get(digest) or self.journal.proposals.get(digest)
        if held is not None:
            self.pool.known.update(held.transaction_hashes())
            return held
        for block in self.disk_blocks.items:
            if block.header.proposal_digest == digest:
                return block.proposal
        return None

    # --- execution and storing ---

    def _order(self, proposal: Proposal) -> None:
        if self.honest:
            fetched = (proposal.height, proposal_digest(proposal)) in self._fetched
            self.world.checkers.on_execute(self.validator, proposal, journal=self.journal, fetched=fetched)
        self.ordered_proposals[proposal.height] = proposal
        self.pool.known.update(proposal.transaction_hashes())
        self.pool.order(proposal.transaction_hashes())
        self.later(0, self.pool_changed)
        self.execution.order(proposal, proposal_digest(proposal))

    def _speculate(self, proposal: Proposal) -> None:
        digest = proposal_digest(proposal)
        if self.proposal(digest) is None:
            raise AssertionError(f"{self.name} is to execute h{proposal.height} ahead without its bodies")
        if self.world.plan.speculate:
            self.execution.speculate(proposal, digest)

    def _executed(self, header: Header, transactions: list[bytes], validators: ValidatorSet | None) -> None:
        if self.honest:
            self.world.checkers.on_transactions(self.validator, header.height, transactions)
        self.step(Executed(header=header, validators=validators))
        self.later(0, self.fetcher.progressed)

    def _store(self, effect: Store) -> None:
        header = effect.header
        if self.honest:
            self.world.checkers.on_store(self.validator, header, effect.certificate)
        proposal = self.ordered_proposals.pop(header.height)
        self._store_queue.append(StoredBlock(header=header, certificate=effect.certificate, proposal=proposal))
        self._store_next()

    def _store_next(self) -> None:
        """One durable write at a time, of everything that waits."""
        if self._storing or not self._store_queue:
            return
        self._storing = True
        count = len(self._store_queue)

        def durable() -> None:
            self._storing = False
            blocks = [self._store_queue.popleft() for _ in range(count)]
            self.disk_blocks.items.extend(blocks)
            for block in blocks:
                self.obtained.pop(block.header.proposal_digest, None)
            self.tell("stored", f"up to h{self.disk_blocks.height}")
            self.obtainer.cancel_up_to(self.disk_blocks.height)
            if self.world.node_faults.prunes:
                self.journal.prune(self.disk_blocks.height)
            self.world.on_stored(self, blocks)
            self._store_next()
            self.step(Stored(height=self.disk_blocks.height))
            self.later(0, self.fetcher.progressed)

        self.later(self.world.random.randint(*self.world.node_faults.store_ms), durable)

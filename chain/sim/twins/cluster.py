"""The processes of a scenario and what lies between them: no clock, no bytes, one queue, the unchanged core.

A message is verified once, by the core's own verification, and handed to all who hear it: the check depends on nothing
but the message. The pool always has transactions; how many proposals become of them is the scenario's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

import msgspec

from chain.codec import decode, encode, tagged_digest
from chain.errors import InvariantError, PeerFault
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.model.genesis import ChainParameters, chain_id, genesis_header
from chain.model.validators import ValidatorSet
from chain.sim.checkers import Violation
from chain.sim.keys import SimSigner, sim_genesis, transaction_digest, verify_signature
from chain.sim.twins.checks import Checks, History
from chain.sim.twins.scenario import KIND_INDEX, Late, Order, Round, Scenario, members
from chain.sim.twins.story import text_of
from chain.types import Digest, Instant, ValidatorId
from consensus import Replica, ReplicaConfig, verify
from consensus.effects import (
    Broadcast,
    CancelRequests,
    Diverged,
    Effect,
    Execute,
    FetchBlocks,
    JournalRecord,
    ObtainProposal,
    Persist,
    ProposalRecord,
    ReportFault,
    RequestProposal,
    Send,
    Store,
)
from consensus.events import (
    BlockFetched,
    Event,
    Executed,
    MessageReceived,
    ProposalObtained,
    ProposalPacked,
    ProposalRefused,
    Started,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.messages import Message, Signed, Verified

TAG_STATE: Final = b"simulation/state/1"
CONFIG: Final = ReplicaConfig(view_timeout_ms=10, view_timeout_ms_max=10, retransmit_ms=10)
START_MS: Final = 1_000_000
ROUND_MS: Final = 1_000  # longer than any timer, so that whatever is armed may fire in the next round
STEPS_MAX: Final = 20_000  # of one round: messages breed none for ever
HELD_MAX: Final = 2_000
# What a broken core raises; none of it may ever be seen.
BUGS: Final = (InvariantError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

StoredBlock = tuple[Proposal, Header, Certificate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What all scenarios of one size share."""

    validators: ValidatorSet
    id: Digest
    genesis: Header
    signers: tuple[SimSigner, ...]


@lru_cache(maxsize=64)
def chain_of(nodes: int, window: int) -> Chain:
    genesis = sim_genesis(weights=[1] * nodes, parameters=ChainParameters(window=window))
    return Chain(
        validators=ValidatorSet(genesis.validators),
        id=chain_id(genesis),
        genesis=genesis_header(genesis),
        signers=tuple(SimSigner(validator) for validator in genesis.validators),
    )


def executed_on(parent: Header, parent_hash: Digest, proposal: Proposal, digest: Digest) -> Header:
    """Executing is hashing: the header follows from the one below and the proposal."""
    return msgspec.structs.replace(
        parent,
        height=proposal.height,
        time_ms=max(parent.time_ms, proposal.timestamp_ms),
        parent_hash=parent_hash,
        proposal_digest=digest,
        transaction_count=proposal.count,
        state_root=tagged_digest(TAG_STATE, parent.state_root + digest),
    )


class Process:
    """One process: a replica, its disk, and what it waits for."""

    def __init__(self, index: int, validator: int, own: ValidatorId, history: History | None) -> None:
        self.index = index
        self.validator = validator
        self.id = own
        self.history = history  # None: a process of a doubled validator, which promises nothing
        self.alive = False
        self.replica: Replica
        self.journal: list[JournalRecord] = []
        self.proposals: dict[bytes, Proposal] = {}  # durable with their bodies
        self.blocks: list[StoredBlock] = []
        self.storing: list[StoredBlock] = []  # certified, not durable yet
        self.is_gone = False
        self.crashes = 0
        self.proposed = 0
        self.fuse = 0  # so many effects until it crashes; 0: it does not

    def reset(self) -> None:
        """Forget what a crash takes."""
        self.alive = False
        self.fuse = 0
        self.storing = []
        self.request: RequestProposal | None = None
        self.budget = 0
        self.wanted: dict[bytes, ObtainProposal] = {}
        self.fetching: FetchBlocks | None = None
        self.executing: dict[int, Proposal] = {}
        self.tips: dict[int, Header] = {}  # executed in this life
        self.fetched: set[tuple[int, bytes]] = set()

    @property
    def name(self) -> str:
        return f"p{self.index}"


class Cluster:
    """Plays one scenario. Raises `Violation` where a promise breaks."""

    def __init__(
        self, scenario: Scenario, *, story: list[str] | None = None, only: frozenset[str] | None = None
    ) -> None:
        self.scenario = scenario
        self.refused = scenario.refused  # (processes, leaders), until the healing
        self.chain = chain_of(scenario.nodes, scenario.window)
        self.checks = Checks(
            validators=self.chain.validators, chain_id=self.chain.id, window=scenario.window, only=only
        )
        self.story = story
        self.now = Instant(START_MS)
        self.steps = 0
        self.messages = 0
        self.crashes = 0
        self._random = Random(scenario.seed)
        self._queue: deque[tuple[Process, Event]] = deque()
        self._local: deque[tuple[Process, int, Event]] = deque()  # with the life it is meant for
        self._held: deque[tuple[Process, Process, Event]] = deque(maxlen=HELD_MAX)
        self._events: dict[bytes, MessageReceived] = {}  # by signature, verified
        self._headers: dict[tuple[bytes, bytes], Header] = {}
        self._routes: dict[tuple[int, int], tuple[list[Process], list[Process]]] = {}
        self._round = Round(groups=(0,) * scenario.processes)
        doubled = set(scenario.twins)
        ids = self.chain.validators.ids()
        self.processes: list[Process] = []
        for index in range(scenario.processes):
            validator = scenario.validator(index)
            history = None if validator in doubled else History(f"p{index}")
            self.processes.append(Process(index, validator, ids[validator], history))
        self.honest = [process for process in self.processes if process.history is not None]
        for process in self.processes:
            self._boot(process)
        self._queue.clear()  # where they all stand at the beginning is no news

    # --- lives ---

    def _boot(self, process: Process) -> None:
        process.reset()
        process.alive = True
        chain = self.chain
        last = (process.blocks[-1][1], process.blocks[-1][2]) if process.blocks else (chain.genesis, None)
        if process.history is not None:
            self.checks.on_boot(process.history, len(process.blocks))
        process.replica = Replica(
            config=CONFIG,
            signer=chain.signers[process.validator],
            validators=chain.validators,
            chain_id=chain.id,
            window=self.scenario.window,
            last=last,
            journal=[decode(JournalRecord, encode(record)) for record in process.journal],  # type: ignore[arg-type]
        )
        self._tell(process, "boots")
        self._step(process, Started())
        self._step(process, TransactionsWaiting(overdue=True))

    def _crash(self, process: Process) -> None:
        self._tell(process, "crashes")
        process.reset()
        process.crashes += 1
        self.crashes += 1

    def drop(self, process: Process) -> None:
        """It is gone for good."""
        process.reset()
        process.is_gone = True

    # --- rounds ---

    def play(self, number: int, current: Round) -> None:
        """One round, to its end."""
        self._round = current
        self._routes = {}
        self.now = Instant(self.now + ROUND_MS)
        if self.story is not None:
            self.story.append(f"-- round {number}: {current}")
        for process in self.processes:
            process.budget = current.proposals
        if current.crash is not None:
            self.processes[current.crash[0]].fuse = current.crash[1]
        self._release(current)
        if current.repeats:
            for process in self.processes:
                self._fire(process, Timer.RETRANSMIT)
        for process in self.processes:
            self._resume(process)
        self._run()
        if current.driven:
            self._drive(current.leader, [self.processes[index] for index in members(current.driven)])
        self._close()

    def _drive(self, leader: int | None, driven: list[Process]) -> None:
        """Time these processes out, all at once: once, or until their view is led by `leader`."""
        nodes = self.scenario.nodes
        for _ in range(1 if leader is None else nodes):
            moved = False
            for process in driven:
                if process.alive and process.replica.view % nodes != leader:
                    moved = self._fire(process, Timer.VIEW) or moved
            if not moved:
                return
            self._run()

    def _close(self) -> None:
        for process in self.processes:
            process.blocks += process.storing
            process.storing = []
            if process.history is not None and process.alive:
                try:
                    process.replica.validate_state()
                except InvariantError as error:
                    self.checks.broken("invariant", f"{process.name}: {error}")
            process.fuse = 0
        for process in self.processes:
            if not process.alive and not process.is_gone:
                self._boot(process)

    def _release(self, current: Round) -> None:
        if current.late is Late.KEPT or not self._held:
            return
        held, self._held = self._held, deque(maxlen=HELD_MAX)
        for source, target, event in held:
            if current.late is Late.ALL or current.groups[source.index] == current.groups[target.index]:
                self._queue.append((target, event))
            else:
                self._held.append((source, target, event))

    def _fire(self, process: Process, timer: Timer) -> bool:
        if not process.alive or timer not in process.replica.armed_timers:
            return False
        self.now = Instant(self.now + 100)  # past any deadline
        self._step(process, TimerFired(timer=timer))
        return True

    def _resume(self, process: Process) -> None:
        """What could not be had in earlier rounds may be here now."""
        if not process.alive:
            return
        for wanted in sorted(process.wanted.values(), key=lambda wanted: wanted.fresh):  # what is ordered comes first
            self._obtain(process, wanted)
        if process.fetching is not None:
            self._fetch(process, process.fetching)
        self._pack(process)

    def _run(self) -> None:
        """Deliver until nothing is on its way."""
        queue, local = self._queue, self._local
        order, eager = self.scenario.order, self.scenario.eager
        limit = self.steps + STEPS_MAX
        while queue or local:
            if local and (eager or not queue):
                process, life, event = local.popleft()
                if life != process.crashes:
                    continue
            elif order is Order.FIRST:
                process, event = queue.popleft()
            elif order is Order.LAST:
                process, event = queue.pop()
            else:
                at = int(self._random.random() * len(queue))
                queue.rotate(-at)
                process, event = queue.popleft()
            if process.alive:
                self._step(process, event)
            if self.steps > limit:
                raise Violation("quiescence", f"{STEPS_MAX} steps and no end")

    # --- one process ---

    def _step(self, process: Process, event: Event) -> None:
        self.steps += 1
        if self.story is not None:
            self._tell(process, "> " + text_of(event))
        try:
            effects = process.replica.step(event, self.now)
        except BUGS as error:  # nothing that a peer says may make it raise; it goes on after a restart
            self.checks.broken("invariant", f"{process.name}: {type(error).__name__} {error}")
            self._crash(process)
            return
        for effect in effects:
            if process.fuse:
                process.fuse -= 1
                if not process.fuse:
                    self._crash(process)
                    return
            self._carry_out(process, effect)

    def _carry_out(self, process: Process, effect: Effect) -> None:
        if isinstance(effect, Broadcast):
            self._send(process, effect.message, None)
        elif isinstance(effect, Persist):
            self._persist(process, effect.record)
        elif isinstance(effect, Send):
            self._send(process, effect.message, effect.to)
        elif isinstance(effect, ObtainProposal):
            self._obtain(process, effect)
        elif isinstance(effect, RequestProposal):
            process.request = effect
            self._pack(process)
        elif isinstance(effect, CancelRequests):
            process.request = None
            process.wanted = {digest: wanted for digest, wanted in process.wanted.items() if not wanted.fresh}
        elif isinstance(effect, Execute):
            self._execute(process, effect.proposal)
        elif isinstance(effect, Store):
            self._store(process, effect)
        elif isinstance(effect, FetchBlocks):
            self._fetch(process, effect)
        elif isinstance(effect, ReportFault):
            self._accused(process, effect)
        elif isinstance(effect, Diverged):
            self.checks.broken("divergence", f"{process.name}: {effect.reason} at h{effect.height}")

    def _persist(self, process: Process, record: JournalRecord) -> None:
        process.journal.append(record)
        if isinstance(record, ProposalRecord):
            digest = proposal_digest(record.proposal)
            process.proposals[digest] = record.proposal
            if process.history is not None:
                self.checks.on_proposal(process.history, record.view, record.proposal.height, digest)
        else:
            self.checks.on_record(process.history, record)

    def _accused(self, process: Process, effect: ReportFault) -> None:
        self._tell(process, f"accuses {effect.peer.hex()[:8]} of {effect.reason}")
        if process.history is not None and any(peer.id == effect.peer for peer in self.honest):
            self.checks.broken("false_accusation", f"{process.name} accuses an honest validator of {effect.reason}")

    # --- messages ---

    def _send(self, process: Process, message: Verified[Message], to: ValidatorId | None) -> None:
        event = self._events.get(message.signature)
        if event is None:
            event = self._verified(message)
            if event is None:
                return
            self._events[message.signature] = event
        if self.story is not None:
            self._tell(process, "< " + text_of(event))
        if process.history is not None and message.sender == process.id:
            self.checks.on_send(process.history, event.message)
        kind = KIND_INDEX[type(message.message)]
        route = self._routes.get((process.index, kind))
        if route is None:
            route = self._routes[process.index, kind] = self._route(process, kind)
        hearing, missing = route
        if to is not None:
            hearing = [target for target in hearing if target.id == to]
            missing = [target for target in missing if target.id == to]
        self.messages += len(hearing)
        self._queue.extend([(target, event) for target in hearing])
        self._held.extend([(process, target, event) for target in missing])

    def _verified(self, message: Verified[Message]) -> MessageReceived | None:
        """As its receivers would do it; None: nobody takes it."""
        signed = Signed(sender=message.sender, message=message.message, signature=message.signature)
        try:
            verified = verify(
                signed,
                validators=self.chain.validators,
                chain_id=self.chain.id,
                verify_signature=verify_signature,
                window=self.scenario.window,
            )
        except PeerFault as fault:
            self.checks.broken("verifiable", f"{message.sender.hex()[:8]} says what nobody takes: {fault}")
            return None
        return MessageReceived(message=verified)

    def _route(self, process: Process, kind: int) -> tuple[list[Process], list[Process]]:
        """Who hears messages of this kind from `process` in this round, and who does not."""
        groups, own = self._round.groups, process.index
        deaf = 0
        for cut in self._round.cuts:
            if cut.kinds >> kind & 1 and cut.sources >> own & 1:
                deaf |= cut.targets
        hearing: list[Process] = []
        missing: list[Process] = []
        for target in self.processes:
            if target.validator == process.validator:
                continue
            hears = groups[target.index] == groups[own] and not deaf >> target.index & 1
            (hearing if hears else missing).append(target)
        return hearing, missing

    # --- proposals ---

    def _pack(self, process: Process) -> None:
        request = process.request
        if request is None or not process.budget:
            return
        process.request = None
        process.budget -= 1
        process.proposed += 1
        number = process.index * 1_000_000 + process.crashes * 10_000 + process.proposed
        proposal = Proposal(
            chain_id=self.chain.id,
            height=request.height,
            timestamp_ms=self.now + process.index,
            proposer=process.id,
            hashes=transaction_digest(number),
        )
        self._later(process, ProposalPacked(view=request.view, proposal=proposal))

    def _later(self, process: Process, event: Event) -> None:
        self._local.append((process, process.crashes, event))

    def _obtain(self, process: Process, request: ObtainProposal) -> None:
        """The bodies of a fresh proposal are everywhere; what is known by digest only must be held by one who hears."""
        digest = request.digest
        if request.fresh and request.proposal is not None and self._refuses(process, request.proposal):
            self._later(process, ProposalRefused(height=request.height, digest=digest, reason="drawn"))
            return
        proposal = request.proposal or process.proposals.get(digest)
        if request.fresh and self._round.starved >> process.index & 1:
            proposal = None
        elif proposal is None:
            groups = self._round.groups
            for source in self.processes:
                if source.id in request.sources and groups[source.index] == groups[process.index]:
                    proposal = proposal or source.proposals.get(digest)
        if proposal is None:
            process.wanted[digest] = request
            return
        process.wanted.pop(digest, None)
        self._later(process, ProposalObtained(digest=digest, proposal=proposal))

    def _refuses(self, process: Process, proposal: Proposal) -> bool:
        refusing, leaders = self.refused
        if not refusing >> process.index & 1:
            return False
        return any(proposal.proposer == self.processes[leader].id for leader in members(leaders))

    # --- blocks ---

    def _execute(self, process: Process, proposal: Proposal) -> None:
        digest = proposal_digest(proposal)
        if process.history is not None:
            fetched = (proposal.height, digest) in process.fetched
            self.checks.on_execute(process.history, proposal, digest, fetched=fetched)
        process.executing[proposal.height] = proposal
        self._later(process, Executed(header=self._header(process, proposal, digest)))

    def _header(self, process: Process, proposal: Proposal, digest: Digest) -> Header:
        parent = self._tip(process, proposal.height - 1)
        key = (header_hash(parent), digest)
        header = self._headers.get(key)
        if header is None:
            header = self._headers[key] = executed_on(parent, key[0], proposal, digest)
        process.tips[proposal.height] = header
        return header

    def _tip(self, process: Process, height: int) -> Header:
        known = process.tips.get(height)
        if known is not None:
            return known
        return process.blocks[height - 1][1] if height else self.chain.genesis

    def _store(self, process: Process, effect: Store) -> None:
        if process.history is not None:
            self.checks.on_store(process.history, effect.header, effect.certificate)
        proposal = process.executing.pop(effect.header.height)
        block = (proposal, effect.header, effect.certificate)
        (process.storing if self.scenario.stores_late else process.blocks).append(block)

    def _fetch(self, process: Process, request: FetchBlocks) -> None:
        """From whoever of the sources hears and has all of them."""
        process.fetching = request
        groups = self._round.groups
        for source in self.processes:
            if source.id not in request.sources or groups[source.index] != groups[process.index]:
                continue
            if len(source.blocks) >= request.last:
                process.fetching = None
                for proposal, header, certificate in source.blocks[request.first - 1 : request.last]:
                    self.checks.check_certificate(certificate)
                    process.fetched.add((header.height, header.proposal_digest))
                    process.proposals[header.proposal_digest] = proposal
                    self._later(process, BlockFetched(proposal=proposal, header=header, certificate=certificate))
                return

    def _tell(self, process: Process, text: str) -> None:
        if self.story is not None:
            self.story.append(f"{process.name} v{process.replica.view} {text}")

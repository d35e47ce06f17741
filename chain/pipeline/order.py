"""Consensus: drives the PBFT core. The only place where its events come from and its effects go to.

Messages are decoded and their signatures checked in batches off the loop; the core steps through the events one by one;
its effects are carried out in order, and nothing behind a `Persist` leaves before one synced journal write that covers
all the records that piled up meanwhile (group commit).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, assert_never

from chain.errors import BadInput, PeerFault
from chain.model.block import Header, Proposal, proposal_digest
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.pack import PackRequest
from chain.pipeline.spans import CpuMeter, Spans
from chain.types import MESSAGE_BYTES_MAX, Digest, Height, Instant, ValidatorId
from consensus import Examined, OtherEpoch, Replica, Succession, decode_signed, encode_signed, examine
from consensus.effects import (
    Abandon,
    Broadcast,
    CancelRequests,
    CancelTimer,
    CertificateRecord,
    Diverged,
    Effect,
    Execute,
    FetchBlocks,
    JournalRecord,
    NewViewRecord,
    ObtainProposal,
    Persist,
    ProposalRecord,
    ReportFault,
    RequestProposal,
    Send,
    SetTimer,
    Speculate,
    Store,
    VoteRecord,
)
from consensus.events import Event, MessageReceived, PeerStatus, Stored, Timer, TimerFired
from consensus.messages import Checkpoint, MessageType, PrePrepare, Status

SCHEME_ED25519 = 1
FRAMES_PENDING_MAX = 2_000  # of one sender
FRAME_BYTES_PENDING_MAX = 2 * MESSAGE_BYTES_MAX  # of one sender
FRAMES_PER_ROUND_MAX = 64
FAULT_REASONS_MAX = 64
DIGESTS_KNOWN_MAX = 256  # of proposals
RECORDS_HELD_MAX = 16
LEAVING = (Broadcast, Send, Store, Diverged, ReportFault)
TIMER_SLACK_S = 0.001  # an event loop may ring so much too early


class Transport(Protocol):
    """To the other validators; loses what it cannot deliver and never blocks."""

    def broadcast(self, payload: bytes) -> None: ...

    def send(self, peer: ValidatorId, payload: bytes) -> None: ...


class Journal(Protocol):
    def write(self, records: Sequence[JournalRecord], proposals: Sequence[LiveProposal]) -> None:
        """Durable on return; called in a worker thread, one call at a time."""
        ...


class BatchVerifier(Protocol):
    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]], *, urgent: bool = False) -> list[bool]: ...


class Neighbours(Protocol):
    """What the consensus stage hands work to."""

    def request_proposal(self, request: PackRequest) -> None: ...

    def cancel_requests(self) -> None: ...

    def obtain(self, effect: ObtainProposal) -> None: ...

    def abandon(self, digest: Digest) -> None: ...

    def speculate(self, proposal: Proposal, digest: Digest) -> None: ...

    def execute(self, proposal: Proposal, digest: Digest) -> None: ...

    def store_block(self, effect: Store) -> None: ...

    def fetch_blocks(self, effect: FetchBlocks) -> None: ...

    def report_fault(self, peer: ValidatorId, reason: str, evidence: bytes = b"") -> None: ...

    def report_divergence(self, effect: Diverged) -> None: ...


class ConsensusStage:
    name = "consensus"

    def __init__(
        self,
        *,
        replica: Succession | Replica,
        chain_id: Digest,
        window: int,
        verifier: BatchVerifier,
        transport: Transport,
        journal: Journal,
        journal_thread: Executor,
        bodies: Bodies,
        neighbours: Neighbours,
        spans: Spans,
        cpu: CpuMeter,
        now: Callable[[], Instant],
    ) -> None:
        self.replica = replica
        self._chain_id = chain_id
        self._window = window
        self._verifier = verifier
        self._transport = transport
        self._journal = journal
        self._journal_thread = journal_thread
        self._bodies = bodies
        self._neighbours = neighbours
        self._spans = spans
        self._cpu = cpu
        self._now = now
        self._frames: dict[ValidatorId, _Inbox] = {}
        self._frames_there = asyncio.Event()
        self._halted = False
        self._outbox: list[Effect] = []
        self._outbox_there = asyncio.Event()
        self._due: dict[Timer, float] = {}  # the timers that run, by the loop's clock
        self._alarms: dict[Timer, asyncio.TimerHandle] = {}  # may ring too early, when a timer was armed again since
        self._digests: dict[int, tuple[Proposal, Digest]] = {}  # by height: a proposal's digest is computed once
        self.faults: dict[str, int] = {}
        self.views_entered = 0
        self.peer_certified: dict[ValidatorId, int] = {}  # as the peers last said; for people, nothing depends on it

    @property
    def depth(self) -> int:
        return sum(len(inbox.frames) for inbox in self._frames.values())

    # --- in ---

    def receive(self, peer: ValidatorId, frame: bytes) -> None:
        """A consensus frame from an authenticated validator; a sender that floods loses its own oldest frames only."""
        inbox = self._frames.get(peer)
        if inbox is None:
            inbox = self._frames[peer] = _Inbox()
        inbox.put(frame)
        self._frames_there.set()

    def halt(self) -> None:
        """A promise broke: nothing is stepped, signed or sent any more, while the process ends."""
        self._halted = True

    def post(self, event: Event) -> None:
        """Step the core; effects are carried out by the outbox task."""
        if self._halted:
            return
        with self._cpu.measure("consensus"):
            effects = self.replica.step(event, self._now())
        if effects:
            self._note(effects)
            self._outbox.extend(effects)
            self._outbox_there.set()

    def on_stored(self, height: Height) -> None:
        """Blocks up to `height` are durable: an epoch may be over."""
        self.post(Stored(height=height))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_in(), name="consensus-frames")
            tasks.create_task(self._carry_out(), name="consensus-outbox")

    def stop(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        self._due.clear()

    async def _take_in(self) -> None:
        while True:
            await self._frames_there.wait()
            self._frames_there.clear()
            examined = self._examine(self._next_frames())
            items = [(SCHEME_ED25519, *item) for _, message in examined for item in message.items]
            verdicts = await self._verifier.verify(items, urgent=True)
            at = 0
            for peer, message in examined:
                first, at = at, at + len(message.items)
                if all(verdicts[first:at]):
                    self._hear(message)
                    self.post(MessageReceived(message=message.verified()))
                else:
                    self._fault(peer, "bad_signature")

    def _next_frames(self) -> list[tuple[ValidatorId, bytes]]:
        """One sender after the other, at most `FRAMES_PER_ROUND_MAX` in all; what is left waits for the next round."""
        round_: list[tuple[ValidatorId, bytes]] = []
        while len(round_) < FRAMES_PER_ROUND_MAX:
            taken = [(peer, frame) for peer, inbox in self._frames.items() if (frame := inbox.take()) is not None]
            if not taken:
                return round_
            round_ += taken
        self._frames_there.set()
        return round_

    def _examine(self, frames: Sequence[tuple[ValidatorId, bytes]]) -> list[tuple[ValidatorId, Examined]]:
        """Everything about the messages but their signatures, as the present epoch has it."""
        examined: list[tuple[ValidatorId, Examined]] = []
        heard: list[PeerStatus] = []
        with self._cpu.measure("consensus"):
            for peer, frame in frames:
                try:
                    signed = decode_signed(frame)
                    message = examine(
                        signed, epoch=self.replica.epoch, chain_id=self._chain_id, window=self._window
                    )
                    examined.append((peer, message))
                except OtherEpoch as other:
                    if other.certified is not None and signed.sender == peer:  # the connection vouches for the name
                        heard.append(PeerStatus(peer=peer, certified=other.certified))
                except (BadInput, PeerFault) as error:
                    self._fault(peer, str(error))
        for event in heard:
            self.post(event)
        return examined

    def _hear(self, message: Examined) -> None:
        match message.signed.message:
            case PrePrepare(proposal=proposal):
                self._know(proposal, message.digest)
            case Status(certified=height) | Checkpoint(height=height):
                sender = message.signed.sender
                self.peer_certified[sender] = max(height, self.peer_certified.get(sender, 0))
            case _:
                pass

    def _fault(self, peer: ValidatorId, reason: str, evidence: bytes = b"") -> None:
        """Counted by the reason's first word; the rest of the text may hold what a peer chose."""
        word = reason.split(":", 1)[0][:40]
        if word in self.faults or len(self.faults) < FAULT_REASONS_MAX:
            self.faults[word] = self.faults.get(word, 0) + 1
        self._neighbours.report_fault(peer, reason, evidence)

    # --- out ---

    async def _carry_out(self) -> None:
        loop = asyncio.get_running_loop()
        held: list[JournalRecord] = []
        while True:
            await self._outbox_there.wait()
            self._outbox_there.clear()
            effects, self._outbox = self._outbox, []
            records = held + [effect.record for effect in effects if isinstance(effect, Persist)]
            if len(records) <= RECORDS_HELD_MAX and _may_be_held(records, effects):
                held, records = records, []
            done = 0
            if records:
                while not held and not isinstance(effects[done], Persist):  # what stands before the first need not wait
                    self._perform(effects[done])
                    done += 1
                proposals = [self._live(record.proposal) for record in records if isinstance(record, ProposalRecord)]
                await loop.run_in_executor(self._journal_thread, self._write, records, proposals)
                held = []
            for effect in effects[done:]:
                self._perform(effect)

    def _live(self, proposal: Proposal) -> LiveProposal:
        """With its bodies; an empty proposal (the gap of a new view) has none to wait for."""
        digest = self.digest(proposal)
        return self._bodies.get(digest) if proposal.hashes else LiveProposal(digest, proposal, ())

    def _write(self, records: list[JournalRecord], proposals: list[LiveProposal]) -> None:
        with self._cpu.measure("journal"):
            self._journal.write(records, proposals)

    def _perform(self, effect: Effect) -> None:
        if self._halted:
            return
        match effect:
            case Persist():
                pass
            case Broadcast(message=message):
                with self._cpu.measure("consensus"):
                    self._transport.broadcast(encode_signed(message))
            case Send(to=to, message=message):
                self._transport.send(to, encode_signed(message))
            case SetTimer(timer=timer, at=at):
                self._set_timer(timer, at)
            case CancelTimer(timer=timer):
                self._due.pop(timer, None)
            case RequestProposal(view=view, height=height, may_be_empty=may_be_empty):
                self._neighbours.request_proposal(PackRequest(view, height, may_be_empty))
            case CancelRequests():
                self._neighbours.cancel_requests()
            case ObtainProposal():
                self._neighbours.obtain(effect)
            case Abandon(digest=digest):
                self._neighbours.abandon(digest)
            case Speculate(proposal=proposal):
                self._neighbours.speculate(proposal, self.digest(proposal))
            case Execute(proposal=proposal):
                self._neighbours.execute(proposal, self.digest(proposal))
            case Store():
                self._neighbours.store_block(effect)
            case FetchBlocks():
                self._neighbours.fetch_blocks(effect)
            case ReportFault(peer=peer, reason=reason, evidence=evidence):
                self._fault(peer, reason, evidence)
            case Diverged():
                self._neighbours.report_divergence(effect)
            case _:
                assert_never(effect)

    def _set_timer(self, timer: Timer, at: Instant) -> None:
        """With every height the timers are armed again, nearly always for later: the alarm that is set will do."""
        loop = asyncio.get_running_loop()
        self._due[timer] = due = loop.time() + max(0, at - self._now()) / 1_000
        alarm = self._alarms.get(timer)
        if alarm is None or alarm.when() > due:
            if alarm is not None:
                alarm.cancel()
            self._alarms[timer] = loop.call_at(due, self._ring, timer)

    def _ring(self, timer: Timer) -> None:
        del self._alarms[timer]
        due = self._due.get(timer)
        if due is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < due - TIMER_SLACK_S:
            self._alarms[timer] = loop.call_at(due, self._ring, timer)
        else:
            del self._due[timer]
            self.post(TimerFired(timer=timer))

    # --- spans ---

    def digest(self, proposal: Proposal) -> Digest:
        """The proposal's digest, computed once for each live proposal object."""
        known = self._digests.get(proposal.height)
        if known is not None and known[0] is proposal:
            return known[1]
        digest = proposal_digest(proposal)
        self._know(proposal, digest)
        return digest

    def _know(self, proposal: Proposal, digest: Digest) -> None:
        self._digests[proposal.height] = (proposal, digest)
        while len(self._digests) > DIGESTS_KNOWN_MAX:
            del self._digests[next(iter(self._digests))]

    def _note(self, effects: Sequence[Effect]) -> None:
        """Stage times: consensus runs from the first sign of a proposal to its order, checkpoint from our vote on."""
        for effect in effects:
            match effect:
                case ObtainProposal(height=height):
                    self._spans.begin(self.name, height)
                case Persist(record=ProposalRecord(proposal=proposal)):
                    self._spans.begin(self.name, Height(proposal.height))
                case Persist(record=CertificateRecord(certificate=certificate)):
                    if certificate.kind == MessageType.COMMIT:
                        self._spans.end(self.name, Height(certificate.height))
                case Persist(record=VoteRecord(kind=MessageType.CHECKPOINT, height=at)):
                    self._spans.begin("checkpoint", Height(at))
                case Persist(record=NewViewRecord()):
                    self.views_entered += 1
                case Store(header=Header(height=at)):
                    self._spans.end("checkpoint", Height(at))
                case _:
                    pass


def _may_be_held(records: Sequence[JournalRecord], effects: Sequence[Effect]) -> bool:
    """Nothing of it leaves the process, so the records can be written with the next: that a height is ordered follows
    from commit votes which are durable where they were given. Execution need not wait for a disk."""
    return not any(isinstance(effect, LEAVING) for effect in effects) and all(
        isinstance(record, CertificateRecord) and record.certificate.kind == MessageType.COMMIT for record in records
    )


class _Inbox:
    """One sender's frames, bounded in number and bytes; the oldest make room."""

    __slots__ = ("frames", "size")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.size = 0

    def put(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.size += len(frame)
        while len(self.frames) > FRAMES_PENDING_MAX or self.size > FRAME_BYTES_PENDING_MAX:
            self.take()

    def take(self) -> bytes | None:
        if not self.frames:
            return None
        frame = self.frames.popleft()
        self.size -= len(frame)
        return frame

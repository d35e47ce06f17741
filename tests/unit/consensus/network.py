"""A network of replicas small enough to read: messages as bytes in one queue, time by hand, real Ed25519."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import nacl.exceptions
import nacl.signing

from chain.codec import encode
from chain.errors import PeerFault
from chain.model.block import (
    Certificate,
    Header,
    Proposal,
    VoteSignature,
    header_hash,
    proposal_digest,
)
from chain.model.genesis import ChainParameters, Genesis, chain_id, genesis_header
from chain.model.validators import Validator, ValidatorSet
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus import Replica, ReplicaConfig, decode_signed, encode_signed, verify, verify_certificate
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
    Store,
)
from consensus.events import (
    BlockFetched,
    Event,
    Executed,
    MessageReceived,
    PoolDrained,
    ProposalObtained,
    ProposalPacked,
    ProposalRefused,
    Started,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    SignedViewChange,
    Status,
    Verified,
    ViewChange,
    signing_bytes,
    subject,
)

E = TypeVar("E")
M = TypeVar("M", bound=Message)

WINDOW = 4
START = Instant(1_000_000)
CONFIG = ReplicaConfig(
    view_timeout_ms=1_000, view_timeout_ms_max=8_000, retransmit_ms=200, timestamp_drift_ms_max=5_000
)  # fmt: skip


class Key:
    """A validator key out of a number."""

    def __init__(self, number: int) -> None:
        self._key = nacl.signing.SigningKey(hashlib.sha256(b"test key %d" % number).digest())
        self.public_key = bytes(self._key.verify_key)
        self.validator = Validator(name=f"validator {number}", public_key=self.public_key, weight=1)
        self.validator_id = self.validator.id

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


@lru_cache(maxsize=100_000)
def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


class Chain:
    """Keys, validators and genesis for `count` replicas; also forges whatever a validator might sign."""

    def __init__(self, count: int = 4, *, window: int = WINDOW, name: str = "test") -> None:
        self.keys = [Key(number) for number in range(count)]
        self.validators = ValidatorSet(key.validator for key in self.keys)
        self.window = window
        genesis = Genesis(
            name=name,
            created_ms=0,
            parameters=ChainParameters(window=window),
            validators=self.validators.members,
            ca_certificate_sha256=bytes(32),
            deployers=(),
        )
        self.id = chain_id(genesis)
        self.genesis = genesis_header(genesis)

    def key(self, validator: ValidatorId) -> Key:
        return next(key for key in self.keys if key.validator_id == validator)

    def replica(self, number: int, journal: Sequence[JournalRecord] = (), **options: Any) -> Replica:
        settings: dict[str, Any] = {"last": (self.genesis, None), "config": CONFIG, **options}
        return Replica(
            signer=self.keys[number],
            validators=self.validators,
            chain_id=self.id,
            window=self.window,
            journal=journal,
            **settings,
        )

    def sign(self, number: int, message: M) -> Signed[M]:
        signature = self.keys[number].sign(subject(message).signing_bytes(self.id))
        return Signed(sender=self.keys[number].validator_id, message=message, signature=signature)

    def verified(self, number: int, message: M) -> Verified[M]:
        signed = self.sign(number, message)
        self.verify(signed)
        return Verified(sender=signed.sender, message=message, signature=signed.signature)

    def verify(self, signed: Signed[Message]) -> Verified[Message]:
        return verify(
            signed,
            validators=self.validators,
            chain_id=self.id,
            window=self.window,
            verify_signature=verify_signature,
        )

    def received(self, number: int, message: Message) -> MessageReceived:
        return MessageReceived(message=self.verified(number, message))

    def certificate(
        self, kind: MessageType, *, view: int = 0, height: int, digest: bytes, signers: Iterable[int]
    ) -> Certificate:
        message = signing_bytes(chain_id=self.id, kind=kind, view=View(view), height=Height(height), digest=digest)
        votes = [
            VoteSignature(validator=self.keys[number].validator_id, signature=self.keys[number].sign(message))
            for number in signers
        ]
        votes.sort(key=lambda vote: vote.validator)
        return Certificate(kind=int(kind), view=view, height=height, digest=digest, signatures=tuple(votes))

    def proposal(self, height: int, *texts: str, leader: int = 0, timestamp_ms: int = START) -> Proposal:
        hashes = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
        proposer = self.keys[leader].validator_id
        return Proposal(
            chain_id=self.id, height=height, timestamp_ms=timestamp_ms, proposer=proposer, hashes=hashes
        )

    def pre_prepare(self, proposal: Proposal, *, view: int = 0) -> MessageReceived:
        return self.received(view % len(self.keys), PrePrepare(view=view, proposal=proposal))

    def view_change(
        self,
        number: int,
        view: int,
        *,
        stable: Certificate | None = None,
        prepared: Sequence[Certificate] = (),
    ) -> Signed[ViewChange]:
        return self.sign(number, ViewChange(view=view, stable=stable, prepared=tuple(prepared)))

    def new_view(self, view: int, changes: Iterable[Signed[ViewChange]]) -> Signed[NewView]:
        ordered = sorted(changes, key=lambda change: change.sender)
        nested = tuple(
            SignedViewChange(sender=change.sender, message=change.message, signature=change.signature)
            for change in ordered
        )
        return self.sign(view % len(self.keys), NewView(view=view, view_changes=nested))


def execute(proposal: Proposal, parent: Header) -> Header:
    """A stand-in for execution: the state root is a digest of everything executed so far."""
    digest = proposal_digest(proposal)
    return Header(
        chain_id=parent.chain_id,
        height=proposal.height,
        time_ms=max(parent.time_ms, proposal.timestamp_ms),
        parent_hash=header_hash(parent),
        proposal_digest=digest,
        rule_set=parent.rule_set,
        validator_set_hash=parent.validator_set_hash,
        transaction_count=proposal.count,
        transaction_root=hashlib.sha256(proposal.hashes).digest(),
        receipt_root=bytes(32),
        state_root=hashlib.sha256(parent.state_root + digest).digest(),
        gas_used=0,
    )


def of(kind: type[E], effects: Iterable[Effect]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def said(kind: type[M], effects: Iterable[Effect]) -> list[M]:
    """The messages of one kind that are broadcast."""
    return [
        effect.message.message
        for effect in effects
        if isinstance(effect, Broadcast) and isinstance(effect.message.message, kind)
    ]


class Node:
    """A replica and the little that a driver does for it."""

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.number = number
        self.id = network.chain.keys[number].validator_id
        self.journal: list[JournalRecord] = []
        self.blocks: list[tuple[Proposal, Header, Certificate]] = []
        self.pool: list[str] = []
        self.bodies: dict[Digest, Proposal] = {}
        self.packed: dict[Digest, str] = {}
        self.refuses: set[Digest] = set()
        self.corrupt = False  # executes wrongly
        self.slow_execution: deque[Proposal] | None = None  # set: executions wait here
        self.is_down = False
        self.trace: list[Effect] = []
        self.start()

    def start(self) -> None:
        """From the journal and the stored blocks; all else is lost."""
        chain = self.network.chain
        last = (self.blocks[-1][1], self.blocks[-1][2]) if self.blocks else (chain.genesis, None)
        self.replica = chain.replica(self.number, list(self.journal), last=last, config=self.network.config)
        self.timers: dict[Timer, Instant] = {}
        self.headers = {Height(0): chain.genesis} | {Height(header.height): header for _, header, _ in self.blocks}
        self.open_request: RequestProposal | None = None
        self.is_down = False

    def step(self, event: Event) -> list[Effect]:
        if self.is_down:
            return []
        effects = self.replica.step(event, self.network.now)
        self.replica.validate_state()
        self.trace += effects
        for effect in effects:
            self._carry_out(effect)
        return effects

    def submit(self, *texts: str, overdue: bool = False) -> None:
        self.pool += [text for text in texts if text not in self.pool]
        self.step(TransactionsWaiting(overdue=overdue))
        self.pack()

    def pack(self) -> None:
        request = self.open_request
        if request is not None and self.pool:
            self.open_request = None
            text = self.pool.pop(0)
            proposal = self.network.chain.proposal(
                request.height, text, leader=self.number, timestamp_ms=self.network.now
            )
            if not self.pool:
                self.step(PoolDrained())
            self.bodies[proposal_digest(proposal)] = proposal
            self.packed[proposal_digest(proposal)] = text
            self.step(ProposalPacked(view=request.view, proposal=proposal))

    def _carry_out(self, effect: Effect) -> None:
        later = self.network.later
        match effect:
            case Persist(record=record):
                self.journal.append(record)
            case Broadcast(message=message):
                data = encode_signed(message)
                for node in self.network.nodes:
                    if node is not self:
                        self.network.send(self, node, data)
            case Send(to=to, message=message):
                self.network.send(self, self.network.node(to), encode_signed(message))
            case SetTimer(timer=timer, at=at):
                self.timers[timer] = at
            case CancelTimer(timer=timer):
                del self.timers[timer]
            case RequestProposal():
                assert self.open_request is None
                self.open_request = effect
                later(self.pack)
            case CancelRequests():
                self.open_request = None
            case ObtainProposal():
                later(lambda: self._obtain(effect))
            case Execute(proposal=proposal):
                later(lambda: self._forget(proposal))
                if self.slow_execution is not None:
                    self.slow_execution.append(proposal)
                else:
                    later(lambda: self.execute(proposal))
            case Store(header=header, certificate=certificate):
                proposal = self.bodies[Digest(header.proposal_digest)]
                assert header.height == len(self.blocks) + 1
                self.blocks.append((proposal, header, certificate))
            case FetchBlocks():
                later(lambda: self._fetch(effect))
            case Abandon(digest=digest):
                if digest in self.packed:
                    later(lambda: self.submit(self.packed.pop(digest)))
            case ReportFault() | Diverged():
                pass

    def _forget(self, proposal: Proposal) -> None:
        """The pool's job: what is ordered waits no more."""
        done = set(proposal.transaction_hashes())
        was_waiting = bool(self.pool)
        self.pool = [text for text in self.pool if hashlib.sha256(text.encode()).digest() not in done]
        if was_waiting and not self.pool:
            self.step(PoolDrained())

    def _obtain(self, effect: ObtainProposal) -> None:
        if effect.fresh and effect.digest in self.refuses:
            self.step(ProposalRefused(height=effect.height, digest=effect.digest, reason="expired"))
            return
        holders = [self.network.node(source) for source in effect.sources] + [self]
        for node in holders:
            proposal = node.bodies.get(effect.digest)
            if proposal is not None and self.network.is_linked(self, node):
                self.bodies[effect.digest] = proposal
                self.step(ProposalObtained(digest=effect.digest, proposal=proposal))
                return

    def execute(self, proposal: Proposal) -> None:
        height = Height(proposal.height)
        header = execute(proposal, self.headers[Height(height - 1)])
        if self.corrupt:
            header = execute(proposal, self.headers[Height(height - 1)]).__class__(
                **{field: getattr(header, field) for field in header.__struct_fields__} | {"gas_used": 1}
            )
        self.headers[height] = header
        self.bodies.setdefault(proposal_digest(proposal), proposal)
        self.step(Executed(header=header))

    def execute_slow(self) -> None:
        """Do the executions that were held back."""
        waiting, self.slow_execution = self.slow_execution or deque(), None
        for proposal in waiting:
            self.execute(proposal)

    def _fetch(self, effect: FetchBlocks) -> None:
        for source in effect.sources:
            node = self.network.node(source)
            blocks = node.blocks[effect.first - 1 : effect.last]
            if blocks and self.network.is_linked(self, node):
                for proposal, header, certificate in blocks:
                    verify_certificate(
                        certificate,
                        validators=self.network.chain.validators,
                        chain_id=self.network.chain.id,
                        verify_signature=verify_signature,
                    )
                    self.bodies[proposal_digest(proposal)] = proposal
                    self.step(BlockFetched(proposal=proposal, header=header, certificate=certificate))
                return


class Solo:
    """One replica, and a test that plays all the others."""

    def __init__(self, chain: Chain | None = None, number: int = 1, **options: Any) -> None:
        self.chain = chain or Chain()
        self.number = number
        self.now = START
        self.journal: list[JournalRecord] = list(options.pop("journal", ()))
        self.replica = self.chain.replica(number, self.journal, **options)
        self.first = self.step(Started())

    def step(self, event: Event) -> list[Effect]:
        effects = self.replica.step(event, self.now)
        self.replica.validate_state()
        self.journal += [effect.record for effect in of(Persist, effects)]
        return effects

    def hear(self, number: int, message: Message) -> list[Effect]:
        return self.step(self.chain.received(number, message))

    def hear_signed(self, signed: Signed[Message]) -> list[Effect]:
        return self.step(MessageReceived(message=self.chain.verify(signed)))

    def fire(self, timer: Timer) -> list[Effect]:
        """Let the clock reach the deadline of `timer`."""
        deadline = self.replica._pace.timers.deadline(timer)
        assert deadline is not None, f"{timer} is not armed"
        self.now = Instant(max(self.now, deadline))
        return self.step(TimerFired(timer=timer))

    def obtain(self, proposal: Proposal) -> list[Effect]:
        return self.step(ProposalObtained(digest=proposal_digest(proposal), proposal=proposal))

    def propose(self, proposal: Proposal, *, view: int = 0) -> list[Effect]:
        """The leader's pre-prepare, and the bodies at once."""
        effects = self.hear(view % len(self.chain.keys), PrePrepare(view=view, proposal=proposal))
        return effects + self.obtain(proposal)

    def prepare(self, proposal: Proposal, *numbers: int, view: int = 0) -> list[Effect]:
        vote = Prepare(view=view, height=proposal.height, digest=proposal_digest(proposal))
        return [effect for number in numbers for effect in self.hear(number, vote)]

    def commit(self, proposal: Proposal, *numbers: int, view: int = 0) -> list[Effect]:
        vote = Commit(view=view, height=proposal.height, digest=proposal_digest(proposal))
        return [effect for number in numbers for effect in self.hear(number, vote)]

    def order(self, proposal: Proposal, *, view: int = 0) -> list[Effect]:
        """All three steps, with the votes of the two members after this one."""
        others = [number for number in range(len(self.chain.keys)) if number != self.number][:2]
        effects = self.propose(proposal, view=view)
        effects += self.prepare(proposal, *others, view=view)
        return effects + self.commit(proposal, *others, view=view)

    def certify(self, header: Header, *numbers: int) -> list[Effect]:
        vote = Checkpoint(height=header.height, digest=header_hash(header))
        return [effect for number in numbers for effect in self.hear(number, vote)]

    def finish(self, proposal: Proposal, parent: Header) -> Header:
        """Order, execute and certify one height."""
        self.order(proposal)
        header = execute(proposal, parent)
        self.step(Executed(header=header))
        self.certify(header, *[number for number in range(len(self.chain.keys)) if number != self.number][:2])
        assert self.replica.certified_height == proposal.height
        return header

    def change_view(self, view: int, *changes: Signed[ViewChange]) -> list[Effect]:
        """The new-view of `view`, made of these view-changes."""
        return self.hear_signed(self.chain.new_view(view, changes))

    def restart(self, journal: Sequence[JournalRecord] | None = None, **options: Any) -> Solo:
        """Another life of the same validator, from its journal or a part of it."""
        records = self.journal if journal is None else journal
        return Solo(self.chain, self.number, journal=records, **options)


Filter = Callable[[Node, Node, Message], bool]


class Network:
    """All nodes, one queue of things to do, one clock."""

    def __init__(self, count: int = 4, *, config: ReplicaConfig = CONFIG, window: int = WINDOW) -> None:
        self.chain = Chain(count, window=window)
        self.config = config
        self.now = START
        self.filter: Filter = lambda sender, receiver, message: True  # False: the message is lost
        self.queue: deque[Callable[[], object]] = deque()
        self.faults: list[str] = []
        self.nodes: list[Node] = []
        for number in range(count):
            self.nodes.append(Node(self, number))
        for node in self.nodes:
            node.step(Started())
        self.run()

    def node(self, validator: ValidatorId) -> Node:
        return next(node for node in self.nodes if node.id == validator)

    def later(self, action: Callable[[], object]) -> None:
        self.queue.append(action)

    def is_linked(self, one: Node, other: Node) -> bool:
        return one is other or not (one.is_down or other.is_down)

    def send(self, sender: Node, receiver: Node, data: bytes) -> None:
        self.queue.append(lambda: self._deliver(sender, receiver, data))

    def _deliver(self, sender: Node, receiver: Node, data: bytes) -> None:
        signed = decode_signed(data)
        if sender.is_down or receiver.is_down or not self.filter(sender, receiver, signed.message):
            return
        try:
            verified = self.chain.verify(signed)
        except PeerFault as fault:
            self.faults.append(str(fault))
            return
        receiver.step(MessageReceived(message=verified))

    def run(self) -> None:
        """Until nothing is left to do without the passing of time."""
        steps = 0
        while self.queue:
            self.queue.popleft()()
            steps += 1
            assert steps < 100_000, "the network does not come to rest"

    def elapse(self, ms: int) -> None:
        """Let time pass; timers fire in order, ties by node."""
        end = self.now + ms
        self.run()
        while True:
            due = min(
                ((at, node.number, timer.value) for node in self.up() for timer, at in node.timers.items()),
                default=None,
            )
            if due is None or due[0] > end:
                break
            at, number, value = due
            self.now = Instant(max(self.now, at))
            node = self.nodes[number]
            del node.timers[Timer(value)]
            node.step(TimerFired(timer=Timer(value)))
            self.run()
        self.now = Instant(end)

    def up(self) -> list[Node]:
        return [node for node in self.nodes if not node.is_down]

    def submit(self, *texts: str, overdue: bool = False) -> None:
        """Transactions reach every pool."""
        for node in self.up():
            node.submit(*texts, overdue=overdue)
        self.run()

    def heights(self) -> list[int]:
        return [len(node.blocks) for node in self.nodes]

    def check_agreement(self) -> None:
        """No two nodes store different blocks at one height; every stored certificate holds."""
        for node in self.nodes:
            for height, (_, header, certificate) in enumerate(node.blocks):
                assert all(header == other.blocks[height][1] for other in self.nodes if len(other.blocks) > height)
                assert certificate.digest == header_hash(header)
                verify_certificate(
                    certificate,
                    validators=self.chain.validators,
                    chain_id=self.chain.id,
                    verify_signature=verify_signature,
                )


def lose(*numbers: int) -> Filter:
    """Cut these nodes off."""
    return lambda sender, receiver, message: not {sender.number, receiver.number} & set(numbers)


def evidence_of(effects: Iterable[Effect]) -> list[str]:
    return [effect.reason for effect in of(ReportFault, effects)]


__all__ = [
    "CONFIG", "START", "WINDOW", "Chain", "Checkpoint", "Commit", "Key", "Network", "Node", "Prepare", "Status",
    "encode", "evidence_of", "execute", "lose", "of", "said", "verify_signature",
]  # fmt: skip

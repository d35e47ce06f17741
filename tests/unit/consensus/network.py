"""A network of replicas small enough to read: messages as bytes in one queue, time by hand, real Ed25519."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

from chain.errors import PeerFault
from chain.model.block import (
    Certificate,
    Header,
    Proposal,
    header_hash,
    proposal_digest,
)
from chain.types import Digest, Height, Instant, ValidatorId
from consensus import ReplicaConfig, decode_signed, encode_signed, verify_certificate
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
    Message,
)
from tests.unit.consensus.members import CONFIG, START, WINDOW, Chain, execute, verify_signature


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

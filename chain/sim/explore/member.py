"""One honest replica as a tree of what it may hear: each node is a state, reached by replaying what led to it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from chain.errors import InvariantError, PeerFault
from chain.model.block import Header, Proposal, header_hash, proposal_digest
from chain.sim.checkers import Violation
from chain.sim.explore.canonical import digest_of, substance
from chain.sim.keys import transaction_digest, verify_signature
from chain.sim.twins.checks import Checks, History
from chain.sim.twins.cluster import CONFIG, Chain, executed_on
from chain.types import Instant
from consensus import Replica, verify
from consensus.effects import (
    Broadcast,
    Diverged,
    Effect,
    Execute,
    ObtainProposal,
    Persist,
    ProposalRecord,
    RequestProposal,
    Store,
)
from consensus.events import (
    Event,
    Executed,
    MessageReceived,
    ProposalObtained,
    ProposalPacked,
    Started,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    Status,
    Verified,
    ViewChange,
)

START_MS: Final = Instant(1_000_000)
TIMEOUT: Final = -1  # the action that is no message: the view timer fires

Action: TypeAlias = int  # the number of a message, or TIMEOUT


class Mail:
    """Every message that was ever said, once, under a number; verified as its receivers would do it."""

    def __init__(self, chain: Chain, *, window: int) -> None:
        self._chain, self._window = chain, window
        self._numbers: dict[tuple[bytes, str, bytes], int] = {}
        self.events: list[MessageReceived] = []
        self.contents: dict[bytes, Proposal] = {}  # of every proposal ever made: bodies are at hand everywhere

    def number(self, said: Verified[Message] | Signed[Message]) -> int:
        """Messages of one sender and one substance have one number; the first that came stands for them."""
        key = (said.sender, type(said.message).__name__, substance(said.message))
        known = self._numbers.get(key)
        if known is None:
            signed = Signed(sender=said.sender, message=said.message, signature=said.signature)
            try:
                verified = verify(
                    signed,
                    validators=self._chain.validators,
                    chain_id=self._chain.id,
                    verify_signature=verify_signature,
                    window=self._window,
                )
            except PeerFault as fault:
                raise Violation("verifiable", f"somebody says what nobody takes: {fault}") from fault
            known = self._numbers[key] = len(self.events)
            self.events.append(MessageReceived(message=verified))
        return known

    def message(self, number: int) -> Message:
        return self.events[number].message.message


@dataclass(slots=True, kw_only=True)
class Node:
    """A state of one replica, with what it has said so far and what it has taken of what the others said."""

    parent: Node | None
    action: Action
    said: tuple[int, ...] = ()  # numbers of its broadcasts, in this order
    taken: tuple[int, ...] = (0, 0, 0, 0)  # how many it has taken in, or lost, of each validator's broadcasts
    lost: int = 0
    can_time_out: bool = False
    ordered: tuple[tuple[int, bytes], ...] = ()  # (height, proposal), ascending
    fingerprint: bytes = b""
    standing: tuple[int, bool, int] = (0, False, 0)  # its view, whether it only waits for it, its certified height
    stale: dict[int, bool] = field(default_factory=dict)  # of messages: `is_stale`, looked up before
    view_changes: frozenset[int] = frozenset()
    next: dict[tuple[int, int], int] = field(default_factory=dict)  # (channel, message) -> node

    def path(self) -> list[Action]:
        node: Node | None = self
        actions = []
        while node is not None and node.parent is not None:
            actions.append(node.action)
            node = node.parent
        return actions[::-1]


def is_stale(message: Message, standing: tuple[int, bool, int]) -> bool:
    """Of a view that this replica has left, or of a block it has: now and for ever it does nothing with it."""
    own, changing, certified = standing
    match message:
        case PrePrepare(view=view):
            return view < own or message.proposal.height <= certified
        case Prepare(view=view, height=height) | Commit(view=view, height=height):
            return view < own or height <= certified
        case Checkpoint(height=height):
            return height <= certified
        case ViewChange(view=view) | NewView(view=view):
            return view < own or (view == own and not changing)
        case _:
            return False


class Life:
    """A replica, driven: contents, execution and the pool answer at once."""

    def __init__(
        self, chain: Chain, mail: Mail, *, validator: int, window: int, heights: int, checkpoints: bool
    ) -> None:
        self._chain, self._mail, self._heights, self._checkpoints_travel = chain, mail, heights, checkpoints
        self._checks = Checks(validators=chain.validators, chain_id=chain.id, window=window)
        self._history = History(f"n{validator}")
        self._tips: dict[int, Header] = {0: chain.genesis}
        self.said: list[int] = []
        self.now = START_MS
        self.validator = validator
        self.replica = Replica(
            config=CONFIG,
            signer=chain.signers[validator],
            validators=chain.validators,
            chain_id=chain.id,
            window=window,
            last=(chain.genesis, None),
        )
        self._checks.on_boot(self._history, 0)
        self.step(Started())
        self.step(TransactionsWaiting(overdue=True))

    @property
    def ordered(self) -> tuple[tuple[int, bytes], ...]:
        return tuple(sorted(self._checks.ordered.items()))

    def act(self, action: Action) -> None:
        """Raises Violation if a promise breaks."""
        if action == TIMEOUT:
            self.now = Instant(self.now + 1_000)
            self.step(TimerFired(timer=Timer.VIEW))
        else:
            self.step(self._mail.events[action])

    def step(self, event: Event) -> None:
        waiting: deque[Event] = deque([event])
        while waiting:
            try:
                effects = self.replica.step(waiting.popleft(), self.now)
            except InvariantError as error:
                raise Violation("invariant", f"n{self.validator}: {error}") from error
            for effect in effects:
                answer = self._carry_out(effect)
                if answer is not None:
                    waiting.append(answer)

    def _carry_out(self, effect: Effect) -> Event | None:
        match effect:
            case Persist(record=record):
                if isinstance(record, ProposalRecord):
                    digest = proposal_digest(record.proposal)
                    self._checks.on_proposal(self._history, record.view, record.proposal.height, digest)
                else:
                    self._checks.on_record(self._history, record)
            case Broadcast(message=message):
                self._say(message)
            case RequestProposal(view=view, height=height) if height <= self._heights:
                return ProposalPacked(view=view, proposal=self.proposal(view, height))
            case ObtainProposal(digest=digest, proposal=proposal):
                return ProposalObtained(digest=digest, proposal=proposal or self._mail.contents[digest])
            case Execute(proposal=proposal):
                return Executed(header=self._execute(proposal))
            case Store(header=header, certificate=certificate):
                self._checks.on_store(self._history, header, certificate)
            case Diverged():
                raise Violation("divergence", f"n{self.validator}: {effect.reason} at h{effect.height}")
            case _:
                pass
        return None

    def _say(self, message: Verified[Message]) -> None:
        if isinstance(message.message, Status):
            return
        number = self._mail.number(message)
        self._checks.on_send(self._history, message)
        if self._checkpoints_travel or not isinstance(message.message, Checkpoint):
            self.said.append(number)

    def proposal(self, view: int, height: int) -> Proposal:
        """What this validator proposes there if it leads."""
        proposal = Proposal(
            chain_id=self._chain.id,
            height=height,
            timestamp_ms=START_MS + view,
            proposer=self.replica.id,
            hashes=transaction_digest(1_000 * self.validator + 10 * height + view),
        )
        self._mail.contents[proposal_digest(proposal)] = proposal
        return proposal

    def _execute(self, proposal: Proposal) -> Header:
        digest = proposal_digest(proposal)
        self._checks.on_execute(self._history, proposal, digest, fetched=False)
        parent = self._tips[proposal.height - 1]
        header = self._tips[proposal.height] = executed_on(parent, header_hash(parent), proposal, digest)
        return header

    @property
    def standing(self) -> tuple[int, bool, int]:
        return self.replica.view, self.replica.is_changing, self.replica.certified_height

    def fingerprint(self) -> bytes:
        self.replica.validate_state()
        return digest_of(self.replica)


__all__ = ["TIMEOUT", "Action", "Life", "Mail", "Node", "is_stale"]

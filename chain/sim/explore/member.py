"""One honest replica, driven step by step, and the messages that are said."""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from chain.errors import InvariantError, PeerFault
from chain.model.block import Header, Proposal, header_hash, proposal_digest
from chain.sim.checkers import Violation
from chain.sim.explore.canonical import digest_of, substance
from chain.sim.explore.copying import copy_of
from chain.sim.keys import transaction_digest, verify_signature
from chain.sim.twins.checks import Checks, History
from chain.sim.twins.cluster import CONFIG, Chain, executed_on
from chain.types import Height, Instant
from consensus import Replica, verify
from consensus.effects import (
    Broadcast,
    Diverged,
    Effect,
    Execute,
    JournalRecord,
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
TIMEOUT: Final = -1  # an action that is no message: the view timer fires
RESTART: Final = -2  # another: it comes back with what is in its journal

Action: TypeAlias = int  # the number of a message, TIMEOUT or RESTART
# (view, whether it only waits for it, certified height, whether it leads the view), and of each height that it knows of
# (accepted proposal, whether it has said its commit, whether a quorum's commits are here)
Standing: TypeAlias = tuple[
    tuple[int, bool, int, bool], tuple[tuple[int, tuple[bytes | None, bool, bool]], ...]
]


class Mail:
    """Every message that was ever said, once, under a number; verified as its receivers would do it."""

    def __init__(self, chain: Chain, *, window: int) -> None:
        self._chain, self._window = chain, window
        self._numbers: dict[tuple[bytes, str, bytes], int] = {}
        self.events: list[MessageReceived] = []
        self.contents: dict[bytes, Proposal] = {}  # of every proposal ever made: bodies are at hand everywhere
        self.places: dict[bytes, int] = {}  # of proposals, from 1, in the order in which they were ordered first

    def number(self, said: Verified[Message] | Signed[Message]) -> int:
        """Messages of one sender and one substance have one number; the first that came stands for them."""
        key = (said.sender, type(said.message).__name__, substance(said.message))
        known = self._numbers.get(key)
        if known is None:
            self.events.append(MessageReceived(message=self.verified(said)))
            known = self._numbers[key] = len(self.events) - 1
        return known

    def verified(self, said: Verified[Message] | Signed[Message]) -> Verified[Message]:
        """As its receivers would do it."""
        try:
            return verify(
                Signed(sender=said.sender, message=said.message, signature=said.signature),
                validators=self._chain.validators,
                chain_id=self._chain.id,
                verify_signature=verify_signature,
                window=self._window,
            )
        except PeerFault as fault:
            raise Violation("verifiable", f"somebody says what nobody takes: {fault}") from fault

    def place(self, digest: bytes) -> int:
        return self.places.setdefault(digest, len(self.places) + 1)

    def message(self, number: int) -> Message:
        return self.events[number].message.message


def is_void(message: Message, standing: Standing) -> bool:
    """Now and for ever the replica does nothing with it.

    That is of a view it has left, or of a block it has; a prepare where it has said its commit, or for another proposal
    than the one it has accepted in this view; a commit where a quorum has agreed; and, where it has asked for the next
    view and does not lead it, a view-change.
    """
    own, changing, certified, leads = standing[0]
    match message:
        case PrePrepare(view=view):
            return view < own or message.proposal.height <= certified
        case Prepare(view=view, height=height) | Commit(view=view, height=height):
            if view < own or height <= certified:
                return True
            accepted, committed, agreed = dict(standing[1]).get(height, (None, False, False))
            if view > own or changing:
                return False
            if isinstance(message, Commit):
                return agreed
            return committed or accepted not in (None, message.digest)
        case Checkpoint(height=height):
            return height <= certified
        case ViewChange(view=view):
            return view < own or (view == own and not (changing and leads))
        case NewView(view=view):
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
        self.said: list[int] = []
        self.now = START_MS
        self.validator = validator
        self.journal: list[JournalRecord] = []
        self.restarts = 0
        self._window = window
        self._boot()

    def _boot(self) -> None:
        chain = self._chain
        self.replica = Replica(
            config=CONFIG,
            signer=chain.signers[self.validator],
            validators=chain.validators,
            chain_id=chain.id,
            window=self._window,
            last=(chain.genesis, None),
            journal=tuple(self.journal),
        )
        self._tips: dict[int, Header] = {0: chain.genesis}
        self._checks.on_boot(self._history, 0)
        self.step(Started())
        self.step(TransactionsWaiting(overdue=True))

    @property
    def ordered(self) -> tuple[tuple[int, bytes], ...]:
        return tuple(sorted(self._checks.ordered.items()))

    def copy(self) -> Life:
        """The same replica at the same point, to go another way."""
        return copy_of(self)

    def act(self, action: Action) -> None:
        """Raises Violation if a promise breaks."""
        if action == TIMEOUT:
            self.now = Instant(self.now + 1_000)
            self.step(TimerFired(timer=Timer.VIEW))
        elif action == RESTART:
            self.restarts += 1
            self._boot()
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
                self.journal.append(record)
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
        self._checks.on_send(self._history, message if message.digest is not None else self._mail.verified(message))
        travels = self._checkpoints_travel or not isinstance(message.message, Checkpoint)
        if travels and number not in self.said:  # what is said again is heard again by nobody
            self.said.append(number)

    def proposal(self, view: int, height: int) -> Proposal:
        """What this validator proposes there if it leads; after a restart it has other transactions."""
        proposal = Proposal(
            chain_id=self._chain.id,
            height=height,
            timestamp_ms=START_MS + view,
            proposer=self.replica.id,
            hashes=transaction_digest(10_000 * self.restarts + 1_000 * self.validator + 10 * height + view),
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
    def place(self) -> tuple[int, bool, int]:
        """Its view, whether it only waits for it, its certified height."""
        return self.replica.view, self.replica.is_changing, self.replica.certified_height

    @property
    def standing(self) -> Standing:
        """What decides which messages mean nothing any more."""
        slots = {}
        for height in range(self.replica.certified_height + 1, self._heights + 1):
            slot = self.replica._ordering.slot(Height(height))
            if slot is not None:
                slots[height] = (slot.accepted, slot.own_commit is not None, slot.commits.quorum() is not None)
        leads = self.replica.leader == self.replica.id
        return (*self.place, leads), tuple(sorted(slots.items()))

    def fingerprint(self, *, plain: bool = False) -> bytes:
        self.replica.validate_state()
        return digest_of(self.replica, plain=plain)


__all__ = ["RESTART", "TIMEOUT", "Action", "Life", "Mail", "Standing", "is_void"]

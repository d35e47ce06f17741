"""One node over several epochs, and a test that plays all the others: `Heir` has seven keys to hand."""

from __future__ import annotations

from collections.abc import Sequence

from chain.errors import PeerFault
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.model.validators import ValidatorSchedule, ValidatorSet
from chain.types import Height, Instant
from consensus import OtherEpoch, Succession, verify
from consensus.effects import Effect, JournalRecord, Persist, RequestProposal, Store
from consensus.events import (
    BlockFetched,
    Event,
    Executed,
    MessageReceived,
    ProposalObtained,
    ProposalPacked,
    Started,
    Stored,
    Timer,
    TimerFired,
)
from consensus.follower import Follower
from consensus.messages import Checkpoint, Commit, Message, MessageType, Prepare, PrePrepare, Signed
from tests.unit.consensus.members import CONFIG, START, Chain, execute, of, verify_signature

WINDOW = 2
REALM = Chain(7, window=WINDOW, name="epochs")


def set_of(*numbers: int, weights: dict[int, int] | None = None) -> ValidatorSet:
    """Of these keys, in this order, each of weight 1 where nothing else is said."""
    members = [REALM.keys[number].validator for number in numbers]
    heavier = weights or {}
    return ValidatorSet(
        type(member)(name=member.name, public_key=member.public_key, weight=heavier.get(number, 1))
        for number, member in zip(numbers, members, strict=True)
    )


FIRST = set_of(0, 1, 2, 3)
SEVEN = set_of(0, 1, 2, 3, 4, 5, 6)


class Heir:
    """The node `number`; in every epoch it hears of votes by as many of the others as a quorum needs."""

    def __init__(
        self,
        number: int,
        *,
        schedule: ValidatorSchedule | None = None,
        last: tuple[Header, Certificate | None] = (REALM.genesis, None),
        journal: Sequence[JournalRecord] = (),
    ) -> None:
        self.number = number
        self.now = START
        self.journal = list(journal)
        self.schedule = schedule or ValidatorSchedule(FIRST)
        self.header = last[0]
        self.stored = last
        self.core = Succession(
            config=CONFIG, signers=(REALM.keys[number],), schedule=self.schedule, chain_id=REALM.id, window=WINDOW,
            last=last, journal=self.journal,
        )  # fmt: skip
        self.first = self.step(Started())

    def step(self, event: Event) -> list[Effect]:
        effects = self.core.step(event, self.now)
        self.core.validate_state()
        self.journal += [effect.record for effect in of(Persist, effects)]
        for store in of(Store, effects):
            self.stored = (store.header, store.certificate)
        return effects

    def hear_signed(self, signed: Signed[Message]) -> list[Effect]:
        """As the driver does it. Raises PeerFault and OtherEpoch."""
        verified = verify(
            signed, epoch=self.core.epoch, chain_id=REALM.id, window=WINDOW, verify_signature=verify_signature
        )
        return self.step(MessageReceived(message=verified))

    def hear(self, number: int, message: Message) -> list[Effect]:
        return self.hear_signed(REALM.sign(number, message))

    def dropped(self, signed: Signed[Message]) -> str:
        """Why a message does not reach the core: "other_epoch", or the reason of a fault; empty if it does."""
        try:
            self.hear_signed(signed)
        except OtherEpoch:
            return "other_epoch"
        except PeerFault as fault:
            return str(fault).split(":", 1)[0]
        return ""

    def fire(self, timer: Timer) -> list[Effect]:
        inner = self.core.inner
        timers = inner._timers if isinstance(inner, Follower) else inner._pace.timers
        deadline = timers.deadline(timer)
        assert deadline is not None, f"{timer} is not armed"
        self.now = Instant(max(self.now, deadline))
        return self.step(TimerFired(timer=timer))

    # --- the others ---

    def numbers(self) -> list[int]:
        """The other members of the present set, in its order."""
        return [
            number
            for member in self.core.validators.members
            for number, key in enumerate(REALM.keys)
            if key.validator_id == member.id and number != self.number
        ]

    @property
    def leader(self) -> int:
        return next(at for at, key in enumerate(REALM.keys) if key.validator_id == self.core.leader)

    def propose(self, height: int, *texts: str) -> tuple[Proposal, list[Effect]]:
        """The leader's proposal, with its bodies; if this node leads it has been asked for one."""
        proposal = REALM.proposal(height, *texts, leader=self.leader, timestamp_ms=self.now)
        view = self.core.view
        if self.leader == self.number:
            return proposal, self.step(ProposalPacked(view=view, proposal=proposal))
        effects = self.hear(self.leader, PrePrepare(view=view, proposal=proposal))
        return proposal, effects + self.step(ProposalObtained(digest=proposal_digest(proposal), proposal=proposal))

    def order(self, height: int, *texts: str) -> Proposal:
        """All others vote."""
        proposal, _ = self.propose(height, *texts)
        digest = proposal_digest(proposal)
        for kind in (Prepare, Commit):
            for number in self.numbers():
                self.hear(number, kind(view=self.core.view, height=height, digest=digest))
        return proposal

    def execute(self, proposal: Proposal, validators: ValidatorSet | None = None) -> list[Effect]:
        self.header = execute(proposal, self.header)
        return self.step(Executed(header=self.header, validators=validators))

    def certify(self, header: Header | None = None) -> list[Effect]:
        header = header or self.header
        vote = Checkpoint(height=header.height, digest=header_hash(header))
        return [effect for number in self.numbers() for effect in self.hear(number, vote)]

    def finish(self, height: int, *texts: str, validators: ValidatorSet | None = None) -> list[Effect]:
        """Order, execute and certify; the effects of the last two."""
        proposal = self.order(height, *texts)
        return self.execute(proposal, validators) + self.certify()

    def block(self, height: int, signers: Sequence[int], *texts: str) -> BlockFetched:
        """The next block as sync brings it."""
        proposal = REALM.proposal(height, *texts, timestamp_ms=self.now)
        header = execute(proposal, self.header)
        certificate = REALM.certificate(
            MessageType.CHECKPOINT, height=height, digest=header_hash(header), signers=signers
        )
        return BlockFetched(proposal=proposal, header=header, certificate=certificate)

    def store(self) -> list[Effect]:
        """The disk has all that is certified."""
        return self.step(Stored(height=Height(self.core.certified_height)))

    # --- whole epochs ---

    def to_boundary(self, target: ValidatorSet) -> int:
        """Block 1 (or the next) schedules `target`; the boundary is certified and not stored. Returns its height."""
        first = self.core.certified_height + 1
        self.finish(first, f"change {first}", validators=target)
        for height in range(first + 1, first + WINDOW + 1):
            self.finish(height)
        assert self.core.boundary == self.core.certified_height == first + WINDOW
        return first + WINDOW

    def to_epoch(self, target: ValidatorSet) -> int:
        """The next epoch begins; returns its base."""
        base = self.to_boundary(target)
        self.schedule.add(base + 1, target)
        self.store()
        assert (self.core.epoch_base, self.core.boundary, self.core.view) == (base, None, 0)
        return base

    def restart(self, journal: Sequence[JournalRecord] | None = None) -> Heir:
        """Another life, from the last stored block and the journal."""
        schedule = ValidatorSchedule(FIRST)
        schedule.restore(self.schedule.epochs[1:])
        return Heir(
            self.number, schedule=schedule, last=self.stored, journal=self.journal if journal is None else journal
        )


def requests(effects: Sequence[Effect]) -> list[tuple[int, int, bool]]:
    return [(effect.view, effect.height, effect.may_be_empty) for effect in of(RequestProposal, effects)]

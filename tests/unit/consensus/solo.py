"""One replica, and a test that plays all the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chain.model.block import (
    Header,
    Proposal,
    header_hash,
    proposal_digest,
)
from chain.types import Instant
from consensus.effects import (
    Effect,
    JournalRecord,
    Persist,
)
from consensus.events import (
    Event,
    Executed,
    MessageReceived,
    ProposalObtained,
    Started,
    Timer,
    TimerFired,
)
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    Prepare,
    PrePrepare,
    Signed,
    ViewChange,
)
from tests.unit.consensus.members import START, Chain, execute, of


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

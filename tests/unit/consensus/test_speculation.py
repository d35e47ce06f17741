"""What the core says about execution ahead of order: what may run, when that is taken back, and that it is a hint."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from chain.errors import InvariantError
from chain.model.block import Certificate, Proposal, gap_proposal, header_hash, proposal_digest
from chain.types import Height
from consensus.effects import Effect, Execute, Speculate
from consensus.events import BlockFetched, Executed, Timer, TransactionsWaiting
from consensus.messages import Checkpoint, MessageType
from tests.unit.consensus.members import Chain, execute, of, said
from tests.unit.consensus.solo import Solo


def named(effects: Iterable[Effect]) -> list[Proposal]:
    return [effect.proposal for effect in of(Speculate, effects)]


def prepare(solo: Solo, proposal: Proposal, *, view: int = 0) -> list[Effect]:
    """Proposed, obtained, and prepared by a quorum."""
    leader = view % 4
    others = [number for number in range(4) if number not in (solo.number, leader)][:1]
    return solo.propose(proposal, view=view) + solo.prepare(proposal, leader, *others, view=view)


def certificate(chain: Chain, proposal: Proposal, *, view: int = 0) -> Certificate:
    return chain.certificate(
        MessageType.PREPARE, view=view, height=proposal.height, digest=proposal_digest(proposal), signers=(0, 1, 2)
    )


def test_a_proposal_is_named_when_it_is_prepared_and_executed_when_it_is_ordered() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    assert named(solo.propose(proposal)) == []
    assert named(solo.prepare(proposal, 0)) == []
    effects = solo.prepare(proposal, 2)
    assert named(effects) == [proposal]
    assert of(Execute, effects) == []
    effects = solo.commit(proposal, 0, 2)
    assert named(effects) == []
    assert [effect.proposal for effect in of(Execute, effects)] == [proposal]


def test_it_is_not_named_before_its_contents_are_here() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.step(solo.chain.pre_prepare(proposal))
    assert named(solo.prepare(proposal, 0, 2, 3)) == []  # a quorum without this replica
    assert named(solo.obtain(proposal)) == [proposal]


def test_heights_are_named_in_order_and_without_a_gap() -> None:
    solo = Solo()
    first, second, third = (solo.chain.proposal(height, str(height)) for height in (1, 2, 3))
    assert named(prepare(solo, third)) == []
    assert named(prepare(solo, second)) == []
    assert named(prepare(solo, first)) == [first, second, third]


def test_what_is_ordered_while_a_height_is_missing_below_is_named_like_the_prepared() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    assert named(solo.order(second)) == []
    assert named(prepare(solo, first)) == [first, second]
    assert [effect.proposal for effect in of(Execute, solo.commit(first, 0, 2))] == [first, second]


def test_a_header_of_what_is_only_prepared_is_refused_and_nothing_is_signed() -> None:
    """A driver that hands on what it executed ahead breaks its promise; the core stops rather than sign."""
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    prepare(solo, proposal)
    header = execute(proposal, solo.chain.genesis)
    with pytest.raises(InvariantError, match="executed header 1"):
        solo.step(Executed(header=header))
    solo.commit(proposal, 0, 2)
    [vote] = said(Checkpoint, solo.step(Executed(header=header)))
    assert vote.height == 1


def test_a_header_of_another_proposal_than_the_ordered_one_is_refused() -> None:
    solo = Solo()
    proposal, other = solo.chain.proposal(1, "a"), solo.chain.proposal(1, "b")
    solo.order(proposal)
    with pytest.raises(InvariantError, match="executed header 1"):
        solo.step(Executed(header=execute(other, solo.chain.genesis)))


class Replaced:
    """A replica that has three heights prepared in view 0, and a new view."""

    def __init__(self, *, number: int = 3) -> None:
        self.solo = solo = Solo(number=number)
        self.chain = solo.chain
        self.proposals = [self.chain.proposal(height, str(height)) for height in (1, 2, 3)]
        for proposal in self.proposals:
            assert named(prepare(solo, proposal)) == [proposal]
        solo.step(TransactionsWaiting(overdue=True))

    def enter(self, view: int, *prepared: Certificate) -> list[Effect]:
        """A new view by a quorum without this replica that tells of these certificates."""
        others = [number for number in range(4) if number != self.solo.number]
        changes = [self.chain.view_change(number, view, prepared=prepared) for number in others]
        return self.solo.change_view(view, *changes)


def test_the_same_digests_prepared_again_in_a_new_view_are_not_named_again() -> None:
    world = Replaced()
    told = world.enter(1, *[certificate(world.chain, proposal) for proposal in world.proposals])
    assert named(told) == []
    for proposal in world.proposals:
        assert named(world.solo.prepare(proposal, 0, 1, 2, view=1)) == []
    effects = [effect for proposal in world.proposals for effect in world.solo.commit(proposal, 0, 1, 2, view=1)]
    assert [effect.proposal for effect in of(Execute, effects)] == world.proposals
    assert named(effects) == []


def test_what_only_an_earlier_view_prepared_is_not_named() -> None:
    """Height 2 is prepared in view 0, height 1 comes with view 1: both wait until that view prepares them."""
    solo = Solo(number=3)
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    prepare(solo, second)
    changes = [
        solo.chain.view_change(
            number, 1, prepared=[certificate(solo.chain, proposal) for proposal in (first, second)]
        )
        for number in (0, 1, 2)
    ]
    assert named(solo.change_view(1, *changes)) == []
    assert named(solo.obtain(first)) == []
    assert named(solo.prepare(first, 0, 1, 2, view=1)) == [first]
    assert named(solo.prepare(second, 0, 1, 2, view=1)) == [second]


def test_another_digest_in_a_new_view_is_named_with_all_above_it() -> None:
    """Height 1 comes again, height 2 is a gap now, height 3 comes again on top of it."""
    world = Replaced()
    first, second, third = world.proposals
    gap = gap_proposal(chain_id=world.chain.id, height=Height(2))
    assert named(world.enter(1, certificate(world.chain, first), certificate(world.chain, third))) == []
    assert named(world.solo.prepare(third, 0, 1, 2, view=1)) == []  # the heights below have to be prepared first
    assert named(world.solo.prepare(gap, 0, 1, 2, view=1)) == []
    assert named(world.solo.prepare(first, 0, 1, 2, view=1)) == [gap, third]
    assert proposal_digest(gap) != proposal_digest(second)


def test_a_block_that_was_fetched_takes_back_what_was_named_otherwise() -> None:
    world = Replaced()
    chain, solo = world.chain, world.solo
    other = chain.proposal(1, "another", leader=1)
    header = execute(other, chain.genesis)
    vote = chain.certificate(
        MessageType.CHECKPOINT, height=1, digest=header_hash(header), signers=(0, 1, 2)
    )
    effects = solo.step(BlockFetched(proposal=other, header=header, certificate=vote))
    assert [effect.proposal for effect in of(Execute, effects)] == [other]
    assert named(effects) == world.proposals[1:]  # still prepared in this view, to be run again on top of it


def test_what_is_prepared_in_the_journal_is_named_after_a_restart() -> None:
    solo = Solo()
    proposals = [solo.chain.proposal(height, str(height)) for height in (1, 2)]
    for proposal in proposals:
        prepare(solo, proposal)
    assert named(solo.restart().first) == proposals


def test_nothing_is_named_beyond_the_window() -> None:
    solo = Solo(Chain(window=2))
    proposals = [solo.chain.proposal(height, str(height)) for height in (1, 2, 3)]
    told = [name for proposal in proposals for name in named(prepare(solo, proposal))]
    assert told == proposals[:2]


def test_leaving_a_view_takes_nothing_back() -> None:
    world = Replaced()
    effects = world.solo.fire(Timer.VIEW)
    assert named(effects) == []
    assert world.solo.replica.is_changing

"""What the mutations of `consensus/ordering.py` found to be tested nowhere else: what is voted for, kept, given up."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from chain.errors import InvariantError
from chain.model.block import Proposal, proposal_digest
from chain.types import GENESIS_HEIGHT, Height, Instant, View
from consensus.effects import Abandon, Effect, Execute, ObtainProposal, RequestProposal, Speculate
from consensus.epoch import Epoch
from consensus.events import (
    Executed,
    MessageReceived,
    ProposalPacked,
    ProposalRefused,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.messages import Commit, Message, MessageType, Prepare, PrePrepare, Verified, ViewChange
from consensus.ordering import Ordering
from consensus.safety import Safety
from tests.planted.chains import fetched
from tests.unit.consensus.members import CONFIG, START, WINDOW, Chain, evidence_of, of, said
from tests.unit.consensus.solo import Solo

H1, H2 = Height(1), Height(2)
AHEAD_MS = START + CONFIG.timestamp_drift_ms_max + 300  # the clock allows for it 300 ms from the start


def hear_unexamined(solo: Solo, number: int, message: Message) -> list[Effect]:
    """The core itself judges: nothing but the signature is checked before."""
    signed = solo.chain.sign(number, message)
    received = Verified(sender=signed.sender, message=signed.message, signature=signed.signature)
    return solo.step(MessageReceived(message=received))


def propose_again(solo: Solo, *proposals: Proposal, view: int = 1) -> list[Effect]:
    """A new view in which all of these are proposed again; replicas 0, 2 and 3 have prepared them in view 0."""
    certificates = [
        solo.chain.certificate(
            MessageType.PREPARE, height=proposal.height, digest=proposal_digest(proposal), signers=(0, 2, 3)
        )
        for proposal in proposals
    ]
    changes = [solo.chain.view_change(number, view, prepared=certificates) for number in (0, 2, 3)]
    return solo.change_view(view, *changes)


# --- two contents of one height ---


def of_two_contents() -> tuple[Solo, Proposal, Proposal]:
    """A height where the leader sent this replica one proposal and the others have ordered another one."""
    solo = Solo()
    sent, ordered = solo.chain.proposal(2, "sent"), solo.chain.proposal(2, "ordered")
    solo.hear(0, PrePrepare(view=0, proposal=sent))
    return solo, sent, ordered


def test_what_is_ordered_is_sought_by_its_digest_where_another_proposal_was_sent() -> None:
    solo, _, ordered = of_two_contents()
    [sought] = of(ObtainProposal, solo.commit(ordered, 0, 2, 3))
    assert (sought.digest, sought.proposal, sought.fresh) == (proposal_digest(ordered), None, False)


def test_what_is_ordered_is_sought_with_its_hashes_where_it_was_sent_and_refused() -> None:
    solo, sent, _ = of_two_contents()
    solo.step(ProposalRefused(height=H2, digest=proposal_digest(sent), reason="expired"))
    [sought] = of(ObtainProposal, solo.commit(sent, 0, 2, 3))
    assert (sought.digest, sought.proposal, sought.fresh) == (proposal_digest(sent), sent, False)


def test_the_bodies_of_what_is_ordered_are_no_reason_to_vote_for_what_was_sent() -> None:
    solo, sent, ordered = of_two_contents()
    solo.commit(ordered, 0, 2, 3)
    assert said(Prepare, solo.obtain(ordered)) == []
    [vote] = said(Prepare, solo.obtain(sent))
    assert vote.digest == proposal_digest(sent)


def test_what_is_ordered_is_sought_once_however_many_votes_follow() -> None:
    solo, sent, ordered = of_two_contents()
    assert len(of(ObtainProposal, solo.commit(ordered, 0, 2, 3))) == 1
    assert of(ObtainProposal, solo.prepare(ordered, 0, 2, 3)) == []
    assert of(ObtainProposal, solo.obtain(sent)) == []
    assert of(ObtainProposal, solo.obtain(ordered)) == []


# --- refusals ---


def test_a_late_refusal_of_another_proposal_refuses_nothing() -> None:
    solo, sent, other = of_two_contents()
    solo.step(ProposalRefused(height=H2, digest=proposal_digest(other), reason="late"))
    assert len(said(Prepare, solo.obtain(sent))) == 1


def test_a_late_refusal_does_not_refuse_what_the_new_view_proposes_again() -> None:
    solo = Solo(number=2)
    proposal = solo.chain.proposal(1, "a")
    solo.hear(0, PrePrepare(view=0, proposal=proposal))
    assert [effect.fresh for effect in of(ObtainProposal, propose_again(solo, proposal))] == [False]
    solo.step(ProposalRefused(height=H1, digest=proposal_digest(proposal), reason="late"))
    assert [vote.view for vote in said(Prepare, solo.obtain(proposal))] == [1]


def test_a_late_refusal_does_not_refuse_what_waits_for_the_clock() -> None:
    solo = Solo()
    ahead = solo.chain.proposal(1, "a", timestamp_ms=AHEAD_MS)
    solo.hear(0, PrePrepare(view=0, proposal=ahead))
    solo.step(ProposalRefused(height=H1, digest=proposal_digest(ahead), reason="late"))
    assert len(of(ObtainProposal, solo.fire(Timer.TIMESTAMP))) == 1


# --- the clock ---


def test_what_happens_when_a_timestamp_is_due_does_not_put_off_the_judgement() -> None:
    solo = Solo()
    ahead, other = solo.chain.proposal(1, "a", timestamp_ms=AHEAD_MS), solo.chain.proposal(2, "b")
    solo.hear(0, PrePrepare(view=0, proposal=ahead))
    for late_ms in (300, 301):
        solo.now = Instant(START + late_ms)
        assert of(ObtainProposal, solo.prepare(other, late_ms - 298)) == []
        assert Timer.TIMESTAMP in solo.replica.armed_timers
    effects = solo.step(TimerFired(timer=Timer.TIMESTAMP))
    assert [effect.height for effect in of(ObtainProposal, effects)] == [1]
    assert Timer.TIMESTAMP not in solo.replica.armed_timers


def test_no_clock_runs_for_what_lies_beyond_the_window() -> None:
    solo = Solo()
    beyond = solo.chain.proposal(WINDOW + 1, "a", timestamp_ms=AHEAD_MS)
    solo.hear(0, PrePrepare(view=0, proposal=beyond))
    assert Timer.TIMESTAMP not in solo.replica.armed_timers


def test_no_clock_runs_for_what_is_refused_already() -> None:
    solo = Solo()
    twice = solo.chain.proposal(1, "a", "a", timestamp_ms=AHEAD_MS)
    assert evidence_of(solo.hear(0, PrePrepare(view=0, proposal=twice))) == ["duplicate_transaction"]
    assert Timer.TIMESTAMP not in solo.replica.armed_timers


def test_no_clock_runs_for_what_is_prepared_while_the_view_changes() -> None:
    solo = Solo()
    ahead = solo.chain.proposal(1, "a", timestamp_ms=AHEAD_MS + 10_000)
    solo.hear(0, PrePrepare(view=0, proposal=ahead))
    assert len(said(Commit, solo.prepare(ahead, 0, 2, 3))) == 1
    assert Timer.TIMESTAMP in solo.replica.armed_timers
    solo.fire(Timer.VIEW)
    assert Timer.TIMESTAMP not in solo.replica.armed_timers


# --- windows ---


@pytest.mark.parametrize(("height", "waits"), [(WINDOW, True), (WINDOW + 1, False)])
def test_another_leader_is_wanted_only_for_what_lies_in_the_window(height: int, waits: bool) -> None:
    solo = Solo()
    solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(height, "a")))
    assert (Timer.VIEW in solo.replica.armed_timers) is waits
    assert Timer.RETRANSMIT in solo.replica.armed_timers


def test_what_is_prepared_beyond_the_window_of_the_stored_block_is_not_executed_ahead() -> None:
    life = Solo()
    header = life.chain.genesis
    for height in range(1, WINDOW + 3):
        header = life.finish(life.chain.proposal(height, f"{height}"), header)
    again = life.restart()  # nothing was stored, so the window is that of genesis again
    assert [effect.proposal.height for effect in of(Execute, again.first)] == list(range(1, WINDOW + 1))
    assert of(Speculate, again.first) == []


def test_the_window_ends_at_the_boundary_whatever_the_journal_spoke_of() -> None:
    chain = Chain()
    epoch = Epoch(chain.validators, window=WINDOW)
    safety = Safety(signer=chain.keys[1], validators=chain.validators, chain_id=chain.id, floor=GENESIS_HEIGHT)
    ordering = Ordering(
        safety=safety, epoch=epoch, chain_id=chain.id, window=WINDOW, timestamp_drift_ms_max=1, low=GENESIS_HEIGHT
    )
    ordering.restore(Height(3 * WINDOW))
    assert ordering.horizon == 3 * WINDOW
    epoch.close(Height(WINDOW))
    ordering.reach(START, [])
    assert (ordering.horizon, ordering.window_end, ordering.heights) == (WINDOW, WINDOW, ())


# --- who proposes what ---


@pytest.mark.parametrize("view", [0, 2, 3])
def test_the_core_takes_proposals_only_of_the_leader_who_names_itself(view: int) -> None:
    for sender, proposer in itertools.product((0, 2, 3), range(4)):
        solo = Solo(number=1)
        if view:
            solo.change_view(view, *[solo.chain.view_change(number, view) for number in (0, 2, 3)])
        proposal = solo.chain.proposal(1, "a", leader=proposer)
        effects = hear_unexamined(solo, sender, PrePrepare(view=view, proposal=proposal))
        is_right = sender == proposer == view
        assert evidence_of(effects) == ([] if is_right else ["not_leader"])
        assert solo.replica.in_flight == ((1,) if is_right else ())


def test_the_core_takes_no_proposal_for_another_chain() -> None:
    solo = Solo()
    foreign = msgspec.structs.replace(solo.chain.proposal(1, "a"), chain_id=bytes(32))
    effects = hear_unexamined(solo, 0, PrePrepare(view=0, proposal=foreign))
    assert evidence_of(effects) == ["out_of_place"]
    assert solo.replica.in_flight == ()


@pytest.mark.parametrize("changes", [{"chain_id": bytes(32)}, {"proposer": bytes(20)}])
def test_a_pool_that_packs_for_another_chain_or_in_another_name_is_our_bug(changes: dict[str, bytes]) -> None:
    solo = Solo(number=0)
    solo.step(TransactionsWaiting(overdue=False))
    packed = msgspec.structs.replace(solo.chain.proposal(1, "a"), **changes)
    with pytest.raises(InvariantError, match="does not fit"):
        solo.step(ProposalPacked(view=View(0), proposal=packed))


def test_one_height_is_not_proposed_twice() -> None:
    solo = Solo(number=0)
    proposal, out = solo.chain.proposal(1, "a"), list[Effect]()
    ordering = solo.replica._ordering
    ordering.propose(proposal, START, out)
    with pytest.raises(InvariantError, match="does not fit"):
        ordering.propose(proposal, START, out)


@pytest.mark.parametrize(("view", "leader"), [(0, 0), (3, 3)])
def test_what_the_leader_has_sent_is_said_again_by_nobody_else(view: int, leader: int) -> None:
    for number in range(4):
        solo = Solo(number=number)
        if view:
            for other in {0, 1, 2, 3} - {number}:
                solo.hear_signed(solo.chain.view_change(other, view))
            if number != leader:
                solo.change_view(view, *[solo.chain.view_change(other, view) for other in (0, 1, 2, 3)])
        proposal = solo.chain.proposal(1, "a", leader=leader)
        if number == leader:
            solo.step(TransactionsWaiting(overdue=False))
            solo.step(ProposalPacked(view=View(view), proposal=proposal))
        else:
            solo.propose(proposal, view=view)
        assert len(said(PrePrepare, solo.fire(Timer.RETRANSMIT))) == (number == leader)
        assert len(said(PrePrepare, solo.restart().first)) == (number == leader)


def test_a_leader_restarted_on_the_way_out_of_its_view_does_not_say_its_proposals_again() -> None:
    solo = Solo(number=0)
    proposal = solo.chain.proposal(1, "a")
    solo.step(TransactionsWaiting(overdue=False))
    solo.step(ProposalPacked(view=View(0), proposal=proposal))
    solo.prepare(proposal, 1, 2)
    [change] = said(ViewChange, solo.fire(Timer.VIEW))
    again = solo.restart()
    assert said(ViewChange, again.first) == [change]
    assert said(PrePrepare, again.first) == []


def test_a_leader_restarted_after_its_new_view_does_not_propose_afresh_what_that_proposes_again() -> None:
    """Four views later it leads again, and the proposal that stands is its own."""
    solo = Solo(number=0)
    proposal = solo.chain.proposal(1, "a")
    solo.step(TransactionsWaiting(overdue=False))
    solo.step(ProposalPacked(view=View(0), proposal=proposal))
    solo.prepare(proposal, 1, 2)
    prepared = solo.chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(proposal), signers=(0, 1, 2)
    )
    for number in (1, 2, 3):
        solo.hear_signed(solo.chain.view_change(number, 4, prepared=[prepared]))
    assert (solo.replica.view, solo.replica.is_leader, solo.replica.is_changing) == (4, True, False)
    again = solo.restart()
    assert (again.replica.view, again.replica.is_leader) == (4, True)
    assert said(PrePrepare, again.first) == []


# --- from view to view ---


def test_what_is_said_in_the_view_waited_for_is_kept_and_what_is_said_in_the_one_left_is_not() -> None:
    solo = Solo(number=2)
    solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(1, "old")))
    solo.fire(Timer.VIEW)
    solo.prepare(solo.chain.proposal(1, "old"), 0, 1, 3)
    assert solo.replica._ordering._ahead._of == {}
    proposal = solo.chain.proposal(1, "new", leader=1)
    solo.hear(1, PrePrepare(view=1, proposal=proposal))
    solo.prepare(proposal, 0, 1, 3, view=1)
    effects = solo.change_view(1, *[solo.chain.view_change(number, 1) for number in (0, 1, 3)])
    assert [effect.digest for effect in of(ObtainProposal, effects)] == [proposal_digest(proposal)]
    assert [vote.view for vote in said(Commit, effects)] == [1]


def test_what_was_proposed_again_keeps_its_transactions_when_that_view_is_left_too() -> None:
    solo = Solo(number=2)
    proposal = solo.chain.proposal(1, "a")
    propose_again(solo, proposal)
    solo.obtain(proposal)
    assert of(Abandon, solo.fire(Timer.VIEW)) == []
    effects = propose_again(solo, proposal, view=3)
    assert (of(Abandon, effects), of(ObtainProposal, effects)) == ([], [])
    assert [vote.view for vote in said(Prepare, effects)] == [3]


def test_what_was_given_up_on_the_way_is_obtained_again_when_it_comes_back() -> None:
    solo = Solo(number=2)
    proposal = solo.chain.proposal(1, "a")
    assert len(of(ObtainProposal, propose_again(solo, proposal))) == 1
    gone = propose_again(solo, view=3)
    assert [effect.digest for effect in of(Abandon, gone)] == [proposal_digest(proposal)]
    assert len(of(ObtainProposal, propose_again(solo, proposal, view=4))) == 1
    assert [vote.view for vote in said(Prepare, solo.obtain(proposal))] == [4]


def test_what_may_be_in_a_block_that_is_certified_elsewhere_is_not_given_back() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    solo.propose(first)
    solo.propose(second)
    solo.prepare(first, 0, 2)
    solo.prepare(second, 0, 2)
    stable = solo.chain.certificate(MessageType.CHECKPOINT, height=1, digest=bytes(32), signers=(0, 2, 3))
    changes = [solo.chain.view_change(number, 2, stable=stable) for number in (0, 2, 3)]
    assert [effect.height for effect in of(Abandon, solo.change_view(2, *changes))] == [2]


@pytest.mark.parametrize("text", ["proposed", "certified elsewhere"])
def test_transactions_are_given_back_only_if_the_certified_block_is_another(text: str) -> None:
    solo = Solo()
    proposed = solo.chain.proposal(1, "proposed")
    solo.propose(proposed)
    block = fetched(solo.chain, solo.chain.proposal(1, text), solo.chain.genesis)
    effects = solo.step(block) + solo.step(Executed(header=block.header))
    assert solo.replica.certified_height == 1
    given_back = [] if text == "proposed" else [proposal_digest(proposed)]
    assert [effect.digest for effect in of(Abandon, effects)] == given_back


def test_a_leader_goes_on_when_what_its_view_proposed_again_is_certified() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.step(TransactionsWaiting(overdue=False))
    certificate = solo.chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(proposal), signers=(0, 2, 3)
    )
    effects = [
        effect
        for number in (0, 2, 3)
        for effect in solo.hear_signed(solo.chain.view_change(number, 1, prepared=(certificate,)))
    ]
    assert of(RequestProposal, effects) == []  # not before it knows what was proposed
    block = fetched(solo.chain, proposal, solo.chain.genesis)
    solo.step(block)
    effects = solo.step(Executed(header=block.header))
    assert [(effect.view, effect.height) for effect in of(RequestProposal, effects)] == [(1, 2)]


def test_what_is_proposed_again_at_the_last_height_that_is_kept_counts_at_once() -> None:
    solo = Solo()
    stable = solo.chain.certificate(MessageType.CHECKPOINT, height=2 * WINDOW - 1, digest=bytes(32), signers=(0, 2, 3))
    last = solo.chain.certificate(MessageType.PREPARE, height=2 * WINDOW, digest=bytes(32), signers=(0, 2, 3))
    changes = [solo.chain.view_change(number, 2, stable=stable, prepared=(last,)) for number in (0, 2, 3)]
    solo.change_view(2, *changes)
    assert solo.replica.in_flight == (2 * WINDOW,)

"""One height on its way from proposed to ordered, and the bounds around it."""

from __future__ import annotations

import msgspec
import pytest

import consensus.ordering
from chain.errors import InvariantError
from chain.model.block import header_hash, proposal_digest
from chain.types import Height, Instant, View
from consensus import Phase
from consensus.effects import (
    Abandon,
    Broadcast,
    CertificateRecord,
    Execute,
    ObtainProposal,
    Persist,
    ProposalRecord,
    RequestProposal,
    SetTimer,
    VoteRecord,
)
from consensus.events import (
    BlockFetched,
    Executed,
    MessageReceived,
    ProposalObtained,
    ProposalPacked,
    ProposalRefused,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.messages import Commit, MessageType, Prepare, PrePrepare
from tests.unit.consensus.members import CONFIG, START, WINDOW, evidence_of, execute, of, said
from tests.unit.consensus.solo import Solo

V0, H1 = View(0), Height(1)


def test_the_effects_of_a_height_in_order() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    digest = proposal_digest(proposal)
    obtain = of(ObtainProposal, solo.hear(0, PrePrepare(view=0, proposal=proposal)))
    assert obtain == [
        ObtainProposal(
            height=H1, digest=digest, proposal=proposal, fresh=True, sources=(solo.chain.keys[0].validator_id,)
        )
    ]
    effects = solo.obtain(proposal)
    assert [type(effect) for effect in effects] == [Persist, Persist, Broadcast]
    assert [effect.record for effect in of(Persist, effects)] == [
        ProposalRecord(view=0, proposal=proposal),
        VoteRecord(kind=MessageType.PREPARE, view=0, height=1, digest=digest),
    ]
    assert said(Prepare, effects) == [Prepare(view=0, height=1, digest=digest)]
    assert solo.replica.phase(H1) is Phase.PROPOSED
    effects = solo.prepare(proposal, 0, 2)
    assert [type(effect.record) for effect in of(Persist, effects)] == [CertificateRecord, VoteRecord]
    assert said(Commit, effects) == [Commit(view=0, height=1, digest=digest)]
    assert solo.replica.phase(H1) is Phase.PREPARED
    effects = solo.commit(proposal, 0, 2)
    record = of(Persist, effects)[0].record
    assert isinstance(record, CertificateRecord)
    assert record.certificate.kind == MessageType.COMMIT
    assert of(Execute, effects) == [Execute(proposal=proposal)]
    assert solo.replica.phase(H1) is Phase.ORDERED


def test_the_leader_asks_for_one_proposal_at_a_time_while_transactions_wait_and_the_window_has_room() -> None:
    solo = Solo(number=0)
    assert of(RequestProposal, solo.first) == []
    asked = of(RequestProposal, solo.step(TransactionsWaiting(overdue=False)))
    assert asked == [RequestProposal(view=V0, height=H1)]
    assert of(RequestProposal, solo.step(TransactionsWaiting(overdue=False))) == []
    for height in range(1, WINDOW + 1):
        effects = solo.step(ProposalPacked(view=V0, proposal=solo.chain.proposal(height, f"{height}")))
        persisted = [type(effect.record) for effect in of(Persist, effects)]
        assert persisted == [ProposalRecord, VoteRecord]
        assert [type(effect.message.message) for effect in of(Broadcast, effects)] == [PrePrepare, Prepare]
        expected = [RequestProposal(view=V0, height=Height(height + 1))] if height < WINDOW else []
        assert of(RequestProposal, effects) == expected
        assert of(ObtainProposal, effects) == []


def test_a_packed_proposal_for_a_height_that_is_taken_meanwhile_is_given_back() -> None:
    solo = Solo(number=0)
    solo.step(TransactionsWaiting(overdue=False))
    elsewhere = solo.chain.proposal(1, "ordered in a later view", leader=1)
    header = execute(elsewhere, solo.chain.genesis)
    certificate = solo.chain.certificate(
        MessageType.CHECKPOINT, height=1, digest=header_hash(header), signers=(1, 2, 3)
    )
    solo.step(BlockFetched(proposal=elsewhere, header=header, certificate=certificate))
    solo.step(Executed(header=header))
    packed = solo.chain.proposal(1, "mine")
    effects = solo.step(ProposalPacked(view=V0, proposal=packed))
    assert of(Abandon, effects) == [Abandon(height=H1, digest=proposal_digest(packed))]
    assert said(PrePrepare, effects) == []


def test_execution_is_asked_for_strictly_by_height() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    assert of(Execute, solo.order(second)) == []
    assert solo.replica.ordered_height == 0
    assert [effect.proposal for effect in of(Execute, solo.order(first))] == [first, second]
    assert solo.replica.ordered_height == 2


def test_votes_may_come_before_the_proposal() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    assert said(Commit, solo.prepare(proposal, 0, 2, 3)) == []
    assert of(Execute, solo.commit(proposal, 0, 2)) == []
    effects = solo.propose(proposal)
    assert len(said(Prepare, effects)) == len(said(Commit, effects)) == 1
    assert of(Execute, effects) == [Execute(proposal=proposal)]


def test_a_commit_quorum_for_an_unknown_proposal_makes_it_be_obtained_from_the_signers() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    effects = solo.commit(proposal, 0, 2, 3)
    signers = tuple(sorted(solo.chain.keys[number].validator_id for number in (0, 2, 3)))
    assert of(ObtainProposal, effects) == [
        ObtainProposal(height=H1, digest=proposal_digest(proposal), proposal=None, fresh=False, sources=signers)
    ]
    assert of(Execute, solo.obtain(proposal)) == [Execute(proposal=proposal)]
    assert said(Prepare, solo.obtain(proposal)) == []


def test_a_refused_proposal_gets_no_vote_and_is_executed_if_it_is_ordered_all_the_same() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "expired")
    digest = proposal_digest(proposal)
    solo.hear(0, PrePrepare(view=0, proposal=proposal))
    assert solo.step(ProposalRefused(height=H1, digest=digest, reason="expired")) == []
    assert Timer.VIEW in solo.replica.armed_timers
    solo.prepare(proposal, 0, 2, 3)
    effects = solo.commit(proposal, 0, 2)
    assert [effect.fresh for effect in of(ObtainProposal, effects)] == [False]
    effects = solo.obtain(proposal)
    assert said(Prepare, effects) == []
    assert of(Execute, effects) == [Execute(proposal=proposal)]


def test_a_duplicate_of_the_same_pre_prepare_is_harmless() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    assert solo.hear(0, PrePrepare(view=0, proposal=proposal)) == []


def test_a_hash_twice_in_one_proposal_is_a_fault() -> None:
    solo = Solo()
    effects = solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(1, "a", "b", "a")))
    assert evidence_of(effects) == ["duplicate_transaction"]
    assert of(ObtainProposal, effects) == []


def test_a_hash_in_two_live_proposals_is_a_fault() -> None:
    solo = Solo()
    solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(1, "a", "b")))
    effects = solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(2, "c", "b")))
    assert evidence_of(effects) == ["duplicate_transaction"]
    assert of(ObtainProposal, effects) == []


def test_what_lies_beyond_the_window_waits_and_is_voted_for_when_the_window_moves() -> None:
    solo = Solo()
    beyond = solo.chain.proposal(WINDOW + 1, "beyond")
    assert of(ObtainProposal, solo.hear(0, PrePrepare(view=0, proposal=beyond))) == []
    header = solo.chain.genesis
    effects = []
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    header = execute(proposal, header)
    effects += solo.step(Executed(header=header))
    effects += solo.certify(header, 0, 2)
    assert [effect.height for effect in of(ObtainProposal, effects)] == [WINDOW + 1]


def test_what_lies_beyond_the_horizon_is_not_kept() -> None:
    solo = Solo()
    far = solo.chain.proposal(2 * WINDOW + 1, "far")
    solo.hear(0, PrePrepare(view=0, proposal=far))
    solo.prepare(far, 0, 2, 3)
    assert solo.replica._ordering.heights == ()


def test_a_height_ordered_by_others_beyond_the_window_is_executed_only_inside_it() -> None:
    solo = Solo()
    proposals = [solo.chain.proposal(height, f"{height}") for height in range(1, WINDOW + 2)]
    for proposal in proposals:
        solo.hear(0, PrePrepare(view=0, proposal=proposal))
        if proposal.height <= WINDOW:
            solo.obtain(proposal)
        solo.commit(proposal, 0, 2, 3)
    solo.obtain(proposals[-1])
    assert solo.replica.ordered_height == WINDOW + 1
    assert solo.replica._checkpoints.issued == WINDOW


def test_messages_of_later_views_are_kept_one_a_type_and_height_of_the_highest_view() -> None:
    solo = Solo()
    ordering = solo.replica._ordering
    for view in (1, 3, 2):
        for height in range(1, 3 * WINDOW):
            for kind in (Prepare, Commit):
                for digest in (b"a" * 32, b"b" * 32):
                    solo.hear(2, kind(view=view, height=height, digest=digest))
    [(view, kept)] = ordering._ahead._of.values()
    assert view == 3
    assert len(kept) == 2 * 2 * WINDOW
    assert ordering.heights == ()


def test_messages_kept_for_later_views_do_not_pile_up_as_the_chain_goes_on() -> None:
    solo = Solo()
    header = solo.chain.genesis
    for height in range(1, 2 * WINDOW):
        solo.hear(3, Prepare(view=7, height=height, digest=bytes(32)))
        header = solo.finish(solo.chain.proposal(height, f"{height}"), header)
    [(_, kept)] = solo.replica._ordering._ahead._of.values()
    assert len(kept) == 0


def test_a_timestamp_ahead_of_the_clock_waits_and_the_past_is_not_judged() -> None:
    solo = Solo()
    ahead = solo.chain.proposal(1, "a", timestamp_ms=START + CONFIG.timestamp_drift_ms_max + 300)
    effects = solo.hear(0, PrePrepare(view=0, proposal=ahead))
    assert of(ObtainProposal, effects) == []
    assert SetTimer(timer=Timer.TIMESTAMP, at=Instant(START + 300)) in effects
    past = solo.chain.proposal(2, "b", timestamp_ms=0)
    assert len(of(ObtainProposal, solo.hear(0, PrePrepare(view=0, proposal=past)))) == 1
    effects = solo.fire(Timer.TIMESTAMP)
    assert [effect.height for effect in of(ObtainProposal, effects)] == [1]
    assert Timer.TIMESTAMP not in solo.replica.armed_timers


def test_there_is_one_timestamp_timer_for_any_number_of_proposals() -> None:
    solo = Solo()
    effects = []
    for height in range(1, WINDOW + 1):
        at = START + CONFIG.timestamp_drift_ms_max + 400 - height
        effects += solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(height, f"{height}", timestamp_ms=at)))
    assert [effect.at - START for effect in of(SetTimer, effects) if effect.timer is Timer.TIMESTAMP] == [
        399, 398, 397, 396,
    ]  # fmt: skip
    assert solo.replica.armed_timers.count(Timer.TIMESTAMP) == 1


def test_an_absurd_timestamp_sets_no_absurd_timer() -> None:
    solo = Solo()
    effects = solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(1, "a", timestamp_ms=2**63 - 1)))
    at = [effect.at for effect in of(SetTimer, effects) if effect.timer is Timer.TIMESTAMP]
    assert at == [START + CONFIG.view_timeout_ms_max]


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    assert solo.obtain(proposal) == []
    assert solo.step(ProposalRefused(height=H1, digest=proposal_digest(proposal), reason="late")) == []
    assert solo.step(TimerFired(timer=Timer.VIEW)) == []


def test_a_driver_that_answers_with_another_proposal_is_our_bug() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.hear(0, PrePrepare(view=0, proposal=proposal))
    other = msgspec.structs.replace(proposal, timestamp_ms=1)
    with pytest.raises(InvariantError, match="another proposal"):
        solo.step(ProposalObtained(digest=proposal_digest(proposal), proposal=other))


def test_the_proposal_digest_of_a_verified_message_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    solo = Solo()
    signed = solo.chain.sign(0, PrePrepare(view=0, proposal=solo.chain.proposal(1, "a")))
    received = MessageReceived(message=solo.chain.verify(signed))
    calls: list[object] = []
    monkeypatch.setattr(consensus.ordering, "proposal_digest", calls.append)
    solo.step(received)
    proposal = solo.chain.proposal(1, "a")
    solo.step(ProposalObtained(digest=proposal_digest(proposal), proposal=proposal))
    assert calls == []

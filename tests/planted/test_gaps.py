"""What the planted bugs and the mutations found to be tested nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from chain.errors import InvariantError, PeerFault
from chain.model.block import proposal_digest
from chain.types import Height, View
from consensus import verify_certificate
from consensus.catch_up import CatchUp
from consensus.effects import Diverged, Effect, ObtainProposal, RequestProposal
from consensus.epoch import Epoch
from consensus.events import Executed, Timer, TransactionsWaiting
from consensus.kept import Kept
from consensus.leader import Leader
from consensus.messages import Checkpoint, MessageType, Prepare, PrePrepare, ViewChange
from tests.planted.chains import fetched, weighted
from tests.unit.consensus.members import Chain, Key, evidence_of, execute, of, said, verify_signature
from tests.unit.consensus.solo import Solo

# --- votes ---


def test_a_name_given_twice_weighs_once() -> None:
    chain = weighted(1, 1, 1, 1)
    one, two, *_ = chain.validators.ids()
    assert chain.validators.weight([one, one, one]) == 1
    assert not chain.validators.is_quorum([one, one, one])
    assert not chain.validators.has_honest([one, one])
    assert chain.validators.has_honest([one, two])


def test_of_two_proposals_the_first_counts_also_while_its_bodies_are_on_their_way() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(1, "b")
    solo.hear(0, PrePrepare(view=0, proposal=first))
    effects = solo.hear(0, PrePrepare(view=0, proposal=second))
    assert evidence_of(effects) == ["equivocation"]
    assert of(ObtainProposal, effects) == []
    assert solo.obtain(second) == []
    (vote,) = said(Prepare, solo.obtain(first))
    assert vote.digest == proposal_digest(first)


def test_of_a_sender_ahead_only_its_highest_view_is_kept() -> None:
    solo = Solo()
    kept = Kept()
    votes = {
        view: solo.chain.verified(2, Prepare(view=view, height=1, digest=bytes([view] * 32))) for view in (1, 2, 3)
    }
    for view in (1, 3, 2):
        kept.add(votes[view], View(view), Height(1))
    assert list(kept.take_view(View(3))) == [votes[3]]
    assert list(kept.take_view(View(3))) == []


def test_a_height_that_is_ordered_above_a_gap_does_not_count_yet() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    solo.propose(first)
    solo.order(second)
    assert solo.replica.ordered_height == 0
    solo.prepare(first, 0, 2)
    solo.commit(first, 0, 2)
    assert solo.replica.ordered_height == 2


def test_a_certificate_that_a_stranger_signed_too_is_no_certificate() -> None:
    chain = Chain(4)
    chain.keys.append(Key(4))
    certificate = chain.certificate(MessageType.CHECKPOINT, height=1, digest=bytes(32), signers=(0, 1, 2, 4))
    with pytest.raises(PeerFault, match="stranger"):
        verify_certificate(
            certificate, validators=chain.validators, chain_id=chain.id, verify_signature=verify_signature
        )


def test_a_prepared_certificate_is_no_block_certificate_whatever_it_says() -> None:
    chain = Chain(4)
    digest = bytes(32)
    prepared = chain.certificate(MessageType.PREPARE, height=1, digest=digest, signers=(0, 1, 2))
    block = chain.certificate(MessageType.CHECKPOINT, height=1, digest=digest, signers=(0, 1, 2))
    for wrong in (
        prepared,
        msgspec.structs.replace(prepared, kind=int(MessageType.CHECKPOINT)),
        msgspec.structs.replace(block, kind=int(MessageType.PREPARE)),
    ):
        with pytest.raises(PeerFault):
            verify_certificate(
                wrong, validators=chain.validators, chain_id=chain.id, verify_signature=verify_signature
            )


def test_a_new_view_with_a_quorum_and_one_of_them_twice_is_refused() -> None:
    chain = Chain(4)
    changes = [chain.view_change(number, 1) for number in (0, 2, 3)]
    chain.verify(chain.new_view(1, changes))
    with pytest.raises(PeerFault, match="distinct"):
        chain.verify(chain.new_view(1, [*changes, changes[0]]))


# --- checkpoints ---


def test_two_certificates_of_one_height_stop_the_node_before_it_has_executed_the_height() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.step(fetched(solo.chain, proposal, solo.chain.genesis))
    effects = solo.step(fetched(solo.chain, proposal, solo.chain.genesis, gas_used=1))
    assert [effect.reason for effect in of(Diverged, effects)] == ["certified_twice"]


def test_no_height_is_executed_before_the_one_below_it() -> None:
    solo = Solo()
    checkpoints = solo.replica._checkpoints
    for height in (0, 2):
        proposal = solo.chain.proposal(height, "a")
        with pytest.raises(InvariantError, match="execution of height"):
            checkpoints.issue(proposal, proposal_digest(proposal), [])


# --- views ---


def test_two_new_views_of_one_view_are_evidence_and_the_first_one_stands() -> None:
    solo = Solo(number=2)
    changes = [solo.chain.view_change(number, 1) for number in range(4)]
    solo.change_view(1, *changes[:3])
    assert evidence_of(solo.change_view(1, *changes[:3])) == []
    assert evidence_of(solo.change_view(1, *changes[1:])) == ["equivocation"]
    assert solo.replica.view == 1


def test_the_answer_to_an_earlier_views_request_is_not_taken() -> None:
    leader, out = Leader(), list[Effect]()
    leader.request(view=View(4), height=Height(1), may_be_empty=False, out=out)
    assert not leader.close(view=View(0), height=Height(1))
    assert not leader.close(view=View(4), height=Height(2))
    assert leader.open == (4, 1)
    assert leader.close(view=View(4), height=Height(1))
    assert not leader.close(view=View(4), height=Height(1))


def test_a_leader_asks_again_when_it_leads_again() -> None:
    solo = Solo(number=0)
    assert len(of(RequestProposal, solo.step(TransactionsWaiting(overdue=False)))) == 1
    change = ViewChange(view=4, stable=None, prepared=())
    effects = [effect for number in (1, 2, 3) for effect in solo.hear(number, change)]
    assert [effect.view for effect in of(RequestProposal, effects)] == [4]


# --- timers ---


def test_who_leaves_a_view_alone_does_not_go_on_about_what_others_have_in_flight() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.hear(0, PrePrepare(view=0, proposal=proposal))
    solo.prepare(proposal, 0, 2)  # more than F vote for it; this one never got the bodies
    assert Timer.RETRANSMIT in solo.replica.armed_timers
    solo.fire(Timer.VIEW)
    assert solo.replica.armed_timers == ()


# --- saying it again, catching up ---


def test_a_checkpoint_vote_is_said_again_while_its_block_is_not_certified() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    solo.step(Executed(header=execute(proposal, solo.chain.genesis)))
    assert [vote.height for vote in said(Checkpoint, solo.fire(Timer.RETRANSMIT))] == [1]


def test_what_did_not_come_is_asked_for_again_when_somebody_claims_it_again() -> None:
    chain = weighted(1, 1, 1, 1)
    one, two, *_ = chain.validators.ids()
    catch_up = CatchUp(Epoch(chain.validators))
    for _ in range(3):
        catch_up.note(one, 9)
        catch_up.note(two, 9)
        asked = catch_up.request(low=Height(0), ordered=Height(0))
        assert asked is not None
        assert (asked.first, asked.last, asked.sources) == (1, 9, tuple(sorted((one, two))))
        assert catch_up.request(low=Height(0), ordered=Height(0)) is None
        catch_up.stall(missing=True)
        assert not catch_up.is_behind

"""Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, sections 4.4 and 4.5: view changes, liveness.

What we do otherwise: the re-proposals (the paper's set O) are not sent; everybody computes them from the view-changes.
"""

from __future__ import annotations

import pytest

from chain.errors import PeerFault
from chain.model.block import Certificate, gap_proposal, proposal_digest
from chain.types import Height
from consensus.effects import Abandon, Execute, ObtainProposal, RequestProposal
from consensus.events import Executed, Timer, TransactionsWaiting
from consensus.messages import Checkpoint, Commit, MessageType, NewView, Prepare, PrePrepare, ViewChange
from tests.unit.consensus.members import CONFIG, Chain, execute, of, said
from tests.unit.consensus.solo import Solo


def prepared_at(solo: Solo, *heights: int) -> None:
    for height in heights:
        proposal = solo.chain.proposal(height, f"{height}")
        solo.propose(proposal)
        solo.prepare(proposal, 0, 2)


def test_a_time_out_starts_a_view_change() -> None:
    """ "If the timer of backup i expires in view v, the backup starts a view change to move the system to view v+1. It
    stops accepting messages (other than checkpoint, view-change, and new-view messages) and multicasts a
    <VIEW-CHANGE, v+1, n, C, P, i> message to all replicas." """
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    solo.order(first)
    solo.propose(second)
    [change] = said(ViewChange, solo.fire(Timer.VIEW))
    assert change.view == 1
    assert said(Commit, solo.prepare(second, 0, 2, 3)) == []
    assert of(Execute, solo.commit(second, 0, 2, 3)) == []
    assert said(Prepare, solo.propose(solo.chain.proposal(3, "c"))) == []
    header = execute(first, solo.chain.genesis)
    assert said(Checkpoint, solo.step(Executed(header=header))) != []  # checkpoints go on
    solo.certify(header, 0, 2)
    assert solo.replica.certified_height == 1


def test_a_view_change_carries_the_stable_checkpoint_and_what_was_prepared_above_it() -> None:
    """ "n is the sequence number of the last stable checkpoint s known to i, C is a set of 2f+1 valid checkpoint
    messages proving the correctness of s, and P is a set containing a set P_m for each request m that prepared at i
    with a sequence number higher than n." """
    solo = Solo()
    header = solo.finish(solo.chain.proposal(1, "1"), solo.chain.genesis)
    prepared_at(solo, 2, 4)
    solo.propose(solo.chain.proposal(3, "3"))  # not prepared
    [change] = said(ViewChange, solo.fire(Timer.VIEW))
    assert change.stable is not None
    assert change.stable.height == header.height == 1
    assert [entry.height for entry in change.prepared] == [2, 4]
    assert all(entry.kind == MessageType.PREPARE for entry in change.prepared)
    solo.chain.verify(solo.chain.sign(1, change))


def test_the_new_leader_opens_the_view_with_a_quorum_of_view_changes() -> None:
    """ "When the primary p of view v+1 receives 2f valid view-change messages for view v+1 from other replicas, it
    multicasts a <NEW-VIEW, v+1, V, O> message to all other replicas, where V is a set containing the valid view-change
    messages received by the primary plus the view-change message for v+1 the primary sent" """
    solo = Solo(number=1)
    solo.propose(solo.chain.proposal(1, "a"))
    solo.fire(Timer.VIEW)
    assert said(NewView, solo.hear_signed(solo.chain.view_change(2, 1))) == []
    [new_view] = said(NewView, solo.hear_signed(solo.chain.view_change(3, 1)))
    senders = [entry.sender for entry in new_view.view_changes]
    assert senders == sorted(solo.chain.keys[number].validator_id for number in (1, 2, 3))
    solo.chain.verify(solo.chain.sign(1, new_view))


def test_every_prepared_height_is_proposed_again_and_gaps_become_empty() -> None:
    """ "The primary creates a new pre-prepare message for view v+1 for each sequence number n between min-s and max-s.
    There are two cases: (1) there is at least one set in the P component of some view-change message in V with sequence
    number n, or (2) there is no such set. In the first case, the primary creates a new message
    <PRE-PREPARE, v+1, n, d>, where d is the request digest in the pre-prepare message for sequence number n with the
    highest view number in V. In the second case, it creates a new pre-prepare message <PRE-PREPARE, v+1, n, d_null>,
    where d_null is the digest of a special null request" """
    solo = Solo(number=3)
    chain = solo.chain
    older, newer, top = chain.proposal(1, "older"), chain.proposal(1, "newer"), chain.proposal(3, "top")

    def certificate(view: int, height: int, digest: bytes) -> Certificate:
        return chain.certificate(MessageType.PREPARE, view=view, height=height, digest=digest, signers=(0, 1, 2))

    changes = [
        chain.view_change(0, 6, prepared=[certificate(1, 1, proposal_digest(older))]),
        chain.view_change(1, 6, prepared=[certificate(4, 1, proposal_digest(newer))]),
        chain.view_change(2, 6, prepared=[certificate(0, 3, proposal_digest(top))]),
    ]
    effects = solo.change_view(6, *changes)
    assert [(effect.height, effect.digest) for effect in of(ObtainProposal, effects)] == [
        (1, proposal_digest(newer)),
        (3, proposal_digest(top)),
    ]
    gap = gap_proposal(chain_id=chain.id, height=Height(2))
    assert said(Prepare, effects) == [Prepare(view=6, height=2, digest=proposal_digest(gap))]


def test_a_new_view_is_checked_by_everyone() -> None:
    """ "A backup accepts a new-view message for view v+1 if it is signed properly, if the view-change messages it
    contains are valid for view v+1, and if the set O is correct; it verifies the correctness of O by performing a
    computation similar to the one used by the primary to create O." """
    chain = Chain()
    changes = [chain.view_change(number, 2) for number in (0, 1, 3)]
    for bad in ([*changes[:2], chain.view_change(3, 3)], changes[:2], [changes[0], changes[0], changes[1]]):
        with pytest.raises(PeerFault, match="bad_new_view"):
            chain.verify(chain.new_view(2, bad))


def test_on_entering_a_view_everyone_prepares_what_is_proposed_again() -> None:
    """ "Then it adds the new information to its log as described for the primary, multicasts a prepare for each message
    in O to all the other replicas, adds these prepares to its log, and enters view v+1." """
    solo = Solo()
    prepared_at(solo, 1, 2)
    solo.fire(Timer.VIEW)
    own = solo.replica._view_changes.own
    assert own is not None
    changes = [solo.chain.view_change(number, 2) for number in (0, 3)]
    mine = solo.chain.view_change(1, 2, prepared=own.message.prepared)
    effects = solo.change_view(2, *changes, mine)
    assert [(vote.view, vote.height) for vote in said(Prepare, effects)] == [(2, 1), (2, 2)]
    assert (solo.replica.view, solo.replica.is_changing) == (2, False)


def test_what_is_executed_already_is_voted_for_again_and_not_executed_again() -> None:
    """ "Replicas redo the protocol for messages between min-s and max-s but they avoid re-executing client
    requests" """
    solo = Solo()
    proposal = solo.chain.proposal(1, "1")
    solo.order(proposal)
    solo.step(Executed(header=execute(proposal, solo.chain.genesis)))
    certificate = solo.chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(proposal), signers=(0, 1, 2)
    )
    changes = [solo.chain.view_change(number, 2, prepared=[certificate]) for number in (0, 2, 3)]
    effects = solo.change_view(2, *changes)
    effects += solo.prepare(proposal, 0, 2, view=2) + solo.commit(proposal, 0, 2, view=2)
    assert [vote.view for vote in said(Prepare, effects)] == [2]
    assert [vote.view for vote in said(Commit, effects)] == [2]
    assert of(Execute, effects) == []


def test_the_new_leader_continues_above_what_it_proposed_again() -> None:
    """ "The primary determines the sequence number min-s of the latest stable checkpoint in V and the highest sequence
    number max-s in a prepare message in V." """
    solo = Solo(number=1)
    prepared_at(solo, 1, 3)
    solo.step(TransactionsWaiting(overdue=False))
    solo.fire(Timer.VIEW)
    effects = solo.hear_signed(solo.chain.view_change(2, 1)) + solo.hear_signed(solo.chain.view_change(3, 1))
    assert [effect.height for effect in of(RequestProposal, effects)] == [4]


def test_the_timer_waits_for_a_quorum_and_then_doubles() -> None:
    """ "to avoid starting a view change too soon, a replica that multicasts a view-change message for view v+1 waits
    for 2f+1 view-change messages for view v+1 and then starts its timer to expire after some time T. If the timer
    expires before it receives a valid new-view message for v+1 or before it executes a request in the new view that it
    had not executed previously, it starts the view change for view v+2 but this time it will wait 2T before starting a
    view change for view v+3." """
    solo = Solo(number=3)
    solo.propose(solo.chain.proposal(1, "a"))
    solo.fire(Timer.VIEW)
    solo.hear_signed(solo.chain.view_change(0, 1))
    assert Timer.VIEW not in solo.replica.armed_timers
    solo.hear_signed(solo.chain.view_change(2, 1))
    began = solo.now
    assert [change.view for change in said(ViewChange, solo.fire(Timer.VIEW))] == [2]
    assert solo.now - began == 2 * CONFIG.view_timeout_ms
    for number in (0, 2):
        solo.hear_signed(solo.chain.view_change(number, 2))
    began = solo.now
    assert [change.view for change in said(ViewChange, solo.fire(Timer.VIEW))] == [3]
    assert solo.now - began == 4 * CONFIG.view_timeout_ms


def test_f_plus_1_view_changes_are_joined_at_the_smallest_of_their_views() -> None:
    """ "if a replica receives a set of f+1 valid view-change messages from other replicas for views greater than its
    current view, it sends a view-change message for the smallest view in the set, even if its timer has not expired;
    this prevents it from starting the next view change too late." """
    solo = Solo(number=3)
    assert said(ViewChange, solo.hear_signed(solo.chain.view_change(0, 9))) == []
    assert [change.view for change in said(ViewChange, solo.hear_signed(solo.chain.view_change(2, 4)))] == [4]


def test_up_to_f_validators_cannot_force_a_view_change() -> None:
    """ "A faulty replica cannot cause a view change by sending a view-change message, because a view change will happen
    only if at least f+1 replicas send view-change messages" """
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    for view in (1, 2, 50, 2**40):
        assert said(ViewChange, solo.hear_signed(solo.chain.view_change(3, view))) == []
    assert solo.replica.view == 0
    assert said(Commit, solo.prepare(proposal, 0, 2)) != []


def test_what_the_new_view_does_not_keep_is_given_up() -> None:
    """A fresh proposal that nobody prepared has no place in the new view; its transactions go back to the pool."""
    solo = Solo(number=3)
    lost = solo.chain.proposal(1, "a")
    solo.propose(lost)
    effects = solo.change_view(1, *[solo.chain.view_change(number, 1) for number in (0, 1, 2)])
    assert of(Abandon, effects) == [Abandon(height=Height(1), digest=proposal_digest(lost))]
    replacement = solo.chain.proposal(1, "b", leader=1)
    effects = solo.hear(1, PrePrepare(view=1, proposal=replacement)) + solo.obtain(replacement)
    assert [vote.digest for vote in said(Prepare, effects)] == [proposal_digest(replacement)]

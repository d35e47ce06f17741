"""Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, section 4.2: normal-case operation.

The rule is quoted in each test. What we do otherwise: the leader votes with a prepare like everyone, so that "2f
prepares and the pre-prepare" is a quorum of prepares and the pre-prepare.
"""

from __future__ import annotations

import pytest

from chain.errors import PeerFault
from chain.model.block import proposal_digest
from chain.types import Height
from consensus import Phase
from consensus.effects import Execute, ObtainProposal
from consensus.messages import Commit, Prepare, PrePrepare
from tests.unit.consensus.members import WINDOW, Chain, evidence_of, of, said
from tests.unit.consensus.solo import Solo

H1 = Height(1)


def test_a_pre_prepare_must_be_signed_by_its_leader() -> None:
    """ "A backup accepts a pre-prepare message provided: the signatures in the request and the pre-prepare message are
    correct and d is the digest for m" """
    chain = Chain()
    good = chain.sign(0, PrePrepare(view=0, proposal=chain.proposal(1, "a")))
    forged = chain.sign(0, PrePrepare(view=0, proposal=chain.proposal(1, "b")))
    with pytest.raises(PeerFault, match="bad_signature"):
        chain.verify(type(good)(sender=good.sender, message=good.message, signature=forged.signature))


def test_a_pre_prepare_of_another_view_is_not_accepted() -> None:
    """ "it is in view v" """
    solo = Solo()
    effects = solo.hear(1 + 1, PrePrepare(view=2, proposal=solo.chain.proposal(1, "a", leader=2)))
    assert of(ObtainProposal, effects) == []
    assert solo.replica.phase(H1) is Phase.UNKNOWN


def test_the_first_pre_prepare_for_a_view_and_height_wins() -> None:
    """ "it has not accepted a pre-prepare message for view v and sequence number n containing a different digest" """
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(1, "b")
    solo.propose(first)
    effects = solo.propose(second)
    assert evidence_of(effects) == ["equivocation"]
    assert said(Prepare, effects) == []


def test_a_pre_prepare_lies_between_the_water_marks() -> None:
    """ "the sequence number in the pre-prepare message is between a low water mark, h, and a high water mark, H" """
    solo = Solo()
    assert said(Prepare, solo.propose(solo.chain.proposal(WINDOW, "in"))) != []
    assert said(Prepare, solo.propose(solo.chain.proposal(WINDOW + 1, "out"))) == []
    solo.finish(solo.chain.proposal(1, "a"), solo.chain.genesis)
    assert said(Prepare, solo.propose(solo.chain.proposal(1, "too late"))) == []


def test_an_accepted_pre_prepare_is_answered_with_a_prepare_to_all() -> None:
    """ "If backup i accepts the <<PRE-PREPARE, v, n, d>, m> message, it enters the prepare phase by multicasting a
    <PREPARE, v, n, d, i> message to all other replicas and adds both messages to its log. Otherwise, it does nothing."
    """
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    vote = Prepare(view=0, height=1, digest=proposal_digest(proposal))
    assert said(Prepare, solo.propose(proposal)) == [vote]


def test_prepares_of_another_view_do_not_count() -> None:
    """ "A replica (including the primary) accepts prepare messages and adds them to its log provided their signatures
    are correct, their view number equals the replica's current view, and their sequence number is between h and H." """
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    assert said(Commit, solo.prepare(proposal, 0, 2, 3, view=1)) == []
    assert said(Commit, solo.prepare(proposal, 0, 2, view=0)) != []


@pytest.mark.parametrize("without", ["pre-prepare", "quorum", "equal digest", "equal height"])
def test_prepared_needs_the_pre_prepare_and_a_quorum_of_prepares_that_match_it(without: str) -> None:
    """ "We define the predicate prepared(m, v, n, i) to be true if and only if replica i has inserted in its log: the
    request m, a pre-prepare for m in view v with sequence number n, and 2f prepares from different backups that match
    the pre-prepare. The replicas verify whether the prepares match the pre-prepare by checking that they have the same
    view, sequence number, and digest." """
    solo = Solo()
    proposal, other = solo.chain.proposal(1, "a"), solo.chain.proposal(1, "b")
    higher = solo.chain.proposal(2, "a")
    if without != "pre-prepare":
        solo.propose(proposal)
    voted = {"equal digest": other, "equal height": higher}.get(without, proposal)
    effects = solo.prepare(proposal, 0) if without == "quorum" else solo.prepare(voted, 0, 2, 3)
    assert said(Commit, effects) == []
    assert solo.replica.phase(H1) is not Phase.PREPARED


def test_prepares_come_from_different_replicas() -> None:
    """ "2f prepares from different backups" """
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    assert said(Commit, solo.prepare(proposal, 0, 0, 0, 0)) == []


def test_a_commit_is_sent_to_all_when_prepared() -> None:
    """ "Replica i multicasts a <COMMIT, v, n, D(m), i> to the other replicas when prepared(m, v, n, i) becomes
    true." """
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    vote = Commit(view=0, height=1, digest=proposal_digest(proposal))
    assert said(Commit, solo.prepare(proposal, 0, 2, 3)) == [vote]


def test_commits_of_another_view_or_beyond_the_window_do_not_count() -> None:
    """ "Replicas accept commit messages and insert them in their log provided they are properly signed, the view number
    in the message is equal to the replica's current view, and the sequence number is between h and H" """
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    solo.prepare(proposal, 0, 2)
    assert of(Execute, solo.commit(proposal, 0, 2, 3, view=1)) == []
    far = solo.chain.proposal(2 * WINDOW + 1, "far")
    assert solo.commit(far, 0, 2, 3) == []
    assert of(Execute, solo.commit(proposal, 0, 2)) != []


def test_execution_follows_the_sequence() -> None:
    """ "Each replica i executes the operation requested by m after committed-local(m, v, n, i) is true and i's state
    reflects the sequential execution of all requests with lower sequence numbers." """
    solo = Solo()
    proposals = [solo.chain.proposal(height, f"{height}") for height in (1, 2, 3)]
    assert of(Execute, solo.order(proposals[2])) == []
    assert of(Execute, solo.order(proposals[1])) == []
    assert [effect.proposal for effect in of(Execute, solo.order(proposals[0]))] == proposals


def test_ordering_does_not_wait_for_execution() -> None:
    """Heights are ordered side by side, up to the window; execution follows at its own pace."""
    solo = Solo()
    for height in range(1, WINDOW + 1):
        solo.order(solo.chain.proposal(height, f"{height}"))
    assert (solo.replica.ordered_height, solo.replica.executed_height) == (WINDOW, 0)

"""What the mutations of `consensus/safety.py` found to be tested nowhere else: it refuses what were a bug of ours."""

from __future__ import annotations

import pytest

from chain.errors import InvariantError
from chain.model.block import proposal_digest
from chain.types import GENESIS_HEIGHT, Digest, Height, View
from consensus.effects import Broadcast, Effect
from consensus.messages import Message, NewView, Prepare, PrePrepare, Verified
from consensus.safety import Safety
from tests.unit.consensus.members import Chain, of

CHAIN = Chain()
A, B = Digest(b"a" * 32), Digest(b"b" * 32)
H1 = Height(1)


def safety(number: int, *, view: int = 0, changing: bool = False) -> Safety:
    made = Safety(signer=CHAIN.keys[number], validators=CHAIN.validators, chain_id=CHAIN.id, floor=GENESIS_HEIGHT)
    made.view, made.changing = View(view), changing
    return made


@pytest.mark.parametrize(
    ("number", "view", "changing", "wanted"),
    [(1, 1, False, 1), (1, 5, True, 1), (1, 1, True, 5), (2, 1, True, 1), (0, 1, True, 1), (3, 1, True, 1)],
)
def test_a_new_view_is_signed_by_its_leader_who_waits_for_it(
    number: int, view: int, changing: bool, wanted: int
) -> None:
    assert safety(1, view=1, changing=True).new_view(view=View(1), view_changes=()).message.view == 1
    with pytest.raises(InvariantError, match="new-view"):
        safety(number, view=view, changing=changing).new_view(view=View(wanted), view_changes=())


def test_there_is_no_way_back_into_a_view_and_only_its_leader_broadcasts_it() -> None:
    for number, sent in ((0, 0), (1, 1), (2, 0), (3, 0)):
        out: list[Effect] = []
        made = safety(number, view=1, changing=True)
        new_view = CHAIN.verified(1, CHAIN.new_view(1, [CHAIN.view_change(at, 1) for at in (0, 2, 3)]).message)
        made.enter(new_view, out)
        assert len(of(Broadcast, out)) == sent
        assert isinstance(new_view.message, NewView)
        with pytest.raises(InvariantError, match="entering view 1"):
            made.enter(new_view, out)
        made.view = View(2)
        with pytest.raises(InvariantError, match="entering view 1"):
            made.enter(new_view, out)


def test_a_vote_in_a_lower_view_than_the_last_one_contradicts_it() -> None:
    made, out = safety(1, view=2), list[Effect]()
    made.prepare(view=View(2), height=H1, digest=A, out=out)
    assert (made.said_prepare(view=View(1), height=H1), made.said_prepare(view=View(3), height=H1)) == (None, None)
    assert made.said_prepare(view=View(2), height=H1) == A
    made.view = View(1)
    with pytest.raises(InvariantError, match="contradicts"):
        made.prepare(view=View(1), height=H1, digest=A, out=out)
    for view in (0, 2):
        with pytest.raises(InvariantError, match="in view"):
            made.prepare(view=View(view), height=Height(2), digest=A, out=out)
    made.view = View(3)
    assert made.prepare(view=View(3), height=H1, digest=B, out=out).message.digest == B


def heard(number: int, message: Message) -> Verified[Message]:
    """A message as it comes back to its sender, its digest not computed by anybody yet."""
    signed = CHAIN.sign(number, message)
    return Verified(sender=signed.sender, message=signed.message, signature=signed.signature)


def test_only_the_leader_of_a_view_signs_its_pre_prepares() -> None:
    for number in range(4):
        for view in range(4):
            proposal = CHAIN.proposal(1, "a", leader=number)
            made = safety(number, view=view)
            if number == view:
                said = made.pre_prepare(view=View(view), proposal=proposal, digest=proposal_digest(proposal), out=[])
                assert made.may_have_said(said)
                continue
            with pytest.raises(InvariantError, match="does not lead"):
                made.pre_prepare(view=View(view), proposal=proposal, digest=proposal_digest(proposal), out=[])


def test_of_the_proposals_in_the_journal_those_of_the_views_it_led_may_have_been_said() -> None:
    for number in range(4):
        made = safety(number)
        proposals = [CHAIN.proposal(1 + view, "a", leader=number) for view in range(4)]
        for view, proposal in enumerate(proposals):
            height = Height(proposal.height)
            made.remember_proposal(view=View(view), height=height, digest=proposal_digest(proposal))
        for view, proposal in enumerate(proposals):
            message = heard(number, PrePrepare(view=view, proposal=proposal))
            assert made.may_have_said(message) == (view == number)


def test_of_the_views_it_led_at_one_height_the_last_one_counts() -> None:
    first, last, other = (CHAIN.proposal(1, text) for text in "abc")
    made, out = safety(0, view=4), list[Effect]()
    made.remember_proposal(view=View(0), height=H1, digest=proposal_digest(first))
    made.remember_proposal(view=View(4), height=H1, digest=proposal_digest(last))
    with pytest.raises(InvariantError, match="contradicts"):
        made.pre_prepare(view=View(4), proposal=other, digest=proposal_digest(other), out=out)
    assert made.may_have_said(heard(0, PrePrepare(view=0, proposal=first)))  # as far as it remembers


def test_a_vote_of_an_earlier_view_that_comes_back_is_no_sign_of_a_stolen_key() -> None:
    made, out = safety(1), list[Effect]()
    made.prepare(view=View(0), height=H1, digest=A, out=out)
    made.view = View(1)
    made.prepare(view=View(1), height=H1, digest=B, out=out)
    said = {(0, A): True, (1, B): True, (1, A): False, (2, B): False}
    for (view, digest), expected in said.items():
        assert made.may_have_said(heard(1, Prepare(view=view, height=1, digest=digest))) is expected

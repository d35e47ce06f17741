"""The latest view-change of each sender, joining, and the plan of a new view."""

from __future__ import annotations

from chain.model.block import Certificate, gap_proposal, proposal_digest
from chain.types import Height, View
from consensus.messages import MessageType, Verified, ViewChange
from consensus.view_change import ViewChanges, plan_of
from tests.unit.consensus.members import Chain

CHAIN = Chain()
BIG = Chain(7)
A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))


def prepared(view: int, height: int, digest: bytes, signers: tuple[int, ...] = (0, 1, 2)) -> Certificate:
    return CHAIN.certificate(MessageType.PREPARE, view=view, height=height, digest=digest, signers=signers)


def stable(height: int) -> Certificate:
    return CHAIN.certificate(MessageType.CHECKPOINT, height=height, digest=A, signers=(0, 1, 2))


def change(*certificates: Certificate, low: Certificate | None = None) -> ViewChange:
    return ViewChange(view=9, stable=low, prepared=certificates)


def verified(number: int, view: int, chain: Chain = BIG) -> Verified[ViewChange]:
    return chain.verified(number, ViewChange(view=view, stable=None, prepared=()))


def test_nothing_prepared_means_nothing_is_proposed_again() -> None:
    plan = plan_of([change(), change(), change()], chain_id=CHAIN.id)
    assert (plan.low, plan.reproposals, plan.first_fresh) == (0, {}, 1)


def test_the_plan_begins_above_the_highest_stable_certificate() -> None:
    changes = [change(low=stable(3)), change(low=stable(5)), change(prepared(1, 4, A), prepared(1, 6, B))]
    plan = plan_of(changes, chain_id=CHAIN.id)
    assert plan.low == 5
    assert {height: entry.digest for height, entry in plan.reproposals.items()} == {6: B}
    assert plan.first_fresh == 7


def test_of_two_prepared_certificates_the_one_of_the_higher_view_wins_whatever_the_order() -> None:
    one, other = change(prepared(2, 1, A)), change(prepared(5, 1, B, (1, 2, 3)))
    for changes in ([one, other, change()], [change(), other, one]):
        entry = plan_of(changes, chain_id=CHAIN.id).reproposals[Height(1)]
        assert entry.digest == B
        assert set(entry.sources) == {CHAIN.keys[number].validator_id for number in (1, 2, 3)}


def test_gaps_are_filled_with_empty_proposals() -> None:
    plan = plan_of([change(prepared(0, 1, A), prepared(0, 4, B))], chain_id=CHAIN.id)
    assert list(plan.reproposals) == [1, 2, 3, 4]
    gap = plan.reproposals[Height(2)]
    assert gap.gap == gap_proposal(chain_id=CHAIN.id, height=Height(2))
    assert gap.digest == proposal_digest(gap.gap)
    assert plan.reproposals[Height(4)].gap is None


def test_only_the_highest_view_change_of_a_sender_is_kept() -> None:
    changes = ViewChanges(BIG.validators)
    assert changes.add(verified(0, 5))
    assert not changes.add(verified(0, 4))
    assert not changes.add(verified(0, 5))
    assert changes.add(verified(0, 7))
    assert changes.views() == {BIG.keys[0].validator_id: 7}


def test_the_join_target_is_the_f_plus_first_highest_view() -> None:
    changes = ViewChanges(BIG.validators)  # f = 2
    assert changes.join_target() is None
    changes.add(verified(0, 9))
    changes.add(verified(1, 7))
    assert changes.join_target() is None
    changes.add(verified(2, 4))
    assert changes.join_target() == 4
    changes.add(verified(3, 8))
    assert changes.join_target() == 7


def test_a_quorum_is_for_one_view_but_higher_ones_keep_the_timer_going() -> None:
    changes = ViewChanges(BIG.validators)  # a quorum is 5
    for number, view in enumerate((3, 3, 3, 3, 4)):
        changes.add(verified(number, view))
    assert changes.quorum_for(View(3)) is None
    changes.note_quorum(View(3))
    assert changes.quorum_seen
    changes.add(verified(5, 3))
    quorum = changes.quorum_for(View(3))
    assert quorum is not None
    assert [entry.sender for entry in quorum] == sorted(BIG.keys[number].validator_id for number in (0, 1, 2, 3, 5))


def test_entering_a_view_drops_the_view_changes_up_to_it() -> None:
    changes = ViewChanges(BIG.validators)
    for number, view in enumerate((2, 3, 4)):
        changes.add(verified(number, view))
    signed = BIG.new_view(3, [BIG.view_change(number, 3) for number in range(5)])
    changes.enter(Verified(sender=signed.sender, message=signed.message, signature=signed.signature))
    assert changes.views() == {BIG.keys[2].validator_id: 4}
    assert changes.own is None
    assert not changes.quorum_seen

"""Everything that counts validators counts their weights: W in total, F = (W - 1) // 3, a quorum is W - F."""

from __future__ import annotations

import pytest

from chain.types import Digest, Height, View
from consensus.catch_up import CatchUp
from consensus.epoch import Epoch
from consensus.messages import Prepare, Verified, ViewChange
from consensus.view_change import ViewChanges
from consensus.votes import Tally
from tests.planted.chains import weighted

A, B, C = Digest(b"a" * 32), Digest(b"b" * 32), Digest(b"c" * 32)
HEAVY = weighted(4, 1, 1, 1)  # W = 7, F = 2, a quorum weighs 5: none without the first
PAIR = weighted(3, 2, 1, 1)


def vote(number: int, digest: Digest) -> Verified[Prepare]:
    return HEAVY.verified(number, Prepare(view=0, height=1, digest=digest))


def tally(*votes: tuple[int, Digest]) -> Tally:
    counted = Tally(HEAVY.validators)
    for number, digest in votes:
        counted.add(vote(number, digest))
    return counted


def test_two_of_four_are_a_quorum_if_they_are_heavy_and_three_are_none_if_they_are_light() -> None:
    assert tally((0, A), (1, A)).has_quorum(A)
    assert tally((0, A), (1, A)).quorum() == A
    assert not tally((1, A), (2, A), (3, A)).has_quorum(A)
    assert tally((1, A), (2, A), (3, A)).quorum() is None
    assert not tally((0, A), (1, B)).has_quorum(A)


def test_one_heavy_voter_is_more_than_f_and_two_light_ones_are_not() -> None:
    assert tally((0, A)).has_honest()
    assert not tally((1, A), (2, B)).has_honest()
    assert tally((1, A), (2, B), (3, C)).has_honest()


def test_whether_a_quorum_can_still_form_depends_on_the_weight_that_is_missing() -> None:
    assert tally((1, A), (2, B), (3, C)).can_agree()  # the first makes a quorum with any of them
    assert not tally((0, A), (1, B), (2, B), (3, B)).can_agree()
    assert tally((0, A), (1, B), (2, B)).can_agree()


@pytest.mark.parametrize(("asking", "target"), [((0,), 3), ((1, 2), None), ((1, 2, 3), 3)])
def test_more_than_f_of_weight_ask_for_a_view_before_it_is_joined(asking: tuple[int, ...], target: int | None) -> None:
    changes = ViewChanges(HEAVY.validators)
    for number in asking:
        changes.add(HEAVY.verified(number, ViewChange(view=3, stable=None, prepared=())))
    assert changes.join_target() == target


def test_a_quorum_of_weight_begins_a_view() -> None:
    changes = ViewChanges(HEAVY.validators)
    for number in (1, 2, 3):
        changes.add(HEAVY.verified(number, ViewChange(view=3, stable=None, prepared=())))
    assert changes.quorum_for(View(3)) is None
    changes.note_quorum(View(3))
    assert not changes.quorum_seen
    changes.add(HEAVY.verified(0, ViewChange(view=3, stable=None, prepared=())))
    assert changes.quorum_for(View(3)) is not None
    changes.note_quorum(View(3))
    assert changes.quorum_seen


@pytest.mark.parametrize(("claims", "corroborated"), [({0: 9}, 9), ({1: 9, 2: 9}, 0), ({1: 9, 2: 8, 3: 7}, 7)])
def test_more_than_f_of_weight_corroborate_a_claim(claims: dict[int, int], corroborated: int) -> None:
    catch_up = CatchUp(Epoch(HEAVY.validators))
    for number, height in claims.items():
        catch_up.note(HEAVY.keys[number].validator_id, height)
    assert catch_up.corroborated() == Height(corroborated)


def test_two_light_voters_that_agree_are_more_than_f_where_one_heavy_one_is_not_alone() -> None:
    validators = PAIR.validators
    ids = [key.validator_id for key in PAIR.keys]
    assert (validators.total_weight, validators.tolerated_weight, validators.quorum_weight) == (7, 2, 5)
    assert validators.has_honest(ids[:1])
    assert not validators.has_honest(ids[1:2])
    assert validators.has_honest(ids[1:3])
    assert validators.is_quorum(ids[:2])
    assert not validators.is_quorum(ids[1:])


@pytest.mark.parametrize(
    ("total", "tolerated"), [(4, 1), (5, 1), (6, 1), (7, 2), (8, 2), (9, 2), (10, 3), (12, 3), (13, 4), (100, 33)]
)
def test_less_than_a_third_is_tolerated_whatever_the_total(total: int, tolerated: int) -> None:
    validators = weighted(total - 3, 1, 1, 1).validators
    assert validators.tolerated_weight == tolerated
    assert validators.quorum_weight == total - tolerated
    assert 2 * validators.quorum_weight - total > tolerated  # two quorums share an honest validator

"""The schedule of validator sets: which one is in force where."""

from __future__ import annotations

import pytest

from chain.errors import ConfigError, InvariantError
from chain.model.validators import Validator, ValidatorSchedule, ValidatorSet
from chain.types import ValidatorId


def set_of(*weights: int) -> ValidatorSet:
    return ValidatorSet(
        Validator(name=f"bank {at}", public_key=bytes([at]) * 32, weight=weight) for at, weight in enumerate(weights)
    )


def test_epochs_follow_each_other() -> None:
    first, second, third = set_of(1, 1, 1, 1), set_of(1, 1, 1, 2), set_of(1, 1, 1, 3)
    schedule = ValidatorSchedule(first)
    assert (schedule.at(10**9), schedule.base(7), schedule.boundary(7)) == (first, 0, None)
    schedule.restore([(10, second), (15, third)])
    expected = {0: (first, 0, 9), 9: (first, 0, 9), 10: (second, 9, 14), 14: (second, 9, 14), 15: (third, 14, None)}
    for height, (validators, base, boundary) in expected.items():
        assert schedule.at(height) is validators
        assert (schedule.base(height), schedule.boundary(height)) == (base, boundary)
    assert schedule.last_known is third
    assert [height for height, _ in schedule.epochs] == [0, 10, 15]


def test_an_epoch_is_never_put_in_between() -> None:
    schedule = ValidatorSchedule(set_of(1, 1, 1, 1))
    schedule.add(10, set_of(1, 1, 1, 2))
    schedule.add(10, set_of(1, 1, 1, 2))  # the same again says nothing new
    for height in (0, 9, 10):
        with pytest.raises(InvariantError, match="after the one from height 10"):
            schedule.add(height, set_of(2, 1, 1, 1))
    assert len(schedule.epochs) == 2
    with pytest.raises(InvariantError):
        schedule.at(-1)


@pytest.mark.parametrize(("weights", "tolerated", "quorum"), [((1,) * 4, 1, 3), ((1,) * 7, 2, 5), ((6, 1, 1, 1), 2, 7)])
def test_quorums_are_of_weight(weights: tuple[int, ...], tolerated: int, quorum: int) -> None:
    validators = set_of(*weights)
    assert (validators.tolerated_weight, validators.quorum_weight) == (tolerated, quorum)
    ids = validators.ids()
    assert validators.weight([ids[0], ids[0], ValidatorId(b"stranger")]) == weights[0]


def test_a_set_has_distinct_keys_and_positive_weights() -> None:
    with pytest.raises(ConfigError, match="weight 0"):
        set_of(1, 0)
    member = Validator(name="one", public_key=bytes(32), weight=1)
    with pytest.raises(ConfigError, match="two members have one public key"):
        ValidatorSet([member, member])

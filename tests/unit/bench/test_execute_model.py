"""The arithmetic of the schedule model."""

from __future__ import annotations

import pytest

from bench.execute.model import Share, Timeline, block_us, parts_per_transaction, ready_us

WAKE = 3.0


def line(*shares: Share, seal: float = 5.0, own: float = 40.0, plan: float = 10.0, validate: float = 7.0) -> Timeline:
    return Timeline(shares=shares, seal_us=seal, own_us=own, plan_us=plan, validate_us=validate)


def test_alone_everything_adds_up() -> None:
    assert block_us(line(), wake_us=WAKE) == 5 + 40 + 10 + 7


def test_an_answer_is_ready_after_its_dispatch_two_wakes_and_its_run() -> None:
    shares = (Share(2.0, 50.0, 1.0), Share(4.0, 10.0, 1.0))
    assert ready_us(line(*shares), wake_us=WAKE) == [2 + 3 + 50 + 3, 2 + 4 + 3 + 10 + 3]


def test_the_lead_is_waited_for() -> None:
    """Answers are there before it is ready: they cost it only their reading."""
    assert block_us(line(Share(2.0, 10.0, 1.0)), wake_us=WAKE) == 2 + (5 + 40 + 10) + 1 + 7


def test_the_lead_waits() -> None:
    """The answer comes last: what the lead did meanwhile costs nothing."""
    assert block_us(line(Share(2.0, 100.0, 1.0)), wake_us=WAKE) == 2 + 3 + 100 + 3 + 1 + 7


def test_answers_are_read_one_after_the_other() -> None:
    shares = [Share(1.0, 100.0, 20.0) for _ in range(3)]
    assert block_us(line(*shares), wake_us=0.0) == 1 + 100 + 3 * 20 + 7


def test_more_executors_never_help_where_one_shard_holds_all() -> None:
    alone = block_us(line(own=100.0, seal=0.0, plan=0.0, validate=0.0), wake_us=WAKE)
    moved = block_us(line(Share(1.0, 100.0, 1.0), own=0.0, seal=0.0, plan=0.0, validate=0.0), wake_us=WAKE)
    assert moved > alone


def test_parts_are_medians_by_transaction() -> None:
    lines = [line(Share(2.0, value, 1.0), Share(2.0, value, 3.0), own=value) for value in (10.0, 20.0, 90.0)]
    parts = parts_per_transaction(lines, 10)
    assert parts == {
        "plan": 1.0, "dispatch": 0.4, "execute": 6.0, "collect": 0.4, "validate": 0.7, "seal": 0.5,
    }  # fmt: skip
    assert parts["execute"] == pytest.approx(3 * 20 / 10)

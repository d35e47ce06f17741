"""A leader who orders everything but one transaction: progress does not excuse him for ever."""

from __future__ import annotations

from chain.types import Digest, Instant
from consensus.events import PoolDrained, Timer, TransactionsWaiting
from consensus.messages import Checkpoint, ViewChange
from consensus.pace import OVERDUE_PATIENCE
from tests.unit.consensus.members import CONFIG, START, WINDOW, said
from tests.unit.consensus.solo import Solo

UNLOVED = Digest(b"u" * 32)
PATIENCE_MS = OVERDUE_PATIENCE * CONFIG.view_timeout_ms


def waiting(oldest: Digest | None) -> TransactionsWaiting:
    return TransactionsWaiting(overdue=True, oldest=oldest)


def deadline(solo: Solo) -> Instant:
    at = solo.replica._pace.timers.deadline(Timer.VIEW)
    assert at is not None
    return at


def test_the_same_oldest_transaction_ends_the_view_whatever_else_is_ordered() -> None:
    solo = Solo()
    solo.step(waiting(UNLOVED))
    header = solo.chain.genesis
    for height in range(1, 3 * WINDOW):
        solo.now = Instant(solo.now + CONFIG.view_timeout_ms // 4)
        header = solo.finish(solo.chain.proposal(height, f"{height}"), header)
        solo.step(waiting(UNLOVED))
        assert deadline(solo) <= START + PATIENCE_MS
    assert [change.view for change in said(ViewChange, solo.fire(Timer.VIEW))] == [1]


def test_another_oldest_transaction_begins_the_count_anew() -> None:
    solo = Solo()
    solo.step(waiting(UNLOVED))
    solo.now = Instant(START + PATIENCE_MS // 2)
    header = solo.finish(solo.chain.proposal(1, "1"), solo.chain.genesis)
    solo.step(waiting(Digest(b"v" * 32)))
    solo.now = Instant(START + PATIENCE_MS)
    solo.finish(solo.chain.proposal(2, "2"), header)
    assert deadline(solo) == solo.now + CONFIG.view_timeout_ms


def test_where_the_oldest_is_not_known_any_progress_counts() -> None:
    solo = Solo()
    solo.step(waiting(None))
    solo.now = Instant(START + 2 * PATIENCE_MS)
    solo.finish(solo.chain.proposal(1, "1"), solo.chain.genesis)
    assert deadline(solo) == solo.now + CONFIG.view_timeout_ms


def test_a_drained_pool_accuses_nobody() -> None:
    solo = Solo()
    solo.step(waiting(UNLOVED))
    solo.step(PoolDrained())
    assert solo.replica.armed_timers == ()


def test_the_next_leader_gets_as_much_time() -> None:
    solo = Solo(number=2)
    solo.step(waiting(UNLOVED))
    solo.now = Instant(START + PATIENCE_MS)
    solo.fire(Timer.VIEW)
    solo.change_view(1, *[solo.chain.view_change(number, 1) for number in (0, 1, 3)])
    assert solo.replica.view == 1
    assert deadline(solo) > solo.now + CONFIG.view_timeout_ms // 2


def test_who_is_behind_cannot_tell_what_is_left_out() -> None:
    """While it fetches blocks the transaction may be in one of them."""
    solo = Solo()
    solo.step(waiting(UNLOVED))
    for number in (2, 3):
        solo.hear(number, Checkpoint(height=50, digest=bytes(32)))
    assert Timer.VIEW not in solo.replica.armed_timers
    solo.now = Instant(START + 3 * PATIENCE_MS)
    solo.step(waiting(UNLOVED))
    assert solo.replica._leader.passed_over_since == solo.now

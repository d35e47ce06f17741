"""Back-off, and what the driver is asked to keep."""

from __future__ import annotations

from chain.types import Instant
from consensus.effects import CancelTimer, Effect, SetTimer
from consensus.events import Timer
from consensus.timers import BackOff, Timers


def test_the_delay_doubles_up_to_the_cap_and_returns_to_the_base() -> None:
    delay = BackOff(base_ms=100, cap_ms=700)
    seen = []
    for _ in range(5):
        seen.append(delay.current_ms)
        delay.fail()
    assert seen == [100, 200, 400, 700, 700]
    delay.reset()
    assert delay.current_ms == 100


def test_a_million_failures_do_not_overflow() -> None:
    delay = BackOff(base_ms=2_000, cap_ms=60_000)
    for _ in range(1_000_000):
        delay.fail()
    assert delay.current_ms == 60_000


def test_arming_and_disarming() -> None:
    timers, out = Timers(), list[Effect]()
    timers.disarm(Timer.VIEW, out)
    assert out == []
    timers.arm(Timer.VIEW, now=Instant(10), delay_ms=5, out=out)
    assert out == [SetTimer(timer=Timer.VIEW, at=Instant(15))]
    assert timers.armed == (Timer.VIEW,)
    timers.disarm(Timer.VIEW, out)
    assert out[1:] == [CancelTimer(timer=Timer.VIEW)]
    assert timers.deadline(Timer.VIEW) is None


def test_a_firing_that_was_overtaken_by_a_cancel_is_ignored() -> None:
    timers, out = Timers(), list[Effect]()
    assert not timers.fire(Timer.VIEW, Instant(99), out)
    assert out == []


def test_a_firing_that_was_overtaken_by_a_new_deadline_is_put_back() -> None:
    timers, out = Timers(), list[Effect]()
    timers.arm(Timer.VIEW, now=Instant(10), delay_ms=5, out=out)
    timers.arm(Timer.VIEW, now=Instant(14), delay_ms=5, out=out)
    assert not timers.fire(Timer.VIEW, Instant(15), out)
    assert out[-1] == SetTimer(timer=Timer.VIEW, at=Instant(19))
    assert timers.fire(Timer.VIEW, Instant(19), out)


def test_a_clock_that_is_set_back_does_not_hold_a_timer_up() -> None:
    timers, out = Timers(), list[Effect]()
    timers.arm(Timer.VIEW, now=Instant(1_000_000), delay_ms=5, out=out)
    assert timers.fire(Timer.VIEW, Instant(400), out)

"""Which timers run, and for how long: exponential back-off with a cap, back to the base on progress."""

from __future__ import annotations

from chain.types import Instant
from consensus.effects import CancelTimer, Effect, SetTimer
from consensus.events import Timer


class BackOff:
    """A delay that doubles with each failure up to a cap. Counts no further than the cap, so nothing overflows."""

    __slots__ = ("_base_ms", "_cap_ms", "_current_ms")

    def __init__(self, *, base_ms: int, cap_ms: int) -> None:
        self._base_ms = base_ms
        self._cap_ms = max(base_ms, cap_ms)
        self._current_ms = base_ms

    @property
    def current_ms(self) -> int:
        return self._current_ms

    def fail(self) -> None:
        self._current_ms = min(2 * self._current_ms, self._cap_ms)

    def reset(self) -> None:
        self._current_ms = self._base_ms


class Timers:
    """The deadlines that the driver has been asked to keep; an effect only where something changes."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[Timer, tuple[Instant, Instant]] = {}  # when it was armed, when it is due

    def deadline(self, timer: Timer) -> Instant | None:
        known = self._deadlines.get(timer)
        return None if known is None else known[1]

    @property
    def armed(self) -> tuple[Timer, ...]:
        return tuple(timer for timer in Timer if timer in self._deadlines)

    def arm(self, timer: Timer, *, now: Instant, delay_ms: int, out: list[Effect]) -> None:
        at = Instant(now + delay_ms)
        self._deadlines[timer] = (now, at)
        out.append(SetTimer(timer=timer, at=at))

    def disarm(self, timer: Timer, out: list[Effect]) -> None:
        if self._deadlines.pop(timer, None) is not None:
            out.append(CancelTimer(timer=timer))

    def disarm_all(self, out: list[Effect]) -> None:
        for timer in self.armed:
            self.disarm(timer, out)

    def fire(self, timer: Timer, now: Instant, out: list[Effect]) -> bool:
        """Take in that the driver's timer went off. False: it was cancelled meanwhile, or replaced by a later one.

        A clock that was set back to before the timer was armed does not hold it up.
        """
        if timer not in self._deadlines:
            return False
        armed_at, at = self._deadlines[timer]
        if armed_at <= now < at:
            out.append(SetTimer(timer=timer, at=at))
            return False
        del self._deadlines[timer]
        return True

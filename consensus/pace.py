"""How long this replica waits, and for what: which timers run after each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chain.errors import ConfigError, InvariantError
from chain.types import Instant
from consensus.catch_up import CatchUp
from consensus.checkpoint import Checkpoints
from consensus.effects import Effect
from consensus.epoch import Epoch
from consensus.events import Timer
from consensus.leader import Leader
from consensus.ordering import Ordering
from consensus.safety import Safety
from consensus.timers import BackOff, Timers
from consensus.view_change import ViewChanges

OVERDUE_PATIENCE: Final = 4  # view delays that the oldest transaction may be left out while others are ordered
CERTIFICATION_PATIENCE: Final = 4  # view delays that an executed block may wait for the votes of others
RETRANSMIT_DELAY_MAX: Final = 8  # times `retransmit_ms`


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """Local settings, in milliseconds, each at least 1."""

    view_timeout_ms: int = 2_000  # without progress before the first view change
    view_timeout_ms_max: int = 30_000  # cap of the doubling
    retransmit_ms: int = 500  # without progress before saying everything again; doubles up to 8 times this
    timestamp_drift_ms_max: int = 15_000  # a chain parameter: how far ahead of our clock a proposal may lie

    def __post_init__(self) -> None:
        for field in ("view_timeout_ms", "retransmit_ms", "timestamp_drift_ms_max"):
            value = getattr(self, field)
            if value < 1:
                raise ConfigError(f"{field} is {value}, must be at least 1")
        if self.view_timeout_ms_max < self.view_timeout_ms:
            raise ConfigError(
                f"view_timeout_ms_max is {self.view_timeout_ms_max}, must be at least {self.view_timeout_ms}"
            )


class Pace:
    """Arms what is needed and disarms the rest: an idle chain runs no timers."""

    def __init__(
        self,
        *,
        config: ReplicaConfig,
        epoch: Epoch,
        safety: Safety,
        ordering: Ordering,
        checkpoints: Checkpoints,
        view_changes: ViewChanges,
        leader: Leader,
        catch_up: CatchUp,
    ) -> None:
        self._config = config
        self._epoch = epoch
        self._safety = safety
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._view_changes = view_changes
        self._leader = leader
        self._catch_up = catch_up
        self._progress = (ordering.ordered_count, checkpoints.low)
        self.timers = Timers()
        self.view_delay = BackOff(base_ms=config.view_timeout_ms, cap_ms=config.view_timeout_ms_max)
        self.retransmit_delay = BackOff(
            base_ms=config.retransmit_ms, cap_ms=RETRANSMIT_DELAY_MAX * config.retransmit_ms
        )

    def keep(self, now: Instant, out: list[Effect]) -> None:
        """To be called after every event. A height newly ordered or certified is progress: all delays begin anew."""
        progress = (self._ordering.ordered_count, self._checkpoints.low)
        moved = progress != self._progress
        self._progress = progress
        if moved:
            self.view_delay.reset()
            self.retransmit_delay.reset()
        for timer, delay_ms in (
            (Timer.VIEW, self._view_delay_ms(now)),
            (Timer.RETRANSMIT, self._has_work() * self.retransmit_delay.current_ms),
        ):
            deadline = self.timers.deadline(timer)
            if not delay_ms:
                self.timers.disarm(timer, out)
            elif moved or deadline is None or now + delay_ms < deadline:
                self.timers.arm(timer, now=now, delay_ms=delay_ms, out=out)
        self._keep_timestamp(now, out)

    def _view_delay_ms(self, now: Instant) -> int:
        """How long from now on to wait for the leader; 0: not at all.

        What he orders does not count for ever while he leaves out the transaction that has waited longest.
        """
        if self._is_behind():
            self._leader.on_entered(now)  # nothing can be said of the leader by who does not see what is ordered
        delay_ms = self._view_patience() * self.view_delay.current_ms
        since = self._leader.passed_over_since
        if not delay_ms or since is None or self._safety.changing:
            return delay_ms
        return max(1, min(delay_ms, since + OVERDUE_PATIENCE * self.view_delay.current_ms - now))

    def _keep_timestamp(self, now: Instant, out: list[Effect]) -> None:
        due = self._ordering.timestamp_due()
        if due is None:
            self.timers.disarm(Timer.TIMESTAMP, out)
        elif due < (self.timers.deadline(Timer.TIMESTAMP) or due + 1):
            # Bounded, because a peer chose the timestamp: the timer only asks for another look.
            delay_ms = max(0, min(due - now, self._config.view_timeout_ms_max))
            self.timers.arm(Timer.TIMESTAMP, now=now, delay_ms=delay_ms, out=out)

    def _view_patience(self) -> int:
        """How many view delays to wait before asking for another leader; 0: he could not help.

        He cannot help while this node is behind or executes. For a block that only lacks checkpoint votes he can: those
        who have not ordered it may have left the view, and learn it in the next one. But their execution may be slow.
        """
        if self._epoch.is_over(self._checkpoints.low):
            return 0
        if self._safety.changing:
            return int(self._view_changes.quorum_seen)
        if self._is_behind():
            return 0
        is_wanted = self._leader.is_overdue or self._epoch.is_ending(self._checkpoints.low)
        is_stuck = is_wanted and self._ordering.ordered_height < self._ordering.window_end
        if is_stuck or self._ordering.has_unordered_work():
            return 1
        return CERTIFICATION_PATIENCE if self._checkpoints.awaits_votes else 0

    def _is_behind(self) -> bool:
        return self._catch_up.corroborated() > self._ordering.ordered_height

    def _has_work(self) -> bool:
        """Asking for a view is no work in itself: who asks alone is silent, and shows its view-change when asked.

        What was proposed in the view it has left is the work of those who have not left it.
        """
        changing = self._safety.changing
        if self._epoch.is_over(self._checkpoints.low):
            return False
        return (
            self._epoch.is_ending(self._checkpoints.low)
            or (changing and (self._leader.is_overdue or self._view_changes.quorum_seen))
            or (self._ordering.has_ordered_work() if changing else self._ordering.has_work())
            or self._checkpoints.has_work
            or self._catch_up.is_behind
            or self._ordering.is_behind_in_view()
        )

    def validate_state(self) -> None:
        """Raises InvariantError if a timer runs without need, or is needed and does not run."""
        if self._has_work() != (self.timers.deadline(Timer.RETRANSMIT) is not None):
            raise InvariantError("outstanding work without a timer, or a timer without outstanding work")
        if bool(self._view_patience()) != (self.timers.deadline(Timer.VIEW) is not None):
            raise InvariantError("the view timer does not run when it should, or runs when it should not")

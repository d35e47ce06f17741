"""What to say again: to all when nothing moves, to one who tells where it stands."""

from __future__ import annotations

from typing import Final

from chain.types import Height, Instant, ValidatorId
from consensus.checkpoint import Checkpoints
from consensus.epoch import Epoch
from consensus.messages import Message, Status, Verified
from consensus.ordering import Ordering
from consensus.safety import Safety
from consensus.view_change import ViewChanges

ANSWERED_MAX: Final = 256  # peers of which it is known when they were answered


class Answered:
    """When each peer's status was answered last: not too often, and of a bounded number of peers."""

    def __init__(self, *, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._at: dict[ValidatorId, Instant] = {}

    def may_answer(self, peer: ValidatorId, now: Instant) -> bool:
        """It was not answered a moment ago; now it is."""
        if 0 <= now - self._at.get(peer, Instant(-self._interval_ms)) < self._interval_ms:
            return False
        self._at.pop(peer, None)
        while len(self._at) >= ANSWERED_MAX:
            del self._at[next(iter(self._at))]
        self._at[peer] = now
        return True


class Retransmission:
    """Repeats this replica's own messages, never more than a window of them, and to one peer not too often."""

    def __init__(
        self,
        *,
        epoch: Epoch,
        safety: Safety,
        ordering: Ordering,
        checkpoints: Checkpoints,
        view_changes: ViewChanges,
        interval_ms: int,
    ) -> None:
        self._epoch = epoch
        self._safety = safety
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._view_changes = view_changes
        self._answered = Answered(interval_ms=interval_ms)

    def status(self) -> Verified[Status]:
        return self._safety.status(certified=self._checkpoints.low, ordered=self._ordering.ordered_height)

    def own_outstanding(self) -> list[Verified[Message]]:
        """What this replica is waiting for others to act on."""
        own = self._view_changes.own
        messages: list[Verified[Message]] = [] if own is None else [own]
        messages += self._ordering.own_messages(above=self._ordering.ordered_height)
        messages += self._checkpoints.own_votes(above=self._checkpoints.low)
        return messages

    def answer(self, received: Verified[Status], now: Instant) -> list[Verified[Message]]:
        """What the sender of a status seems to miss. Empty if it was answered a moment ago.

        Our own status is part of it only if the sender has certified less: so two replicas never answer each other
        for ever.
        """
        sender, theirs = received.sender, received.message
        if not self._answered.may_answer(sender, now):
            return []
        if not self._epoch.holds(theirs.certified + 1):  # votes and views there are none of this epoch's
            return [self.status()] if theirs.certified < self._checkpoints.low else []
        messages: list[Verified[Message]] = []
        new_view = self._view_changes.new_view
        if new_view is not None and _waits_for(theirs, new_view.message.view):
            messages.append(new_view)
        own = self._view_changes.own
        if own is not None and _waits_for(theirs, own.message.view):
            messages.append(own)
        if theirs.view <= self._safety.view:
            messages += self._ordering.own_messages(above=theirs.ordered)
        messages += self._checkpoints.own_votes(above=theirs.certified)
        if theirs.certified < self._checkpoints.low:
            messages.append(self.status())
        return messages

    def answer_stranger(self, peer: ValidatorId, certified: Height, now: Instant) -> list[Verified[Message]]:
        """Who does not vote in this epoch can use nothing but the news that there are more blocks."""
        is_behind = certified < self._checkpoints.low
        return [self.status()] if is_behind and self._answered.may_answer(peer, now) else []


def _waits_for(theirs: Status, view: int) -> bool:
    return theirs.view < view or (theirs.view == view and theirs.changing)

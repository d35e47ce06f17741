"""What to say again: to all when nothing moves, to one who tells where it stands."""

from __future__ import annotations

from chain.types import Instant, ValidatorId
from consensus.checkpoint import Checkpoints
from consensus.messages import Message, Status, Verified
from consensus.ordering import Ordering
from consensus.safety import Safety
from consensus.view_change import ViewChanges


class Retransmission:
    """Repeats this replica's own messages, never more than a window of them, and to one peer not too often."""

    def __init__(
        self,
        *,
        safety: Safety,
        ordering: Ordering,
        checkpoints: Checkpoints,
        view_changes: ViewChanges,
        interval_ms: int,
    ) -> None:
        self._safety = safety
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._view_changes = view_changes
        self._interval_ms = interval_ms
        self._answered_at: dict[ValidatorId, Instant] = {}

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
        if 0 <= now - self._answered_at.get(sender, Instant(-self._interval_ms)) < self._interval_ms:
            return []
        self._answered_at[sender] = now
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


def _waits_for(theirs: Status, view: int) -> bool:
    return theirs.view < view or (theirs.view == view and theirs.changing)

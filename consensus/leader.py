"""When the leader asks its pool for a proposal: one open request at a time."""

from __future__ import annotations

from chain.types import Digest, Height, Instant, View
from consensus.effects import Effect, RequestProposal


class Leader:
    """What the pool has said, and the request that is open."""

    def __init__(self) -> None:
        self.is_waiting = False  # transactions wait in the pool
        self.is_overdue = False  # one of them for too long
        self.open: tuple[View, Height] | None = None
        self.passed_over_since: Instant | None = None  # so long one overdue transaction has been the oldest
        self._oldest: Digest | None = None
        self._may_be_empty = False  # what is open

    def on_waiting(self, *, overdue: bool, oldest: Digest | None, now: Instant) -> None:
        self.is_waiting = True
        self.is_overdue = overdue
        if not overdue or oldest is None:
            self.passed_over_since = None
        elif self.passed_over_since is None or oldest != self._oldest:
            self.passed_over_since = now
        self._oldest = oldest

    def on_drained(self) -> None:
        self.is_waiting = self.is_overdue = False
        self.passed_over_since = None

    def on_entered(self, now: Instant) -> None:
        """A view begins: its leader has as much time for the oldest transaction as the last one had."""
        if self.passed_over_since is not None:
            self.passed_over_since = now

    def wants(self, *, may_be_empty: bool) -> bool:
        """Something is to be proposed, and no request is open that says so."""
        if self.open is not None:
            return may_be_empty and not self._may_be_empty
        return self.is_waiting or may_be_empty

    def request(self, *, view: View, height: Height, may_be_empty: bool, out: list[Effect]) -> None:
        """Ask for a proposal at `height`; the caller has asked `wants`."""
        if self.open is not None:
            view, height = self.open
        self.open, self._may_be_empty = (view, height), may_be_empty
        out.append(RequestProposal(view=view, height=height, may_be_empty=may_be_empty))

    def close(self, *, view: View, height: Height) -> bool:
        """The pool has answered. False: nobody waits for this answer any more."""
        if self.open != (view, height):
            return False
        self.open = None
        return True

    def cancel(self) -> None:
        """The view is over."""
        self.open = None

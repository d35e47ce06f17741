"""When the leader asks its pool for a proposal: one open request at a time."""

from __future__ import annotations

from chain.types import Height, View
from consensus.effects import Effect, RequestProposal


class Leader:
    """What the pool has said, and the request that is open."""

    def __init__(self) -> None:
        self.is_waiting = False  # transactions wait in the pool
        self.is_overdue = False  # one of them for too long
        self.open: tuple[View, Height] | None = None

    def on_waiting(self, *, overdue: bool) -> None:
        self.is_waiting = True
        self.is_overdue = overdue

    def on_drained(self) -> None:
        self.is_waiting = self.is_overdue = False

    @property
    def is_ready(self) -> bool:
        """Something waits, and no request is open."""
        return self.is_waiting and self.open is None

    def request(self, *, view: View, height: Height, out: list[Effect]) -> None:
        """Ask for a proposal at `height`; the caller has asked `is_ready`."""
        self.open = (view, height)
        out.append(RequestProposal(view=view, height=height))

    def close(self, *, view: View, height: Height) -> bool:
        """The pool has answered. False: nobody waits for this answer any more."""
        if self.open != (view, height):
            return False
        self.open = None
        return True

    def cancel(self) -> None:
        """The view is over."""
        self.open = None

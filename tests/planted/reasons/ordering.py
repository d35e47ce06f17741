"""Of ordering: votes, journal of votes, slots, checkpoints, view changes."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[tuple[str, str, str, str], str]] = {
    (
        "consensus/safety.py",
        "Safety.remember_proposal",
        "operand 2 of `and` is dropped: `self._validators.leader(view) == self.id`",
        "height > self.floor and self._validators.leader(view) == self.id",
    ): "equivalent: what it remembers is only asked for by a leader, of views it leads",
    (
        "consensus/safety.py",
        "Safety.remember",
        "`>` becomes `>=`",
        "height > self.floor",
    ): "harmless: nothing is signed at the floor, so a vote remembered there is never asked for",
    (
        "consensus/safety.py",
        "Safety.remember_proposal",
        "`>` becomes `>=`",
        "height > self.floor",
    ): "harmless: nothing is signed at the floor",
    (
        "consensus/safety.py",
        "Safety.remember_proposal",
        "operand 1 of `and` is dropped: `height > self.floor`",
        "height > self.floor and self._validators.leader(view) == self.id",
    ): "harmless: nothing is signed at or below the floor; `forget` drops it with the next block",
}

"""What a search tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chain.sim.explore.liar import Manner

NODES: Final = 4
HONEST: Final = 3
WINDOW: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Two views in any case: each replica may leave view 0 once."""

    manner: Manner
    heights: int = 2  # proposed at most, all of them in flight at once
    timeouts: bool = True  # else nobody leaves view 0 by himself
    checkpoints: bool = False  # whether checkpoint votes travel
    losses: int = 0  # messages that each replica may miss
    restarts: int = 0  # of each replica, from its journal; it hears again all that the others have said

    @property
    def last_view(self) -> int:
        """Nobody gets beyond it: the liar alone makes nobody leave a view."""
        return 1 if self.timeouts else 0

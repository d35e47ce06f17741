"""Seeds that once found a bug. Where today's seeds draw other faults, a script in `test_scripts` holds the bug."""

from __future__ import annotations

from typing import Final

# (seed, nodes, cut short, what went wrong)
REGRESSIONS: Final[tuple[tuple[int, int, bool, str], ...]] = (
    (8, 4, True, "a replica that left its view alone sent its view-change again for ever on an idle chain"),
    (13, 4, True, "the same, with other faults"),
    (576, 4, True, "proposals of the view it has left kept such a replica busy for ever"),
    (947, 4, True, "after a restart, a vote for another proposal of the view than the one voted for: InvariantError"),
    (374, 4, False, "a node behind asked one silent source again and again (the simulator's own bug)"),
    (41, 4, False, "a block certified elsewhere during a catch-up was never asked for (see also test_scripts)"),
)

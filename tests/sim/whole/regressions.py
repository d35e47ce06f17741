"""Seeds that found something, and what it was; each is played by `test_seeds.py`."""

from __future__ import annotations

# (seed, nodes, cut short, what was wrong)
REGRESSIONS: tuple[tuple[int, int, bool, str], ...] = ()

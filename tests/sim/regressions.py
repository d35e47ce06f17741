"""Seeds that once found a bug: (seed, nodes) and what it was. A fixed bug leaves its seed behind."""

from __future__ import annotations

from typing import Final

REGRESSIONS: Final[tuple[tuple[int, int, str], ...]] = ()

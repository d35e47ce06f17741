"""Of the replica around ordering: verification, recovery, timers, catching up, epochs."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[tuple[str, str, str, str], str]] = {}

"""Of validator sets, sync and the journal store."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[tuple[str, str, str, str], str]] = {}

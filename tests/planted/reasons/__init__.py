"""Why a mutation that survives is harmless or equivalent, by (file, function, what was changed, the condition)."""

from __future__ import annotations

from typing import Final

from tests.planted.reasons import ordering, replica, sync

REASONS: Final[dict[tuple[str, str, str, str], str]] = {**ordering.REASONS, **replica.REASONS, **sync.REASONS}

"""Rule sets: what a chain's genesis fixes about the language and its execution. All differences stand here.

    1   the first
    2   `add` on stored integers; a scan stops reading one row beyond its limit; a refused source's receipt names all
        findings there is room for; an argument given twice to an internal method is refused
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chain.errors import InvariantError
from contracts.language.limits import SCAN_ITEMS_MAX

RULE_SETS: Final = (1, 2)
NEWEST: Final = RULE_SETS[-1]
_ALL_ROWS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds under one rule set. `scan_rows` is how many rows a scan asks the state for at most."""

    number: int
    has_adds: bool
    scan_rows: int
    tells_all_findings: bool
    refuses_repeated_arguments: bool


_RULES: Final = {
    1: Rules(1, has_adds=False, scan_rows=_ALL_ROWS, tells_all_findings=False, refuses_repeated_arguments=False),
    2: Rules(2, has_adds=True, scan_rows=SCAN_ITEMS_MAX + 1, tells_all_findings=True, refuses_repeated_arguments=True),
}


def rules_of(rule_set: int) -> Rules:
    """Raises InvariantError for a rule set this version does not know."""
    rules = _RULES.get(rule_set)
    if rules is None:
        raise InvariantError(f"rule set {rule_set} is not known; known: {RULE_SETS}")
    return rules

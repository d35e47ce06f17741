"""Rule sets: what a chain's genesis fixes about the language and its execution. All differences stand here.

    1   the first
    2   `add` on stored integers; a scan stops reading one row beyond its limit; a refused source's receipt names all
        findings there is room for; an argument given twice to an internal method is refused
    3   membership: the system contract changes the validator set (`contracts.system.members`)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from chain.errors import InvariantError
from contracts.language.limits import SCAN_ITEMS_MAX

RULE_SETS: Final = (1, 2, 3)
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
    has_members: bool


_FIRST: Final = Rules(
    1, has_adds=False, scan_rows=_ALL_ROWS, tells_all_findings=False, refuses_repeated_arguments=False,
    has_members=False,
)  # fmt: skip
_SECOND: Final = replace(
    _FIRST, number=2, has_adds=True, scan_rows=SCAN_ITEMS_MAX + 1, tells_all_findings=True,
    refuses_repeated_arguments=True,
)  # fmt: skip
_THIRD: Final = replace(_SECOND, number=3, has_members=True)
_RULES: Final = {rules.number: rules for rules in (_FIRST, _SECOND, _THIRD)}


def rules_of(rule_set: int) -> Rules:
    """Raises InvariantError for a rule set this version does not know."""
    rules = _RULES.get(rule_set)
    if rules is None:
        raise InvariantError(f"rule set {rule_set} is not known; known: {RULE_SETS}")
    return rules

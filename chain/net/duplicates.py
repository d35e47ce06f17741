"""Two processes with one validator key: what the second one is told, and when it must believe it."""

from __future__ import annotations

from collections.abc import Mapping

from chain.errors import HeadraceError
from chain.model.validators import ValidatorSet
from chain.types import ValidatorId


class DuplicateValidatorError(HeadraceError):
    """Another process runs with this node's key: this one must end, or both would vote."""


def duplicate_validator(refusals: Mapping[ValidatorId, str], validators: ValidatorSet) -> str | None:
    """What to tell the operator once validators of more than F refuse this node; None before.

    `refusals`: who refuses, and where the other process is as they see it. Up to F may lie, so fewer prove nothing.
    """
    if not validators.has_honest(refusals):
        return None
    where = " and ".join(sorted({address for address in refusals.values() if address})) or "an address nobody names"
    return (
        f"another process with this validator's key is running at {where}, so {len(refusals)} nodes refuse this one "
        "(duplicate_validator): stop one of the two; a key must never run twice"
    )

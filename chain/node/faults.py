"""Faults of peers: counted each time, logged so that a faulty peer does not fill the disk."""

from __future__ import annotations

from typing import Final

import structlog

from chain.types import ValidatorId

EVIDENCE_LOGGED_MAX: Final = 4_096  # bytes
FAULTS_LOGGED: Final = frozenset({1, 10, 100, 1_000})  # of one peer or kind; after that every ten-thousandth

log = structlog.get_logger("headrace.node")


def count_fault(counts: dict[ValidatorId, int], peer: ValidatorId, reason: str, evidence: bytes) -> None:
    """One more fault of a peer."""
    count = counts[peer] = counts.get(peer, 0) + 1
    if _is_told(count):
        log.warning(
            "peer_fault", peer=peer.hex(), reason=reason[:200], count=count,
            evidence=evidence[:EVIDENCE_LOGGED_MAX].hex(),
        )  # fmt: skip


def count_stranger(count: int, reason: str) -> None:
    """The `count`-th time that somebody who is no member was refused for this reason."""
    if _is_told(count):
        log.warning("stranger_refused", reason=reason[:200], count=count)


def _is_told(count: int) -> bool:
    return count in FAULTS_LOGGED or count % 10_000 == 0

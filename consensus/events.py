"""What happens to a replica. The driver (node or simulator) turns the world into these."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from chain.model.block import Certificate, Header, Proposal
from chain.model.validators import ValidatorSet
from chain.types import Digest, Height, View
from consensus.messages import Message, Verified


class Timer(enum.Enum):
    """The timers a replica may run, one of each at most."""

    VIEW = "view"  # work is outstanding and nothing got ordered: change the view
    RETRANSMIT = "retransmit"  # work is outstanding: tell the others where we stand
    TIMESTAMP = "timestamp"  # a proposal's timestamp lies ahead of our clock: judge it again


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """First event after construction or restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived:
    message: Verified[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    timer: Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalPacked:
    """Answer to `RequestProposal`; ignored if the view has moved on (the driver then gets `Abandon`)."""

    view: View
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalObtained:
    """Answer to `ObtainProposal`: every body is here, each signature checked; `proposal` is given by digest."""

    digest: Digest
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRefused:
    """Answer to `ObtainProposal` for a fresh proposal whose contents this node must not vote for."""

    height: Height
    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """Answer to `Execute`: the header this node computed, and the validator set that the block has scheduled, if any.

    A set scheduled by block h is in force from h + window + 1 on. There is never more than one pending.
    """

    header: Header
    validators: ValidatorSet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All blocks up to `height` are durable here."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFetched:
    """Sync got a block: proposal (bodies durable here), header and its certificate, already verified."""

    proposal: Proposal
    header: Header
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionsWaiting:
    """The pool holds transactions; `overdue`: one of them longer than its bound although it was sent to all.

    `oldest` is the hash of the one that has waited longest. If it stays the same one while others get ordered, the
    leader leaves it out. The event is to be given again when it changes. None: not known, then any progress counts.
    """

    overdue: bool
    oldest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDrained:
    """Nothing waits in the pool any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected:
    """A validator can be reached (again): tell it where we stand."""

    peer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """A peer that does not vote in this epoch says what it has certified.

    Its signature cannot be checked here, but the connection has named it. It votes in another epoch, or only follows.
    """

    peer: bytes
    certified: Height


Event: TypeAlias = (
    Started | MessageReceived | TimerFired | ProposalPacked | ProposalObtained | ProposalRefused | Executed
    | BlockFetched | TransactionsWaiting | PoolDrained | PeerConnected | PeerStatus | Stored
)  # fmt: skip

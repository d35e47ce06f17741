"""What happens to a replica. The driver (node or simulator) turns the world into these."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from chain.model.block import Certificate, Header, Proposal
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
    """Answer to `Execute`: the header this node computed."""

    header: Header


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFetched:
    """Sync got a block: proposal (bodies durable here), header and its certificate, already verified."""

    proposal: Proposal
    header: Header
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionsWaiting:
    """The pool holds transactions; `overdue`: one of them longer than its bound although it was sent to all."""

    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDrained:
    """Nothing waits in the pool any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected:
    """A validator can be reached (again): tell it where we stand."""

    peer: bytes


Event: TypeAlias = (
    Started | MessageReceived | TimerFired | ProposalPacked | ProposalObtained | ProposalRefused | Executed
    | BlockFetched | TransactionsWaiting | PoolDrained | PeerConnected
)  # fmt: skip

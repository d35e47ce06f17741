"""What a replica asks for. The driver carries effects out in list order.

Persist before send: nothing that stands after a `Persist` may leave the process before that record is durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from chain.codec import Record
from chain.model.block import Certificate, Header, Proposal
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus.events import Timer
from consensus.messages import Message, NewView, Verified, ViewChange

# --- journal records: msgspec structs with a tag, so that the journal can decode them ---


class VoteRecord(Record, frozen=True, kw_only=True, tag=1):
    """A prepare, commit or checkpoint vote this node may have sent (`kind` is a MessageType)."""

    kind: int
    view: int
    height: int
    digest: bytes


class ProposalRecord(Record, frozen=True, kw_only=True, tag=2):
    """A proposal accepted here; the driver makes its bodies durable in the same write."""

    view: int
    proposal: Proposal


class CertificateRecord(Record, frozen=True, kw_only=True, tag=3):
    """A prepared (PREPARE), ordered (COMMIT) or block (CHECKPOINT) certificate.

    The last is written with the first vote that follows it: a vote beyond the window of the last *stored* block is then
    explained by the journal itself, and after a restart the block is certified without asking anybody.
    """

    certificate: Certificate


class ViewChangeRecord(Record, frozen=True, kw_only=True, tag=4):
    """This node has left all views below `message.view`."""

    message: ViewChange
    signature: bytes


class NewViewRecord(Record, frozen=True, kw_only=True, tag=5):
    """This node has entered `message.view`."""

    sender: bytes
    message: NewView
    signature: bytes


JournalRecord: TypeAlias = VoteRecord | ProposalRecord | CertificateRecord | ViewChangeRecord | NewViewRecord


# --- effects ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    record: JournalRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """To every connected node: the other validators, and those who only follow."""

    message: Verified[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    to: ValidatorId
    message: Verified[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimer:
    """(Re)arm: a timer of this kind that already runs is replaced."""

    timer: Timer
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTimer:
    timer: Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestProposal:
    """Leader only: pack a proposal for `height` when there is something to pack.

    `may_be_empty`: or at once, of nothing, where nothing waits: the epoch is to end. A request for the same view and
    height may be given again with it; that replaces the first.
    """

    view: View
    height: Height
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequests:
    """The view is over: forget every open `RequestProposal` and `ObtainProposal` of fresh proposals.

    Whatever their view: in each epoch views begin at 0 again.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ObtainProposal:
    """Get every body of a proposal. `proposal` is None where only its digest is known (re-proposals).

    `fresh`: also refuse it if a transaction is already ordered, in another live proposal, expired or malformed.
    """

    height: Height
    digest: Digest
    proposal: Proposal | None
    fresh: bool
    sources: tuple[ValidatorId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """The proposal lost its place: its transactions go back to the pool."""

    height: Height
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculate:
    """The proposal is prepared and will most likely be ordered: it may be executed ahead.

    Given strictly by height, above the last `Execute`. A second one for a height, or an `Execute` of another proposal,
    takes back what was said of this height and of all above it. A hint: nothing that comes of it may be signed, stored
    or shown before the `Execute` of this very proposal, and a driver may ignore it.
    """

    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """The proposal is ordered: execute it. Issued strictly by height, each height once per process life."""

    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The block is certified: make it durable. Issued strictly by height."""

    header: Header
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchBlocks:
    """This node is behind: get blocks `first..last` with their certificates from `sources`."""

    first: Height
    last: Height
    sources: tuple[ValidatorId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFault:
    """Evidence that a peer broke the protocol."""

    peer: ValidatorId
    reason: str  # snake_case, one of a fixed list
    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """This node's header differs from a certified one, or no quorum of equal headers can form: it votes no more."""

    height: Height
    own: Digest
    certified: Digest | None
    reason: str


Effect: TypeAlias = (
    Persist | Broadcast | Send | SetTimer | CancelTimer | RequestProposal | CancelRequests | ObtainProposal | Abandon
    | Speculate | Execute | Store | FetchBlocks | ReportFault | Diverged
)  # fmt: skip

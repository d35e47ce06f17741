"""The messages of PBFT and what each vote signs.

A message arrives as `Signed` bytes; `consensus.verification.verify` makes it `Verified`, which is all a replica takes.
Every vote signs (domain tag, chain id, message type, view, height, digest), so none can stand for another type, view,
height or chain. A checkpoint vote is signed with view 0: a certificate outlives the view that ordered its block.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar, assert_never

from chain.codec import Record, encode, tagged_digest
from chain.model.block import Certificate, Proposal, proposal_digest
from chain.types import Digest, Height, ValidatorId, View

TAG_VOTE: Final = b"headrace/vote/1"
TAG_VIEW_CHANGE: Final = b"headrace/view-change/1"
TAG_NEW_VIEW: Final = b"headrace/new-view/1"
TAG_STATUS: Final = b"headrace/status/1"
VIEW_MAX: Final = 2**48  # no arithmetic on views can overflow a 64-bit integer


class MessageType(enum.IntEnum):
    PRE_PREPARE = 1
    PREPARE = 2
    COMMIT = 3
    CHECKPOINT = 4
    VIEW_CHANGE = 5
    NEW_VIEW = 6
    STATUS = 7


def signing_bytes(*, chain_id: bytes, kind: MessageType, view: View, height: Height, digest: bytes) -> bytes:
    """What a validator signs for one message."""
    return encode((TAG_VOTE, chain_id, int(kind), view, height, digest))


class PrePrepare(Record, frozen=True, kw_only=True):
    """The leader's proposal; its signature covers the proposal's digest. The leader votes with a `Prepare` like all."""

    view: int
    proposal: Proposal


class Prepare(Record, frozen=True, kw_only=True):
    view: int
    height: int
    digest: bytes  # of the proposal


class Commit(Record, frozen=True, kw_only=True):
    view: int
    height: int
    digest: bytes  # of the proposal


class Checkpoint(Record, frozen=True, kw_only=True):
    height: int
    digest: bytes  # of the executed header


class ViewChange(Record, frozen=True, kw_only=True):
    """`stable` certifies a header (None at genesis); `prepared` has at most one certificate a height, ascending."""

    view: int
    stable: Certificate | None
    prepared: tuple[Certificate, ...]


class SignedViewChange(Record, frozen=True, kw_only=True):
    sender: bytes
    message: ViewChange
    signature: bytes


class NewView(Record, frozen=True, kw_only=True):
    """A quorum of view-changes for one view, ascending by sender; the re-proposals follow from them."""

    view: int
    view_changes: tuple[SignedViewChange, ...]


class Status(Record, frozen=True, kw_only=True):
    """Where the sender stands; the answer is whatever the receiver has that the sender seems to miss."""

    view: int
    changing: bool  # True: the sender has left `view - 1` and waits for the new view `view`
    certified: int
    ordered: int  # highest height below which everything is ordered


Message: TypeAlias = PrePrepare | Prepare | Commit | Checkpoint | ViewChange | NewView | Status
M = TypeVar("M", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the signature of one message covers, besides the domain tag and the chain id."""

    kind: MessageType
    view: View
    height: Height
    digest: Digest

    def signing_bytes(self, chain_id: bytes) -> bytes:
        return signing_bytes(
            chain_id=chain_id, kind=self.kind, view=self.view, height=self.height, digest=self.digest
        )  # fmt: skip


def subject(message: Message) -> Subject:
    """The subject of `message`. A view-change, new-view or status is covered whole, by the digest of its encoding."""
    match message:
        case PrePrepare(view=view, proposal=proposal):
            return _subject(MessageType.PRE_PREPARE, view, proposal.height, proposal_digest(proposal))
        case Prepare(view=view, height=height, digest=digest):
            return _subject(MessageType.PREPARE, view, height, digest)
        case Commit(view=view, height=height, digest=digest):
            return _subject(MessageType.COMMIT, view, height, digest)
        case Checkpoint(height=height, digest=digest):
            return _subject(MessageType.CHECKPOINT, 0, height, digest)
        case ViewChange(view=view, stable=stable):
            height = 0 if stable is None else stable.height
            return _subject(MessageType.VIEW_CHANGE, view, height, tagged_digest(TAG_VIEW_CHANGE, encode(message)))
        case NewView(view=view):
            return _subject(MessageType.NEW_VIEW, view, 0, tagged_digest(TAG_NEW_VIEW, encode(message)))
        case Status(view=view, certified=certified):
            return _subject(MessageType.STATUS, view, certified, tagged_digest(TAG_STATUS, encode(message)))
        case _:
            assert_never(message)


def _subject(kind: MessageType, view: int, height: int, digest: bytes) -> Subject:
    return Subject(kind=kind, view=View(view), height=Height(height), digest=Digest(digest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Generic[M]):
    """A message as it travels: nothing is known about it but its shape."""

    sender: ValidatorId
    message: M
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Generic[M]):
    """Made only by `consensus.verification` (and by `consensus.safety` for the replica's own messages)."""

    sender: ValidatorId
    message: M
    signature: bytes
    digest: Digest | None = None  # of the signed subject, where verification has computed it: saves doing it twice


__all__ = [
    "TAG_VOTE", "VIEW_MAX", "Checkpoint", "Commit", "Digest", "Message", "MessageType", "NewView", "PrePrepare",
    "Prepare", "Signed", "SignedViewChange", "Status", "Subject", "Verified", "ViewChange", "signing_bytes", "subject",
]  # fmt: skip

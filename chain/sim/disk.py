"""A node's disk: a journal whose records are durable only after a sync, and the stored blocks.

Both survive a crash; what was not synced is lost from the first record that did not reach the platter on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from chain.codec import decode, encode
from chain.model.block import Certificate, Header, Proposal, proposal_digest
from chain.types import Height
from consensus.effects import (
    CertificateRecord,
    JournalRecord,
    NewViewRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import MessageType


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    header: Header
    certificate: Certificate
    proposal: Proposal


def record_height(record: JournalRecord) -> int | None:
    """The height a record is about; None for those that are about a view."""
    match record:
        case VoteRecord():
            return record.height
        case ProposalRecord():
            return record.proposal.height
        case CertificateRecord():
            return record.certificate.height
        case ViewChangeRecord() | NewViewRecord():
            return None


def _decoded(data: bytes) -> JournalRecord:
    record: JournalRecord = decode(JournalRecord, data)  # type: ignore[arg-type]
    return record


@dataclass(slots=True)
class Journal:
    """Records in the order written; `durable` of them have been synced."""

    records: list[bytes] = field(default_factory=list)
    pending: list[bytes] = field(default_factory=list)
    vote_keys: set[tuple[int, int, int, bytes]] = field(default_factory=set)  # ever durable, for the checkers
    proposal_keys: set[tuple[int, int, bytes]] = field(default_factory=set)  # (view, height, digest), ever durable
    view_messages: set[bytes] = field(default_factory=set)  # encoded view-changes and new-views, ever durable
    ordered_keys: set[tuple[int, bytes]] = field(default_factory=set)  # (height, digest), ever durable
    proposals: dict[bytes, Proposal] = field(default_factory=dict)  # durable, by digest, with their bodies
    syncs: int = 0
    lost: int = 0

    def append(self, record: JournalRecord) -> None:
        self.pending.append(encode(record))

    def sync(self, count: int) -> None:
        """The first `count` pending records are durable now."""
        self.syncs += 1
        for data in self.pending[:count]:
            self._settle(data)
        del self.pending[:count]

    def _settle(self, data: bytes) -> None:
        self.records.append(data)
        record = _decoded(data)
        match record:
            case VoteRecord():
                self.vote_keys.add((record.kind, record.view, record.height, record.digest))
            case ProposalRecord():
                digest = proposal_digest(record.proposal)
                self.proposals[digest] = record.proposal
                self.proposal_keys.add((record.view, record.proposal.height, digest))
            case CertificateRecord(certificate=certificate):
                if certificate.kind == MessageType.COMMIT:
                    self.ordered_keys.add((certificate.height, certificate.digest))
            case ViewChangeRecord() | NewViewRecord():
                self.view_messages.add(encode(record.message))

    def crash(self, random: Random) -> None:
        """Some of what was being written may have got through; a record torn in the middle has not."""
        survivors = random.randint(0, len(self.pending))
        for data in self.pending[:survivors]:
            self._settle(data)
        self.lost += len(self.pending) - survivors
        self.pending.clear()

    def prune(self, stored: Height) -> None:
        """Blocks up to `stored` are on disk: of records about views only the newest of each kind is still needed."""
        kept: list[bytes] = []
        seen: set[type] = set()
        for data in reversed(self.records):
            record = _decoded(data)
            height = record_height(record)
            if height is None and type(record) not in seen:
                seen.add(type(record))
                kept.append(data)
            elif height is not None and height > stored:
                kept.append(data)
        self.records = kept[::-1]

    def load(self) -> list[JournalRecord]:
        return [_decoded(data) for data in self.records]


@dataclass(slots=True)
class Blocks:
    """Stored blocks above genesis, ascending without a gap."""

    items: list[StoredBlock] = field(default_factory=list)

    @property
    def height(self) -> Height:
        return Height(len(self.items))

    def get(self, height: int) -> StoredBlock | None:
        return self.items[height - 1] if 1 <= height <= len(self.items) else None

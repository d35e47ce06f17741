"""What happened, a line each: hashed always, kept only when somebody wants to read the story."""

from __future__ import annotations

import hashlib
from typing import Any

from chain.model.block import Certificate, Proposal, proposal_digest
from chain.model.validators import ValidatorSet
from consensus.effects import (
    CertificateRecord,
    Effect,
    JournalRecord,
    NewViewRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.events import Event
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)


class Trace:
    """`digest` is equal for two runs exactly if every line of them is."""

    def __init__(self, *, story: bool) -> None:
        self.lines: list[str] = []
        self.count = 0
        self._story = story
        self._hash = hashlib.sha256()

    def add(self, now: int, who: str, text: str) -> None:
        line = f"{now:>7} {who:<4} {text}"
        self.count += 1
        self._hash.update(line.encode())
        if self._story:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def short(digest: bytes) -> str:
    return digest[:4].hex()


def describe_proposal(proposal: Proposal) -> str:
    return f"h{proposal.height} {short(proposal_digest(proposal))} ({proposal.count} tx, t={proposal.timestamp_ms})"


def describe_certificate(certificate: Certificate | None) -> str:
    if certificate is None:
        return "none"
    return f"v{certificate.view} h{certificate.height} {short(certificate.digest)}x{len(certificate.signatures)}"


def describe_message(message: Message) -> str:
    match message:
        case PrePrepare():
            return f"pre-prepare v{message.view} {describe_proposal(message.proposal)}"
        case Prepare():
            return f"prepare v{message.view} h{message.height} {short(message.digest)}"
        case Commit():
            return f"commit v{message.view} h{message.height} {short(message.digest)}"
        case Checkpoint():
            return f"checkpoint h{message.height} {short(message.digest)}"
        case ViewChange():
            prepared = ", ".join(describe_certificate(certificate) for certificate in message.prepared)
            return f"view-change v{message.view} stable {describe_certificate(message.stable)} prepared [{prepared}]"
        case NewView():
            return f"new-view v{message.view} of {len(message.view_changes)}"
        case Status():
            changing = " changing" if message.changing else ""
            return f"status v{message.view}{changing} certified {message.certified} ordered {message.ordered}"


def describe_record(record: JournalRecord) -> str:
    match record:
        case VoteRecord():
            kind = MessageType(record.kind).name.lower()
            return f"vote {kind} v{record.view} h{record.height} {short(record.digest)}"
        case ProposalRecord():
            return f"proposal v{record.view} {describe_proposal(record.proposal)}"
        case CertificateRecord():
            kind = MessageType(record.certificate.kind).name.lower()
            return f"certificate {kind} {describe_certificate(record.certificate)}"
        case ViewChangeRecord():
            return f"view-change v{record.message.view}"
        case NewViewRecord():
            return f"new-view v{record.message.view}"


def describe(thing: Event | Effect) -> str:
    """One line on an event or effect; digests shortened, everything that matters for its meaning in it."""
    parts = [type(thing).__name__]
    for name in thing.__dataclass_fields__:
        parts.append(_describe_field(name, getattr(thing, name)))
    return " ".join(part for part in parts if part)


def _describe_field(name: str, value: Any) -> str:
    if name in ("validators", "oldest", "may_be_empty") and not value:
        return ""
    if isinstance(value, ValidatorSet):
        return f"{name}={short(value.digest)} of {len(value)}"
    if name == "message":
        return f"<{describe_message(value.message)} by {short(value.sender)}>"
    if name == "record":
        return f"<{describe_record(value)}>"
    if isinstance(value, Proposal):
        return describe_proposal(value)
    if isinstance(value, Certificate):
        return f"certificate {describe_certificate(value)}"
    if name == "header":
        return f"header h{value.height} of {short(value.proposal_digest)} root {short(value.state_root)}"
    if isinstance(value, bytes):
        return f"{name}={short(value)}"
    if name == "sources":
        return "sources=" + ",".join(short(source) for source in value)
    if name == "timer":
        return str(value.value)
    return f"{name}={value}"

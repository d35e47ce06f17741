"""What tests of the core share: validator keys, a chain, forged messages, a stand-in for execution."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import nacl.exceptions
import nacl.signing

from chain.model.block import (
    Certificate,
    Header,
    Proposal,
    VoteSignature,
    header_hash,
    proposal_digest,
)
from chain.model.genesis import ChainParameters, Genesis, chain_id, genesis_header
from chain.model.validators import Validator, ValidatorSet
from chain.types import Height, Instant, ValidatorId, View
from consensus import Replica, ReplicaConfig, verify
from consensus.effects import (
    Broadcast,
    Effect,
    JournalRecord,
    ReportFault,
)
from consensus.events import (
    MessageReceived,
)
from consensus.messages import (
    Message,
    MessageType,
    NewView,
    PrePrepare,
    Signed,
    SignedViewChange,
    Verified,
    ViewChange,
    signing_bytes,
    subject,
)

E = TypeVar("E")
M = TypeVar("M", bound=Message)

WINDOW = 4
START = Instant(1_000_000)
CONFIG = ReplicaConfig(
    view_timeout_ms=1_000, view_timeout_ms_max=8_000, retransmit_ms=200, timestamp_drift_ms_max=5_000
)  # fmt: skip


class Key:
    """A validator key out of a number."""

    def __init__(self, number: int) -> None:
        self._key = nacl.signing.SigningKey(hashlib.sha256(b"test key %d" % number).digest())
        self.public_key = bytes(self._key.verify_key)
        self.validator = Validator(name=f"validator {number}", public_key=self.public_key, weight=1)
        self.validator_id = self.validator.id

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


@lru_cache(maxsize=100_000)
def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


class Chain:
    """Keys, validators and genesis for `count` replicas; also forges whatever a validator might sign."""

    def __init__(self, count: int = 4, *, window: int = WINDOW, name: str = "test") -> None:
        self.keys = [Key(number) for number in range(count)]
        self.validators = ValidatorSet(key.validator for key in self.keys)
        self.window = window
        genesis = Genesis(
            name=name,
            created_ms=0,
            parameters=ChainParameters(window=window),
            validators=self.validators.members,
            ca_certificate_sha256=bytes(32),
            deployers=(),
        )
        self.id = chain_id(genesis)
        self.genesis = genesis_header(genesis)

    def key(self, validator: ValidatorId) -> Key:
        return next(key for key in self.keys if key.validator_id == validator)

    def replica(self, number: int, journal: Sequence[JournalRecord] = (), **options: Any) -> Replica:
        settings: dict[str, Any] = {"last": (self.genesis, None), "config": CONFIG, **options}
        return Replica(
            signer=self.keys[number],
            validators=self.validators,
            chain_id=self.id,
            window=self.window,
            journal=journal,
            **settings,
        )

    def sign(self, number: int, message: M) -> Signed[M]:
        signature = self.keys[number].sign(subject(message).signing_bytes(self.id))
        return Signed(sender=self.keys[number].validator_id, message=message, signature=signature)

    def verified(self, number: int, message: M) -> Verified[M]:
        signed = self.sign(number, message)
        self.verify(signed)
        return Verified(sender=signed.sender, message=message, signature=signed.signature)

    def verify(self, signed: Signed[Message]) -> Verified[Message]:
        return verify(
            signed,
            validators=self.validators,
            chain_id=self.id,
            window=self.window,
            verify_signature=verify_signature,
        )

    def received(self, number: int, message: Message) -> MessageReceived:
        return MessageReceived(message=self.verified(number, message))

    def certificate(
        self, kind: MessageType, *, view: int = 0, height: int, digest: bytes, signers: Iterable[int]
    ) -> Certificate:
        message = signing_bytes(chain_id=self.id, kind=kind, view=View(view), height=Height(height), digest=digest)
        votes = [
            VoteSignature(validator=self.keys[number].validator_id, signature=self.keys[number].sign(message))
            for number in signers
        ]
        votes.sort(key=lambda vote: vote.validator)
        return Certificate(kind=int(kind), view=view, height=height, digest=digest, signatures=tuple(votes))

    def proposal(self, height: int, *texts: str, leader: int = 0, timestamp_ms: int = START) -> Proposal:
        hashes = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
        proposer = self.keys[leader].validator_id
        return Proposal(
            chain_id=self.id, height=height, timestamp_ms=timestamp_ms, proposer=proposer, hashes=hashes
        )

    def pre_prepare(self, proposal: Proposal, *, view: int = 0) -> MessageReceived:
        return self.received(view % len(self.keys), PrePrepare(view=view, proposal=proposal))

    def view_change(
        self,
        number: int,
        view: int,
        *,
        stable: Certificate | None = None,
        prepared: Sequence[Certificate] = (),
    ) -> Signed[ViewChange]:
        return self.sign(number, ViewChange(view=view, stable=stable, prepared=tuple(prepared)))

    def new_view(self, view: int, changes: Iterable[Signed[ViewChange]]) -> Signed[NewView]:
        ordered = sorted(changes, key=lambda change: change.sender)
        nested = tuple(
            SignedViewChange(sender=change.sender, message=change.message, signature=change.signature)
            for change in ordered
        )
        return self.sign(view % len(self.keys), NewView(view=view, view_changes=nested))


def execute(proposal: Proposal, parent: Header) -> Header:
    """A stand-in for execution: the state root is a digest of everything executed so far."""
    digest = proposal_digest(proposal)
    return Header(
        chain_id=parent.chain_id,
        height=proposal.height,
        time_ms=max(parent.time_ms, proposal.timestamp_ms),
        parent_hash=header_hash(parent),
        proposal_digest=digest,
        rule_set=parent.rule_set,
        validator_set_hash=parent.validator_set_hash,
        transaction_count=proposal.count,
        transaction_root=hashlib.sha256(proposal.hashes).digest(),
        receipt_root=bytes(32),
        state_root=hashlib.sha256(parent.state_root + digest).digest(),
        gas_used=0,
    )


def of(kind: type[E], effects: Iterable[Effect]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def said(kind: type[M], effects: Iterable[Effect]) -> list[M]:
    """The messages of one kind that are broadcast."""
    return [
        effect.message.message
        for effect in effects
        if isinstance(effect, Broadcast) and isinstance(effect.message.message, kind)
    ]


def evidence_of(effects: Iterable[Effect]) -> list[str]:
    return [effect.reason for effect in of(ReportFault, effects)]

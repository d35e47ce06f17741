"""Proposal, executed header, certificate, receipt, event: the records of a block's life."""

from __future__ import annotations

from typing import Final

import msgspec

from chain.codec import Record, encode, tagged_digest
from chain.errors import DecodeError, InvariantError
from chain.types import DIGEST_BYTES, SIGNATURE_BYTES, ZERO_DIGEST, Digest, Height, ValidatorId

TAG_PROPOSAL: Final = b"headrace/proposal/1"
TAG_HEADER: Final = b"headrace/header/1"
SNAPSHOT_RULE_SET: Final = 3  # the first rule set whose headers can commit to the whole state
SNAPSHOT_LAG: Final = 16  # the state at height S is committed by the header at S + lag


class Proposal(Record, frozen=True, kw_only=True):
    """An ordered list of transaction hashes for a height, before execution.

    `hashes` is the concatenation of 32-byte transaction hashes: a thousand of them are one bytes object.
    An empty gap block has no proposer (20 zero bytes), timestamp 0 and no hashes.
    """

    chain_id: bytes
    height: int
    timestamp_ms: int
    proposer: bytes
    hashes: bytes

    def transaction_hashes(self) -> list[Digest]:
        blob = self.hashes
        return [Digest(blob[at : at + DIGEST_BYTES]) for at in range(0, len(blob), DIGEST_BYTES)]

    @property
    def count(self) -> int:
        return len(self.hashes) // DIGEST_BYTES


NO_PROPOSER: Final = ValidatorId(bytes(20))


def proposal_digest(proposal: Proposal) -> Digest:
    return tagged_digest(TAG_PROPOSAL, encode(proposal))


def gap_proposal(*, chain_id: bytes, height: Height) -> Proposal:
    """The empty proposal that a new view puts where nothing was prepared."""
    return Proposal(chain_id=chain_id, height=height, timestamp_ms=0, proposer=NO_PROPOSER, hashes=b"")


class Header(Record, frozen=True, kw_only=True):
    """The executed header: what validators sign in the checkpoint and what proofs start from."""

    chain_id: bytes
    height: int
    time_ms: int  # max(parent's time, proposal's timestamp)
    parent_hash: bytes
    proposal_digest: bytes
    rule_set: int
    validator_set_hash: bytes
    transaction_count: int
    transaction_root: bytes
    receipt_root: bytes
    state_root: bytes
    gas_used: int
    snapshot_root: bytes = b""  # of the whole state `SNAPSHOT_LAG` heights earlier, at commit heights of rule set 3


_header_decoder: Final = msgspec.msgpack.Decoder(Header)
_FIRST_FIELDS: Final = Header.__struct_fields__[:-1]  # of rule sets 1 and 2


def encode_header(header: Header) -> bytes:
    """Canonical bytes: twelve fields in rule sets 1 and 2, thirteen from rule set 3 on.

    Raises:
        InvariantError: a snapshot root in a rule set that has none.
    """
    if header.rule_set >= SNAPSHOT_RULE_SET:
        return encode(header)
    if header.snapshot_root:
        raise InvariantError(f"header {header.height} of rule set {header.rule_set} has a snapshot root")
    return encode(tuple([getattr(header, name) for name in _FIRST_FIELDS]))


def decode_header(data: bytes) -> Header:
    """The header in `data`.

    Raises:
        DecodeError: not a header, or not the canonical encoding of its rule set.
    """
    try:
        header = _header_decoder.decode(data)
        canonical = encode_header(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, InvariantError) as error:
        raise DecodeError(f"Header: {error}") from None
    if canonical != data:
        raise DecodeError("Header: not the canonical encoding")
    return header


def header_hash(header: Header) -> Digest:
    return tagged_digest(TAG_HEADER, encode_header(header))


def snapshot_height(commit_height: int, interval: int) -> int | None:
    """The height whose whole state the header at `commit_height` commits to; None: it commits to none.

    `interval` is the chain's `snapshot_interval`; 0 where the rule set has no snapshots.
    """
    height = commit_height - SNAPSHOT_LAG
    return height if interval and height > 0 and height % interval == 0 else None


class VoteSignature(Record, frozen=True, kw_only=True):
    """One validator's signature inside a certificate."""

    validator: bytes
    signature: bytes


class Certificate(Record, frozen=True, kw_only=True):
    """A quorum of distinct signatures on one digest; `kind` is the signed vote type (`consensus.messages`)."""

    kind: int
    view: int
    height: int
    digest: bytes
    signatures: tuple[VoteSignature, ...]  # ascending by validator, each at most once


class Event(Record, frozen=True, kw_only=True):
    contract: bytes
    name: str
    values: bytes  # packed tuple, in the order of the event's declaration


class Receipt(Record, frozen=True, kw_only=True):
    """What a transaction did. `status` is 0 for success, else a code of `contracts.runtime.errors`."""

    transaction_hash: bytes
    status: int
    gas_used: int
    result: bytes  # packed return value; empty bytes where there is none
    error: str  # empty on success; deterministic text, bounded
    events: tuple[Event, ...]


WriteSet = list[tuple[bytes, bytes | None]]  # ascending by key; None deletes


def check_proposal_shape(proposal: Proposal) -> bool:
    """True if the fixed-length fields have their lengths."""
    return (
        len(proposal.chain_id) == DIGEST_BYTES
        and len(proposal.proposer) == 20
        and len(proposal.hashes) % DIGEST_BYTES == 0
        and 0 <= proposal.height < 2**63
        and 0 <= proposal.timestamp_ms < 2**63
    )


GENESIS_PARENT: Final = ZERO_DIGEST

__all__ = [
    "GENESIS_PARENT", "NO_PROPOSER", "SIGNATURE_BYTES", "SNAPSHOT_LAG", "SNAPSHOT_RULE_SET", "TAG_HEADER",
    "TAG_PROPOSAL", "Certificate", "Event", "Header", "Proposal", "Receipt", "VoteSignature", "WriteSet",
    "check_proposal_shape", "decode_header", "encode_header", "gap_proposal", "header_hash", "proposal_digest",
    "snapshot_height",
]  # fmt: skip

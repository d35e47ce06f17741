"""The chain of trust: from the genesis set to the set of any height, one proved change after the other.

A change is a row that the system contract wrote (`contracts.system.membership`). Its link holds the header of the block
that wrote it, that block's certificate, signed by the set in force there, and the proof that the row is in its writes.
Who trusts the genesis and checks the links in order needs nobody's word for a later set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from chain.codec import Record, decode, encode, pack, unpack
from chain.errors import BadInput, ConfigError, DecodeError, InvariantError, PeerFault
from chain.model.block import Certificate, WriteSet, decode_header, header_hash
from chain.model.genesis import Genesis, chain_id
from chain.model.merkle import (
    InclusionProof,
    MerkleTree,
    chain_state_root,
    parse_write_leaf,
    root_of_proof,
    write_leaves,
)  # fmt: skip
from chain.model.validators import VALIDATORS_MAX, Validator, ValidatorSchedule, ValidatorSet
from chain.types import DIGEST_BYTES

SETS_PREFIX: Final = bytes(19) + b"\x01" + b"validators\x00"  # state keys of the scheduled sets: this + packed height
TRUST_LINKS_MAX: Final = 10_000
TRUST_BYTES_MAX: Final = 64 * 1024 * 1024  # of a whole chain that is taken from a peer, which may invent it
_PUBLIC_KEY_BYTES: Final = 32

CheckCertificate = Callable[[Certificate, ValidatorSet], None]  # raises PeerFault


class TrustLink(Record, frozen=True, kw_only=True):
    """One change of the set: the row, and what proves it."""

    header: bytes  # of the block that wrote it
    certificate: bytes
    parent_state_root: bytes
    leaf: bytes  # the write: `chain.model.merkle.write_leaf`
    proof: InclusionProof


class TrustChain(Record, frozen=True, kw_only=True):
    """All changes up to some height, in order."""

    links: tuple[TrustLink, ...]


class SetRow(NamedTuple):
    """A row of the scheduled sets."""

    from_height: int
    before: int  # from when the set that scheduled this one is in force; 0: the genesis set
    validators: ValidatorSet


def set_of_row(key: bytes, value: bytes | None) -> SetRow:
    """What a row of the scheduled sets says.

    Raises:
        DecodeError: not such a row.
    """
    height = unpack(key[len(SETS_PREFIX) :])
    match unpack(value or b""):
        case (int(before), tuple(members)) if type(before) is type(height) is int and key.startswith(SETS_PREFIX):
            return SetRow(height, before, _set_of(members))
        case _:
            raise DecodeError("not a row of the scheduled sets")


def _set_of(members: tuple[Any, ...]) -> ValidatorSet:
    validators: list[Validator] = []
    for member in members[: VALIDATORS_MAX + 1]:
        match member:
            case (str(name), bytes(public_key), int(weight)) if 0 < weight < 2**63:
                validators.append(Validator(name=name, public_key=public_key, weight=weight))
            case _:
                raise DecodeError("scheduled set: not a member")
        if len(public_key) != _PUBLIC_KEY_BYTES:
            raise DecodeError("scheduled set: not a member's key")
    if not 0 < len(validators) <= VALIDATORS_MAX:
        raise DecodeError(f"scheduled set: {len(members)} members")
    try:
        return ValidatorSet(validators)
    except ConfigError as error:
        raise DecodeError(f"scheduled set: {error}") from None


def make_link(
    *, header: bytes, certificate: bytes, parent_state_root: bytes, writes: WriteSet, from_height: int
) -> TrustLink:
    """The link of the row for `from_height` that the block with this header wrote.

    Raises:
        InvariantError: the block wrote no such row, or the parts do not belong together.
    """
    key = SETS_PREFIX + pack(from_height)
    leaves = write_leaves(writes)
    at = next((number for number, (written, _) in enumerate(writes) if written == key), None)
    head = decode_header(header)
    if at is None:
        raise InvariantError(f"block {head.height} scheduled no set for height {from_height}")
    tree = MerkleTree(leaves)
    if chain_state_root(parent_state_root, tree.root) != head.state_root:
        raise InvariantError(f"block {head.height}: the write set does not lead to the header's state root")
    return TrustLink(
        header=header,
        certificate=certificate,
        parent_state_root=parent_state_root,
        leaf=leaves[at],
        proof=tree.prove(at),
    )


def link_height(link: TrustLink) -> int:
    """From which height the set of a link is in force, as it says itself; raises DecodeError."""
    return set_of_row(*parse_write_leaf(link.leaf)).from_height


def encode_trust(links: Sequence[TrustLink]) -> bytes:
    """What a node sends to one that joins."""
    return encode(TrustChain(links=tuple(links)))


def decode_trust(data: bytes, *, bytes_max: int | None = None) -> tuple[TrustLink, ...]:
    """The links in `data`, unchecked; no bytes are no links.

    `bytes_max` None: any size. The file of a node grows with each change of the set, and must stay readable; what comes
    from a peer is bounded where it is taken (`chain.sync.snapshots`).

    Raises:
        DecodeError: longer than `bytes_max`, or not links.
    """
    return decode(TrustChain, data, bytes_max=len(data) if bytes_max is None else bytes_max).links if data else ()


def schedule_of_links(
    genesis: Genesis, links: Iterable[TrustLink], check_certificate: CheckCertificate
) -> ValidatorSchedule:
    """The sets that the links prove, every link checked from the genesis on.

    `check_certificate` checks signatures and quorum against the set it is given
    (`consensus.verify_certificate`).

    Raises:
        BadInput: `bad_trust`: a link does not hold; the text says which and why.
    """
    schedule = ValidatorSchedule.of_genesis(genesis)
    own_chain = chain_id(genesis)
    for number, link in enumerate(links):
        try:
            if number >= TRUST_LINKS_MAX:
                raise BadInput("bad_trust", f"more than {TRUST_LINKS_MAX} links")
            _add(schedule, link, own_chain, genesis.parameters.window, check_certificate)
        except (DecodeError, PeerFault) as error:
            raise BadInput("bad_trust", f"link {number}: {error}") from None
    return schedule


def _add(
    schedule: ValidatorSchedule, link: TrustLink, own_chain: bytes, window: int, check_certificate: CheckCertificate
) -> None:
    """One more set. A set may come again: that a change has its place is seen by heights, not by the sets' hashes."""
    header = decode_header(link.header)
    certificate = decode(Certificate, link.certificate)
    key, value = parse_write_leaf(link.leaf)
    row = set_of_row(key, value)
    last_from = schedule.epochs[-1][0]
    in_force = schedule.at(header.height)
    if header.chain_id != own_chain:
        raise DecodeError("header of another chain")
    if header.height < max(1, last_from):
        raise DecodeError(f"block {header.height} schedules a set while the one from {last_from} on is not in force")
    if header.validator_set_hash != in_force.digest:
        raise DecodeError(f"block {header.height} names another set than the one in force")
    if row.from_height != header.height + window + 1:
        raise DecodeError(f"block {header.height} schedules a set for height {row.from_height} with window {window}")
    if row.before != last_from:
        raise DecodeError(f"block {header.height}: its set is in force from {row.before} on, not {last_from}")
    if certificate.height != header.height or certificate.digest != header_hash(header):
        raise DecodeError(f"the certificate is not of block {header.height}")
    check_certificate(certificate, in_force)
    root = root_of_proof(link.leaf, link.proof)
    if len(link.parent_state_root) != DIGEST_BYTES or root is None:
        raise DecodeError("the proof of the row has no shape")
    if chain_state_root(link.parent_state_root, root) != header.state_root:
        raise DecodeError(f"block {header.height} did not write the row")
    schedule.add(row.from_height, row.validators)


# --- in proof documents ---


def changes_part(links: Iterable[TrustLink], height: int) -> list[dict[str, Any]]:
    """The links of the sets in force up to `height`, as a proof document carries them (docs/proofs.md)."""
    return [_link_document(link) for link in links if link_height(link) <= height]


def _link_document(link: TrustLink) -> dict[str, Any]:
    signatures = decode(Certificate, link.certificate).signatures
    return {
        "header": link.header.hex(),
        "signatures": [
            {"validator": item.validator.hex(), "signature": item.signature.hex()}
            for item in sorted(signatures, key=lambda item: item.validator)
        ],
        "parent_state_root": link.parent_state_root.hex(),
        "leaf": link.leaf.hex(),
        "proof": {
            "index": link.proof.index,
            "count": link.proof.count,
            "siblings": [level.hex() for level in link.proof.siblings],
        },
    }

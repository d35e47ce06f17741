"""Proof documents: JSON that a third party checks offline against a trusted genesis (docs/proofs.md, `chain.offline`).

A receipt proof says what a transaction did, a value proof which value a state key had (or that it had none) at a
height. Both hang on the certificate of one header. Builders take what a node has stored and refuse to build what would
not hold.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import Any, Final

from chain.codec import decode
from chain.errors import DecodeError, InvariantError
from chain.model.block import Certificate, Header, Receipt, WriteSet, decode_header
from chain.model.merkle import (
    AbsenceProof,
    InclusionProof,
    MerkleTree,
    NeighbourProof,
    absence_proof,
    chain_state_root,
    write_leaf_key,
    write_leaves,
)  # fmt: skip
from chain.model.transaction import TransactionBody, split_transaction
from chain.model.validators import ValidatorSet
from chain.types import DIGEST_BYTES, ZERO_DIGEST

PROOF_FORMAT: Final = "headrace-proof-1"


def receipt_proof(
    *,
    header: bytes,
    certificate: bytes,
    validators: ValidatorSet,
    hashes: bytes,
    receipts: Sequence[bytes],
    position: int,
    transaction: bytes | None = None,
) -> dict[str, Any]:
    """The document that proves the receipt of the transaction executed at `position` of a block.

    `hashes` and `receipts` are the block's, in block order. With the raw `transaction` the document also shows what was
    asked: the body that the hash covers, without its signature, which the hash does not cover.

    Raises:
        InvariantError: the parts do not belong together.
        IndexError: no such position.
    """
    head = decode_header(header)
    digests = [hashes[at : at + DIGEST_BYTES] for at in range(0, len(hashes), DIGEST_BYTES)]
    transaction_tree, receipt_tree = MerkleTree(digests), MerkleTree(receipts)
    if transaction_tree.root != head.transaction_root or receipt_tree.root != head.receipt_root:
        raise InvariantError(f"block {head.height}: transactions or receipts do not lead to the header's roots")
    proof = transaction_tree.prove(position)
    receipt = decode(Receipt, receipts[position])
    if receipt.transaction_hash != digests[position]:
        raise InvariantError(f"block {head.height}: receipt {position} is of another transaction")
    body = None if transaction is None else split_transaction(transaction)[0]
    return {
        **_head(header, certificate, validators, kind="receipt"),
        "claim": {
            **_claim(head),
            "position": position,
            "transaction_hash": receipt.transaction_hash.hex(),
            "status": receipt.status,
            "gas_used": receipt.gas_used,
            "result": receipt.result.hex(),
            "error": receipt.error,
            "events": [
                {"contract": event.contract.hex(), "name": event.name, "values": event.values.hex()}
                for event in receipt.events
            ],
            "transaction": None if body is None else _body_claim(body),
        },
        "transaction": {"hash": receipt.transaction_hash.hex(), "proof": _inclusion(proof)},
        "receipt": {"bytes": receipts[position].hex(), "proof": _inclusion(receipt_tree.prove(position))},
        "body": None if body is None else body.hex(),
    }


def value_proof(
    *,
    key: bytes,
    header: bytes,
    certificate: bytes,
    validators: ValidatorSet,
    parent_state_root: bytes,
    write_sets: Iterable[WriteSet],
) -> dict[str, Any]:
    """The document that proves the value of `key` after the block of `header`, or that it has none.

    `write_sets` are those of the heights from the last one that wrote the key up to the header's, ascending; from
    height 1 if none ever did. `parent_state_root` is the state root before the first of them.

    Raises:
        InvariantError: the write sets do not lead to the header's state root, or the key is written elsewhere in them.
    """
    head = decode_header(header)
    root = parent_state_root
    write: dict[str, Any] | None = None
    value: bytes | None = None
    absences: list[dict[str, Any]] = []
    for number, writes in enumerate(write_sets):
        leaves = write_leaves(writes)
        found = bisect.bisect_left(writes, key, key=lambda item: item[0])
        tree = MerkleTree(leaves)
        if found < len(writes) and writes[found][0] == key:
            if number:
                raise InvariantError(f"value proof at {head.height}: the key is written again after its last write")
            value = writes[found][1]
            write = {"leaf": leaves[found].hex(), "proof": _inclusion(tree.prove(found))}
        else:
            absences.append(_absence(absence_proof(leaves, key, key_of=write_leaf_key)))
        root = chain_state_root(root, tree.root)
    written_at = None if write is None else head.height - len(absences)
    if root != head.state_root:
        raise InvariantError(f"value proof at {head.height}: the write sets do not lead to the header's state root")
    if write is None and (len(absences) != head.height or parent_state_root != ZERO_DIGEST):
        raise InvariantError(f"value proof at {head.height}: no write, and the absences do not begin at height 1")
    return {
        **_head(header, certificate, validators, kind="value"),
        "claim": {
            **_claim(head),
            "key": key.hex(),
            "value": None if value is None else value.hex(),
            "written_at": written_at,
        },
        "key": key.hex(),
        "parent_state_root": parent_state_root.hex(),
        "write": write,
        "absences": absences,
    }


def _head(header: bytes, certificate: bytes, validators: ValidatorSet, *, kind: str) -> dict[str, Any]:
    signatures = decode(Certificate, certificate).signatures
    return {
        "format": PROOF_FORMAT,
        "kind": kind,
        "header": header.hex(),
        "signatures": [
            {"validator": item.validator.hex(), "signature": item.signature.hex()}
            for item in sorted(signatures, key=lambda item: item.validator)
        ],
        "validators": [
            {"name": member.name, "public_key": member.public_key.hex(), "weight": member.weight}
            for member in validators.members
        ],
    }


def _claim(head: Header) -> dict[str, Any]:
    return {"chain_id": head.chain_id.hex(), "height": head.height, "time_ms": head.time_ms}


def _body_claim(data: bytes) -> dict[str, Any]:
    try:
        body = decode(TransactionBody, data)
    except DecodeError as error:
        raise InvariantError(f"transaction body: {error}") from None
    return {
        "scheme": body.scheme,
        "public_key": body.public_key.hex(),
        "expiry": body.expiry,
        "target": body.target.hex(),
        "method": body.method,
        "arguments": body.arguments.hex(),
    }


def _inclusion(proof: InclusionProof) -> dict[str, Any]:
    return {"index": proof.index, "count": proof.count, "siblings": [level.hex() for level in proof.siblings]}


def _neighbour(side: NeighbourProof | None) -> dict[str, Any] | None:
    return None if side is None else {"leaf": side.leaf.hex(), "proof": _inclusion(side.proof)}


def _absence(proof: AbsenceProof) -> dict[str, Any]:
    return {"left": _neighbour(proof.left), "right": _neighbour(proof.right)}

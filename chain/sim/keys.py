"""Cheap keys behind the seams of the real ones: a signature is a keyed hash that everybody can check.

Nobody in the simulator forges: a Byzantine node signs with its own key only, which `SimSigner` holds it to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from chain.model.genesis import ChainParameters, Genesis
from chain.model.validators import Validator
from chain.types import SIGNATURE_BYTES, Digest, ValidatorId


def public_key(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=32, person=b"sim-public").digest()


def keyed_hash(key: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=SIGNATURE_BYTES, key=key, person=b"sim-sign").digest()


def verify_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    return signature == keyed_hash(key, message)


class SimSigner:
    """Signs as one validator."""

    def __init__(self, validator: Validator) -> None:
        self._validator_id = validator.id
        self._key = validator.public_key

    @property
    def validator_id(self) -> ValidatorId:
        return self._validator_id

    def sign(self, message: bytes) -> bytes:
        return keyed_hash(self._key, message)


def sim_validators(weights: Sequence[int]) -> tuple[Validator, ...]:
    return tuple(
        Validator(name=f"n{index}", public_key=public_key(f"n{index}"), weight=weight)
        for index, weight in enumerate(weights)
    )


def sim_genesis(*, weights: Sequence[int], parameters: ChainParameters) -> Genesis:
    return Genesis(
        name="simulation",
        created_ms=0,
        parameters=parameters,
        validators=sim_validators(weights),
        ca_certificate_sha256=bytes(32),
        deployers=(),
    )


def transaction_digest(number: int) -> Digest:
    """The hash of the simulated client's transaction `number`."""
    return Digest(hashlib.sha256(b"transaction %d" % number).digest())

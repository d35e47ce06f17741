"""Fingerprints, blinded names and band proofs: what clients compute off chain, so that no document reaches the chain.

The chain stores and compares 32-byte values only. Whoever holds the document and its salt can recompute the value;
whoever holds neither learns nothing from it, because the salt has at least 128 bits.

    fingerprint = SHA-256(tag "headrace/fingerprint/1", pack((kind, salt, ((field, value), ... ascending by field))))

`pack` is the chain's canonical encoding, so one document has one fingerprint. Amounts are integers in the smallest
unit of their currency; floats have no encoding and are refused.
"""

from __future__ import annotations

import hashlib
import secrets
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from chain.codec import pack, tagged_digest
from chain.errors import BadInput

SALT_BYTES_MIN: Final = 16  # 128 bits: nobody can try all documents against a commitment
SALT_BYTES_MAX: Final = 64
FIELDS_MAX: Final = 64
PARTS_WHOLE: Final = 10_000  # a quota is counted in parts per 10,000 of the attested income
BANDS_MAX: Final = 32

TAG_FINGERPRINT: Final = b"headrace/fingerprint/1"
TAG_BLINDED: Final = b"headrace/blinded-id/1"
TAG_SALT: Final = b"headrace/derived-salt/1"

FieldValue: TypeAlias = "bool | int | bytes | str | None"


def new_salt() -> bytes:
    """16 bytes from the operating system's generator."""
    return secrets.token_bytes(SALT_BYTES_MIN)


def derive_salt(secret: bytes, *labels: str | int) -> bytes:
    """A salt of 16 bytes that the holder of `secret` can make again; for tests, benchmarks and the demo."""
    return tagged_digest(TAG_SALT, pack((secret, labels)))[:SALT_BYTES_MIN]


def fingerprint(kind: str, fields: Mapping[str, FieldValue], salt: bytes) -> bytes:
    """The 32-byte salted commitment to a document of a kind.

    Raises:
        BadInput: `salt` (length), `fields` (number) or `field` (a value that has no canonical encoding).
    """
    _check_salt(salt)
    if not 0 < len(fields) <= FIELDS_MAX:
        raise BadInput("fields", f"{len(fields)} fields, must be 1..{FIELDS_MAX}")
    for name, value in fields.items():
        if value is not None and not isinstance(value, (bool, int, bytes, str)):
            raise BadInput("field", f"field {name!r} is a {type(value).__name__}; floats and nested values are refused")
    return tagged_digest(TAG_FINGERPRINT, pack((kind, salt, tuple(sorted(fields.items())))))


def blinded_id(kind: str, salt: bytes, *parts: FieldValue) -> bytes:
    """A 32-byte name for the chain that cannot be guessed from what it names.

    Raises:
        BadInput: `salt` of the wrong length.
    """
    _check_salt(salt)
    return tagged_digest(TAG_BLINDED, pack((kind, salt, parts)))


def quota_parts(amount: int, income: int) -> int:
    """`amount` in parts per 10,000 of `income`, rounded up: a lender can never count less than it lends.

    Raises:
        BadInput: `income` not positive or `amount` negative.
    """
    if income <= 0 or amount < 0:
        raise BadInput("amount", "income must be positive and the amount not negative")
    return -(-amount * PARTS_WHOLE // income)


def income_band(income: int, thresholds: Sequence[int]) -> int:
    """How many of the ascending public thresholds the income reaches: 0..len(thresholds)."""
    return bisect_right(thresholds, income)


def band_anchor(seed: bytes, band: int) -> bytes:
    """What the issuer anchors for an income in `band`: the seed hashed `band` + 1 times.

    Raises:
        BadInput: `seed` of the wrong length or `band` outside 0..BANDS_MAX.
    """
    _check_salt(seed)
    return _chain(seed, _check_band(band) + 1)


def band_proof(seed: bytes, band: int, claimed: int) -> bytes:
    """What shows "income reaches threshold `claimed`" and nothing above it, for an income in `band`.

    Hashed `claimed` times it gives the anchor. From the proof for a threshold anyone can make the one for every
    lower threshold, and nobody without the seed can make one for a higher threshold.

    Raises:
        BadInput: `claimed` is 0 or above `band`: there is no such proof.
    """
    if not 1 <= claimed <= _check_band(band):
        raise BadInput("band", f"an income in band {band} proves thresholds 1..{band}, not {claimed}")
    _check_salt(seed)
    return _chain(seed, band + 1 - claimed)


def _chain(seed: bytes, times: int) -> bytes:
    for _ in range(times):
        seed = hashlib.sha256(seed).digest()
    return seed


def _check_band(band: int) -> int:
    if not 0 <= band <= BANDS_MAX:
        raise BadInput("band", f"band {band}, must be 0..{BANDS_MAX}")
    return band


def _check_salt(salt: bytes) -> None:
    if not SALT_BYTES_MIN <= len(salt) <= SALT_BYTES_MAX:
        raise BadInput("salt", f"{len(salt)} bytes, must be {SALT_BYTES_MIN}..{SALT_BYTES_MAX}")

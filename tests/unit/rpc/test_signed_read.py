"""Signed reads: who asks is proved for one call, one chain and a short time."""

from __future__ import annotations

import msgspec
import pytest

from chain.codec import decode, encode, pack
from chain.crypto import PrivateKey, Scheme
from chain.errors import BadInput, DecodeError
from chain.model.signed_read import (
    SIGNED_READ_LIFETIME_MS_MAX,
    SignedReadBody,
    open_signed_read,
    sign_read,
    signed_read_hash,
)
from chain.model.transaction import transaction_hash
from chain.types import Instant

CHAIN = bytes(range(32))
NOW = Instant(1_000_000)
KEYS = [PrivateKey.from_secret(scheme, b"\x07" * 32) for scheme in Scheme]


def _read(key: PrivateKey = KEYS[0], expiry_ms: int = NOW + 10) -> bytes:
    return sign_read(
        key, chain_id=CHAIN, target=bytes(20), method="look", arguments=(1, "a"), gas_limit=5,
        expiry_ms=Instant(expiry_ms),
    )  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.scheme.name)
def test_a_good_one_gives_its_signer(key: PrivateKey) -> None:
    opened = open_signed_read(_read(key), chain_id=CHAIN, now=NOW)
    assert opened.sender == key.address
    assert (opened.body.method, opened.body.arguments, opened.body.gas_limit) == ("look", pack((1, "a")), 5)


def test_no_field_can_be_changed() -> None:
    body_bytes, signature = decode(tuple[bytes, bytes], _read())
    body = decode(SignedReadBody, body_bytes)
    changes = {
        "chain_id": bytes(32), "scheme": 2, "public_key": KEYS[1].public_key, "expiry_ms": NOW + 11,
        "target": b"\x01" * 20, "method": "look2", "arguments": pack((2, "a")), "gas_limit": 6,
    }  # fmt: skip
    assert set(changes) == set(SignedReadBody.__struct_fields__)
    for field, value in changes.items():
        forged = encode((encode(msgspec.structs.replace(body, **{field: value})), signature))
        with pytest.raises(BadInput):
            open_signed_read(forged, chain_id=CHAIN, now=NOW)


def test_it_lives_from_its_expiry_backwards() -> None:
    with pytest.raises(BadInput, match="expired 0 ms ago"):
        open_signed_read(_read(expiry_ms=NOW), chain_id=CHAIN, now=NOW)
    open_signed_read(_read(expiry_ms=NOW + 1), chain_id=CHAIN, now=NOW)
    open_signed_read(_read(expiry_ms=NOW + SIGNED_READ_LIFETIME_MS_MAX), chain_id=CHAIN, now=NOW)
    with pytest.raises(BadInput, match="is more than"):
        open_signed_read(_read(expiry_ms=NOW + SIGNED_READ_LIFETIME_MS_MAX + 1), chain_id=CHAIN, now=NOW)


def test_the_tag_separates_it_from_a_transaction() -> None:
    body_bytes, _ = decode(tuple[bytes, bytes], _read())
    assert signed_read_hash(body_bytes) != transaction_hash(body_bytes)
    forged = encode((body_bytes, KEYS[0].sign(transaction_hash(body_bytes))))
    with pytest.raises(BadInput, match="signature does not match"):
        open_signed_read(forged, chain_id=CHAIN, now=NOW)


def test_malformed_ones_are_named() -> None:
    body_bytes, signature = decode(tuple[bytes, bytes], _read())
    body = decode(SignedReadBody, body_bytes)
    cases = {
        "chain_id": b"", "target": bytes(19), "public_key": bytes(66), "method": "", "gas_limit": -1, "scheme": 256,
    }  # fmt: skip
    for field, value in cases.items():
        raw = encode((encode(msgspec.structs.replace(body, **{field: value})), signature))
        with pytest.raises(DecodeError, match=field):
            open_signed_read(raw, chain_id=CHAIN, now=NOW)
    with pytest.raises(DecodeError, match="signature"):
        open_signed_read(encode((body_bytes, b"")), chain_id=CHAIN, now=NOW)

"""`chain.model.signing`: transactions and validator keys."""

from __future__ import annotations

import pytest

from chain.codec import encode, unpack
from chain.crypto import PrivateKey, Scheme, verify
from chain.errors import BadInput, DecodeError
from chain.model.signing import (
    ValidatorKey,
    decode_transaction,
    sign_transaction,
    signature_item,
    verify_transactions,
)
from chain.model.transaction import TRANSACTION_BYTES_MAX, Transaction, join_transaction
from chain.model.validators import validator_id

CHAIN_ID = b"\x01" * 32
TARGET = b"\x02" * 20


def sign(scheme: Scheme = Scheme.ED25519, **changes: object) -> Transaction:
    fields: dict[str, object] = {
        "chain_id": CHAIN_ID, "target": TARGET, "method": "pay", "arguments": (1, "two", b"three", (None, True)),
        "expiry": 100, "gas_limit": 1_000, **changes,
    }  # fmt: skip
    return sign_transaction(PrivateKey.from_secret(scheme, bytes(range(1, 33))), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", Scheme)
def test_a_signed_transaction_decodes_to_itself_and_verifies(scheme: Scheme) -> None:
    made = sign(scheme)
    read = decode_transaction(made.raw)
    assert (read.hash, read.sender, read.signature, read.body) == (made.hash, made.sender, made.signature, made.body)
    assert unpack(read.body.arguments) == (1, "two", b"three", (None, True))
    assert verify_transactions([made, read]) == [True, True]
    assert signature_item(read)[2] == read.hash  # the message is the hash


def test_nonces_are_random_unless_given() -> None:
    assert sign().hash != sign().hash
    assert sign(nonce=bytes(16)).hash == sign(nonce=bytes(16)).hash


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": bytes(31)}, {"target": bytes(21)}, {"method": ""}, {"method": "m" * 65}, {"nonce": bytes(15)},
        {"expiry": -1}, {"expiry": 2**63}, {"expiry": 2**64}, {"gas_limit": -1}, {"gas_limit": 2**70},
    ],
)  # fmt: skip
def test_fields_out_of_range_are_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        sign(Scheme.ED25519, **changes)


def test_a_transaction_over_the_size_limit_is_not_signed() -> None:
    with pytest.raises(BadInput, match="at most"):
        sign(arguments=(bytes(TRANSACTION_BYTES_MAX),))
    rest = len(sign(arguments=(bytes(100_000),)).raw) - 100_000
    largest = sign(arguments=(bytes(TRANSACTION_BYTES_MAX - rest),))
    assert len(largest.raw) == TRANSACTION_BYTES_MAX
    assert decode_transaction(largest.raw).hash == largest.hash
    with pytest.raises(BadInput, match="at most"):
        sign(arguments=(bytes(TRANSACTION_BYTES_MAX - rest + 1),))  # the body fits, body and signature do not


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc0", b"\x90", encode((b"", b"")), encode((b"x", bytes(64))), bytes(TRANSACTION_BYTES_MAX + 1)],
)
def test_garbage_is_refused_as_malformed(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_transaction(raw)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_malformed(length: int) -> None:
    with pytest.raises(DecodeError, match="signature"):
        decode_transaction(join_transaction(sign().body_bytes, bytes(length)))


def test_validator_keys_sign_and_know_their_id() -> None:
    key = ValidatorKey.generate()
    again = ValidatorKey(key.secret)
    assert again.validator_id == key.validator_id == validator_id(key.public_key)
    assert verify(Scheme.ED25519, key.public_key, b"vote", again.sign(b"vote"))
    assert key.secret.hex() not in repr(key)
    with pytest.raises(BadInput):
        ValidatorKey(bytes(31))

"""Signatures that real systems took and should not have; each test is named after the failure it stops."""

from __future__ import annotations

import msgspec
import pytest

from chain.codec import encode
from chain.crypto import PrivateKey, Scheme, ed25519, secp256k1
from chain.errors import DecodeError
from chain.model.signing import ValidatorKey, decode_transaction, sign_transaction, verify_transactions
from chain.model.transaction import Transaction, TransactionBody, join_transaction
from chain.types import Digest, Height, View
from consensus.messages import MessageType, signing_bytes

SECRET = bytes(range(1, 33))


def signed(scheme: Scheme) -> Transaction:
    return sign_transaction(
        PrivateKey.from_secret(scheme, SECRET), chain_id=b"\x01" * 32, target=b"\x02" * 20, method="pay",
        arguments=(1,), expiry=100, gas_limit=1_000, nonce=bytes(16),
    )  # fmt: skip


def other_value(value: object) -> object:
    """Another value of the same type and length."""
    if isinstance(value, bytes):
        return bytes((value[0] ^ 1,)) + value[1:]
    return value + 1 if isinstance(value, int) else str(value) + "x"


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("field", TransactionBody.__struct_fields__)
def test_a_transactions_signature_covers_every_field(scheme: Scheme, field: str) -> None:
    """A transaction's signature does not cover every field."""
    made = signed(scheme)
    body = msgspec.structs.replace(made.body, **{field: other_value(getattr(made.body, field))})
    forged = join_transaction(encode(body), made.signature)
    assert verify_transactions([made]) == [True]
    try:
        read = decode_transaction(forged)
    except DecodeError:  # an unknown scheme, or a key that is none
        assert field in ("scheme", "public_key")
        return
    assert read.hash != made.hash
    assert verify_transactions([read]) == [False]


def test_a_second_signature_made_from_a_first_is_refused_and_is_no_second_identity() -> None:
    first = signed(Scheme.SECP256K1)
    s = secp256k1.GROUP_ORDER - int.from_bytes(first.signature[32:], "big")
    second = decode_transaction(join_transaction(first.body_bytes, first.signature[:32] + s.to_bytes(32, "big")))
    assert second.hash == first.hash
    assert verify_transactions([first, second]) == [True, False]

    first = signed(Scheme.ED25519)
    s = ed25519.GROUP_ORDER + int.from_bytes(first.signature[32:], "little")
    second = decode_transaction(join_transaction(first.body_bytes, first.signature[:32] + s.to_bytes(32, "little")))
    assert second.hash == first.hash
    assert verify_transactions([first, second]) == [True, False]


@pytest.mark.parametrize("recovery_id", [0, 1, 27, 28, 31, 255])
def test_a_recovery_id_is_refused_and_aborts_nothing(recovery_id: int) -> None:
    """A recovery id out of range aborts the process."""
    made = signed(Scheme.SECP256K1)
    with pytest.raises(DecodeError, match="signature"):
        decode_transaction(join_transaction(made.body_bytes, made.signature + bytes((recovery_id,))))


@pytest.mark.parametrize("public_key", [bytes(32), bytes((1,)) + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_an_account_whose_key_anybody_can_sign_for_cannot_act(public_key: bytes) -> None:
    """A small-order key: R = A, S = 0 passes lax verifiers for about one nonce in eight."""
    body = signed(Scheme.ED25519).body
    for number in range(24):
        changed = msgspec.structs.replace(body, public_key=public_key, nonce=number.to_bytes(16, "big"))
        for r in (public_key, bytes((1,)) + bytes(31)):
            raw = join_transaction(encode(changed), r + bytes(32))
            assert verify_transactions([decode_transaction(raw)]) == [False]


def test_a_vote_counts_for_one_type_view_height_digest_and_chain() -> None:
    """A prepare replayed as a commit, because the type is not signed."""
    key = ValidatorKey(SECRET)
    right = {
        "chain_id": b"\x01" * 32, "kind": MessageType.PREPARE, "view": View(3), "height": Height(9),
        "digest": Digest(b"\x05" * 32),
    }  # fmt: skip
    signature = key.sign(signing_bytes(**right))  # type: ignore[arg-type]
    assert ed25519.verify(key.public_key, signing_bytes(**right), signature)  # type: ignore[arg-type]
    for field, value in (
        ("chain_id", b"\x02" * 32), ("kind", MessageType.COMMIT), ("view", View(4)), ("height", Height(8)),
        ("digest", Digest(b"\x06" * 32)),
    ):  # fmt: skip
        message = signing_bytes(**{**right, field: value})  # type: ignore[arg-type]
        assert not ed25519.verify(key.public_key, message, signature)

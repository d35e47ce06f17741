"""Building, signing, decoding and checking transactions; the key of a validator."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from chain.codec import Value, encode, pack
from chain.crypto import PrivateKey, Scheme, address_of, verify_batch
from chain.errors import BadInput, DecodeError
from chain.model.transaction import (
    TRANSACTION_BYTES_MAX,
    Transaction,
    TransactionBody,
    decode_body,
    join_transaction,
    split_transaction,
    transaction_hash,
)
from chain.model.validators import validator_id
from chain.types import NONCE_BYTES, SIGNATURE_BYTES

ADDRESSES_MAX: Final = 16_384  # kept, some 4 MB: most senders send more than once
_known_address_of = lru_cache(ADDRESSES_MAX)(address_of)

SignatureItem = tuple[int, bytes, bytes, bytes]  # scheme, public key, message, signature: what `chain.crypto` checks


def sign_transaction(
    key: PrivateKey,
    *,
    chain_id: bytes,
    target: bytes,
    method: str,
    arguments: tuple[Value, ...],
    expiry: int,
    gas_limit: int,
    nonce: bytes | None = None,
) -> Transaction:
    """A signed transaction of `key`'s account; a fresh random nonce unless one is given.

    Raises:
        DecodeError: a field is out of its range; the text names it.
        BadInput: `too_large`: over `TRANSACTION_BYTES_MAX`.
        OverflowError, TypeError: an argument has no encoding (`chain.codec.pack`).
    """
    body = TransactionBody(
        chain_id=bytes(chain_id),
        scheme=int(key.scheme),
        public_key=key.public_key,
        nonce=secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce,
        expiry=int(expiry),
        target=bytes(target),
        method=method,
        arguments=pack(tuple(arguments)),
        gas_limit=int(gas_limit),
    )
    try:
        body_bytes = encode(body)
    except OverflowError:
        raise DecodeError("expiry and gas_limit must be 0..2^63-1") from None
    decode_body(body_bytes)
    signature = key.sign(transaction_hash(body_bytes))
    raw = join_transaction(body_bytes, signature)
    if len(raw) > TRANSACTION_BYTES_MAX:
        raise BadInput("too_large", f"transaction of {len(raw)} bytes, at most {TRANSACTION_BYTES_MAX} are allowed")
    return Transaction(body=body, body_bytes=body_bytes, signature=signature, raw=raw, sender=key.address)


def decode_transaction(raw: bytes) -> Transaction:
    """The transaction in `raw`: fields checked, sender computed, signature not checked.

    Raises:
        DecodeError: shape, size or range of a field is wrong, the scheme is unknown, or the key is none of its scheme.
    """
    body_bytes, signature = split_transaction(raw)
    body = decode_body(body_bytes)
    if len(signature) != SIGNATURE_BYTES:
        raise DecodeError(f"signature: {len(signature)} bytes, must be {SIGNATURE_BYTES}")
    try:
        sender = _known_address_of(body.scheme, body.public_key)
    except BadInput as error:
        raise DecodeError(error.message) from None
    return Transaction(body=body, body_bytes=body_bytes, signature=signature, raw=raw, sender=sender)


def signature_item(transaction: Transaction) -> SignatureItem:
    """What `chain.crypto` needs to check the signature; the message is the transaction's hash."""
    body = transaction.body
    return (body.scheme, body.public_key, transaction.hash, transaction.signature)


def verify_transactions(transactions: Sequence[Transaction]) -> list[bool]:
    """The verdict on each signature, in order."""
    return verify_batch([signature_item(transaction) for transaction in transactions])


class ValidatorKey:
    """The Ed25519 key with which a validator signs its votes. Its text form never shows the secret."""

    __slots__ = ("_key", "public_key", "validator_id")

    def __init__(self, secret: bytes) -> None:
        """The key of a 32-byte secret.

        Raises:
            BadInput: `bad_secret`.
        """
        self._key = PrivateKey.from_secret(Scheme.ED25519, secret)
        self.public_key = self._key.public_key
        self.validator_id = validator_id(self.public_key)

    @classmethod
    def generate(cls) -> ValidatorKey:
        return cls(PrivateKey.generate(Scheme.ED25519).secret)

    @property
    def secret(self) -> bytes:
        return self._key.secret

    def sign(self, message: bytes) -> bytes:
        """64 bytes over any message (`consensus.messages.signing_bytes` for votes)."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"ValidatorKey(id={self.validator_id.hex()})"

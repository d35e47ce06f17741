"""A transaction: canonical body, signature, identity.

On the wire and on disk a transaction is `encode((body, signature))`. Its identity is the digest that was signed,
never the signature, so nobody can make a second identity of one transaction by touching the signature.
"""

from __future__ import annotations

import hashlib
from typing import Final

from chain.codec import Record, decode, encode
from chain.errors import DecodeError
from chain.types import ADDRESS_BYTES, DIGEST_BYTES, NONCE_BYTES, Address, Digest, Height

TAG_TRANSACTION: Final = b"headrace/transaction/1"
TRANSACTION_BYTES_MAX: Final = 256 * 1024
METHOD_CHARS_MAX: Final = 64
PUBLIC_KEY_BYTES_MAX: Final = 65
_PREFIX: Final = bytes((len(TAG_TRANSACTION),)) + TAG_TRANSACTION  # as in `chain.codec.tagged_digest`


class TransactionBody(Record, frozen=True, kw_only=True):
    """What the sender signs. `arguments` is a packed tuple of values (`chain.codec.pack`)."""

    chain_id: bytes
    scheme: int
    public_key: bytes
    nonce: bytes
    expiry: int  # the last height at which the transaction may execute
    target: bytes  # contract address
    method: str
    arguments: bytes
    gas_limit: int


class Transaction:
    """A decoded transaction with its identity; built by `decode_transaction` or `sign_transaction` only."""

    __slots__ = ("body", "body_bytes", "expiry", "hash", "raw", "sender", "signature")

    def __init__(self, *, body: TransactionBody, body_bytes: bytes, signature: bytes, raw: bytes, sender: Address):
        self.body = body
        self.body_bytes = body_bytes
        self.signature = signature
        self.raw = raw
        self.sender = sender
        self.expiry = Height(body.expiry)
        self.hash: Digest = transaction_hash(body_bytes)


def transaction_hash(body_bytes: bytes) -> Digest:
    """The identity of a transaction and the message its signature covers."""
    return Digest(hashlib.sha256(_PREFIX + body_bytes).digest())


def split_transaction(raw: bytes) -> tuple[bytes, bytes]:
    """(body bytes, signature) of a raw transaction; checks shape and size, not the contents.

    Raises:
        DecodeError: not `encode((body, signature))`, or over `TRANSACTION_BYTES_MAX`.
    """
    return decode(tuple[bytes, bytes], raw, bytes_max=TRANSACTION_BYTES_MAX)


def decode_body(body_bytes: bytes) -> TransactionBody:
    """Decode and bound-check the signed part.

    Raises:
        DecodeError: shape or range of a field is wrong; the text names the field.
    """
    body = decode(TransactionBody, body_bytes, bytes_max=TRANSACTION_BYTES_MAX)
    if len(body.chain_id) != DIGEST_BYTES:
        raise DecodeError(f"chain_id: {len(body.chain_id)} bytes, must be {DIGEST_BYTES}")
    if len(body.nonce) != NONCE_BYTES:
        raise DecodeError(f"nonce: {len(body.nonce)} bytes, must be {NONCE_BYTES}")
    if len(body.target) != ADDRESS_BYTES:
        raise DecodeError(f"target: {len(body.target)} bytes, must be {ADDRESS_BYTES}")
    if len(body.public_key) > PUBLIC_KEY_BYTES_MAX:
        raise DecodeError(f"public_key: {len(body.public_key)} bytes, at most {PUBLIC_KEY_BYTES_MAX}")
    if not 0 < len(body.method) <= METHOD_CHARS_MAX:
        raise DecodeError(f"method: {len(body.method)} characters, must be 1..{METHOD_CHARS_MAX}")
    if not 0 <= body.expiry < 2**63 or not 0 <= body.gas_limit < 2**63 or not 0 <= body.scheme < 256:
        raise DecodeError("expiry, gas_limit and scheme must be 0..2^63-1, 0..2^63-1 and 0..255")
    return body


def join_transaction(body_bytes: bytes, signature: bytes) -> bytes:
    """The raw transaction."""
    return encode((body_bytes, signature))

"""A signed read: a client proves who it is for one call of a view, without a transaction.

On the wire it is `encode((body, signature))` like a transaction, but its body has another shape and is signed under a
domain tag of its own, so that neither can ever stand for the other. It expires by wall clock, because an idle chain
makes no heights. It needs no nonce: whoever replays it learns what its signer would be told, and only while it lives.
"""

from __future__ import annotations

from typing import Final

from chain.codec import Record, Value, decode, encode, pack, tagged_digest
from chain.crypto import PrivateKey, address_of, verify
from chain.errors import BadInput, DecodeError
from chain.model.transaction import METHOD_CHARS_MAX, PUBLIC_KEY_BYTES_MAX, TRANSACTION_BYTES_MAX
from chain.types import ADDRESS_BYTES, DIGEST_BYTES, SIGNATURE_BYTES, Address, Digest, Instant

TAG_SIGNED_READ: Final = b"headrace/signed-read/1"
SIGNED_READ_LIFETIME_MS_MAX: Final = 5 * 60 * 1000


class SignedReadBody(Record, frozen=True, kw_only=True):
    """What the reader signs. `arguments` is a packed tuple; `expiry_ms` is in milliseconds since the epoch."""

    chain_id: bytes
    scheme: int
    public_key: bytes
    expiry_ms: int
    target: bytes
    method: str
    arguments: bytes
    gas_limit: int


class SignedRead(Record, frozen=True, kw_only=True):
    """A signed read whose signature holds: `sender` is who asks."""

    sender: bytes
    body: SignedReadBody


def signed_read_hash(body_bytes: bytes) -> Digest:
    """The message that the signature covers."""
    return tagged_digest(TAG_SIGNED_READ, body_bytes)


def sign_read(
    key: PrivateKey,
    *,
    chain_id: bytes,
    target: bytes,
    method: str,
    arguments: tuple[Value, ...],
    gas_limit: int,
    expiry_ms: Instant,
) -> bytes:
    """The raw signed read.

    Raises:
        OverflowError, TypeError: an argument has no encoding (`chain.codec.pack`).
    """
    body = SignedReadBody(
        chain_id=bytes(chain_id),
        scheme=int(key.scheme),
        public_key=key.public_key,
        expiry_ms=expiry_ms,
        target=bytes(target),
        method=method,
        arguments=pack(arguments),
        gas_limit=gas_limit,
    )
    body_bytes = encode(body)
    return encode((body_bytes, key.sign(signed_read_hash(body_bytes))))


def open_signed_read(raw: bytes, *, chain_id: bytes, now: Instant) -> SignedRead:
    """The read that `raw` asks for, after every check: shape, chain, expiry, signature.

    Raises:
        DecodeError: shape or range of a field is wrong; the text names it.
        BadInput: `wrong_chain`, `expired`, `expiry_too_far`, `bad_signature`.
    """
    body_bytes, signature = decode(tuple[bytes, bytes], raw, bytes_max=TRANSACTION_BYTES_MAX)
    body = decode(SignedReadBody, body_bytes, bytes_max=TRANSACTION_BYTES_MAX)
    _check_fields(body)
    if len(signature) != SIGNATURE_BYTES:
        raise DecodeError(f"signature: {len(signature)} bytes, must be {SIGNATURE_BYTES}")
    if body.chain_id != chain_id:
        raise BadInput("wrong_chain", f"signed for chain {body.chain_id.hex()}, this is {chain_id.hex()}")
    if body.expiry_ms <= now:
        raise BadInput("expired", f"the signed read expired {now - body.expiry_ms} ms ago; sign a new one")
    if body.expiry_ms > now + SIGNED_READ_LIFETIME_MS_MAX:
        raise BadInput(
            "expiry_too_far", f"expiry_ms is more than {SIGNED_READ_LIFETIME_MS_MAX} ms after this node's clock"
        )
    try:
        sender: Address = address_of(body.scheme, body.public_key)
    except BadInput as error:
        raise DecodeError(error.message) from None
    if not verify(body.scheme, body.public_key, signed_read_hash(body_bytes), signature):
        raise BadInput("bad_signature", "the signature does not match the public key and the body")
    return SignedRead(sender=sender, body=body)


def _check_fields(body: SignedReadBody) -> None:
    for name, size in (("chain_id", DIGEST_BYTES), ("target", ADDRESS_BYTES)):
        length = len(getattr(body, name))
        if length != size:
            raise DecodeError(f"{name}: {length} bytes, must be {size}")
    if len(body.public_key) > PUBLIC_KEY_BYTES_MAX:
        raise DecodeError(f"public_key: {len(body.public_key)} bytes, at most {PUBLIC_KEY_BYTES_MAX}")
    if not 0 < len(body.method) <= METHOD_CHARS_MAX:
        raise DecodeError(f"method: {len(body.method)} characters, must be 1..{METHOD_CHARS_MAX}")
    if not 0 <= body.gas_limit < 2**63 or not 0 <= body.scheme < 256:
        raise DecodeError("gas_limit and scheme must be 0..2^63-1 and 0..255")

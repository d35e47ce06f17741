"""Signature schemes by their scheme byte. A new scheme is a module with an accept rule and an entry in each table here.

Nothing outside `chain.crypto` knows what a key or a signature of a scheme looks like.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from chain.codec import tagged_digest
from chain.crypto import ed25519, secp256k1
from chain.errors import BadInput
from chain.types import ADDRESS_BYTES, Address

TAG_ADDRESS: Final = b"headrace/address/1"
SECRET_BYTES: Final = 32

Item: TypeAlias = tuple[int, bytes, bytes, bytes]  # scheme, public key, message, signature


class Scheme(enum.IntEnum):
    """The scheme byte of a transaction."""

    ED25519 = 1
    SECP256K1 = 2


def _address_ed25519(public_key: bytes) -> bytes:
    if not ed25519.is_public_key(public_key):
        raise ValueError(f"public key of {len(public_key)} bytes, must be {ed25519.PUBLIC_KEY_BYTES}")
    return tagged_digest(TAG_ADDRESS, bytes((Scheme.ED25519,)) + public_key)[-ADDRESS_BYTES:]


def _load_ed25519(secret: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    public_key, expanded = ed25519.load_secret(secret)
    return public_key, lambda message: ed25519.sign(expanded, message)


def _load_secp256k1(secret: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    key = secp256k1.load_secret(secret)
    return secp256k1.public_key_of(key), lambda message: secp256k1.sign(key, message)


_VERIFY: Final[dict[int, Callable[[bytes, bytes, bytes], bool]]] = {
    Scheme.ED25519: ed25519.verify,
    Scheme.SECP256K1: secp256k1.verify,
}
_ADDRESS: Final[dict[int, Callable[[bytes], bytes]]] = {
    Scheme.ED25519: _address_ed25519,
    Scheme.SECP256K1: secp256k1.address_bytes,
}
_LOAD: Final[dict[int, Callable[[bytes], tuple[bytes, Callable[[bytes], bytes]]]]] = {
    Scheme.ED25519: _load_ed25519,
    Scheme.SECP256K1: _load_secp256k1,
}


def address_of(scheme: int, public_key: bytes) -> Address:
    """The 20-byte account address of a public key.

    Ed25519: the last 20 bytes of the tagged SHA-256 over scheme byte and key. secp256k1: Ethereum's address.

    Raises:
        BadInput: `unknown_scheme`, or `bad_public_key` (wrong length, for secp256k1 also not on the curve).
    """
    compute = _ADDRESS.get(scheme)
    if compute is None:
        raise BadInput("unknown_scheme", f"scheme {scheme}, must be one of {[int(known) for known in Scheme]}")
    try:
        return Address(compute(public_key))
    except ValueError as error:
        raise BadInput("bad_public_key", f"{Scheme(scheme).name.lower()} public key: {error}") from None


def verify(scheme: int, public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if the scheme's accept rule holds. An unknown scheme or malformed bytes are False, never an error."""
    check = _VERIFY.get(scheme)
    return check is not None and check(public_key, message, signature)


def verify_batch(items: Sequence[Item]) -> list[bool]:
    """`verify` of each item, in order; every item is judged alone, so one bad signature spoils no other.

    The libraries drop the GIL inside each check, so batches run beside each other in threads.
    """
    table = _VERIFY
    verdicts = []
    for scheme, public_key, message, signature in items:
        check = table.get(scheme)
        verdicts.append(check is not None and check(public_key, message, signature))
    return verdicts


class PrivateKey:
    """A signing key of any scheme. Its text form never shows the secret."""

    __slots__ = ("_sign", "address", "public_key", "scheme", "secret")

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        """Use `from_secret` or `generate`."""
        self.scheme = scheme
        self.secret = secret
        self.public_key, self._sign = _LOAD[scheme](secret)
        self.address = address_of(scheme, self.public_key)

    @classmethod
    def generate(cls, scheme: int = Scheme.ED25519) -> PrivateKey:
        """A new key from the operating system's randomness."""
        while True:
            try:
                return cls.from_secret(scheme, secrets.token_bytes(SECRET_BYTES))
            except BadInput as error:
                if error.code != "bad_secret":  # a secret outside 1..n-1: one draw in 2^128
                    raise

    @classmethod
    def from_secret(cls, scheme: int, secret: bytes) -> PrivateKey:
        """The key of a 32-byte secret (Ed25519: the seed of RFC 8032; secp256k1: a big-endian integer 1..n-1).

        Raises:
            BadInput: `unknown_scheme` or `bad_secret`.
        """
        if scheme not in _LOAD:
            raise BadInput("unknown_scheme", f"scheme {scheme}, must be one of {[int(known) for known in Scheme]}")
        if len(secret) != SECRET_BYTES:
            raise BadInput("bad_secret", f"secret of {len(secret)} bytes, must be {SECRET_BYTES}")
        try:
            return cls(Scheme(scheme), bytes(secret))
        except ValueError as error:
            raise BadInput("bad_secret", f"{Scheme(scheme).name.lower()} secret: {error}") from None

    def sign(self, message: bytes) -> bytes:
        """64 bytes. secp256k1 signs a 32-byte digest as it is.

        Raises:
            BadInput: `bad_message`: the scheme cannot sign a message of this length.
        """
        try:
            return self._sign(message)
        except ValueError as error:
            raise BadInput("bad_message", str(error)) from None

    def __repr__(self) -> str:
        return f"PrivateKey({self.scheme.name}, address={self.address.hex()})"

"""ECDSA over secp256k1, as Ethereum's tools sign: the 32-byte digest is the message, it is not hashed again.

A signature r || s is accepted if and only if

1. the public key is 33 bytes, compressed (02 or 03, then x), a point of the curve; no other form is canonical;
2. the digest is 32 bytes, the signature 64: r and s, big-endian;
3. 1 <= r < n and 1 <= s <= n // 2 (low s: nobody makes a second signature from a first);
4. the ECDSA equation holds (SEC 1, 4.1.4).
"""

from __future__ import annotations

from typing import Final

import coincurve
from sha3 import keccak_256

PUBLIC_KEY_BYTES: Final = 33
SECRET_BYTES: Final = 32
DIGEST_BYTES: Final = 32

GROUP_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
S_MAX: Final = GROUP_ORDER // 2


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """True if the accept rule of this module holds; malformed input is False, never an error."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(digest) != DIGEST_BYTES or len(signature) != 64:
        return False
    if public_key[0] not in (2, 3):
        return False
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not 0 < r < GROUP_ORDER or not 0 < s <= S_MAX:
        return False
    try:
        return bool(coincurve.PublicKey(public_key).verify(_der(r, s), digest, None))
    except ValueError:
        return False


def _der(r: int, s: int) -> bytes:
    """The library's public interface takes DER."""
    r_bytes = r.to_bytes(r.bit_length() // 8 + 1, "big")
    s_bytes = s.to_bytes(s.bit_length() // 8 + 1, "big")
    r_length, s_length = len(r_bytes), len(s_bytes)
    return bytes((0x30, r_length + s_length + 4, 2, r_length)) + r_bytes + bytes((2, s_length)) + s_bytes


def sign(key: coincurve.PrivateKey, digest: bytes) -> bytes:
    """The deterministic (RFC 6979), low-s signature r || s over a 32-byte digest.

    Raises:
        ValueError: the digest is not 32 bytes.
    """
    return bytes(key.sign_recoverable(digest, None)[:64])


def load_secret(secret: bytes) -> coincurve.PrivateKey:
    """The key of a 32-byte big-endian secret.

    Raises:
        ValueError: the secret is 0 or not below the group order.
    """
    return coincurve.PrivateKey(secret)


def public_key_of(key: coincurve.PrivateKey) -> bytes:
    return bytes(key.public_key.format(compressed=True))


def address_bytes(public_key: bytes) -> bytes:
    """Ethereum's address: the last 20 bytes of keccak-256 over x || y.

    Raises:
        ValueError: not a compressed point of the curve.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"public key of {len(public_key)} bytes, must be {PUBLIC_KEY_BYTES}")
    return bytes(keccak_256(coincurve.PublicKey(public_key).format(compressed=False)[1:]).digest()[-20:])

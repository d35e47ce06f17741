"""Ed25519 (RFC 8032) with one written accept rule, whatever library stands behind it.

A signature R || S by public key A over a message M is accepted if and only if

1. A is 32 bytes, the signature 64;
2. A and R are canonical: bit 255 cleared, each is a number y < p = 2^255 - 19;
3. neither A nor R is one of the 8 points of small order, with either sign bit;
4. S < L, the prime order of the base point (no second signature S + L);
5. A is on the curve and the cofactorless equation holds byte for byte: encode([S]B - [k]A) = R with
   k = SHA-512(R || A || M) mod L.

Points with a small-order component besides a large one ("mixed order") are judged by rule 5 alone. Libraries differ
on rules 2 and 3; these are checked here, so that every implementation of rule 5 accepts the same signatures.
"""

from __future__ import annotations

from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

PUBLIC_KEY_BYTES: Final = 32
SECRET_BYTES: Final = 32

FIELD_PRIME: Final = 2**255 - 19
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT: Final = 1 << 255
_Y_MASK: Final = _SIGN_BIT - 1

# The four points of order 8 are (+-x, +-y) for one x and one y.
_Y_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
# y = 1: the identity; p - 1: order 2; 0: order 4; the rest: order 8.
SMALL_ORDER_Y: Final = frozenset((0, 1, FIELD_PRIME - 1, _Y_ORDER_8, FIELD_PRIME - _Y_ORDER_8))


def _is_acceptable_point(encoded: bytes) -> bool:
    """Rules 2 and 3 for 32 bytes; whether the point is on the curve is for rule 5 to find out."""
    y = int.from_bytes(encoded, "little") & _Y_MASK
    return y < FIELD_PRIME and y not in SMALL_ORDER_Y


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if the accept rule of this module holds; malformed input is False, never an error."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != 64:
        return False
    if int.from_bytes(signature[32:], "little") >= GROUP_ORDER:
        return False
    if not _is_acceptable_point(public_key) or not _is_acceptable_point(signature[:32]):
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except CryptoError:
        return False
    return True


def load_secret(secret: bytes) -> tuple[bytes, bytes]:
    """(public key, expanded secret as `sign` wants it) of a 32-byte RFC 8032 secret (the "seed")."""
    public_key, expanded = crypto_sign_seed_keypair(secret)
    return bytes(public_key), bytes(expanded)


def sign(expanded_secret: bytes, message: bytes) -> bytes:
    """The deterministic 64-byte signature of RFC 8032."""
    return bytes(crypto_sign(message, expanded_secret)[:64])


def is_public_key(public_key: bytes) -> bool:
    """True if the key has the right length; a key that no signature verifies under is not told apart."""
    return len(public_key) == PUBLIC_KEY_BYTES

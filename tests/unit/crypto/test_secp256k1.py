"""Unit tests of chain.crypto.secp256k1."""

from __future__ import annotations

import hashlib

import coincurve
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from sha3 import keccak_256

from chain.crypto import secp256k1
from chain.crypto.secp256k1 import GROUP_ORDER, S_MAX

KEY = secp256k1.load_secret(bytes(range(1, 33)))
PUBLIC_KEY = secp256k1.public_key_of(KEY)
DIGEST = hashlib.sha256(b"m").digest()
SIGNATURE = secp256k1.sign(KEY, DIGEST)
R, S = int.from_bytes(SIGNATURE[:32], "big"), int.from_bytes(SIGNATURE[32:], "big")


def pair(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def library_verdict(public_key: bytes, digest: bytes, r: int, s: int) -> bool:
    """`cryptography`, which takes high s too."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public_key)
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return True


def test_keccak_is_the_original_and_not_sha3() -> None:
    expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak_256(b"").hexdigest() == expected
    assert hashlib.sha3_256(b"").hexdigest() != expected


@pytest.mark.parametrize(
    ("secret", "address"),
    [
        (f"{1:064x}", "7e5f4552091a69125d5dfcb7b8c2659029395bdf"),
        (
            "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",  # a well-known test account
            "f39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        ),
    ],
)
def test_addresses_are_those_of_ethereum(secret: str, address: str) -> None:
    key = secp256k1.load_secret(bytes.fromhex(secret))
    assert secp256k1.address_bytes(secp256k1.public_key_of(key)).hex() == address


def test_rfc_6979_signature_known_from_bitcoin() -> None:
    key = secp256k1.load_secret((1).to_bytes(32, "big"))
    digest = hashlib.sha256(b"Satoshi Nakamoto").digest()
    signature = secp256k1.sign(key, digest)
    assert signature.hex() == (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )
    assert secp256k1.verify(secp256k1.public_key_of(key), digest, signature)


def test_the_digest_is_not_hashed_again() -> None:
    assert not secp256k1.verify(PUBLIC_KEY, hashlib.sha256(DIGEST).digest(), SIGNATURE)
    assert library_verdict(PUBLIC_KEY, DIGEST, R, S)


def test_high_s_is_refused_although_the_equation_holds() -> None:
    assert S <= S_MAX
    assert library_verdict(PUBLIC_KEY, DIGEST, R, GROUP_ORDER - S)  # the plant: a second signature from a first
    assert secp256k1.verify(PUBLIC_KEY, DIGEST, pair(R, S))
    assert not secp256k1.verify(PUBLIC_KEY, DIGEST, pair(R, GROUP_ORDER - S))


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, S), (R, 0), (0, 0), (GROUP_ORDER, S), (R, GROUP_ORDER), (GROUP_ORDER + 1, S), (2**256 - 1, S),
        (R, 2**256 - 1), (R, S_MAX + 1), (R, S_MAX), (1, 1), (R - 1, S), (R, S - 1),
    ],
)  # fmt: skip
def test_numbers_out_of_range_or_wrong_are_refused(r: int, s: int) -> None:
    assert not secp256k1.verify(PUBLIC_KEY, DIGEST, pair(r, s))


def test_only_the_compressed_form_of_a_key_is_canonical() -> None:
    point = coincurve.PublicKey(PUBLIC_KEY)
    uncompressed = point.format(compressed=False)
    hybrid = bytes((6 | uncompressed[-1] & 1,)) + uncompressed[1:]
    for form in (uncompressed, hybrid, uncompressed[1:], b"\x04" + PUBLIC_KEY[1:], b"\x00" + PUBLIC_KEY[1:], bytes(33)):
        assert not secp256k1.verify(form, DIGEST, SIGNATURE)
        with pytest.raises(ValueError, match="key"):
            secp256k1.address_bytes(form)
    other_sign = bytes((PUBLIC_KEY[0] ^ 1,)) + PUBLIC_KEY[1:]
    assert not secp256k1.verify(other_sign, DIGEST, SIGNATURE)


def test_x_of_the_field_prime_or_off_the_curve_is_refused() -> None:
    prime = 2**256 - 2**32 - 977
    for x in (prime, prime + 1, 2**256 - 1, 5, 0):  # 5: no point has it
        assert not secp256k1.verify(b"\x02" + x.to_bytes(32, "big"), DIGEST, SIGNATURE)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_message_that_is_no_digest_is_refused(length: int) -> None:
    assert not secp256k1.verify(PUBLIC_KEY, bytes(length), SIGNATURE)
    with pytest.raises(ValueError, match="32 bytes"):
        secp256k1.sign(KEY, bytes(length))


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:63], SIGNATURE + b"\x1b", KEY.sign(DIGEST, None)])
def test_other_signature_forms_are_refused(signature: bytes) -> None:
    assert not secp256k1.verify(PUBLIC_KEY, DIGEST, signature)


class TakesEverything:
    """A library without any rule of its own."""

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key

    def verify(self, signature: bytes, digest: bytes, hasher: None) -> bool:
        return True


def test_rules_1_to_3_hold_whatever_the_library_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the form of the key (is it a point?) and the equation are left to the library."""
    monkeypatch.setattr(coincurve, "PublicKey", TakesEverything)
    assert secp256k1.verify(PUBLIC_KEY, bytes(32), pair(R, S_MAX))
    for r, s in ((0, S), (R, 0), (GROUP_ORDER, S), (R, S_MAX + 1), (R, GROUP_ORDER - 1), (2**256 - 1, S)):
        assert not secp256k1.verify(PUBLIC_KEY, DIGEST, pair(r, s))
    for key in (PUBLIC_KEY + b"\0", PUBLIC_KEY[:32], b"\x04" + bytes(64), b"\x04" + PUBLIC_KEY[1:]):
        assert not secp256k1.verify(key, DIGEST, SIGNATURE)
    assert not secp256k1.verify(PUBLIC_KEY, DIGEST + b"\0", SIGNATURE)
    assert not secp256k1.verify(PUBLIC_KEY, DIGEST, SIGNATURE + b"\0")


@settings(max_examples=40, deadline=None)
@given(secret=st.integers(1, GROUP_ORDER - 1), digest=st.binary(min_size=32, max_size=32), bit=st.integers(0, 511))
def test_agreement_with_another_library_on_honest_signatures_and_bit_flips(
    secret: int, digest: bytes, bit: int
) -> None:
    key = secp256k1.load_secret(secret.to_bytes(32, "big"))
    public_key = secp256k1.public_key_of(key)
    signature = secp256k1.sign(key, digest)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    assert 0 < s <= S_MAX
    assert secp256k1.verify(public_key, digest, signature)
    assert library_verdict(public_key, digest, r, s)
    flipped = int.from_bytes(signature, "big") ^ 1 << bit
    r, s = flipped >> 256, flipped & (1 << 256) - 1
    assert not secp256k1.verify(public_key, digest, pair(r, s))
    assert not library_verdict(public_key, digest, r, s)

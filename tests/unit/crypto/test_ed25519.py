"""Unit tests of chain.crypto.ed25519."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.crypto import ed25519
from tests.unit.crypto import reference_ed25519 as reference

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
            "655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
            "b00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
            "c027beceea1ec40a"
        ),
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17a"
            "d9bef1177331a704"
        ),
    ),
]
SECRET = bytes(range(32))
PUBLIC_KEY, EXPANDED = ed25519.load_secret(SECRET)


def scalar_of(secret: bytes) -> int:
    clamped = int.from_bytes(hashlib.sha512(secret).digest()[:32], "little")
    return clamped & (1 << 254) - 8 | 1 << 254


def forge(*, public_key: bytes, r_encoded: bytes, nonce: int, scalar: int, message: bytes) -> bytes:
    """R and the S that fits R = nonce * B for a key with that scalar, whatever point is added to either."""
    s = (nonce + reference.challenge(r_encoded, public_key, message) * scalar) % reference.L
    return r_encoded + s.to_bytes(32, "little")


@pytest.mark.parametrize(("secret", "public_key", "message", "signature"), RFC_8032)
def test_rfc_8032_section_7_1(secret: str, public_key: str, message: bytes, signature: str) -> None:
    derived, expanded = ed25519.load_secret(bytes.fromhex(secret))
    assert derived.hex() == public_key
    assert ed25519.sign(expanded, message).hex() == signature
    assert ed25519.verify(derived, message, bytes.fromhex(signature))
    assert reference.verify(derived, message, bytes.fromhex(signature))


def test_the_small_order_list_is_exactly_the_torsion_of_the_curve() -> None:
    points = reference.torsion()
    assert [reference.order_of(point) for point in points] == [1, 2, 4, 4, 8, 8, 8, 8]
    assert {y for _, y in points} == ed25519.SMALL_ORDER_Y
    assert reference.L == ed25519.GROUP_ORDER


def small_order_encodings() -> list[bytes]:
    """Every 32-byte string that any decoder might take for a point of small order: both signs, y and y + p."""
    found = []
    for y in sorted(ed25519.SMALL_ORDER_Y):
        for shifted in (y, y + ed25519.FIELD_PRIME):
            if shifted < 1 << 255:
                found += [(shifted | sign << 255).to_bytes(32, "little") for sign in (0, 1)]
    return found


@pytest.mark.parametrize("point", small_order_encodings())
def test_small_order_keys_and_nonces_are_refused(point: bytes) -> None:
    # S = 0 and R = A small: the equation holds for one message in at most 8, for the identity always.
    for message in (bytes((number,)) for number in range(16)):
        assert not ed25519.verify(point, message, point + bytes(32))
        assert not ed25519.verify(point, message, reference.encode(reference.IDENTITY) + bytes(32))
        # An honest key with a small R whose S fits the equation but for the small point.
        forged = forge(public_key=PUBLIC_KEY, r_encoded=point, nonce=0, scalar=scalar_of(SECRET), message=message)
        assert not ed25519.verify(PUBLIC_KEY, message, forged)


def test_the_identity_as_nonce_is_refused_although_the_equation_holds() -> None:
    """The plant: without rule 3 this very signature satisfies [S]B - [k]A = R byte for byte."""
    identity = reference.encode(reference.IDENTITY)
    forged = forge(public_key=PUBLIC_KEY, r_encoded=identity, nonce=0, scalar=scalar_of(SECRET), message=b"m")
    k = reference.challenge(identity, PUBLIC_KEY, b"m")
    s = int.from_bytes(forged[32:], "little")
    key = reference.decode(PUBLIC_KEY)
    assert key is not None
    left = reference.add(reference.multiply(s, reference.BASE), reference.negate(reference.multiply(k, key)))
    assert reference.encode(left) == identity
    assert not ed25519.verify(PUBLIC_KEY, b"m", forged)


@pytest.mark.parametrize("excess", range(19))
def test_coordinates_of_p_and_above_are_refused(excess: int) -> None:
    message = b"m"
    signature = ed25519.sign(EXPANDED, message)
    for sign in (0, 1):
        big = (ed25519.FIELD_PRIME + excess | sign << 255).to_bytes(32, "little")
        assert not ed25519.verify(big, message, signature)
        assert not ed25519.verify(PUBLIC_KEY, message, big + signature[32:])


@pytest.mark.parametrize("multiple", range(1, 16))
def test_s_of_the_group_order_and_above_is_refused(multiple: int) -> None:
    message = b"m"
    signature = ed25519.sign(EXPANDED, message)
    s = int.from_bytes(signature[32:], "little") + multiple * ed25519.GROUP_ORDER
    if s < 1 << 256:
        assert not ed25519.verify(PUBLIC_KEY, message, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.slow
def test_mixed_order_keys_are_judged_without_the_cofactor() -> None:
    """A key aB + T, T of order 8: the cofactored rule takes all of these signatures, ours one in eight."""
    scalar = scalar_of(SECRET)
    honest = reference.multiply(scalar, reference.BASE)
    verdicts = []
    for twist in reference.torsion()[4:6]:
        public_key = reference.encode(reference.add(honest, twist))
        nonce = 12_345
        r_encoded = reference.encode(reference.multiply(nonce, reference.BASE))
        for number in range(16):
            message = bytes((number,))
            signature = forge(public_key=public_key, r_encoded=r_encoded, nonce=nonce, scalar=scalar, message=message)
            verdict = ed25519.verify(public_key, message, signature)
            assert verdict == reference.verify(public_key, message, signature)
            assert verdict == (reference.challenge(r_encoded, public_key, message) % 8 == 0)
            verdicts.append(verdict)
    assert 0 < sum(verdicts) < len(verdicts) / 2


def test_mixed_order_nonces_are_judged_without_the_cofactor() -> None:
    scalar = scalar_of(SECRET)
    nonce = 54_321
    for twist in reference.torsion()[1:]:
        r_encoded = reference.encode(reference.add(reference.multiply(nonce, reference.BASE), twist))
        signature = forge(public_key=PUBLIC_KEY, r_encoded=r_encoded, nonce=nonce, scalar=scalar, message=b"m")
        assert not reference.verify(PUBLIC_KEY, b"m", signature)
        assert not ed25519.verify(PUBLIC_KEY, b"m", signature)


def test_rules_1_to_4_hold_whatever_the_library_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a library that takes everything, only what the rules themselves refuse is refused."""
    monkeypatch.setattr(ed25519, "crypto_sign_open", lambda signed, public_key: b"")
    signature = ed25519.sign(EXPANDED, b"m")
    assert ed25519.verify(PUBLIC_KEY, b"another message", signature)
    for point in small_order_encodings():
        assert not ed25519.verify(point, b"m", signature)
        assert not ed25519.verify(PUBLIC_KEY, b"m", point + signature[32:])
    for y in range(ed25519.FIELD_PRIME, 1 << 255):
        for big in (y.to_bytes(32, "little"), (y | 1 << 255).to_bytes(32, "little")):
            assert not ed25519.verify(big, b"m", signature)
            assert not ed25519.verify(PUBLIC_KEY, b"m", big + signature[32:])
    order = ed25519.GROUP_ORDER
    assert ed25519.verify(PUBLIC_KEY, b"m", signature[:32] + (order - 1).to_bytes(32, "little"))
    for s in (order, order + 1, 2**252 + 2**251, 2**256 - 1):
        assert not ed25519.verify(PUBLIC_KEY, b"m", signature[:32] + s.to_bytes(32, "little"))
    assert not ed25519.verify(PUBLIC_KEY[:31], b"m", signature)
    assert not ed25519.verify(PUBLIC_KEY, b"m", signature[:63])


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_other_lengths_are_refused(length: int) -> None:
    signature = ed25519.sign(EXPANDED, b"m")
    assert not ed25519.verify(bytes(length), b"m", signature)
    assert not ed25519.verify(PUBLIC_KEY, b"m", (signature * 2)[:length] if length != 64 else signature + b"\0")


def cryptography_verdict(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), message=st.binary(max_size=100), bit=st.integers(0, 511))
def test_agreement_with_another_library_on_honest_signatures_and_bit_flips(
    secret: bytes, message: bytes, bit: int
) -> None:
    public_key, expanded = ed25519.load_secret(secret)
    signature = ed25519.sign(expanded, message)
    assert signature == Ed25519PrivateKey.from_private_bytes(secret).sign(message)
    assert ed25519.verify(public_key, message, signature)
    flipped = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    assert not ed25519.verify(public_key, message, flipped)
    assert not cryptography_verdict(public_key, message, flipped)
    other_key = (int.from_bytes(public_key, "big") ^ 1 << bit % 256).to_bytes(32, "big")
    assert not ed25519.verify(other_key, message, signature)
    assert not cryptography_verdict(other_key, message, signature)
    assert not ed25519.verify(public_key, message + b"\0", signature)


@settings(max_examples=25, deadline=None)
@given(
    public_key=st.binary(min_size=32, max_size=32),
    message=st.binary(max_size=8),
    signature=st.binary(min_size=64, max_size=64),
)
def test_random_bytes_are_refused_like_by_the_reference(public_key: bytes, message: bytes, signature: bytes) -> None:
    assert ed25519.verify(public_key, message, signature) == reference.verify(public_key, message, signature)

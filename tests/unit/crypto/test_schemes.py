"""Unit tests of chain.crypto.schemes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import tagged_digest
from chain.crypto import PrivateKey, Scheme, address_of, verify, verify_batch
from chain.crypto.schemes import Item
from chain.errors import BadInput

KEYS = {scheme: PrivateKey.from_secret(scheme, bytes(range(1, 33))) for scheme in Scheme}
DIGESTS = [bytes((number,)) * 32 for number in range(4)]
SIGNATURES = {(scheme, digest): KEYS[scheme].sign(digest) for scheme in Scheme for digest in DIGESTS}


@st.composite
def items(draw: st.DrawFn) -> Item:
    """Honest, mismatched, truncated, of an unknown scheme, or plain noise."""
    scheme = draw(st.sampled_from(list(Scheme)))
    public_key, digest = KEYS[scheme].public_key, draw(st.sampled_from(DIGESTS))
    signature = SIGNATURES[scheme, draw(st.sampled_from(DIGESTS))]
    match draw(st.integers(0, 5)):
        case 0:
            return (draw(st.integers(-1, 300)), public_key, digest, signature)
        case 1:
            return (int(scheme), draw(st.binary(max_size=66)), digest, signature)
        case 2:
            return (int(scheme), public_key, digest, draw(st.binary(max_size=70)))
        case 3:
            return (int(scheme), public_key, draw(st.binary(max_size=40)), signature)
        case _:
            return (int(scheme), public_key, digest, signature)


@settings(max_examples=150, deadline=None)
@given(st.lists(items(), max_size=8))
def test_the_batch_agrees_with_its_one_item_twin_and_never_raises(batch: list[Item]) -> None:
    assert verify_batch(batch) == [verify(*item) for item in batch]


@pytest.mark.parametrize("scheme", Scheme)
def test_one_bad_signature_spoils_no_other(scheme: Scheme) -> None:
    batch = [(int(scheme), KEYS[scheme].public_key, digest, SIGNATURES[scheme, digest]) for digest in DIGESTS]
    batch[1] = (*batch[1][:3], bytes(64))
    assert verify_batch(batch) == [True, False, True, True]


def test_a_signature_counts_for_its_scheme_only() -> None:
    for scheme in Scheme:
        for other in Scheme:
            item = (int(other), KEYS[scheme].public_key, DIGESTS[0], SIGNATURES[scheme, DIGESTS[0]])
            assert verify(*item) == (scheme is other)


def test_addresses_differ_by_scheme_and_are_domain_separated() -> None:
    key = KEYS[Scheme.ED25519]
    assert key.address == tagged_digest(b"headrace/address/1", b"\x01" + key.public_key)[-20:]
    assert len({KEYS[scheme].address for scheme in Scheme}) == len(Scheme)
    for scheme in Scheme:
        assert address_of(int(scheme), KEYS[scheme].public_key) == KEYS[scheme].address


@pytest.mark.parametrize(
    ("scheme", "public_key", "code"),
    [
        (0, bytes(32), "unknown_scheme"),
        (3, bytes(32), "unknown_scheme"),
        (-1, b"", "unknown_scheme"),
        (1, bytes(33), "bad_public_key"),
        (2, bytes(33), "bad_public_key"),
        (2, b"\x04" + bytes(64), "bad_public_key"),
    ],
)
def test_an_address_of_nothing_is_refused_by_name(scheme: int, public_key: bytes, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        address_of(scheme, public_key)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("scheme", "secret", "code"),
    [
        (9, bytes(32), "unknown_scheme"),
        (1, bytes(31), "bad_secret"),
        (2, bytes(33), "bad_secret"),
        (2, bytes(32), "bad_secret"),
        (2, b"\xff" * 32, "bad_secret"),
    ],
)
def test_a_bad_secret_is_refused_and_never_shown(scheme: int, secret: bytes, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        PrivateKey.from_secret(scheme, secret)
    assert refused.value.code == code
    assert secret.hex() not in str(refused.value)


def test_keys_round_trip_and_hide_their_secret() -> None:
    for scheme in Scheme:
        key = PrivateKey.generate(scheme)
        again = PrivateKey.from_secret(scheme, key.secret)
        assert (again.public_key, again.address, again.scheme) == (key.public_key, key.address, key.scheme)
        assert again.sign(DIGESTS[0]) == key.sign(DIGESTS[0])
        assert key.secret.hex() not in repr(key)
    with pytest.raises(BadInput) as refused:
        KEYS[Scheme.SECP256K1].sign(b"not a digest")
    assert refused.value.code == "bad_message"

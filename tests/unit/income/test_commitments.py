"""The one formula of fingerprints, blinded ids, quota parts and band proofs."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import pack
from chain.errors import BadInput
from contracts.commitments import (
    BANDS_MAX,
    band_anchor,
    band_proof,
    blinded_id,
    derive_salt,
    fingerprint,
    income_band,
    new_salt,
    quota_parts,
)  # fmt: skip

SALT = b"s" * 16


def test_the_formula_is_what_the_documents_say() -> None:
    tag = b"headrace/fingerprint/1"
    data = pack(("kind", SALT, (("a", 1), ("b", "x"))))
    assert fingerprint("kind", {"b": "x", "a": 1}, SALT) == sha256(bytes([len(tag)]) + tag + data).digest()


def test_everything_in_a_document_counts() -> None:
    prints = {
        fingerprint("kind", {"a": 1}, SALT), fingerprint("kind", {"a": 2}, SALT), fingerprint("kind", {"b": 1}, SALT),
        fingerprint("other", {"a": 1}, SALT), fingerprint("kind", {"a": 1}, b"t" * 16),
        fingerprint("kind", {"a": "1"}, SALT), fingerprint("kind", {"a": True}, SALT), blinded_id("kind", SALT, "a", 1),
        fingerprint("kind", {"a": b"1"}, SALT), fingerprint("kind", {"a": None}, SALT),
    }  # fmt: skip
    assert len(prints) == 10


@pytest.mark.parametrize("salt", [b"", b"s" * 15, b"s" * 65])
def test_a_salt_has_at_least_128_bits(salt: bytes) -> None:
    makers: list[Callable[[], bytes]] = [
        lambda: fingerprint("k", {"a": 1}, salt),
        lambda: blinded_id("k", salt),
        lambda: band_anchor(salt, 1),
        lambda: band_proof(salt, 1, 1),
    ]
    for make in makers:
        with pytest.raises(BadInput, match="bytes, must be 16"):
            make()


def test_salts_are_fresh_or_derived() -> None:
    assert len(new_salt()) == 16
    assert new_salt() != new_salt()
    assert derive_salt(b"seed", "a", 1) == derive_salt(b"seed", "a", 1) != derive_salt(b"seed", "a", 2)


@pytest.mark.parametrize("fields", [{}, {str(n): n for n in range(65)}, {"amount": 1.5}, {"nested": (1, 2)}])
def test_what_has_no_canonical_form_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        fingerprint("kind", fields, SALT)  # type: ignore[arg-type]


@given(amount=st.integers(0, 10**12), income=st.integers(1, 10**12))
def test_quota_parts_are_rounded_up(amount: int, income: int) -> None:
    parts = quota_parts(amount, income)
    assert parts * income >= amount * 10_000 > (parts - 1) * income


@pytest.mark.parametrize(("amount", "income"), [(1, 0), (1, -5), (-1, 5)])
def test_quota_parts_need_an_income(amount: int, income: int) -> None:
    with pytest.raises(BadInput):
        quota_parts(amount, income)


def test_a_band_is_how_many_thresholds_are_reached() -> None:
    assert [income_band(income, (100, 200)) for income in (99, 100, 199, 200, 10**9)] == [0, 1, 1, 2, 2]


@given(band=st.integers(1, BANDS_MAX), data=st.data())
def test_a_proof_serves_every_lower_band_and_no_higher(band: int, data: st.DataObject) -> None:
    claimed = data.draw(st.integers(1, band))
    anchor, proof = band_anchor(SALT, band), band_proof(SALT, band, claimed)

    def hashed(value: bytes, times: int) -> bytes:
        for _ in range(times):
            value = sha256(value).digest()
        return value

    assert hashed(proof, claimed) == anchor
    assert hashed(proof, claimed + 1) != anchor
    for lower in range(1, claimed):
        assert hashed(proof, claimed - lower) == band_proof(SALT, band, lower)


def test_there_is_no_proof_above_the_band() -> None:
    for band, claimed in ((3, 4), (3, 0), (0, 1), (33, 1), (-1, 1)):
        with pytest.raises(BadInput):
            band_proof(SALT, band, claimed)

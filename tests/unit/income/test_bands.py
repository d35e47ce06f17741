"""V11: what is shown for a threshold can be shown for every lower one, and for no higher one."""

from __future__ import annotations

from hashlib import sha256

import pytest

from contracts.commitments import band_proof
from tests.unit.income.income_world import BANDS, SEED, VERIFY, IncomeWorld, paper

BAND = 3


@pytest.fixture
def world() -> IncomeWorld:
    world = IncomeWorld()
    world.issue(band=BAND)
    world.grant(ways=BANDS, uses=20)
    return world


def test_every_band_up_to_the_incomes_is_shown(world: IncomeWorld) -> None:
    for claimed in range(1, BAND + 1):
        assert world.show_band(claimed, band_proof(SEED, BAND, claimed), f"n{claimed}") == "match"


def test_the_proof_for_a_band_makes_those_for_lower_ones(world: IncomeWorld) -> None:
    proof = band_proof(SEED, BAND, BAND)
    for claimed in range(BAND, 0, -1):
        assert world.show_band(claimed, proof, f"n{claimed}") == "match"
        proof = sha256(proof).digest()


def test_no_value_a_person_can_make_shows_a_higher_band(world: IncomeWorld) -> None:
    proof = band_proof(SEED, BAND, BAND)
    for number in range(6):
        assert world.show_band(BAND + 1, proof, f"n{number}") == "mismatch"
        proof = sha256(proof).digest()
    assert world.show_band(BAND - 1, band_proof(SEED, BAND, BAND), "wrong length") == "mismatch"


def test_an_attestation_without_bands_shows_none(world: IncomeWorld) -> None:
    arguments = world.issue_arguments("plain")
    world.ok("tax_key", "attest", "issue", *arguments[:5], b"", arguments[6])
    world.grant("plain", attestation="plain", ways=BANDS)
    answer = world.do(
        "bank", "verify", "submit_band", world.address("alice"), paper("plain"), paper("plain"), 1, paper("n")[:16], 1,
        paper("x"),
    )  # fmt: skip
    assert answer == "mismatch"


def test_consent_for_bands_is_not_consent_for_the_document(world: IncomeWorld) -> None:
    assert world.verify() == "no_consent"
    world.grant("document", ways=VERIFY)
    assert world.verify("2", grant="document") == "match"


def test_an_ended_attestation_shows_nothing(world: IncomeWorld) -> None:
    world.revoke()
    assert world.show_band(1, band_proof(SEED, BAND, 1), "n") == "revoked"
    assert world.show_band(1, paper("x"), "m") == "mismatch"


@pytest.mark.parametrize(("band", "proof"), [(0, b"x" * 32), (33, b"x" * 32), (-1, b"x" * 32), (1, b"x" * 31)])
def test_malformed_bands_revert(world: IncomeWorld, band: int, proof: bytes) -> None:
    key = (world.address("alice"), paper("grant"), paper("attestation"), 1, paper("n")[:16])
    assert world.fails("bank", "verify", "submit_band", *key, band, proof).startswith("malformed_")

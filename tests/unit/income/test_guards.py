"""The guards that no story needs: malformed arguments, things that are not there, unsigned reads."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.income.income_world import (
    BANDS,
    LENDING,
    QUOTA,
    SALARY,
    THIS_YEAR,
    WITNESS,
    YEAR_MS,
    IncomeWorld,
    paper,
)


@pytest.fixture
def world() -> IncomeWorld:
    world = IncomeWorld()
    world.issue()
    return world


def test_a_grant_is_bounded(world: IncomeWorld) -> None:
    bank, later = world.address("bank"), world.time_ms + 1_000
    good = (paper("g"), bank, paper("attestation"), LENDING, 1, later, 1)
    for position, wrong, reason in [
        (0, b"x", "malformed_id"), (2, b"x", "malformed_id"), (3, 0, "malformed_purpose"), (3, 6, "malformed_purpose"),
        (4, 0, "malformed_ways"), (4, 8, "malformed_ways"), (6, 0, "malformed_uses"), (6, 1_001, "malformed_uses"),
        (5, world.time_ms + 4 * YEAR_MS, "malformed_expiry"),
    ]:  # fmt: skip
        arguments = (*good[:position], wrong, *good[position + 1 :])
        assert world.fails("alice", "consent", "grant", *arguments) == reason
    assert world.do("alice", "consent", "revoke", paper("none")) == "no_consent"


def test_what_is_not_there_has_no_key_to_rotate_or_revoke(world: IncomeWorld) -> None:
    assert world.do("alice", "issuer", "rotate", world.address("k")) == "unknown_issuer"
    assert world.do("operator", "issuer", "revoke_key", world.address("k")) == "unknown_key"
    assert world.read("anyone", "issuer", "issuer_of", world.address("k")) is None
    assert world.read("anyone", "issuer", "is_revoked", world.address("k")) is True, "nobody vouches for it"


def test_a_revoked_key_stays_revoked_through_a_rotation(world: IncomeWorld) -> None:
    world.ok("tax_bureau", "issuer", "revoke_key", world.address("tax_key"))
    world.ok("tax_bureau", "issuer", "rotate", world.address("tax_key_2"))
    assert world.read("anyone", "issuer", "may_attest", world.address("tax_key"), SALARY) == "key_revoked"


def test_witnesses_are_bounded(world: IncomeWorld) -> None:
    key = (world.address("alice"), paper("attestation"))
    for number in range(9):
        name = f"notary {number}"
        world.ok("operator", "issuer", "register", world.address(name), world.address(name), WITNESS)
        expected = "ok" if number < 8 else "too_many_witnesses"
        assert world.do(name, "attest", "witness", *key) == expected


def test_bands_of_nothing_are_no_consent(world: IncomeWorld) -> None:
    world.grant("nothing", ways=BANDS, attestation="nothing")
    answer = world.do(
        "bank", "verify", "submit_band", world.address("alice"), paper("nothing"), paper("nothing"), LENDING,
        paper("n")[:16], 1, paper("x"),
    )  # fmt: skip
    assert answer == "no_consent"
    assert world.uses_left() == 1


def test_a_simulated_band_tells_nothing(world: IncomeWorld) -> None:
    key = (world.address("alice"), paper("grant"), paper("attestation"), LENDING, paper("n")[:16])
    assert world.read("bank", "verify", "submit_band", *key, 1, paper("x")) == "simulated_read"


def test_reads_of_persons_data_are_signed_and_paged(world: IncomeWorld) -> None:
    world.grant(ways=1 | QUOTA, uses=9)
    world.verify()
    world.reserve("r", 1)
    alice = world.address("alice")
    reads: list[tuple[Any, ...]] = [
        ("attest", "attestation", alice, paper("attestation")),
        ("consent", "list_grants", alice, 0, 10),
        ("usage", "count", alice),
        ("usage", "list_uses", alice, 0, 10),
        ("verify", "result", world.address("bank"), paper("nonce")[:16]),
        ("quota", "total", alice, THIS_YEAR, LENDING),
    ]
    for contract, method, *arguments in reads:
        assert world.read("alice", contract, method, *arguments)
        assert world.refuses_read("alice", contract, method, *arguments, signed=False) == "not_permitted"
        assert world.fails("alice", contract, method, *arguments) == "not_permitted", "not in a transaction"
    for contract, method in (("consent", "list_grants"), ("usage", "list_uses")):
        assert world.refuses_read("alice", contract, method, alice, -1, 10) == "malformed_page"
        assert world.refuses_read("alice", contract, method, alice, 0, 0) == "malformed_page"
    assert world.read("bank", "verify", "result", world.address("bank"), paper("unused")[:16]) is None


def test_lapsing_what_is_not_there(world: IncomeWorld) -> None:
    assert world.lapse("none") == "unknown_reservation"
    assert world.quota("cancel", "none") == "unknown_reservation"

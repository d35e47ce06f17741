"""V4 and V12: no income backs more than itself, whoever lends."""

from __future__ import annotations

import random

import pytest

from tests.unit.income.income_world import DAY_MS, LENDING, QUOTA, THIS_YEAR, VERIFY, IncomeWorld, paper


@pytest.fixture
def world() -> IncomeWorld:
    world = IncomeWorld()
    world.issue()
    world.grant(ways=QUOTA, uses=99)
    world.grant("other", verifier="other_bank", ways=QUOTA, uses=99)
    return world


def test_reserved_and_committed_are_at_most_the_whole_over_all_verifiers(world: IncomeWorld) -> None:
    assert world.reserve("a", 6_000) == "ok"
    assert world.reserve("b", 4_001, verifier="other_bank", grant="other") == "quota_exceeded"
    assert world.quota("commit", "a") == "ok"
    assert world.reserve("b", 4_000, verifier="other_bank", grant="other") == "ok"
    assert world.reserve("c", 1) == "quota_exceeded"
    assert world.total() == 10_000
    assert world.used_codes() == ["ok", "quota_exceeded", "ok", "quota_exceeded"]


def test_two_banks_in_one_block(world: IncomeWorld) -> None:
    alice, later = world.address("alice"), world.time_ms + DAY_MS
    rest = (paper("attestation"), THIS_YEAR, LENDING, paper("same id"), 6_000, later)
    calls = [
        (bank, "quota", "reserve", alice, paper(grant), *rest)
        for bank, grant in (("other_bank", "other"), ("bank", "grant"))
    ]
    assert world.block(calls) == [(0, "ok"), (0, "quota_exceeded")]


def test_cancelled_and_lapsed_parts_are_free_again(world: IncomeWorld) -> None:
    world.reserve("a", 6_000)
    world.reserve("b", 4_000, lasts_ms=DAY_MS)
    assert world.quota("cancel", "a") == "ok"
    assert world.total() == 4_000
    assert world.lapse("b") == "not_lapsed_yet"
    world.advance(DAY_MS)
    assert world.lapse("b") == "ok"
    assert world.total() == 0


def test_an_end_is_final(world: IncomeWorld) -> None:
    world.reserve("cancelled", 1)
    world.quota("cancel", "cancelled")
    world.reserve("lapsed", 1, lasts_ms=DAY_MS)
    world.reserve("late", 1, lasts_ms=DAY_MS)
    world.reserve("committed", 1, lasts_ms=DAY_MS)
    world.quota("commit", "committed")
    world.advance(DAY_MS)
    world.lapse("lapsed")
    for name in ("cancelled", "lapsed"):
        assert world.quota("commit", name) == "not_reserved"
        assert world.quota("cancel", name) == "not_reserved"
        assert world.lapse(name) == "not_reserved"
        assert world.reserve(name, 1) == "reservation_exists"
    assert world.quota("commit", "late") == "reservation_lapsed"
    assert world.lapse("committed") == "not_reserved", "what is lent does not lapse"
    assert world.quota("cancel", "committed") == "ok", "repaid"
    assert world.quota("commit", "none") == "unknown_reservation"
    assert world.quota("commit", "late", verifier="other_bank") == "unknown_reservation"


def test_a_reservation_needs_consent_for_it_and_a_live_attestation_of_the_year(world: IncomeWorld) -> None:
    assert world.reserve("a", 1, grant="other") == "no_consent"
    assert world.reserve("b", 1, year=THIS_YEAR - 1) == "other_year"
    world.grant("verify only", ways=VERIFY)
    assert world.reserve("c", 1, grant="verify only") == "no_consent"
    world.grant("nothing", ways=QUOTA, attestation="nothing")
    assert world.reserve("d", 1, grant="nothing", attestation="nothing") == "no_consent"
    world.revoke()
    assert world.reserve("e", 1) == "revoked"
    assert world.total() == 0


def test_arguments_are_bounded_and_belong_together(world: IncomeWorld) -> None:
    alice = world.address("alice")
    good = (alice, paper("grant"), paper("attestation"), THIS_YEAR, LENDING, paper("r"), 1, world.time_ms + 1)
    for position, wrong, reason in [
        (1, b"x", "malformed_id"), (5, b"x", "malformed_id"), (6, 0, "malformed_parts"), (6, 10_001, "malformed_parts"),
        (7, world.time_ms, "malformed_expiry"), (7, world.time_ms + 31 * DAY_MS, "malformed_expiry"),
    ]:  # fmt: skip
        assert world.fails("bank", "quota", "reserve", *good[:position], wrong, *good[position + 1 :]) == reason
    assert world.read("bank", "quota", "reserve", *good) == "simulated_read"
    world.reserve("r", 1)
    key = (THIS_YEAR, LENDING, paper("r"))
    assert world.fails("bank", "quota", "cancel", world.address("bob"), *key) == "reservation_mismatch"
    assert world.refuses_read("bank", "quota", "total", alice, THIS_YEAR, LENDING) == "not_permitted"
    assert world.read("regulator", "quota", "total", alice, THIS_YEAR, LENDING) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_the_total_is_what_is_reserved_and_committed(world: IncomeWorld, seed: int) -> None:
    chance = random.Random(seed)
    live: dict[str, int] = {}
    for number in range(60):
        name = f"r{number}"
        verifier, grant = chance.choice((("bank", "grant"), ("other_bank", "other")))
        parts = chance.randint(1, 4_000)
        if chance.random() < 0.6:
            answer = world.reserve(name, parts, verifier=verifier, grant=grant)
            assert answer == ("ok" if sum(live.values()) + parts <= 10_000 else "quota_exceeded")
            if answer == "ok":
                live[f"{verifier} {name}"] = parts
        elif live:
            chosen = chance.choice(sorted(live))
            holder, held = chosen.split()
            if world.quota(chance.choice(("commit", "cancel")), held, verifier=holder) == "ok" and world.total() != sum(
                live.values()
            ):
                del live[chosen]
        assert world.total() == sum(live.values()) <= 10_000

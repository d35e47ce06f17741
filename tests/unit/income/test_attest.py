"""V7 and V12: an attestation's line of successors, and that its end is final."""

from __future__ import annotations

import pytest

from tests.unit.income.income_world import DAY_MS, SALARY, YEAR_MS, IncomeWorld, commit, paper


@pytest.fixture
def world() -> IncomeWorld:
    world = IncomeWorld()
    assert world.issue() == "ok"
    return world


def test_supersession_is_a_line_and_never_a_fork(world: IncomeWorld) -> None:
    assert world.supersede("attestation", "second") == "ok"
    assert world.supersede("attestation", "fork") == "superseded"
    assert world.supersede("second", "third") == "ok"
    assert world.supersede("third", "attestation") == "attestation_exists", "no circle"
    chain = []
    name = paper("attestation")
    while name:
        attestation = world.read("alice", "attest", "attestation", world.address("alice"), name)
        chain.append((attestation[8], attestation[9]))
        name = attestation[9]
    assert chain == [
        (b"", paper("second")), (paper("attestation"), paper("third")), (paper("second"), b""),
    ]  # fmt: skip


def test_two_successors_in_one_block(world: IncomeWorld) -> None:
    alice, later = world.address("alice"), world.time_ms + YEAR_MS
    calls = [
        ("tax_key", "attest", "supersede", alice, paper("attestation"), paper(name), commit(income=1), b"", later)
        for name in ("one", "two")
    ]
    assert world.block(calls) == [(0, "ok"), (0, "superseded")]


def test_only_the_issuer_supersedes_and_revokes(world: IncomeWorld) -> None:
    assert world.supersede(key="work_key") == "not_the_issuer"
    assert world.supersede(key="alice") == "unknown_key"
    for other in ("work_key", "employer", "alice", "operator"):
        assert world.revoke(key=other) == "not_the_issuer"
    assert world.revoke("none") == "unknown_attestation"
    assert world.supersede("none") == "unknown_attestation"
    assert world.revoke(key="tax_bureau") == "ok", "by the governing account, even if the key is lost"


def test_what_has_ended_is_not_revived(world: IncomeWorld) -> None:
    world.grant(uses=9)
    assert world.revoke() == "ok"
    assert world.revoke() == "revoked"
    assert world.supersede() == "revoked"
    assert world.issue() == "attestation_exists"
    assert world.verify("1") == "revoked"
    world.issue("short", lasts_ms=DAY_MS)
    world.grant("short", attestation="short", uses=9)
    world.advance(DAY_MS)
    assert world.verify("2", grant="short", attestation="short") == "expired"
    assert world.supersede("short", "longer") == "expired"
    assert world.issue("short") == "attestation_exists"


def test_a_superseded_attestation_cannot_be_revoked_into_another_answer(world: IncomeWorld) -> None:
    world.supersede()
    assert world.revoke() == "superseded"


def test_arguments_are_bounded(world: IncomeWorld) -> None:
    good = world.issue_arguments("new")
    for position, wrong, reason in [
        (1, b"short", "malformed_fingerprint"), (4, b"x" * 33, "malformed_fingerprint"), (5, b"x", "malformed_bands"),
        (3, 1899, "malformed_year"), (3, 3000, "malformed_year"), (2, 1024, "malformed_kind"),
        (6, world.time_ms + 4 * YEAR_MS, "malformed_expiry"),
    ]:  # fmt: skip
        arguments = (*good[:position], wrong, *good[position + 1 :])
        assert world.fails("tax_key", "attest", "issue", *arguments) == reason
    assert world.issue("late", lasts_ms=0) == "expired"


def test_another_issuer_witnesses_a_live_attestation(world: IncomeWorld) -> None:
    key = (world.address("alice"), paper("attestation"))
    assert world.fails("tax_key", "attest", "witness", *key) == "kind_not_registered"
    assert world.do("work_key", "attest", "witness", *key) == "ok"
    assert world.do("work_key", "attest", "witness", *key) == "attestation_exists"
    assert world.read("alice", "attest", "attestation", *key)[10] == 1
    assert world.do("work_key", "attest", "witness", world.address("alice"), paper("none")) == "unknown_attestation"
    world.revoke()
    world.ok("operator", "issuer", "register", world.address("notary"), world.address("notary_key"), SALARY | 1024)
    assert world.do("notary_key", "attest", "witness", *key) == "revoked"

"""V1, V2, V5, V8, V12: what a verifier is told, and what it costs the consent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.income.income_world import (
    BANDS,
    DAY_MS,
    QUOTA,
    TENANCY,
    YEAR_MS,
    IncomeWorld,
    commit,
    paper,
)  # fmt: skip


@pytest.fixture
def world() -> IncomeWorld:
    world = IncomeWorld()
    assert world.issue() == "ok"
    return world


def test_a_match_is_an_equal_fingerprint_of_a_live_attestation(world: IncomeWorld) -> None:
    world.grant(uses=9)
    assert world.verify("1") == "match"
    assert world.verify("2", document=commit(income=360_001)) == "mismatch"
    assert world.verify("3", document=commit(name="Alice Examples")) == "mismatch"
    world.advance(30 * DAY_MS - 1)
    assert world.verify("4") == "match"
    assert world.used_codes() == ["match", "mismatch", "mismatch", "match"]


def test_liveness_is_judged_at_block_time(world: IncomeWorld) -> None:
    world.grant(uses=9, lasts_ms=2 * YEAR_MS)
    world.advance(YEAR_MS - 1)
    assert world.verify("1") == "match"
    world.advance(1)
    assert world.verify("2") == "expired"


def test_superseded_and_its_successor(world: IncomeWorld) -> None:
    world.grant(uses=9)
    world.supersede(document=commit(income=1))
    assert world.verify("1") == "superseded"
    assert world.verify("2", attestation="successor", document=commit(income=1)) == "no_consent", "a grant names one"
    world.grant("new", attestation="successor")
    assert world.verify("3", grant="new", attestation="successor", document=commit(income=1)) == "match"


def test_a_wrong_document_learns_nothing_about_the_attestation(world: IncomeWorld) -> None:
    world.grant(uses=9)
    world.revoke()
    assert world.verify("1", document=commit(income=1)) == "mismatch"
    assert world.verify("2") == "revoked"


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        (None, {}),
        ({"verifier": "other_bank"}, {}),
        ({"subject": "bob"}, {}),
        ({"purpose": TENANCY}, {}),
        ({}, {"purpose": TENANCY}),
        ({"ways": BANDS | QUOTA}, {}),
        ({"attestation": "another"}, {}),
        ({}, {"grant": "another"}),
        ({"attestation": "never attested"}, {"attestation": "never attested"}),
        ({"subject": "bob"}, {"subject": "bob"}),  # alice's attestation under bob's grant
    ],
)
def test_without_consent_or_attestation_there_is_one_answer(
    world: IncomeWorld, granted: dict[str, Any] | None, asked: dict[str, Any]
) -> None:
    if granted is not None:
        assert world.grant(**granted) == "ok"
    assert world.verify(**asked) == "no_consent"
    assert world.used_codes(asked.get("subject", "alice")) == ["no_consent"]


def test_a_missing_attestation_takes_no_use_and_says_the_same(world: IncomeWorld) -> None:
    """V2: the transactions differ in nothing that the contract says: status, result, events."""
    world.grant("on nothing", attestation="nothing")
    nothing = world.verify_arguments("1", grant="on nothing", attestation="nothing")
    missing_attestation = world.call("bank", "verify", "submit", *nothing)
    missing_consent = world.call("bank", "verify", "submit", *world.verify_arguments("2", grant="none"))
    assert (missing_attestation.status, missing_attestation.value) == (0, "no_consent")
    assert (missing_consent.status, missing_consent.value) == (0, "no_consent")
    assert [name for name, _ in missing_attestation.events] == [name for name, _ in missing_consent.events]
    assert world.uses_left() == 1


def test_a_one_time_consent_is_used_once(world: IncomeWorld) -> None:
    world.grant(uses=1)
    calls = [("bank", "verify", "submit", *world.verify_arguments(nonce)) for nonce in ("1", "2")]
    assert world.block(calls) == [(0, "match"), (0, "consent_used_up")]
    assert world.uses_left() == 0


@pytest.mark.parametrize("answer", ["mismatch", "revoked"])
def test_every_answer_about_an_attestation_takes_a_use(world: IncomeWorld, answer: str) -> None:
    world.grant(uses=1)
    if answer == "revoked":
        world.revoke()
    document = commit(income=1) if answer == "mismatch" else None
    assert world.verify("1", document=document) == answer
    assert world.verify("2", document=document) == "consent_used_up"


def test_an_ended_consent_is_not_revived(world: IncomeWorld) -> None:
    world.grant(uses=9)
    revoke = ("alice", "consent", "revoke", paper("grant"))
    assert world.do(*revoke) == "ok"
    assert world.verify("1") == "consent_revoked"
    assert world.do(*revoke) == "consent_revoked"
    assert world.grant() == "grant_exists"
    world.grant("short", lasts_ms=DAY_MS)
    world.advance(DAY_MS)
    assert world.verify("2", grant="short") == "consent_expired"
    assert world.grant("short") == "grant_exists"
    assert world.grant("late", lasts_ms=0) == "consent_expired"


def test_a_nonce_is_accepted_once_and_a_replay_costs_no_use(world: IncomeWorld) -> None:
    world.grant(uses=2)
    assert world.verify("same") == "match"
    assert world.verify("same") == "nonce_used"
    assert world.verify("same", document=commit(income=1)) == "nonce_used"
    assert world.uses_left() == 1
    assert world.read("bank", "verify", "result", world.address("bank"), paper("same")[:16])[3] == "match"
    assert world.used_codes() == ["match", "nonce_used", "nonce_used"]


def test_nobody_burns_anothers_nonce(world: IncomeWorld) -> None:
    world.grant()
    assert world.verify("same", verifier="other_bank") == "no_consent"
    assert world.verify("same") == "match"


@pytest.mark.parametrize("revocation_first", [True, False])
def test_revocation_and_verification_in_one_block_go_by_order(world: IncomeWorld, revocation_first: bool) -> None:
    world.grant(uses=9)
    verify = ("bank", "verify", "submit", *world.verify_arguments())
    revoke = ("tax_key", "attest", "revoke", world.address("alice"), paper("attestation"))
    calls = [revoke, verify] if revocation_first else [verify, revoke]
    answers = [result for _, result in world.block(calls)]
    assert answers == (["ok", "revoked"] if revocation_first else ["match", "ok"])


@pytest.mark.parametrize("revocation_first", [True, False])
def test_consent_revocation_in_the_same_block_goes_by_order(world: IncomeWorld, revocation_first: bool) -> None:
    world.grant(uses=9)
    verify = ("bank", "verify", "submit", *world.verify_arguments())
    revoke = ("alice", "consent", "revoke", paper("grant"))
    calls = [revoke, verify] if revocation_first else [verify, revoke]
    answers = [result for _, result in world.block(calls)]
    assert answers == (["ok", "consent_revoked"] if revocation_first else ["match", "ok"])


def test_malformed_calls_revert_and_a_simulation_tells_nothing(world: IncomeWorld) -> None:
    world.grant(uses=9)
    good = world.verify_arguments()
    for position, wrong, reason in [
        (1, b"x", "malformed_id"), (2, b"x", "malformed_id"), (4, b"x" * 15, "malformed_nonce"),
        (5, b"Alice Example", "malformed_fingerprint"),
    ]:  # fmt: skip
        assert world.fails("bank", "verify", "submit", *good[:position], wrong, *good[position + 1 :]) == reason
    assert world.read("bank", "verify", "submit", *good) == "simulated_read"
    assert world.read("bank", "verify", "submit", *world.verify_arguments(grant="none")) == "simulated_read"
    assert world.used_codes() == []


def test_the_contracts_of_the_suite_answer_each_other_only(world: IncomeWorld) -> None:
    alice, name = world.address("alice"), paper("attestation")
    world.grant()
    grant = (alice, paper("grant"), world.address("bank"), name, 1, 1)
    for signer in ("bank", "alice", "tax_key", "operator"):
        assert world.fails(signer, "attest", "answer", alice, name, commit()) == "not_the_verify_contract"
        assert world.fails(signer, "attest", "answer_band", alice, name, 1, paper("x")) == "not_the_verify_contract"
        assert world.fails(signer, "attest", "backs", alice, name, 2026) == "not_the_quota_contract"
        assert world.fails(signer, "consent", "use", *grant) == "not_a_contract_of_the_suite"
        assert world.fails(signer, "consent", "check", *grant) == "not_a_contract_of_the_suite"
        assert world.fails(
            signer, "usage", "append", alice, alice, paper("grant"), 1, 1, "match"
        ) == "not_a_contract_of_the_suite"  # fmt: skip
    for contract in ("attest", "consent", "usage"):
        assert world.fails("operator", contract, "connect", alice, alice) == "already_connected"
        assert world.fails("alice", contract, "connect", alice, alice) == "not_the_admin"

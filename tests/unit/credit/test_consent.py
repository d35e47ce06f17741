"""C1 and C5: what a consent allows, and when it does no longer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.credit.credit_world import (
    ACCOUNTS,
    CARD,
    DAY_MS,
    DISEASE,
    INCOME,
    LENDING,
    RELIGION,
    REPAYMENT,
    TAX,
    YEAR_MS,
    CreditWorld,
    paper,
)  # fmt: skip


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


@pytest.mark.parametrize(
    ("granted", "ordered", "code"),
    [
        ({}, {}, "ok"),
        ({"user": "bank_a"}, {}, "no_consent"),
        ({"agency": "other_agency"}, {}, "no_consent"),
        ({"subject": "bob"}, {}, "no_consent"),
        ({}, {"consent": "another"}, "no_consent"),
        ({"purpose": CARD}, {}, "consent_other_purpose"),
        ({}, {"purpose": CARD}, "consent_other_purpose"),
        ({"scope": ACCOUNTS}, {}, "consent_other_scope"),
        ({"scope": ACCOUNTS | REPAYMENT | INCOME, "explicit": True}, {}, "ok"),
    ],
)
def test_a_consent_serves_its_user_agency_scope_and_purpose_only(
    world: CreditWorld, granted: dict[str, Any], ordered: dict[str, Any], code: str
) -> None:
    assert world.consent(**granted) == "ok"
    assert world.create(**ordered) == code


def test_a_consent_ends_at_its_time_by_the_blocks_clock(world: CreditWorld) -> None:
    world.consent(lasts_ms=DAY_MS, uses=9)
    world.advance(DAY_MS - 1)
    world.accepted_order()
    world.advance(1)
    assert world.create("late") == "consent_expired"
    assert world.deliver() == "consent_expired"
    assert world.log_codes() == ["ok", "consent_expired", "consent_expired"]


def test_uses_go_down_by_deliveries_only(world: CreditWorld) -> None:
    world.consent(uses=2)
    for number in range(3):
        assert world.create(f"order {number}") == "ok"
        assert world.accept(f"order {number}") == "ok"
    assert [world.deliver(f"order {number}") for number in range(3)] == ["ok", "ok", "consent_used_up"]
    assert world.create("one more") == "consent_used_up"
    assert world.read("alice", "consent", "read", world.address("alice"), paper("see"))[5] == 0


def test_a_revoked_grant_stays_revoked_and_its_id_taken(world: CreditWorld) -> None:
    world.consent()
    assert world.do("alice", "consent", "revoke", paper("see")) == "ok"
    assert world.do("alice", "consent", "revoke", paper("see")) == "consent_revoked"
    assert world.consent() == "consent_exists"
    assert world.create() == "consent_revoked"
    assert world.do("bob", "consent", "revoke", paper("see")) == "no_consent"


def test_ids_of_different_subjects_do_not_meet(world: CreditWorld) -> None:
    assert world.consent(subject="bob") == "ok"
    assert world.consent(subject="alice") == "ok"


@pytest.mark.parametrize("category", [RELIGION, 2048, 4096, 8192, DISEASE, RELIGION | ACCOUNTS])
def test_nobody_can_consent_to_a_forbidden_category(world: CreditWorld, category: int) -> None:
    assert world.consent(scope=category, explicit=True) == "forbidden_category"


@pytest.mark.parametrize("category", [16, 32, 64, 128, 256, TAX, ACCOUNTS | INCOME])
def test_sensitive_categories_need_the_explicit_flag(world: CreditWorld, category: int) -> None:
    assert world.consent(scope=category) == "explicit_consent_missing"
    assert world.consent(scope=category, explicit=True) == "ok"


def test_a_grant_is_bounded(world: CreditWorld) -> None:
    bank, agency, later = world.address("bank_b"), world.address("agency"), world.time_ms + DAY_MS
    for arguments, reason in [
        ((b"short", bank, agency, ACCOUNTS, LENDING, later, 1, False), "malformed_consent_id"),
        ((paper("x"), bank, agency, 0, LENDING, later, 1, False), "malformed_scope"),
        ((paper("x"), bank, agency, 32768, LENDING, later, 1, False), "malformed_scope"),
        ((paper("x"), bank, agency, ACCOUNTS, 5, later, 1, False), "malformed_purpose"),
        ((paper("x"), bank, agency, ACCOUNTS, LENDING, later, 0, False), "malformed_uses"),
        ((paper("x"), bank, agency, ACCOUNTS, LENDING, world.time_ms + 6 * YEAR_MS, 1, False), "malformed_expiry"),
    ]:
        assert world.fails("alice", "consent", "grant", *arguments) == reason
    assert world.consent(lasts_ms=0) == "consent_expired"


def test_only_the_order_contract_uses_a_consent(world: CreditWorld) -> None:
    world.consent()
    arguments = (
        world.address("alice"), paper("see"), world.address("bank_b"), world.address("agency"), ACCOUNTS, LENDING,
    )  # fmt: skip
    for signer in ("bank_b", "agency", "alice", "operator"):
        assert world.fails(signer, "consent", "use", *arguments) == "not_the_order_contract"
        assert world.fails(signer, "consent", "check", *arguments) == "not_a_contract_of_the_suite"


def test_a_grant_is_read_by_its_parties_only(world: CreditWorld) -> None:
    world.consent()
    key = (world.address("alice"), paper("see"))
    for reader in ("alice", "bank_b", "agency", "regulator"):
        assert world.read(reader, "consent", "read", *key)[0] == world.address("bank_b")
    for reader in ("bank_a", "bob", "operator"):
        assert world.refuses_read(reader, "consent", "read", *key) == "not_permitted"
    assert world.refuses_read("bank_b", "consent", "read", *key, signed=False) == "not_permitted"


def test_contracts_are_connected_once_by_the_admin(world: CreditWorld) -> None:
    mine = world.address("bank_a")
    assert world.fails("operator", "consent", "connect", mine, mine) == "already_connected"
    assert world.fails("bank_a", "consent", "connect", mine, mine) == "not_the_admin"

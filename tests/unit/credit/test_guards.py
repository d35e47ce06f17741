"""The guards that no story needs: malformed arguments, things that are not there, contracts connected by others."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.credit import SUITE
from tests.unit.credit.credit_world import (
    ACCOUNTS,
    COLLECTION,
    DAY_MS,
    FIVE_YEARS_MS,
    OPERATOR,
    REGULATOR,
    REPAYMENT,
    USER,
    CreditWorld,
    paper,
)
from tests.unit.credit.suite_world import SuiteWorld


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


@pytest.mark.parametrize(("contract", "count"), [("consent", 2), ("record", 3), ("query_log", 2), ("settlement", 1)])
def test_connections_are_made_once_by_the_admin(world: CreditWorld, contract: str, count: int) -> None:
    mine = [world.address("bank_a")] * count
    assert world.fails("operator", contract, "connect", *mine) == "already_connected"
    assert world.fails("bank_a", contract, "connect", *mine) == "not_the_admin"


@pytest.mark.parametrize("category", [0, 3, -1, 32768, ACCOUNTS | REPAYMENT])
def test_an_item_has_one_category(world: CreditWorld, category: int) -> None:
    world.consent("collect", user="bank_a", purpose=COLLECTION)
    item = (world.address("alice"), world.address("agency"), paper("x"), category, paper("y"), False, 0, b"")
    assert world.fails("bank_a", "record", "submit", *item, paper("collect")) == "malformed_category"


@pytest.mark.parametrize("event_end_ms", [-1, 1 << 62])
def test_an_event_ends_in_the_past(world: CreditWorld, event_end_ms: int) -> None:
    item = (world.address("alice"), world.address("agency"), paper("x"), ACCOUNTS, paper("y"), True, event_end_ms, b"")
    assert world.fails("bank_a", "record", "submit", *item, paper("collect")) == "malformed_event_end"


def test_items_are_about_subjects_and_kept_by_agencies(world: CreditWorld) -> None:
    for subject, agency, code in [
        ("stranger", "agency", "not_a_member"), ("bank_b", "agency", "wrong_role"), ("alice", "bank_b", "wrong_role"),
    ]:  # fmt: skip
        assert world.submit(subject=subject, agency=agency, category=8, consent="none") == code


def test_what_is_not_there_is_neither_corrected_nor_expired(world: CreditWorld) -> None:
    key = (world.address("alice"), world.address("agency"), paper("none"))
    assert world.do("bank_a", "record", "correct", *key, paper("x")) == "unknown_record"
    assert world.expire("none") == "unknown_record"
    assert world.read("regulator", "record", "item", *key) is None
    assert world.refuses_read("bank_a", "record", "item", *key) == "not_permitted"


def test_a_tombstone_takes_no_statement_and_no_objection(world: CreditWorld) -> None:
    world.with_item("bad", category=REPAYMENT, adverse=True, notice=paper("n"), event_end_ms=world.time_ms)
    world.advance(FIVE_YEARS_MS)
    assert world.expire("bad") == "ok"
    agency = world.address("agency")
    assert world.do("alice", "record", "annotate", agency, paper("bad"), paper("s")) == "record_expired"
    assert world.do("alice", "objection", "lodge", agency, paper("bad"), paper("g")) == "unknown_record"


def test_corrections_are_bounded(world: CreditWorld) -> None:
    world.with_item()
    key = (world.address("alice"), world.address("agency"), paper("item"))
    for number in range(100):
        world.ok("bank_a", "record", "correct", *key, paper(str(number)))
    assert world.fails("bank_a", "record", "correct", *key, paper("more")) == "too_many_corrections"


@pytest.mark.parametrize("purpose", [0, -1, COLLECTION, 10])
def test_an_order_has_a_users_purpose(world: CreditWorld, purpose: int) -> None:
    arguments = world.create_arguments(purpose=purpose)
    assert world.fails("bank_b", "order", "create", *arguments) == "malformed_purpose"


def test_an_overdue_order_is_not_accepted_and_an_agency_must_be_active(world: CreditWorld) -> None:
    world.consent(uses=2)
    assert world.create("late") == "ok"
    assert world.create("other") == "ok"
    world.ok("operator", "registry", "suspend", world.address("agency"), 7)
    assert world.fails("agency", "order", "accept", world.address("bank_b"), paper("other")) == "member_suspended"
    world.ok("regulator", "registry", "reinstate", world.address("agency"))
    world.advance(3 * DAY_MS)
    assert world.accept("late") == "order_overdue"


def test_a_suspended_user_confirms_nothing(world: CreditWorld) -> None:
    world.consent()
    world.delivered_order()
    world.ok("operator", "registry", "suspend", world.address("bank_b"), 7)
    confirm = ("order", "confirm", paper("order"), world.address("agency"), 0)
    assert world.fails("bank_b", *confirm) == "member_suspended"
    assert world.fails("bank_a", *confirm) == "unknown_order", "orders are named by their user"


def test_reads_of_persons_data_are_signed(world: CreditWorld) -> None:
    world.with_item()
    world.consent()
    world.delivered_order()
    alice, agency = world.address("alice"), world.address("agency")
    world.ok("alice", "objection", "lodge", agency, paper("item"), paper("g"))
    reads: list[tuple[Any, ...]] = [
        ("order", "purchase", world.address("bank_b"), paper("order")),
        ("record", "item", alice, agency, paper("item")),
        ("consent", "read", alice, paper("see")),
        ("query_log", "count", alice),
        ("query_log", "list_entries", alice, 0, 10),
        ("self_report", "taken_in", alice, agency, 2026),
        ("objection", "dispute", alice, agency, paper("item")),
        ("objection", "list_steps", alice, agency, paper("item"), 0, 10),
    ]
    for contract, method, *arguments in reads:
        world.read("alice", contract, method, *arguments)
        assert world.refuses_read("alice", contract, method, *arguments, signed=False) == "not_permitted"
        assert world.fails("alice", contract, method, *arguments) == "not_permitted", "not in a transaction"
    assert world.refuses_read("alice", *reads[-1][:-2], -1, 10) == "malformed_page"
    assert world.refuses_read("alice", *reads[-1][:-2], 0, 0) == "malformed_page"


def test_registration_and_suspension_are_bounded(world: CreditWorld) -> None:
    newcomer = world.address("newcomer")
    for roles in (0, -1, 128, 128 | USER):
        assert world.fails("operator", "registry", "register", newcomer, roles) == "malformed_roles"
    for cause in (0, 1_000, -1):
        assert world.fails("operator", "registry", "suspend", world.address("bank_a"), cause) == "malformed_cause"
    assert world.do("operator", "registry", "suspend", newcomer, 7) == "not_a_member"
    assert world.do("regulator", "registry", "reinstate", newcomer) == "not_a_member"
    world.ok("operator", "registry", "suspend", world.address("bank_a"), 7)
    assert world.do("operator", "registry", "suspend", world.address("bank_a"), 7) == "member_suspended"


def test_regulator_and_operator_may_be_one_account() -> None:
    world = SuiteWorld(SUITE, {"operator": "regulator"})
    assert world.read("anyone", "registry", "member", world.address("regulator"))[0] == REGULATOR | OPERATOR


def test_institutions_are_listed_in_pages(world: CreditWorld) -> None:
    everyone = world.read("anyone", "registry", "list_institutions", 0, 1_000)
    names = ("agency", "other_agency", "bank_a", "bank_b", "arbiter")
    assert everyone == tuple(world.address(name) for name in names)
    assert world.read("anyone", "registry", "list_institutions", 3, 1) == (world.address("bank_b"),)
    assert world.refuses_read("anyone", "registry", "list_institutions", -1, 1) == "malformed_page"


def test_a_retired_product_keeps_its_price(world: CreditWorld) -> None:
    world.ok("agency", "product", "retire", "report")
    assert world.do("agency", "product", "reprice", "report", 1) == "product_retired"


def test_a_decision_has_one_of_three_outcomes(world: CreditWorld) -> None:
    key = (world.address("alice"), world.address("agency"), paper("item"))
    for outcome in (0, 4):
        assert world.fails("arbiter", "objection", "decide", *key, outcome, paper("d")) == "malformed_outcome"


def test_points_are_issued_and_redeemed_in_sensible_amounts(world: CreditWorld) -> None:
    for points in (0, -1, 10**15 + 1):
        assert world.fails("operator", "settlement", "issue", world.address("bank_a"), points) == "malformed_points"
    assert world.fails("bank_a", "settlement", "redeem", 0, 0) == "malformed_points"
    assert world.fails("bank_a", "settlement", "redeem", 64, 1) == "malformed_purse"
    assert world.do("bank_a", "settlement", "redeem", 0, 101) == "insufficient_points"
    assert world.fails("alice", "settlement", "redeem", 0, 1) == "wrong_role"
    assert world.fails("alice", "settlement", "move", 0, 1, 1) == "wrong_role"

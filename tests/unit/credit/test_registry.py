"""C9 and C12: who is a member, what suspension stops, what the regulator cannot do."""

from __future__ import annotations

import pytest

from tests.unit.credit.credit_world import (
    ACCOUNTS,
    AGENCY,
    ARBITER,
    COLLECTION,
    LENDING,
    OPERATOR,
    PRICE,
    PROVIDER,
    REGULATOR,
    SUBJECT,
    USER,
    CreditWorld,
    paper,
)  # fmt: skip


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def test_only_the_operator_registers_and_nobody_twice(world: CreditWorld) -> None:
    newcomer = world.address("newcomer")
    assert world.fails("bank_a", "registry", "register", newcomer, USER) == "wrong_role"
    assert world.fails("stranger", "registry", "register", newcomer, USER) == "not_a_member"
    assert world.do("operator", "registry", "register", newcomer, USER) == "ok"
    assert world.do("operator", "registry", "register", newcomer, PROVIDER) == "already_a_member"
    assert world.read("anyone", "registry", "member", newcomer)[0] == USER


@pytest.mark.parametrize(
    "roles",
    [
        SUBJECT, SUBJECT | USER, REGULATOR, OPERATOR, REGULATOR | AGENCY, ARBITER | USER, AGENCY | USER,
        AGENCY | PROVIDER,
    ],
)  # fmt: skip
def test_roles_that_would_let_one_act_for_another_do_not_mix(world: CreditWorld, roles: int) -> None:
    assert world.do("operator", "registry", "register", world.address("newcomer"), roles) == "roles_do_not_mix"
    assert world.read("anyone", "registry", "member", world.address("newcomer")) is None


def test_institutions_enrol_subjects_and_subjects_enrol_nobody(world: CreditWorld) -> None:
    assert world.fails("alice", "registry", "enrol", world.address("carol")) == "wrong_role"
    assert world.do("agency", "registry", "enrol", world.address("carol")) == "ok"
    assert world.do("bank_b", "registry", "enrol", world.address("carol")) == "already_a_member"
    assert world.do("bank_b", "registry", "enrol", world.address("bank_a")) == "already_a_member"


def test_an_agency_cannot_grant_a_subjects_consent(world: CreditWorld) -> None:
    arguments = (
        paper("see"), world.address("bank_b"), world.address("agency"), ACCOUNTS, LENDING, world.time_ms + 1_000, 1,
        False,
    )  # fmt: skip
    assert world.fails("agency", "consent", "grant", *arguments) == "wrong_role"
    assert world.fails("bank_b", "consent", "grant", *arguments) == "wrong_role"
    assert world.do("alice", "consent", "grant", *arguments) == "ok"


def test_a_suspended_member_does_nothing_from_the_next_transaction_on(world: CreditWorld) -> None:
    world.consent("see", uses=9)
    world.consent("collect", user="bank_b", purpose=COLLECTION, uses=9)
    assert world.create("before") == "ok"
    suspend = ("regulator", "registry", "suspend", world.address("bank_b"), 7)
    create = ("bank_b", "order", "create", *world.create_arguments("after"))
    assert [result for _, result in world.block([create, suspend, create])] == ["ok", "ok", "member_suspended"]
    submission = (
        world.address("alice"), world.address("agency"), paper("x"), ACCOUNTS, paper("y"), False, 0, b"",
        paper("collect"),
    )  # fmt: skip
    assert world.fails("bank_b", "record", "submit", *submission) == "member_suspended"
    assert world.fails("bank_b", "registry", "enrol", world.address("carol")) == "member_suspended"
    assert world.fails("bank_b", "settlement", "redeem", 0, 1) == "member_suspended"
    assert world.fails("bank_b", "order", "reject", world.address("bank_b"), paper("before"), 0) == "member_suspended"


def test_nothing_is_delivered_to_or_by_a_suspended_member(world: CreditWorld) -> None:
    world.consent("see", uses=9)
    world.accepted_order()
    world.ok("operator", "registry", "suspend", world.address("bank_b"), 7)
    assert world.deliver() == "member_suspended"
    world.ok("regulator", "registry", "reinstate", world.address("bank_b"))
    world.ok("operator", "registry", "suspend", world.address("agency"), 7)
    assert world.deliver() == "member_suspended"
    world.ok("regulator", "registry", "reinstate", world.address("agency"))
    assert world.deliver() == "ok"


def test_a_suspended_subject_may_still_revoke(world: CreditWorld) -> None:
    world.consent("see")
    world.ok("regulator", "registry", "suspend", world.address("alice"), 7)
    assert world.fails(
        "alice", "consent", "grant", paper("more"), world.address("bank_b"), world.address("agency"), ACCOUNTS, LENDING,
        world.time_ms + 1_000, 1, False,
    ) == "member_suspended"  # fmt: skip
    assert world.do("alice", "consent", "revoke", paper("see")) == "ok"


def test_only_the_regulator_reinstates_and_nobody_suspends_the_regulator(world: CreditWorld) -> None:
    world.ok("operator", "registry", "suspend", world.address("bank_a"), 7)
    assert world.fails("operator", "registry", "reinstate", world.address("bank_a")) == "wrong_role"
    assert world.do("operator", "registry", "suspend", world.address("regulator"), 7) == "wrong_role"
    assert world.fails("bank_b", "registry", "suspend", world.address("bank_a"), 7) == "wrong_role"


def test_the_regulator_changes_no_business_data(world: CreditWorld) -> None:
    """C12: each business method, called by the regulator on objects that exist, changes at most the query log."""
    world.with_item()
    world.consent("see", uses=9)
    world.delivered_order("delivered")
    world.accepted_order("accepted")
    world.ok("alice", "objection", "lodge", world.address("agency"), paper("item"), paper("ground"))
    alice, bank, agency = world.address("alice"), world.address("bank_b"), world.address("agency")
    time_ms = world.time_ms
    item = (alice, agency, paper("item"))
    attempts = [
        ("registry", "register", bank, USER), ("registry", "enrol", world.address("carol")),
        ("product", "publish", "mine", ACCOUNTS, 1), ("product", "reprice", "report", 1),
        ("product", "retire", "report"),
        ("consent", "grant", paper("x"), bank, agency, ACCOUNTS, LENDING, time_ms + 1_000, 1, False),
        ("consent", "revoke", paper("see")), ("consent", "connect", alice, alice),
        ("consent", "use", alice, paper("see"), bank, agency, ACCOUNTS, LENDING),
        ("record", "submit", *item[:2], paper("y"), ACCOUNTS, paper("z"), False, 0, b"", paper("see")),
        ("record", "correct", *item, paper("z")), ("record", "annotate", agency, paper("item"), paper("z")),
        ("record", "mark", *item), ("record", "unmark", *item), ("record", "expire", *item),
        ("record", "connect", alice, alice, alice),
        ("query_log", "append", alice, 1, bank, bank, agency, 1, 1, paper("order"), "ok"),
        ("query_log", "connect", alice, alice),
        ("order", "create", *world.create_arguments("regulators")), ("order", "accept", bank, paper("accepted")),
        ("order", "deliver", *world.deliver_arguments("accepted")), ("order", "confirm", paper("delivered"), agency, 0),
        ("order", "reject", bank, paper("delivered"), 0), ("order", "time_out", bank, paper("delivered"), agency, 0),
        ("self_report", "order", agency, paper("own")),
        ("objection", "lodge", agency, paper("item"), paper("g")), ("objection", "verify", *item, paper("g")),
        ("objection", "resolve", *item, 2, paper("g")), ("objection", "escalate", agency, paper("item"), paper("g")),
        ("objection", "decide", *item, 2, paper("g")), ("objection", "overdue", *item),
        ("settlement", "issue", bank, 1), ("settlement", "redeem", 0, 1), ("settlement", "move", 0, 1, 1),
        ("settlement", "hold", bank, paper("o"), agency, 1, 0), ("settlement", "transfer", bank, paper("accepted")),
        ("settlement", "pay", bank, paper("delivered"), agency, 0),
        ("settlement", "refund", bank, paper("delivered"), 0), ("settlement", "connect", alice),
    ]  # fmt: skip
    assert {(contract, method) for contract, method, *_ in attempts} == set(world.methods("external")) - {
        ("registry", "suspend"), ("registry", "reinstate"),
    }  # fmt: skip
    log = world.contract("query_log")
    for contract, method, *arguments in attempts:
        result = world.call("regulator", contract, method, *arguments)
        changed = [key for key in result.outcome.writes if not key.startswith(log)]
        assert not changed, f"{contract}.{method} changed {changed}"


def test_prices_of_orders_that_exist_do_not_change(world: CreditWorld) -> None:
    world.consent(uses=2)
    assert world.create("order") == "ok"
    world.ok("agency", "product", "reprice", "report", PRICE + 1)
    assert world.create("dearer") == "price_above_limit"
    assert world.read("bank_b", "settlement", "hold_of", world.address("bank_b"), paper("order"))[1] == PRICE
    world.ok("agency", "product", "retire", "report")
    assert world.create("retired", price_max=100) == "product_retired"
    assert world.do("agency", "product", "publish", "report", ACCOUNTS, 1) == "product_exists"

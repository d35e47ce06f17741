"""C1 and C7 along an order's life, and the ways it can end."""

from __future__ import annotations

import pytest

from tests.unit.credit.credit_world import DAY_MS, POINTS, PRICE, REPAYMENT, CreditWorld, paper


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def state_of(world: CreditWorld, order: str = "order") -> int:
    purchase = world.read("bank_b", "order", "purchase", world.address("bank_b"), paper(order))
    state = purchase[6]
    assert isinstance(state, int)
    return state


def test_the_whole_life_of_an_order(world: CreditWorld) -> None:
    world.with_item("account")
    world.with_item("late", category=REPAYMENT, adverse=True, notice=paper("n"), event_end_ms=world.time_ms)
    world.consent()
    assert world.create() == "ok"
    assert world.balance("bank_b") == POINTS - PRICE
    assert world.accept() == "ok"
    assert world.deliver() == "ok"
    *_, shown, marked = world.event_values("OrderDelivered")
    assert (shown, marked) == (2, 0)
    assert world.balance("agency") == 0, "owed, not paid"
    assert world.confirm(purse=3) == "ok"
    assert world.balance("agency") == PRICE
    assert world.log_codes() == ["ok", "ok"]
    assert world.confirm() == "wrong_order_state"
    assert state_of(world) == 4


def test_the_report_digest_is_recomputed_off_chain(world: CreditWorld) -> None:
    from hashlib import sha256

    from chain.codec import pack

    world.with_item("account")
    world.consent()
    world.delivered_order()
    alice, agency = world.address("alice"), world.address("agency")
    digest = sha256(pack(("report", alice, agency, 3))).digest()
    digest = sha256(pack((digest, paper("account"), paper("document of account"), False, False, b""))).digest()
    assert world.event_values("OrderDelivered")[3] == digest


def test_two_orders_race_for_the_last_use(world: CreditWorld) -> None:
    world.consent(uses=1)
    world.accepted_order("first")
    world.accepted_order("second")
    deliver = [("agency", "order", "deliver", *world.deliver_arguments(order)) for order in ("second", "first")]
    assert world.block(deliver) == [(0, "ok"), (0, "consent_used_up")]
    assert world.read("alice", "consent", "read", world.address("alice"), paper("see"))[5] == 0


def test_revocation_stops_what_is_not_delivered(world: CreditWorld) -> None:
    world.consent(uses=9)
    world.accepted_order()
    revoke = ("alice", "consent", "revoke", paper("see"))
    deliver = ("agency", "order", "deliver", *world.deliver_arguments())
    assert world.block([revoke, deliver]) == [(0, "ok"), (0, "consent_revoked")]
    assert world.deliver() == "wrong_order_state"
    assert world.create("later") == "consent_revoked"
    assert world.time_out() == "ok", "no need to wait: the consent does not come back"
    assert world.balance("bank_b") == POINTS


def test_delivery_before_revocation_in_the_same_block_stands(world: CreditWorld) -> None:
    world.consent()
    world.accepted_order()
    revoke = ("alice", "consent", "revoke", paper("see"))
    deliver = ("agency", "order", "deliver", *world.deliver_arguments())
    assert world.block([deliver, revoke]) == [(0, "ok"), (0, "ok")]


def test_what_was_delivered_is_not_delivered_again(world: CreditWorld) -> None:
    world.consent(uses=9)
    world.delivered_order("first")
    assert world.deliver("first") == "delivered_already"
    world.accepted_order("second")
    assert world.deliver("second", delivery="delivery of first") == "delivered_already", "the same document to another"
    assert world.deliver("second") == "ok"


def test_only_the_ordered_agency_delivers(world: CreditWorld) -> None:
    world.consent()
    world.accepted_order()
    assert world.deliver(agency="other_agency") == "not_the_agency"
    assert world.deliver(agency="bank_a") == "wrong_role"
    assert world.deliver(agency="stranger") == "not_a_member"
    assert world.log_codes() == ["ok", "not_the_agency", "wrong_role", "not_a_member"]
    assert world.accept(agency="other_agency") == "not_the_agency"


def test_delivery_needs_acceptance(world: CreditWorld) -> None:
    world.consent()
    assert world.create() == "ok"
    assert world.deliver() == "wrong_order_state"


def test_names_that_do_not_belong_together_are_malformed(world: CreditWorld) -> None:
    world.consent()
    world.accepted_order()
    deliver = ("agency", "order", "deliver")
    assert world.fails(*deliver, *world.deliver_arguments(subject="bob")) == "order_mismatch"
    assert world.fails(*deliver, *world.deliver_arguments(consent="other")) == "order_mismatch"
    assert world.fails(*deliver, *world.deliver_arguments("none")) == "unknown_order"
    other = world.address("other_agency")
    assert world.fails("bank_b", "order", "confirm", paper("order"), other, 0) == "order_mismatch"
    time_out = ("bob", "order", "time_out", world.address("bank_b"), paper("order"), other, 0)
    assert world.fails(*time_out) == "order_mismatch"


def test_an_order_is_refused_for_a_reason(world: CreditWorld) -> None:
    world.consent(uses=9)
    assert world.create(product="none") == "unknown_product"
    assert world.create(price_max=PRICE - 1) == "price_above_limit"
    assert world.create(user="agency") == "wrong_role"
    assert world.create(agency="bank_a") == "wrong_role"
    assert world.create() == "ok"
    assert world.create() == "order_exists"
    assert world.log_codes() == [
        "unknown_product", "price_above_limit", "wrong_role", "wrong_role", "ok", "order_exists",
    ]  # fmt: skip


def test_an_undelivered_order_times_out_and_the_fee_comes_back(world: CreditWorld) -> None:
    world.consent()
    world.accepted_order()
    assert world.time_out() == "not_due_yet"
    world.advance(3 * DAY_MS)
    assert world.deliver() == "order_overdue"
    assert world.time_out() == "ok"
    assert world.balance("bank_b") == POINTS
    assert world.time_out() == "wrong_order_state"
    assert world.deliver() == "wrong_order_state"


def test_silence_after_delivery_pays_the_agency(world: CreditWorld) -> None:
    world.consent()
    world.delivered_order()
    assert world.time_out() == "not_due_yet"
    world.advance(7 * DAY_MS)
    assert world.reject() == "order_overdue"
    assert world.time_out() == "ok"
    assert (world.balance("agency"), world.balance("bank_b")) == (PRICE, POINTS - PRICE)
    assert world.confirm() == "wrong_order_state"


@pytest.mark.parametrize("by", ["bank_b", "agency"])
def test_either_side_ends_an_undelivered_order(world: CreditWorld, by: str) -> None:
    world.consent()
    world.accepted_order()
    assert world.reject(by="bank_a") == "not_a_party"
    assert world.reject(by=by) == "ok"
    assert world.balance("bank_b") == POINTS
    assert world.reject(by=by) == "wrong_order_state"
    assert world.deliver() == "wrong_order_state"


def test_the_user_may_reject_what_was_delivered_and_the_agency_may_not(world: CreditWorld) -> None:
    world.consent()
    world.delivered_order()
    assert world.reject(by="agency") == "wrong_order_state"
    assert world.reject(by="bank_b") == "ok"
    assert (world.balance("agency"), world.balance("bank_b")) == (0, POINTS)
    assert world.confirm() == "wrong_order_state"


def test_an_order_is_read_by_its_parties(world: CreditWorld) -> None:
    world.consent()
    world.delivered_order()
    key = (world.address("bank_b"), paper("order"))
    for reader in ("bank_b", "agency", "alice", "regulator"):
        assert world.read(reader, "order", "purchase", *key)[0] == world.address("alice")
    for reader in ("bank_a", "bob", "other_agency"):
        assert world.refuses_read(reader, "order", "purchase", *key) == "not_permitted"

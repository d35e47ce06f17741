"""C11: points are conserved, come back when they should, and settle once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.credit.credit_world import DAY_MS, POINTS, PRICE, CreditWorld, paper

MEMBERS = ("bank_a", "bank_b", "agency")


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def held(world: CreditWorld, orders: list[str]) -> int:
    """Points in open holds of bank_b's orders."""
    holds = [world.read("bank_b", "settlement", "hold_of", world.address("bank_b"), paper(order)) for order in orders]
    return sum(hold[1] for hold in holds if hold is not None and hold[2] in (1, 2))


def test_issued_points_are_spread_over_the_purses(world: CreditWorld) -> None:
    world.ok("operator", "settlement", "issue", world.address("agency"), 130)
    purses = [world.read("agency", "settlement", "purse", world.address("agency"), purse) for purse in range(64)]
    assert sorted(purses) == [2] * 62 + [3] * 2
    assert world.balance("agency") == 130
    assert world.fails("bank_a", "settlement", "issue", world.address("bank_a"), 1) == "wrong_role"
    assert world.do("operator", "settlement", "issue", world.address("alice"), 1) == "wrong_role"


def test_a_purse_cannot_be_overdrawn(world: CreditWorld) -> None:
    world.consent(uses=99)
    for number in range(POINTS // 64 // PRICE):
        assert world.create(f"order {number}", purse=5) == "ok"
    assert world.create("dry", purse=5) == "insufficient_points"
    assert world.log_codes()[-1] == "insufficient_points"
    assert world.do("bank_b", "settlement", "move", 6, 5, PRICE) == "ok"
    assert world.create("filled again", purse=5) == "ok"
    assert world.do("bank_b", "settlement", "move", 6, 5, POINTS) == "insufficient_points"
    assert world.fails("bank_b", "order", "create", *world.create_arguments("x", purse=64)) == "malformed_purse"
    assert world.fails("bank_b", "settlement", "move", 6, 64, 1) == "malformed_purse"
    assert world.fails("bank_b", "settlement", "move", 6, 7, -1) == "malformed_points"


def test_moving_within_one_purse_makes_no_points(world: CreditWorld) -> None:
    assert world.do("bank_b", "settlement", "move", 6, 6, 10) == "ok"
    assert world.balance("bank_b") == POINTS


def test_redeemed_points_leave(world: CreditWorld) -> None:
    assert world.do("bank_b", "settlement", "redeem", 0, 40) == "ok"
    assert world.balance("bank_b") == POINTS - 40
    assert world.read("operator", "settlement", "outstanding") == 2 * POINTS - 40


def test_orders_that_use_different_purses_share_no_key(world: CreditWorld) -> None:
    world.consent("a", subject="alice")
    world.consent("b", subject="bob")
    first = world.call("bank_b", "order", "create", *world.create_arguments("one", consent="a", purse=0))
    other = world.create_arguments("two", subject="bob", consent="b", purse=1)
    second = world.call("bank_b", "order", "create", *other)
    assert first.value == second.value == "ok"
    assert not set(first.outcome.writes) & set(second.outcome.writes)


def test_nothing_settles_twice(world: CreditWorld) -> None:
    world.consent(uses=9)
    world.delivered_order("paid")
    assert world.confirm("paid") == "ok"
    world.advance(30 * DAY_MS)
    assert [world.confirm("paid"), world.reject("paid"), world.time_out("paid")] == ["wrong_order_state"] * 3
    key = (world.address("bank_b"), paper("paid"))
    for signer in ("bank_b", "agency", "operator"):
        assert world.fails(signer, "settlement", "refund", *key, 0) == "not_the_order_contract"
        assert world.fails(signer, "settlement", "pay", *key, world.address("agency"), 0) == "not_the_order_contract"


def test_a_hold_settles_once_whatever_the_order_contract_asks(world: CreditWorld) -> None:
    """The second wall: a settlement whose order contract is an account of ours."""
    source = world.suite.deployment("credit.settlement").source_text()
    operator, caller = world.address("operator"), world.address("careless order contract")
    chain, payer, payee = world.chain, world.address("bank_b"), world.address("agency")
    settlement = chain.deploy("settlement", source, world.contract("registry"), operator, sender=operator)
    assert chain.call(settlement, "connect", caller, sender=operator).ok
    assert chain.call(settlement, "issue", payer, 640, sender=operator).value == "ok"

    def ask(method: str, order: str, *arguments: Any) -> str:
        done = chain.call(settlement, method, payer, paper(order), *arguments, sender=caller)
        return done.error if not done.ok else str(done.value)

    assert ask("hold", "paid", payee, 5, 0) == "ok"
    assert ask("hold", "paid", payee, 5, 0) == "held_already"
    assert ask("pay", "paid", payee, 0) == "not_owed", "not delivered"
    assert ask("transfer", "paid") == "None"
    assert ask("transfer", "paid") == "not_held"
    assert ask("pay", "paid", world.address("bank_a"), 0) == "not_owed", "another payee"
    assert ask("pay", "paid", payee, 0) == "None"
    assert [ask("pay", "paid", payee, 0), ask("refund", "paid", 0)] == ["not_owed", "already_settled"]
    assert ask("hold", "refunded", payee, 5, 0) == "ok"
    assert ask("refund", "refunded", 0) == "None"
    assert [ask("refund", "refunded", 0), ask("transfer", "refunded")] == ["already_settled", "not_held"]
    balances = [chain.read(settlement, "balance", account).value for account in (payer, payee)]
    assert balances == [635, 5]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_points_are_conserved_whatever_happens(world: CreditWorld, seed: int) -> None:
    """Random steps, sensible or not; after each, purses and open holds contain what was issued."""
    chance = random.Random(seed)
    world.consent(uses=20)
    orders = [f"order {number}" for number in range(12)]
    for number, order in enumerate(orders):
        assert world.create(order, purse=number) == "ok"
    steps: list[Callable[[str], Any]] = [world.accept, world.deliver, world.confirm, world.reject, world.time_out]
    for number in range(120):
        chance.choices(steps, weights=(4, 4, 4, 1, 1))[0](chance.choice(orders))
        if number % 20 == 19:
            world.advance(DAY_MS)
        total = sum(world.balance(name) for name in MEMBERS) + held(world, orders)
        assert total == world.read("operator", "settlement", "outstanding") == 2 * POINTS
    assert world.balance("agency") > 0, "the seed should reach a payment"

"""C8: what reaches the chain is 32-byte fingerprints, accounts, codes and dates; text is a short product code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.credit.credit_world import ACCOUNTS, CreditWorld, paper


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def test_the_only_text_argument_is_the_product_code(world: CreditWorld) -> None:
    texts = {
        (contract, method, name)
        for (contract, method), parameters in world.methods("external").items()
        for name, kind in parameters
        if "str" in kind
    }
    public = {("product", method, "product") for method in ("publish", "reprice", "retire")}
    assert texts == public | {("order", "create", "product"), ("query_log", "append", "code")}


@pytest.mark.parametrize("code", ["", "Alice Example", "a" * 33, "ALICE", "a_b", "é"])
def test_a_product_code_is_no_place_for_free_text(world: CreditWorld, code: str) -> None:
    assert world.fails("agency", "product", "publish", code, ACCOUNTS, 1) == "malformed_product"


@pytest.mark.parametrize("wrong", [b"", b"x" * 31, b"x" * 33, b"Alice Example, born in 1970, owes 1,169 marks"])
def test_what_is_not_a_fingerprint_is_refused(world: CreditWorld, wrong: bytes) -> None:
    world.with_item()
    world.consent(uses=9)
    world.accepted_order()
    alice, agency, bank = world.address("alice"), world.address("agency"), world.address("bank_b")
    item = (alice, agency, paper("item"))
    submit = (alice, agency, paper("x"), ACCOUNTS, paper("y"), False, 0, b"", paper("collect item"))
    calls: list[tuple[Any, ...]] = [
        ("bank_a", "record", "submit", *submit[:2], wrong, *submit[3:]),
        ("bank_a", "record", "submit", *submit[:4], wrong, *submit[5:]),
        ("bank_a", "record", "correct", *item, wrong),
        ("alice", "record", "annotate", agency, paper("item"), wrong),
        ("alice", "consent", "grant", wrong, bank, agency, ACCOUNTS, 1, world.time_ms + 1, 1, False),
        ("bank_b", "order", "create", wrong, *world.create_arguments()[1:]),
        ("agency", "order", "deliver", *world.deliver_arguments()[:4], wrong),
        ("alice", "self_report", "order", agency, wrong),
        ("alice", "objection", "lodge", agency, paper("item"), wrong),
        ("alice", "objection", "escalate", agency, paper("item"), wrong),
        ("agency", "objection", "resolve", *item, 2, wrong),
        ("agency", "objection", "verify", *item, wrong),
        ("arbiter", "objection", "decide", *item, 2, wrong),
    ]
    if wrong:  # a notice may be absent
        calls.append(("bank_a", "record", "submit", *submit[:7], wrong, submit[8]))
    for signer, contract, method, *arguments in calls:
        assert world.fails(signer, contract, method, *arguments).startswith("malformed_"), f"{contract}.{method}"


def test_a_product_is_bounded(world: CreditWorld) -> None:
    assert world.fails("agency", "product", "publish", "x", 1024, 1) == "malformed_scope"
    assert world.fails("agency", "product", "publish", "x", 0, 1) == "malformed_scope"
    assert world.fails("agency", "product", "publish", "x", ACCOUNTS, -1) == "malformed_price"
    assert world.fails("agency", "product", "reprice", "report", 10**9 + 1) == "malformed_price"
    assert world.do("agency", "product", "reprice", "none", 1) == "unknown_product"
    assert world.do("agency", "product", "retire", "none") == "unknown_product"
    assert world.fails("bank_a", "product", "publish", "x", ACCOUNTS, 1) == "wrong_role"

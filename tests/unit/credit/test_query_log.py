"""C6: every attempt is logged, whatever its end; the subject sees the log; nobody changes it."""

from __future__ import annotations

import pytest

from tests.unit.credit.credit_world import CreditWorld, paper


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def test_refused_attempts_are_results_and_are_logged(world: CreditWorld) -> None:
    assert world.create("asks without consent") == "no_consent"
    world.consent()
    world.delivered_order()
    assert world.deliver() == "delivered_already"
    assert world.create(user="stranger") == "not_a_member"
    assert world.log_codes() == ["no_consent", "ok", "ok", "delivered_already", "not_a_member"]


def test_an_entry_says_who_when_what_and_why(world: CreditWorld) -> None:
    world.consent()
    world.delivered_order()
    entry = world.read("alice", "query_log", "list_entries", world.address("alice"), 1, 1)[0]
    bank, agency = world.address("bank_b"), world.address("agency")
    assert entry == (world.time_ms, world.height, 2, agency, bank, agency, 3, 1, paper("order"), "ok")


def test_the_subject_and_the_regulator_read_the_log_and_nobody_else(world: CreditWorld) -> None:
    world.create()
    alice = world.address("alice")
    for reader in ("alice", "regulator"):
        assert world.read(reader, "query_log", "count", alice) == 1
        assert len(world.read(reader, "query_log", "list_entries", alice, 0, 10)) == 1
    for reader in ("bob", "bank_b", "agency", "operator"):
        assert world.refuses_read(reader, "query_log", "list_entries", alice, 0, 10) == "not_permitted"
        assert world.refuses_read(reader, "query_log", "count", alice) == "not_permitted"
    assert world.refuses_read("alice", "query_log", "list_entries", alice, 0, 10, signed=False) == "not_permitted"


def test_pages_are_bounded(world: CreditWorld) -> None:
    for number in range(103):
        world.create(f"order {number}")
    alice = world.address("alice")
    assert len(world.read("alice", "query_log", "list_entries", alice, 0, 1_000)) == 100
    assert len(world.read("alice", "query_log", "list_entries", alice, 100, 1_000)) == 3
    assert world.read("alice", "query_log", "list_entries", alice, 200, 10) == ()
    assert world.refuses_read("alice", "query_log", "list_entries", alice, -1, 10) == "malformed_page"


def test_a_simulated_call_is_no_query_and_tells_nothing(world: CreditWorld) -> None:
    """The answer must not depend on whether there is a consent or a record."""
    without = world.read("bank_b", "order", "create", *world.create_arguments())
    world.with_item()
    world.consent()
    assert world.read("bank_b", "order", "create", *world.create_arguments()) == without == "simulated_read"
    world.accepted_order()
    assert world.read("agency", "order", "deliver", *world.deliver_arguments()) == "simulated_read"
    own = (world.address("agency"), paper("own"))
    assert world.read("alice", "self_report", "order", *own) == "simulated_read"
    assert world.log_codes() == ["ok"]


def test_nobody_appends_from_outside_and_no_method_deletes(world: CreditWorld) -> None:
    alice, bank, agency = world.address("alice"), world.address("bank_b"), world.address("agency")
    for signer in ("operator", "regulator", "agency", "alice"):
        assert world.fails(
            signer, "query_log", "append", alice, 1, bank, bank, agency, 1, 1, paper("x"), "ok"
        ) == "not_a_contract_of_the_suite"  # fmt: skip
    methods = {method for contract, method in world.methods("external") if contract == "query_log"}
    assert methods == {"append", "connect"}


def test_logs_of_different_subjects_share_no_key(world: CreditWorld) -> None:
    first = world.call("bank_b", "order", "create", *world.create_arguments("one", subject="alice"))
    second = world.call("bank_b", "order", "create", *world.create_arguments("two", subject="bob"))
    assert first.outcome.writes
    assert not set(first.outcome.writes) & set(second.outcome.writes)

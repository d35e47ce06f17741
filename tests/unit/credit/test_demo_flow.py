"""The credit workload on real applicants: every expected answer comes, in any order within a phase."""

from __future__ import annotations

import pytest

from chain.cli.demo.credit_flow import FATES, POINTS, PRICE, credit_phases, is_adverse, load_german_credit
from chain.cli.demo.workload import Parties, PlannedCall, log_entries, outcomes
from chain.errors import BadInput
from contracts.credit import SUITE
from tests.unit.credit.flow_runner import account, parties_of, run
from tests.unit.credit.suite_world import SuiteWorld

SEED = b"credit demo"


def new_world() -> SuiteWorld:
    return SuiteWorld(SUITE, {"operator": "regulator"})


def total(world: SuiteWorld) -> dict[str, int]:
    names = ("bank_a", "bank_b", "agency")
    return {name: world.read(name, "settlement", "balance", world.address(name)) for name in names}


def check(rows: int, shuffle: int = 0) -> SuiteWorld:
    world = new_world()
    phases = credit_phases(load_german_credit(rows), parties_of(world, rows), seed=SEED, now_ms=world.time_ms)
    assert run(world, phases, shuffle=shuffle) == []
    for index, entries in log_entries(phases).items():
        subject = account(("subject", index))
        assert world.read(subject, "query_log", "count", world.address(subject)) == entries
    paid = outcomes(phases)["credit.order.confirm: ok"]
    balances = total(world)
    assert balances["agency"] == paid * PRICE
    assert sum(balances.values()) == world.read("anyone", "settlement", "outstanding") == 2 * POINTS, "nothing is held"
    return world


def test_every_fate_of_the_first_applicants_ends_as_expected() -> None:
    check(40)


def test_the_order_within_a_phase_does_not_matter() -> None:
    assert set(check(25, shuffle=1).chain.state) == set(check(25, shuffle=2).chain.state)


@pytest.mark.slow
def test_all_thousand_applicants() -> None:
    check(1_000)


def test_the_data_is_all_of_it() -> None:
    rows = load_german_credit()
    assert len(rows) == 1_000
    assert sum(is_adverse(row) for row in rows) == 300
    assert sum(int(row["credit_amount"]) for row in rows) == 3_271_258


def test_the_workload_is_a_function_of_seed_and_rows() -> None:
    world = new_world()
    rows, parties = load_german_credit(30), parties_of(world, 30)
    first = credit_phases(rows, parties, seed=SEED, now_ms=1_000_000_000_000)
    assert first == credit_phases(rows, parties, seed=SEED, now_ms=1_000_000_000_000)
    assert first != credit_phases(rows, parties, seed=b"another", now_ms=1_000_000_000_000)


def test_every_fate_is_drawn() -> None:
    world = new_world()
    rows = load_german_credit(300)
    phases = credit_phases(rows, parties_of(world, 300), seed=SEED, now_ms=world.time_ms)
    assert FATES.keys() - {"objection", "served"} <= {call.story for phase in phases for call in phase.calls} | {
        "forbidden", "no_consent",
    }  # fmt: skip
    expected = outcomes(phases)
    for answer in (
        "credit.order.create: no_consent", "credit.order.create: consent_other_purpose",
        "credit.order.deliver: consent_revoked", "credit.order.deliver: consent_used_up",
        "credit.order.deliver: delivered_already", "credit.order.deliver: ok", "credit.order.time_out: ok",
        "credit.record.submit: forbidden_category", "credit.record.submit: notice_missing",
        "credit.self_report.order: free_reports_used_up", "credit.objection.lodge: ok",
    ):  # fmt: skip
        assert expected[answer] > 0, answer


def test_a_difference_from_the_plan_is_told() -> None:
    call = PlannedCall("bank_a", "credit.order", "create", (), story="an order")
    assert call.problem(0, "ok") == ""
    assert call.problem(0, "no_consent") == "credit.order.create (an order): answered 'no_consent', expected 'ok'"
    assert call.problem(1, None) == "credit.order.create (an order): status 1, expected 0"


def test_parties_must_be_complete() -> None:
    with pytest.raises(BadInput, match="bank_b, agency"):
        Parties({"regulator": bytes(20), "bank_a": bytes(20)}, [])

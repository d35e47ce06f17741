"""The income workload on real census rows: every expected answer comes, in any order within a phase."""

from __future__ import annotations

import pytest

from chain.cli.demo.income_flow import FATES, annual_income, income_document, income_phases, load_census_income
from chain.cli.demo.workload import log_entries, outcomes
from contracts.income import SUITE
from tests.unit.credit.flow_runner import account, parties_of, run
from tests.unit.credit.suite_world import SuiteWorld, leaves

SEED = b"income demo"


def new_world() -> SuiteWorld:
    return SuiteWorld(SUITE, {"operator": "regulator"})


def check(rows: int, shuffle: int = 0) -> SuiteWorld:
    world = new_world()
    phases = income_phases(load_census_income(rows), parties_of(world, rows), seed=SEED, now_ms=world.time_ms)
    assert run(world, phases, shuffle=shuffle) == []
    for index, entries in log_entries(phases).items():
        subject = account(("subject", index))
        assert world.read(subject, "usage", "count", world.address(subject)) == entries
    return world


def test_every_fate_of_the_first_persons_ends_as_expected() -> None:
    check(60)


def test_the_order_within_a_phase_does_not_matter() -> None:
    assert set(check(60, shuffle=1).chain.state) == set(check(60, shuffle=2).chain.state)


@pytest.mark.slow
def test_all_thousand_persons() -> None:
    check(1_000)


def test_no_document_reaches_the_chain() -> None:
    """V10 on the whole workload: no value of any document is in an argument, in the state or in an event."""
    world = check(60)
    secrets: set[object] = set()
    for index, row in enumerate(load_census_income(60)):
        document = income_document(row, index)
        secrets |= {document["name"], document["document_number"], document["industry"], document["income_usd"]}
        secrets.add(int(row["wage_per_hour_cents"]))
    seen = leaves([list(world.stored().values()), world.arguments, world.events])
    small = {leaf for leaf in seen if type(leaf) is int and 0 <= leaf <= 10_000}  # years, codes, quota parts, counters
    assert len(seen) > 1_000
    assert not (set(seen) - small) & secrets


def test_the_data_is_what_the_sources_say() -> None:
    rows = load_census_income()
    assert len(rows) == 1_000
    assert all(int(row["wage_per_hour_cents"]) > 0 and int(row["weeks_worked_in_year"]) > 0 for row in rows)
    assert {row["year"] for row in rows} == {"1994", "1995"}
    assert annual_income(rows[0]) == 1_200 * 40 * 52 // 100
    assert min(annual_income(row) for row in rows) > 0


def test_every_fate_is_drawn() -> None:
    world = new_world()
    phases = income_phases(load_census_income(300), parties_of(world, 300), seed=SEED, now_ms=world.time_ms)
    expected = outcomes(phases)
    for answer in (
        "match", "mismatch", "no_consent", "consent_revoked", "consent_used_up", "nonce_used", "revoked", "superseded",
        "expired",
    ):  # fmt: skip
        assert expected[f"income.verify.submit: {answer}"] > 0, answer
    for call in ("verify.submit_band: match", "verify.submit_band: mismatch", "quota.reserve: quota_exceeded"):
        assert expected[f"income.{call}"] > 0, call
    assert FATES.keys() - {"band", "quota"} <= {call.story for phase in phases for call in phase.calls}
    assert [phase.not_before_ms > 0 for phase in phases] == [False] * (len(phases) - 1) + [True]

"""The suites' keys let the planner keep different people apart: what the workloads' phases split into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import cast

import pytest

from chain.cli.demo import credit_phases, income_phases, load_census_income, load_german_credit
from chain.cli.demo.workload import Phase
from chain.codec import pack
from contracts import credit, income
from contracts.suite import CALL_GAS_LIMIT, Suite
from executor.plan import find_shards
from executor.predict import SummaryPredictor
from executor.state import BaseState
from executor.transactions import Call
from tests.unit.credit.flow_runner import account, parties_of, run
from tests.unit.credit.suite_world import SuiteWorld

PEOPLE = 120
LONE_PHASES = {"members", "products and points", "issuers"}  # a few set-up calls


def credit_plan(world: SuiteWorld) -> list[Phase]:
    return credit_phases(
        load_german_credit(PEOPLE), parties_of(world, PEOPLE), seed=b"parallel", now_ms=world.time_ms
    )


def income_plan(world: SuiteWorld) -> list[Phase]:
    return income_phases(
        load_census_income(PEOPLE), parties_of(world, PEOPLE), seed=b"parallel", now_ms=world.time_ms
    )


@pytest.mark.parametrize(
    ("suite", "phases_of"), [(credit.SUITE, credit_plan), (income.SUITE, income_plan)], ids=["credit", "income"]
)
def test_different_people_fall_into_different_shards(
    suite: Suite, phases_of: Callable[[SuiteWorld], list[Phase]]
) -> None:
    world = SuiteWorld(suite, {"operator": "regulator"})
    predictor = SummaryPredictor()
    for phase in phases_of(world):
        calls = [
            Call(
                hash=sha256(pack((phase.name, number))).digest(), sender=world.address(account(call.signer)),
                target=world.contracts[call.contract], method=call.method, arguments=pack(call.arguments),
                gas_limit=CALL_GAS_LIMIT,
            )
            for number, call in enumerate(phase.calls)
        ]  # fmt: skip
        base = cast(BaseState, world.chain.state)
        table = predictor.predict(calls, base=base, height=world.height + 1, time_ms=world.time_ms)
        largest = max(Counter(find_shards(table)[0]).values())
        if phase.name not in LONE_PHASES:
            assert largest <= 6, f"{phase.name}: {largest} of {len(calls)} in one shard"
        assert run(world, [phase]) == []

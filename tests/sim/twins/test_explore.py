"""The explicit-state search: small plans to their end, and one planted bug."""

from __future__ import annotations

import json

import pytest

from chain.sim.explore.__main__ import PLANS, main
from chain.sim.explore.search import Search
from tests.sim.twins.bugs import BUGS, EXPLORED
from tests.sim.twins.planted import explored


@pytest.mark.parametrize(
    ("plan", "states"), [("silent, 1 height, 1 view", 200), ("leads view 1, 1 height, 1 view", 1_000)]
)
def test_small_plans_are_exhausted_and_no_promise_breaks(plan: str, states: int) -> None:
    result = Search(PLANS[plan]).run()
    assert result.problem == ""
    assert result.exhausted
    assert result.states > states
    assert result.ordered > 0


def test_breadth_and_depth_reach_the_same_states() -> None:
    bounds = PLANS["silent, 1 height, 1 view, checkpoint votes"]
    wide, deep = Search(bounds).run(), Search(bounds, deep=True).run()
    assert (wide.states, wide.transitions) == (deep.states, deep.transitions)
    assert deep.exhausted


def test_a_search_that_ends_early_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plan", "silent, 2 heights, 2 views", "--states", "200", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["exhausted"] == []
    assert said["states"] >= 200


@pytest.mark.slow
def test_a_planted_bug_is_found() -> None:
    name, plan = EXPLORED[0]
    states, problem = explored(next(bug for bug in BUGS if bug.name == name), plan)
    assert states is not None
    assert problem.startswith("prepared_handed_on")

"""The Twins generator: a share of its scenarios, its promises about itself, and one planted bug."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.sim.twins.__main__ import main
from chain.sim.twins.generator import ENUMERATIONS, nodes_of, scenario_of
from chain.sim.twins.run import run
from chain.sim.twins.session import Job, State, play
from tests.sim.twins.bugs import BUGS, EXPLORED
from tests.sim.twins.planted import first_broken, plant, sources


@pytest.mark.slow
def test_no_promise_breaks_in_a_share_of_the_scenarios() -> None:
    totals = play(Job(first=0, last=120, seed=0, nodes=(4, 7)))
    assert totals.failed == []
    assert totals.scenarios == 120
    assert min(totals.heights_ordered, totals.views, totals.crashes, totals.healed) > 0


def test_a_number_gives_the_same_scenario_and_the_same_story_twice() -> None:
    for number in (0, 2, 5, 17):
        first: list[str] = []
        again: list[str] = []
        assert run(scenario_of(number), story=first) == run(scenario_of(number), story=again)
        assert first == again
    assert scenario_of(5) != scenario_of(5, seed=1)


@pytest.mark.parametrize("enumeration", ENUMERATIONS, ids=lambda enumeration: type(enumeration).__name__)
def test_an_enumeration_visits_each_combination_once(enumeration: object) -> None:
    walk = enumeration._walk  # type: ignore[attr-defined]
    assert len({tuple(walk.digits(index)) for index in range(walk.size)}) == walk.size


def test_scenarios_are_what_the_generator_says() -> None:
    for number in range(400):
        scenario = scenario_of(number)
        assert scenario.nodes == nodes_of(number)
        assert 1 <= len(scenario.twins) <= (scenario.nodes - 1) // 3
        assert all(len(current.groups) == scenario.processes for current in scenario.rounds)
        assert len(scenario.lines()) == 1 + len(scenario.rounds)


def test_counts_add_up_over_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "cache" / "twins.json"
    for total in (10, 20):
        assert main(["--count", "10", "--state", str(state), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["scenarios"], said["total"], said["next"], said["violations"]) == (10, total, total, 0)
    assert State(state, seed=0, nodes=(4, 7)).of_this_core == 20
    assert State(state, seed=1, nodes=(4, 7)).totals.scenarios == 0


def test_a_file_that_is_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "notes.json"
    state.write_text("[]", encoding="utf-8")
    assert main(["--count", "1", "--state", str(state)]) == 2
    assert "not a state file" in capsys.readouterr().err
    assert state.read_text(encoding="utf-8") == "[]"


def test_a_scenario_is_replayed_with_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenario", "1", "--story"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("scenario 1: 4 validators")
    assert "> PrePrepare v0 h1" in said


def test_the_texts_of_all_planted_bugs_are_in_the_core() -> None:
    assert sources() == {}
    assert {name for name, _ in EXPLORED} <= {bug.name for bug in BUGS}


@pytest.mark.slow
def test_a_planted_bug_is_noticed(tmp_path: Path) -> None:
    name = "a new view proposes again only what more than one view-change reports"
    plant(next(bug for bug in BUGS if bug.name == name), tmp_path)
    after, problem = first_broken(tmp_path, ["--count", "50"])
    assert after is not None
    assert problem.startswith("agreement")

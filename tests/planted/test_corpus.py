"""The corpus of planted bugs fits the sources, so that `python -m tests.planted` can be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bug import Bug
from tests.planted.corpus import BUGS
from tests.planted.page import table
from tests.planted.runner import is_sim, judge_all, misfits
from tests.planted.tree import ROOT


def test_every_bug_matches_its_file_exactly_once() -> None:
    assert misfits() == {}


def test_there_are_enough_of_them_each_another_one() -> None:
    assert len(BUGS) >= 40
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert len({(bug.file, bug.old, bug.new) for bug in BUGS}) == len(BUGS)


def test_every_killer_is_there() -> None:
    for bug in BUGS:
        if is_sim(bug.killer):
            assert "--seed" in bug.killer
        else:
            path, _, name = bug.killer.partition("::")
            assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), bug.killer


def test_the_document_lists_them() -> None:
    """If not: put the output of `python -m tests.planted --list` there."""
    text = (ROOT / "docs" / "planted-bugs.md").read_text(encoding="utf-8")
    assert table() in text
    assert f"{len(BUGS)} bugs" in text


def test_a_text_that_is_gone_a_change_that_is_none_and_bad_syntax_are_reported(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("if one:\n    two()\n", encoding="utf-8")

    def wrong(old: str, new: str) -> dict[str, str]:
        return misfits(tmp_path, [Bug("it", "promise", "code.py", old, new, "killer")])

    assert wrong("one", "two") == {}
    assert "0 times" in wrong("three", "two")["it"]
    assert "2 times" in wrong("o", "two")["it"]
    assert wrong("one", "one") == {"it": "changes nothing"}
    assert "compile" in wrong("one", "one two")["it"]


@pytest.mark.slow
def test_a_bug_is_killed_and_a_change_that_is_none_survives() -> None:
    bug = next(bug for bug in BUGS if bug.killer.startswith("tests/unit/consensus/test_votes.py"))
    harmless = bug._replace(name="harmless", new=bug.old + "\n")
    verdicts, sick = judge_all([bug, harmless], workers=1, tell=lambda verdict: None)
    assert [verdict.killed for verdict in verdicts] == [True, False], verdicts
    assert sick == []

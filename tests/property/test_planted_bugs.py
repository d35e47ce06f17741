"""The corpus of planted bugs fits the sources, so that `python -m tests.blocks.planted` can be believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.blocks import planted
from tests.blocks.bugs import BUGS, Bug
from tests.blocks.planted import ROOT, sources


def test_every_bug_matches_its_file_exactly_once() -> None:
    assert sources() == {}


def test_there_are_enough_of_them_each_with_a_name() -> None:
    assert len(BUGS) >= 20
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert len({(bug.file, bug.old, bug.new) for bug in BUGS}) == len(BUGS)


def test_every_killer_is_there() -> None:
    for bug in BUGS:
        if not bug.killer.startswith("blocks "):
            path, _, name = bug.killer.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), bug.killer


def test_the_document_lists_them() -> None:
    """If not: put the output of `python -m tests.blocks.planted --list` there."""
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    assert planted.table() in text
    assert f"holds {len(BUGS)} bugs" in text


def test_a_text_that_is_gone_is_reported(tmp_path: Path) -> None:
    """A file that has moved on: none of the bugs planted in it fits any more."""
    for bug in BUGS:
        (tmp_path / bug.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / bug.file, tmp_path / bug.file)
    assert sources(tmp_path) == {}
    moved = BUGS[0].file
    (tmp_path / moved).write_text("pass\n", encoding="utf-8")
    assert set(sources(tmp_path)) == {bug.name for bug in BUGS if bug.file == moved}


@pytest.mark.slow
def test_a_bug_is_killed_and_a_change_that_is_none_survives() -> None:
    killed = planted.judge(BUGS[0])
    assert killed.killed, killed
    harmless = Bug("harmless", BUGS[0].file, BUGS[0].old, BUGS[0].old + "\n", "blocks --seed 0 --blocks 5")
    survivor = planted.judge(harmless)
    assert not survivor.killed, survivor

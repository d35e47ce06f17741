"""`headrace sim`: what it prints, its exit codes, what it refuses, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from chain.cli.main import main
from chain.cli.sim import _has_tests
from chain.sim.batch import Job, jobs_of, parse_range, replay_command

SECONDS_MAX = 200


@pytest.mark.slow
def test_a_batch_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--seeds", "0..1", "--nodes", "4", "--small", "--workers", "1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["seeds"] == 4  # two seeds, in both simulators
    assert (summary["violations"], summary["stalled"], summary["failures"]) == (0, 0, [])
    assert summary["heights"] > 10
    assert summary["faults"] > 10
    assert summary["sim_seconds"] > 4
    assert summary["by"]["whole"]["runs"] == summary["by"]["core"]["runs"] == 2


def test_a_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--whole", "--seeds", "2", "--nodes", "4", "--small", "--story", "--tail", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Plan(")
    assert lines[-1] == "every promise held"
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--seeds", "9..1"], "--seeds is '9..1'"),
        (["--seeds", "few"], "--seeds is 'few'"),
        (["--nodes", "3"], "--nodes is '3'"),
        (["--nodes", "4,many"], "--nodes is '4,many'"),
        (["--whole", "--core"], "exclude each other"),
        (["--story", "--seeds", "1..2"], "--story tells one seed"),
        (["--twins", "--planted"], "--planted and --twins"),
        (["--seed-of-doubt"], "--seed-of-doubt is no option"),
        (["--minutes", "0"], "minutes"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(["sim", *arguments]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("name", ["twins", "explore"])
def test_help_beside_another_simulator_is_about_that_one(capsys: pytest.CaptureFixture[str], name: str) -> None:
    for word in ("--help", "--help-more"):
        assert main(["sim", f"--{name}", word]) == 0
        assert f"usage: headrace sim --{name} [-h]" in capsys.readouterr().out
    assert main(["sim", "--help"]) == 0
    assert f"--{name}" in capsys.readouterr().out


def test_plans_of_the_explicit_search_are_named_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--explore", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"  silent, 1 height, 1 view", "  leads view 0, 2 heights, 2 views"} <= set(lines)
    assert main(["sim", "--explore", "--plan", "none"]) == 2
    told = capsys.readouterr().err
    assert "headrace sim --explore: error: argument --plan: 'none' is no plan, must be one of\n  silent, 1" in told


def test_the_explicit_search_ends_with_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    plans = ["silent, 1 height, 1 view", "leads view 1, 1 height, 1 view"]
    assert main(["sim", "--explore", "--plan", plans[0], "--plan", plans[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("silent, 1 height, 1 view: exhausted")
    assert lines[-1].startswith("no promise broke; 2 of 2 plans exhausted in 0.")
    assert any(line.startswith("states: ") for line in lines) and any(line.startswith("steps: ") for line in lines)


def test_seeds_and_jobs() -> None:
    assert list(parse_range("3..5")) == [3, 4, 5]
    assert list(parse_range("7")) == [7]
    jobs = list(jobs_of(("core", "whole"), range(2), (4, 7), small=False))
    assert len(jobs) == 8
    assert jobs[1] == Job("whole", 0, 4)
    assert replay_command(Job("whole", 17, 4)) == "headrace sim --whole --seeds 17 --nodes 4 --story"


def test_planted_bugs_need_a_source_checkout(tmp_path: Path) -> None:
    assert not _has_tests(tmp_path)
    assert _has_tests(Path(__file__).resolve().parents[3])


@pytest.mark.slow
def test_ctrl_c_shows_what_was_done_and_leaves_nothing_running() -> None:
    command = [sys.executable, "-m", "chain.cli.main", "sim", "--core", "--minutes", "5", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            process = psutil.Process(running.pid)
            deadline = time.monotonic() + SECONDS_MAX
            while len(children := process.children(recursive=True)) < 2 and time.monotonic() < deadline:
                assert running.poll() is None
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=SECONDS_MAX)
        finally:
            running.kill()
    assert running.returncode == 130
    assert "interrupted; so far:" in out
    gone, alive = psutil.wait_procs(children, timeout=SECONDS_MAX)
    assert len(gone) == 2
    assert not alive

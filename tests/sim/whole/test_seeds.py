"""The short share of the seeds of whole nodes; `make sim` plays hundreds, and longer ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chain.sim.batch import Job, replay_command
from chain.sim.whole.world import run_seed

ROOT = Path(__file__).resolve().parents[3]


def check(seed: int, nodes: int, *, cut_short: bool) -> None:
    report, _ = run_seed(seed, nodes=nodes, cut_short=cut_short)
    replay = replay_command(Job("whole", seed, nodes, cut_short))
    assert not report.problem, f"{report.problem}\nreplay: {replay}"


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 5])
def test_four_whole_nodes_keep_every_promise(first: int) -> None:
    for seed in range(first, first + 5):
        check(seed, 4, cut_short=True)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [7, 10])
def test_larger_consortiums_of_whole_nodes_keep_every_promise(nodes: int) -> None:
    check(nodes, nodes, cut_short=True)


def test_a_seed_gives_the_same_trace_twice_and_another_one_another() -> None:
    first, _ = run_seed(1, nodes=4, cut_short=True)
    again, _ = run_seed(1, nodes=4, cut_short=True)
    other, _ = run_seed(2, nodes=4, cut_short=True)
    assert first == again
    assert first.digest != other.digest


def digests_under(hash_seed: str) -> list[str]:
    command = [sys.executable, "-m", "chain.sim", "--whole", "--small", "--seeds", "3..5", "--nodes", "4"]
    done = subprocess.run(
        [*command, "--workers", "1", "--json"], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    return [run["digest"] for run in json.loads(done.stdout)["runs"]]


@pytest.mark.slow
def test_the_trace_does_not_depend_on_string_hashes() -> None:
    assert digests_under("1") == digests_under("4242")

"""One seed, one trace: in one process, and in processes whose string hashes differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chain.sim.world import run_seed

ROOT = Path(__file__).resolve().parents[2]
SEEDS = "0..3"


def digests_under(hash_seed: str) -> list[str]:
    command = [sys.executable, "-m", "chain.sim", "--seeds", SEEDS, "--nodes", "4", "--small", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=200)
    return [run["digest"] for run in json.loads(done.stdout)["runs"]]


def test_a_seed_gives_the_same_trace_twice() -> None:
    first, _ = run_seed(1, nodes=4, cut_short=True)
    again, _ = run_seed(1, nodes=4, cut_short=True)
    assert first == again


def test_another_seed_gives_another_trace() -> None:
    assert run_seed(1, nodes=4, cut_short=True)[0].digest != run_seed(2, nodes=4, cut_short=True)[0].digest


@pytest.mark.slow
def test_the_trace_does_not_depend_on_string_hashes() -> None:
    assert digests_under("1") == digests_under("4242")

"""The short share of the seeds: every run of the suite plays them; `make sim` plays thousands."""

from __future__ import annotations

import pytest

from tests.sim.__main__ import replay_command
from tests.sim.regressions import REGRESSIONS
from tests.sim.world import run_seed

SHORT_SHARE = 120  # seeds of four nodes; seven nodes cost three times as much
BATCH = 10


def check(seed: int, nodes: int) -> None:
    report, _ = run_seed(seed, nodes=nodes)
    assert not report.problem, f"{report.problem}\nreplay: {replay_command(report)}"


@pytest.mark.parametrize("first", range(0, SHORT_SHARE, BATCH))
def test_four_nodes_keep_every_promise(first: int) -> None:
    for seed in range(first, first + BATCH):
        check(seed, 4)


@pytest.mark.parametrize("first", range(0, SHORT_SHARE // 4, BATCH))
def test_seven_nodes_keep_every_promise(first: int) -> None:
    for seed in range(first, first + BATCH):
        check(seed, 7)


@pytest.mark.parametrize(("seed", "nodes", "what"), REGRESSIONS)
def test_a_fixed_bug_stays_fixed(seed: int, nodes: int, what: str) -> None:
    assert what
    check(seed, nodes)

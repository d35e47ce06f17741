"""The short share of the seeds: every run of the suite plays them; `make sim` plays thousands."""

from __future__ import annotations

import pytest

from chain.sim.batch import Job, replay_command
from chain.sim.world import run_seed
from tests.sim.regressions import REGRESSIONS

BATCH = 20


def check(seed: int, nodes: int, *, cut_short: bool) -> None:
    report, _ = run_seed(seed, nodes=nodes, cut_short=cut_short)
    replay = replay_command(Job("core", seed, nodes, cut_short))
    assert not report.problem, f"{report.problem}\nreplay: {replay}"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 60, BATCH))
def test_four_nodes_keep_every_promise(first: int) -> None:
    for seed in range(first, first + BATCH):
        check(seed, 4, cut_short=True)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [5, 7])
def test_larger_clusters_keep_every_promise(nodes: int) -> None:
    for seed in range(4):
        check(seed, nodes, cut_short=True)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "nodes", "cut_short", "what"), REGRESSIONS)
def test_a_fixed_bug_stays_fixed(seed: int, nodes: int, cut_short: bool, what: str) -> None:
    assert what
    check(seed, nodes, cut_short=cut_short)

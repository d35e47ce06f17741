"""Small seeds of the simulator, one test each: the last rung for a mutation. Not collected with the other tests."""

from __future__ import annotations

import pytest

from chain.sim.world import run_seed


@pytest.mark.parametrize("seed", range(20))
def test_a_small_seed_keeps_every_promise(seed: int) -> None:
    report, _ = run_seed(seed, nodes=4, cut_short=True)
    assert not report.problem, report.problem

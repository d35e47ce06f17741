"""Pipelining switched off: stages work in turn, nothing runs before it is ordered, and the chain keeps its promises."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chain.node.node import Node
from chain.sim.whole.plan import quiet_plan
from chain.sim.whole.world import World, run_seed
from chain.types import Height

SEEDS = range(1, 4)


def overlaps(node: Node) -> int:
    """How many heights were packed here while the one before was not stored."""
    spans = [entry.spans for entry in node.spans.recent(Height(1), 1_000)]
    return sum(
        "pack" in after and after["pack"][0] < before["store"][1]
        for before, after in pairwise(spans)
        if "store" in before
    )


def played(seed: int, *, pipelined: bool) -> tuple[int, int, int]:
    """(height, heights that overlap, heights executed before they were ordered), all nodes together."""
    plan = quiet_plan(window=8, block_transactions_max=1, chaos_ms=150, pipelined=pipelined)
    world = World(seed=seed, nodes=4, plan=plan)
    try:
        world.run()
        nodes = [member.node for member in world.members if member.node is not None]
        return (
            world.height, sum(map(overlaps, nodes)), sum(node.execute_stage.stats.speculated for node in nodes)
        )  # fmt: skip
    finally:
        world.close()


@pytest.mark.slow
def test_the_next_height_is_packed_when_the_one_before_is_stored() -> None:
    heights = ahead = together = 0
    for seed in SEEDS:
        height, overlapping, speculated = played(seed, pipelined=False)
        assert (overlapping, speculated) == (0, 0)
        heights += height
        _, overlapping, speculated = played(seed, pipelined=True)
        together, ahead = together + overlapping, ahead + speculated
    assert heights > 20 and together > 20 and ahead > 20, (heights, together, ahead)  # with pipelining they do both


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_it_lives_through_leaders_that_die(seed: int) -> None:
    strikes = ("crash_leader", "crash_leader", "isolate", "restart", "heal")
    plan = quiet_plan(window=8, chaos_ms=2_500, strikes=strikes, pipelined=False)
    report, _ = run_seed(seed, nodes=4, plan=plan)
    assert not report.problem
    assert report.view > 0 and report.lives > 4

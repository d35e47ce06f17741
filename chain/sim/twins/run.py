"""One scenario from its first round to its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chain.sim.checkers import Violation
from chain.sim.twins.cluster import Cluster
from chain.sim.twins.scenario import Round, Scenario

HEALING_ROUNDS_MAX: Final = 12  # in which something new must be certified by all, once all hear all


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a scenario came to. `problem` is empty if every promise held."""

    number: int
    nodes: int
    problem: str
    steps: int
    messages: int
    crashes: int
    views: int  # the highest view entered or asked for
    ordered: int  # heights
    certified: int  # heights
    healing_rounds: int  # that it took; 0: no progress was demanded


def run(
    scenario: Scenario, *, story: list[str] | None = None, only: frozenset[str] | None = None
) -> Outcome:
    """Play `scenario`; with `story`, add a line for each event and effect; with `only`, look at these promises only."""
    cluster = Cluster(scenario, story=story, only=only)
    problem, healing = "", 0
    try:
        for number, current in enumerate(scenario.rounds):
            cluster.play(number, current)
        if scenario.heals:
            healing = _heal(cluster)
    except Violation as violation:
        problem = str(violation)
    return Outcome(
        number=scenario.number,
        nodes=scenario.nodes,
        problem=problem,
        steps=cluster.steps,
        messages=cluster.messages,
        crashes=cluster.crashes,
        views=max(process.replica.view for process in cluster.processes),
        ordered=len(cluster.checks.ordered),
        certified=len(cluster.checks.blocks),
        healing_rounds=healing,
    )


def _heal(cluster: Cluster) -> int:
    """All hear all: within a few rounds all honest processes must have a block that was not ordered before."""
    scenario = cluster.scenario
    cluster.refused = (0, 0)
    if scenario.drops_twins:
        for process in cluster.processes[scenario.nodes :]:
            cluster.drop(process)
    target = max(cluster.checks.ordered, default=0) + 1
    everybody = (1 << scenario.processes) - 1
    for count in range(1, HEALING_ROUNDS_MAX + 1):
        before = [len(process.blocks) for process in cluster.honest]
        cluster.play(-count, Round(groups=(0,) * scenario.processes))
        after = [len(process.blocks) for process in cluster.honest]
        if min(after) >= target:
            return count
        if before == after:
            cluster.play(-count, Round(groups=(0,) * scenario.processes, driven=everybody))
    heights = [len(process.blocks) for process in cluster.honest]
    cluster.checks.broken("progress", f"h{target} is not everywhere after {HEALING_ROUNDS_MAX} rounds, {heights}")
    return HEALING_ROUNDS_MAX

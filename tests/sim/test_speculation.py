"""Execution ahead of order, at the moments where it can go wrong: what was prepared is replaced, or is not.

The checkers hold every header that an honest node signs, journals, shows or stores against serial execution of what is
ordered (`ordered_before_signed`, `ordered_before_shown`, `as_serial`); the scripts see to it that there is something to
find.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.pipeline.ahead import AheadStats
from chain.sim.checkers import Violation
from chain.sim.faults import CALM_NODE, calm_plan
from chain.sim.node import SimNode
from chain.sim.world import World
from chain.types import Height
from consensus import Phase, Replica
from consensus.messages import Commit, Message, Prepare, PrePrepare
from tests.sim.test_scripts import finish, height, others, reaches

FAST, SLOW = (1, 20), (700, 700)


def started(*, execute_ms: tuple[int, int] = FAST, speculate: bool = True) -> World:
    """A healthy cluster that has stored its first block; from then on a block holds one transaction."""
    node = replace(CALM_NODE, execute_ms=execute_ms)
    world = World(seed=1, nodes=4, plan=calm_plan(block_transactions_max=1, node=node, speculate=speculate))
    world.boot()
    world.run_for(100)
    world.submit(1, world.honest)
    world.demand_progress(10_000)
    return world


def prepared(node: SimNode, *heights: int) -> bool:
    return all(node.replica.phase(Height(at)) is Phase.PREPARED for at in heights)


def executed_ahead(node: SimNode, count: int) -> bool:
    return node.execution.line.unanswered == 0 and node.ahead.speculated - node.ahead.kept == count


def ahead_since(node: SimNode, before: AheadStats) -> tuple[int, int, int]:
    """(speculated, kept, discarded) since `before`."""
    now = node.ahead
    return now.speculated - before.speculated, now.kept - before.kept, now.discarded - before.discarded


def is_commit(source: SimNode, target: SimNode, message: Message) -> bool:
    return isinstance(message, Commit)


def test_what_is_prepared_is_executed_and_nothing_of_it_leaves_before_it_is_ordered() -> None:
    world = started()
    world.intercept = is_commit
    world.submit(3, world.honest)
    world.run_until(lambda: all(executed_ahead(node, 3) for node in world.nodes), limit_ms=5_000)
    assert {node.replica.executed_height for node in world.nodes} == {1}
    assert all(prepared(node, 2, 3, 4) for node in world.nodes)
    assert not any(key[2] > 1 and key[0] == 4 for node in world.nodes for key in node.journal.vote_keys)
    world.intercept = None
    finish(world)
    assert {node.ahead.discarded for node in world.nodes} == {0}
    assert height(world.nodes) == 4


def test_a_node_may_ignore_the_hint() -> None:
    world = started(speculate=False)
    world.submit(6, world.honest)
    finish(world)
    assert {ahead_since(node, AheadStats()) for node in world.nodes} == {(0, 0, 0)}


@pytest.mark.parametrize("execute_ms", [FAST, SLOW])
def test_what_a_new_view_proposes_again_keeps_its_execution(execute_ms: tuple[int, int]) -> None:
    """Two heights are prepared everywhere and ordered nowhere when the leader dies: the same digests come again."""
    world = started(execute_ms=execute_ms)
    old = world.nodes[0]
    before = {node.slot: node.ahead for node in world.nodes}
    world.intercept = lambda source, target, message: isinstance(message, Commit) and message.view == 0
    world.submit(2, world.honest)
    alive = others(world, old)
    world.run_until(lambda: all(prepared(node, 2, 3) for node in world.nodes), limit_ms=5_000)
    old.crash()
    world.run_until(lambda: height(alive) >= 3, limit_ms=20_000)
    assert {ahead_since(node, before[node.slot]) for node in alive} == {(2, 2, 0)}
    assert all(node.view >= 1 for node in alive)
    world.intercept = None
    old.boot()
    world.network.retry()
    finish(world)
    assert {node.ahead.discarded for node in alive} == {0}


@pytest.mark.parametrize("execute_ms", [FAST, SLOW])
@pytest.mark.parametrize("learns", ["prepared", "ordered"])
def test_what_a_new_view_replaces_is_discarded_with_all_that_ran_on_top_of_it(
    learns: str, execute_ms: tuple[int, int]
) -> None:
    """n1 alone prepares three heights and executes them ahead; the others go on without it and order other proposals.

    n1 comes back when these are prepared, or when they are stored by all others.
    """
    world = started(execute_ms=execute_ms)
    n0, n1, n2, n3 = world.nodes
    before = n1.ahead
    world.intercept = lambda source, target, message: (
        isinstance(message, Commit) or (isinstance(message, Prepare) and target is not n1)
    )
    world.submit(3, [n0])
    world.run_until(lambda: prepared(n1, 2, 3, 4) and n1.ahead.speculated == before.speculated + 3, limit_ms=5_000)
    if execute_ms is FAST:
        world.run_until(lambda: executed_ahead(n1, 3), limit_ms=5_000)
    assert ahead_since(n1, before) == (3, 0, 0)
    world.nemesis.cut([n1.slot])
    rest = [n0, n2, n3]
    if learns == "prepared":
        world.intercept = lambda source, target, message: (
            isinstance(message, Commit) or (isinstance(message, PrePrepare | Prepare) and message.view == 0)
        )
        world.run_until(lambda: all(node.view == 2 and prepared(node, 2, 3, 4) for node in rest), limit_ms=30_000)
        world.nemesis.heal()
        world.run_until(lambda: n1.view == 2 and prepared(n1, 2, 3, 4), limit_ms=20_000)
        world.run_for(100)
        assert ahead_since(n1, before) == (6, 0, 3)  # the new ones are being executed ahead now
        world.intercept = None
    else:
        world.intercept = lambda source, target, message: (
            isinstance(message, PrePrepare | Prepare) and message.view == 0
        )
        world.run_until(reaches(rest, 4), limit_ms=30_000)
        assert ahead_since(n1, before) == (3, 0, 0)
        world.nemesis.heal()
        world.intercept = None
    finish(world)
    assert n1.ahead.discarded - before.discarded == 3
    assert height(world.nodes) >= 4


def test_a_gap_below_a_kept_proposal_discards_both_and_the_kept_one_runs_again() -> None:
    """n1 alone knows that height 2 is prepared, everybody that height 3 is: the new view puts a gap at height 2.

    Height 3 keeps its digest, but n1 has executed it on top of what is not there any more.
    """
    world = started()
    n0, n1, n2, n3 = world.nodes
    before = n1.ahead
    world.intercept = lambda source, target, message: (
        isinstance(message, Commit) or (isinstance(message, Prepare) and message.height == 2 and target is not n1)
    )
    world.submit(2, [n0])
    rest = [n0, n2, n3]
    world.run_until(lambda: executed_ahead(n1, 2) and all(prepared(node, 3) for node in rest), limit_ms=5_000)
    assert isinstance(n1.replica.inner, Replica)
    kept = n1.replica.inner._ordering.prepared_proposal(Height(3))
    assert kept is not None
    assert [ahead_since(node, before)[0] for node in rest] == [0, 0, 0]  # a height is missing below
    world.nemesis.cut([n1.slot])
    world.intercept = lambda source, target, message: isinstance(message, Prepare | Commit) and message.view == 0
    world.run_until(reaches(rest, 3), limit_ms=30_000)
    assert [n2.disk_blocks.items[at].proposal.count for at in (1, 2)] == [0, 1]
    assert n2.disk_blocks.items[2].header.proposal_digest == kept[1]
    world.nemesis.heal()
    world.intercept = None
    finish(world)
    assert n1.ahead.discarded - before.discarded == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_replacement_upon_replacement_under_load_changes_no_header(seed: int) -> None:
    """Again and again one node prepares what the others forget, with executions that take as long as a view."""
    node = replace(CALM_NODE, execute_ms=(1, 400), overdue_ms=300)
    world = World(seed=seed, nodes=4, plan=calm_plan(block_transactions_max=1, node=node))
    world.boot()
    for _ in range(6):
        world.submit(3, world.honest)
        world.nemesis.strand()
        world.run_for(5_000)
    world.nemesis.end()
    finish(world)
    assert sum(node.ahead.discarded for node in world.nodes) > 5
    assert sum(node.ahead.kept for node in world.nodes) > 40


def test_the_checkers_notice_a_header_that_is_not_of_serial_execution() -> None:
    world = started()
    world.checkers._reference.hashes[1] = bytes(32)
    vote = world.nodes[0].journal.vote_keys
    [digest] = [key[3] for key in vote if key[0] == 4 and key[2] == 1]
    with pytest.raises(Violation, match="as_serial"):
        world.checkers.check_checkpoint(world.nodes[0].validator, 1, digest)
    with pytest.raises(Violation, match="ordered_before_signed"):
        world.checkers.check_checkpoint(world.nodes[0].validator, 2, digest)
    with pytest.raises(Violation, match="ordered_before_shown"):
        world.checkers.on_transactions(world.nodes[0].validator, 2, [])

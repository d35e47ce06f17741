"""The validator set changes in the middle of a run: scripts strike at the moments of a change, then demand progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.sim.faults import CALM_NODE, calm_plan
from chain.sim.members import Change
from chain.sim.node import SimNode
from chain.sim.world import World
from consensus.messages import Checkpoint, Message, PrePrepare


def change(*members: int, weights: dict[int, int] | None = None) -> Change:
    """To these nodes, in this order, each of weight 1 where nothing else is said."""
    return Change(at_rate=0, members=tuple((number, (weights or {}).get(number, 1)) for number in members))


SEVEN = change(0, 1, 2, 3, 4, 5, 6)
FIVE = change(2, 3, 4, 5, 6)


def started(*changes: Change, seed: int = 1, window: int = 4, **options: object) -> World:
    """A healthy cluster of four that has stored its first block; who is to be added follows from the start."""
    node = replace(CALM_NODE, **options)  # type: ignore[arg-type]
    world = World(seed=seed, nodes=4, plan=calm_plan(window=window, changes=changes, node=node))
    world.boot()
    world.run_for(100)
    world.submit(1, world.honest)
    world.demand_progress(20_000)
    return world


def epoch_begins(nodes: list[SimNode], number: int) -> Callable[[], bool]:
    """All of `nodes` are in the epoch `number` (0 is the first) of the run."""

    def begun() -> bool:
        epochs = nodes[0].world.checkers.schedule.epochs
        return len(epochs) > number and all(node.replica.epoch_base >= epochs[number][0] - 1 for node in nodes)

    return begun


def finish(world: World) -> None:
    world.resubmit()
    world.demand_progress()
    world.submit(2, [world.nodes[2]])
    world.demand_progress()
    world.demand_silence()


def voters(world: World) -> list[str]:
    """Who votes now, as each node itself says."""
    return [node.name for node in world.nodes if not node.replica.is_following]


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 4])
def test_four_become_seven_become_five_under_load(window: int) -> None:
    world = started(SEVEN, FIVE, window=window)
    loading = True
    world.keep_submitting(lambda: loading)
    for number, target in enumerate((SEVEN, FIVE), start=1):
        world.run_for(300)
        world.submit_change(target)
        world.run_until(epoch_begins(world.nodes, number), limit_ms=20_000)
    loading = False
    finish(world)
    assert voters(world) == ["n2", "n3", "n4", "n5", "n6"]
    assert {node.place for node in world.nodes} == {(world.checkers.schedule.epochs[2][0] - 1, 0)}


def test_a_boundary_is_reached_although_nobody_has_a_transaction() -> None:
    world = started(SEVEN, window=8)
    before = world.nodes[0].disk_blocks.height
    world.submit_change(SEVEN)
    took = world.run_until(epoch_begins(world.nodes, 1), limit_ms=20_000)
    assert world.nodes[0].disk_blocks.height == before + 1 + 8
    assert took < 2_000
    assert all(node.view == 0 for node in world.nodes)
    world.demand_silence()


def test_a_leader_who_dies_on_the_way_to_the_boundary_is_replaced() -> None:
    world = started(SEVEN, window=8)
    world.submit_change(SEVEN)
    old = world.nodes[0]
    world.run_until(lambda: old.replica.boundary is not None, limit_ms=5_000)
    old.crash()
    alive = [node for node in world.nodes if node.alive]
    world.run_until(epoch_begins(alive, 1), limit_ms=20_000)
    old.boot()
    world.network.retry()
    finish(world)
    assert not old.replica.is_following


def test_the_leader_itself_is_removed_and_weights_decide() -> None:
    """Three of four stay, one of them with a weight that makes it indispensable, and the newcomer leads first."""
    target = change(4, 1, 2, 3, weights={1: 3})
    world = started(target)
    world.submit_change(target)
    world.run_until(epoch_begins(world.nodes, 1), limit_ms=20_000)
    finish(world)
    assert voters(world) == ["n1", "n2", "n3", "n4"]
    assert world.nodes[4].replica.leader == world.nodes[4].validator
    heavy = world.nodes[1]
    heavy.crash()
    world.submit(1, world.nodes[2:])
    before = world.nodes[2].disk_blocks.height
    world.run_for(5_000)
    assert world.nodes[2].disk_blocks.height == before
    heavy.boot()
    world.network.retry()
    finish(world)


def test_a_node_cut_off_over_two_epochs_catches_up_and_votes_again() -> None:
    world = started(SEVEN, FIVE)
    lonely = world.nodes[3]
    world.nemesis.cut([lonely.slot])
    others = [node for node in world.nodes if node is not lonely]
    for number, target in enumerate((SEVEN, FIVE), start=1):
        world.submit_change(target)
        world.run_until(epoch_begins(others, number), limit_ms=30_000)
        world.submit(5, [world.nodes[2]])
        world.run_for(500)
    assert lonely.replica.epoch_base == 0
    world.nemesis.heal()
    finish(world)
    assert not lonely.replica.is_following


def test_only_the_node_that_leaves_has_the_certificate_of_the_last_block() -> None:
    """It follows from then on, and the others get the block from it."""
    target = change(0, 1, 2, 4)
    world = started(target)
    leaver = world.nodes[3]
    stays = [node for node in world.nodes if node is not leaver]
    boundary: list[int] = []

    def lose(source: SimNode, receiver: SimNode, message: Message) -> bool:
        if source.replica.boundary is not None:
            boundary.append(source.replica.boundary)
        return bool(boundary) and isinstance(message, Checkpoint) and (
            message.height == boundary[0] and receiver is not leaver
        )  # fmt: skip

    world.intercept = lose
    world.submit_change(target)
    world.run_until(lambda: leaver.replica.is_following, limit_ms=20_000)
    assert all(node.replica.epoch_base == 0 for node in stays)
    world.run_until(epoch_begins(stays, 1), limit_ms=20_000)
    world.intercept = None
    finish(world)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_crash_of_all_at_any_moment_of_a_change_contradicts_nothing(seed: int) -> None:
    world = started(SEVEN, FIVE, seed=seed, window=1 + seed % 4, store_ms=(1, 60))
    loading = True
    world.keep_submitting(lambda: loading)
    for target in (SEVEN, FIVE):
        world.submit_change(target)
        for _ in range(3):
            world.run_for(world.random.randint(1, 150))
            world.nemesis.crash_all()
            for node in world.nodes:
                node.boot()
                world.run_for(world.random.randint(0, 30))
            world.network.retry()
        world.resubmit()
        world.run_until(lambda: not world.is_changing, limit_ms=60_000)
    loading = False
    finish(world)
    assert voters(world) == ["n2", "n3", "n4", "n5", "n6"]


@pytest.mark.slow
@pytest.mark.parametrize("lies", ["twins", "liar"])
@pytest.mark.parametrize("seed", range(2))
def test_who_lies_cannot_make_votes_of_one_epoch_count_in_another(seed: int, lies: str) -> None:
    """The liar replays what it has heard, of earlier epochs too."""
    plan = calm_plan(byzantine=lies, changes=(SEVEN, change(0, 1, 2, 3, 4)))
    world = World(seed=seed, nodes=4, plan=plan)
    world.boot()
    loading = True
    world.keep_submitting(lambda: loading)
    for target in plan.changes:
        world.run_for(400)
        world.submit_change(target)
        world.run_until(lambda: not world.is_changing, limit_ms=60_000)
    loading = False
    world.resubmit()
    world.demand_progress()
    world.demand_silence()


def test_a_slow_disk_keeps_a_node_out_of_the_next_epoch_and_it_misses_nothing() -> None:
    """It certifies the last block with the others and stores it seconds later: the first proposals came in between."""
    world = started(SEVEN)
    slow = world.nodes[2]
    late: list[PrePrepare] = []

    def look(source: SimNode, receiver: SimNode, message: Message) -> bool:
        if receiver is slow and isinstance(message, PrePrepare) and source.replica.epoch_base > 0:
            late.append(message)
        return False

    world.intercept = look
    world.submit_change(SEVEN)
    world.run_until(lambda: slow.replica.boundary == slow.replica.certified_height, limit_ms=20_000)
    slow.frozen_until = world.clock.now + 2_000
    world.submit(2, [node for node in world.nodes if node is not slow])
    world.run_for(1_500)
    assert slow.replica.epoch_base == 0
    finish(world)
    assert late

"""Faults at chosen moments: each script does one kind of damage, then demands progress and silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.sim.checkers import Violation
from chain.sim.disk import Blocks, Journal
from chain.sim.faults import CALM_NODE, CALM_TIMERS, Plan, TimerFaults, calm_plan
from chain.sim.node import SimNode
from chain.sim.world import World
from chain.types import Height, View
from consensus import Phase
from consensus.messages import Checkpoint, Commit, Message, NewView, Prepare, PrePrepare


def started(*, nodes: int = 4, seed: int = 1, plan: Plan | None = None) -> World:
    """A healthy cluster that has stored its first block."""
    world = World(seed=seed, nodes=nodes, plan=plan or calm_plan())
    world.boot()
    world.run_for(100)
    world.submit(1, world.honest)
    world.demand_progress(5_000)
    return world


def finish(world: World) -> None:
    world.resubmit()
    world.demand_progress()
    world.demand_silence()


def leader(world: World) -> SimNode:
    return world.node_of(world.validators.leader(View(max(node.view for node in world.nodes if node.alive))))


def others(world: World, *nodes: SimNode) -> list[SimNode]:
    return [node for node in world.honest if node not in nodes and node.alive]


def height(nodes: list[SimNode]) -> int:
    return min(node.disk_blocks.height for node in nodes)


def reaches(nodes: list[SimNode], target: int) -> Callable[[], bool]:
    return lambda: height(nodes) >= target


def grows(nodes: list[SimNode], by: int = 1) -> Callable[[], bool]:
    return reaches(nodes, height(nodes) + by)


@pytest.mark.parametrize("nodes", [4, 7])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_leader_killed_under_load_the_chain_goes_on_within_two_time_outs(nodes: int, seed: int) -> None:
    world = started(nodes=nodes, seed=seed, plan=calm_plan(node=replace(CALM_NODE, overdue_ms=300)))
    loading = True
    world.keep_submitting(lambda: loading)
    world.run_for(500)
    dead = leader(world)
    dead.crash()
    alive = others(world, dead)
    in_flight = max(node.replica.ordered_height for node in alive)
    took = world.run_until(lambda: height(alive) > in_flight + world.plan.window, limit_ms=20_000)
    assert took < 2 * CALM_TIMERS.view_timeout_ms
    loading = False
    dead.boot()
    world.network.retry()
    finish(world)
    assert all(node.view == 1 for node in world.nodes)


@pytest.mark.parametrize("victim", [0, 3])  # the leader, another
def test_an_isolated_node_stops_nobody_and_catches_up(victim: int) -> None:
    world = started()
    lonely = world.nodes[victim]
    world.nemesis.cut([lonely.slot])
    loading = True
    world.keep_submitting(lambda: loading)
    before = lonely.disk_blocks.height
    world.run_until(grows(others(world, lonely), 12), limit_ms=20_000)
    assert lonely.disk_blocks.height <= before + 1
    loading = False
    views = [node.view for node in others(world, lonely)]
    world.nemesis.heal()
    finish(world)
    assert [node.view for node in others(world, lonely)] == views  # whoever comes back disturbs nobody


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("pause_ms", [100, 700, 1_300])
def test_what_is_certified_while_a_node_catches_up_is_not_missed(pause_ms: int, window: int) -> None:
    """The last block becomes final while the node is still far behind; nobody says anything after it."""
    slow = replace(CALM_NODE, execute_ms=(30, 30), gossip=False)
    world = started(plan=calm_plan(window=window, block_transactions_max=1, node=slow))
    lonely = world.nodes[3]
    world.nemesis.cut([lonely.slot])
    for _ in range(40):
        world.submit(1, [leader(world)])
        world.run_for(60)
    world.run_until(reaches(others(world, lonely), 41), limit_ms=20_000)
    world.nemesis.heal()
    world.run_for(pause_ms)
    world.submit(1, [leader(world)])
    world.demand_progress(10_000)
    world.demand_silence()


def test_two_view_changes_of_four_are_joined_by_one_who_saw_no_reason() -> None:
    """The leader dies when only n1 and n2 know of its proposal, and n3 hears nothing but their view-changes."""
    world = started(plan=calm_plan(node=replace(CALM_NODE, gossip=False, overdue_ms=60_000)))
    n0, n1, n2, n3 = world.nodes
    world.intercept = lambda source, target, message: (
        target is n3 and isinstance(message, PrePrepare | Prepare | Commit) and message.view == 0
    )
    world.submit(1, [n0])
    world.run_until(lambda: bool(n1.pool.waiting and n2.pool.waiting), limit_ms=5_000)
    n0.crash()
    took = world.run_until(reaches([n1, n2, n3], 2), limit_ms=20_000)
    assert took < 3 * CALM_TIMERS.view_timeout_ms


@pytest.mark.parametrize("deaf", [True, False])
def test_a_one_way_partition_of_the_leader_is_survived(deaf: bool) -> None:
    """The leader hears nobody, or nobody hears the leader: a new one takes over."""
    world = started()
    old = leader(world)
    for peer in world.peers(old):
        world.network.blocked.add((peer.slot, old.slot) if deaf else (old.slot, peer.slot))
    loading = True
    world.keep_submitting(lambda: loading)
    world.run_until(grows(others(world, old), 8), limit_ms=20_000)
    loading = False
    assert leader(world) is not old
    world.nemesis.heal()
    finish(world)


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_of_the_whole_cluster_loses_nothing_certified(seed: int) -> None:
    world = started(seed=seed, plan=calm_plan(window=1 + seed % 5))
    loading = True
    world.keep_submitting(lambda: loading)
    for _ in range(6):
        world.run_for(world.random.randint(1, 400))
        stored = {node.slot: list(node.disk_blocks.items) for node in world.nodes}
        world.nemesis.crash_all()
        certified = dict(world.checkers.blocks)
        for node in world.nodes:
            node.boot()
            world.run_for(world.random.randint(0, 60))
            kept = node.disk_blocks.items
            assert kept[: len(stored[node.slot])] == stored[node.slot]
        world.network.retry()
        world.run_until(reaches(world.nodes, max(certified)), limit_ms=20_000)
        assert all(world.checkers.blocks[at] == digest for at, digest in certified.items())
    loading = False
    finish(world)


def test_more_than_f_nodes_stay_down_nothing_is_decided_and_all_is_well_when_they_return() -> None:
    world = started()
    down = world.nodes[2:]
    for node in down:
        node.crash()
    world.submit(3, others(world))
    world.run_for(10_000)
    assert height(world.nodes[:2]) == height(world.nodes)
    for node in down:
        node.boot()
    world.network.retry()
    finish(world)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stage", [PrePrepare, Prepare, Commit])
def test_leader_crash_with_several_heights_in_flight_leaves_no_gap(seed: int, stage: type[Message]) -> None:
    """The leader dies once its messages of one stage have reached some nodes, for some heights, and not others."""
    world = started(seed=seed, plan=calm_plan(window=6, block_transactions_max=1))
    old = leader(world)
    sent: list[int] = []

    def lose(source: SimNode, target: SimNode, message: Message) -> bool:
        if source is not old or not isinstance(message, PrePrepare | Prepare | Commit):
            return False
        at = message.proposal.height if isinstance(message, PrePrepare) else message.height
        if isinstance(message, stage):
            sent.append(at)
            if len(sent) >= 3 * 5:
                world.clock.after(0, lambda: old.crash() if old.alive else None)
        return isinstance(message, stage) and (at + target.slot + seed) % 3 != 0

    world.intercept = lose
    world.submit(12, world.honest)
    world.run_until(lambda: not old.alive, limit_ms=20_000)
    world.intercept = None
    alive = others(world, old)
    top = max(sent)
    world.run_until(lambda: height(alive) >= top, limit_ms=20_000)
    old.boot()
    world.network.retry()
    finish(world)


def test_of_two_prepared_proposals_the_one_of_the_later_view_is_proposed_again() -> None:
    """n1 alone prepares A in view 0 and is cut off; the others prepare B in view 2; only n2 knows that it is ordered.

    View 3 starts from the certificates of n0 and n3 (B, view 2) and n1 (A, view 0). It must not take A.
    """
    world = started(plan=calm_plan(window=1))
    n0, n1, n2, n3 = world.nodes
    world.intercept = lambda source, target, message: (
        isinstance(message, Commit) or (isinstance(message, Prepare) and target is not n1)
    )
    world.submit(1, [n0])
    world.run_until(lambda: n1.replica.phase(Height(2)) is Phase.PREPARED, limit_ms=5_000)
    world.nemesis.cut([n1.slot])
    world.intercept = lambda source, target, message: (
        (isinstance(message, PrePrepare | Prepare | Commit) and message.view == 0)
        or (isinstance(message, Commit | Checkpoint) and target is not n2)
    )
    world.run_until(lambda: n2.replica.ordered_height == 2, limit_ms=30_000)
    assert {node.replica.phase(Height(2)) for node in (n0, n3)} == {Phase.PREPARED}
    assert n2.view == 2
    n2.crash()
    world.intercept = None
    world.nemesis.heal()
    world.run_until(lambda: height([n0, n1, n3]) == 2, limit_ms=30_000)
    n2.boot()
    world.network.retry()
    finish(world)


@pytest.mark.parametrize("window", [1, 4])
def test_a_leader_that_dies_after_its_block_is_ordered_by_some_does_not_leave_it_uncertified(window: int) -> None:
    """One node never got the pre-prepare; the others have ordered and executed, and wait for its checkpoint vote."""
    world = started(plan=calm_plan(window=window, node=replace(CALM_NODE, gossip=False)))
    old, unlucky = world.nodes[0], world.nodes[2]
    world.intercept = lambda source, target, message: (
        source is old and (target is unlucky or isinstance(message, Checkpoint))
    )
    world.submit(1, [old])
    alive = others(world, old)
    helped = others(world, old, unlucky)
    world.run_until(lambda: all(node.replica.executed_height == 2 for node in helped), limit_ms=20_000)
    old.crash()
    world.run_until(lambda: height(alive) == 2, limit_ms=20_000)
    old.boot()
    world.network.retry()
    finish(world)


@pytest.mark.parametrize(("nodes", "tolerated"), [(4, 1), (7, 2)])
def test_repeated_leader_failures_back_off_up_to_a_cap_and_forget_it_on_progress(nodes: int, tolerated: int) -> None:
    timers = TimerFaults(view_timeout_ms=200, view_timeout_ms_max=1_600, retransmit_ms=100)
    world = started(nodes=nodes, plan=calm_plan(timers=timers, node=replace(CALM_NODE, overdue_ms=100)))
    silenced = True
    world.intercept = lambda source, target, message: silenced and isinstance(message, NewView | PrePrepare)
    world.submit(3, world.honest)
    longest = 0
    for _ in range(200):
        world.run_for(100)
        longest = max(longest, *(node.replica.view_timeout_ms for node in world.nodes))
    assert longest == timers.view_timeout_ms_max
    assert max(node.view for node in world.nodes) > 2 * tolerated
    silenced = False
    for node in world.nodes[:tolerated]:
        node.crash()
    world.run_until(grows(others(world)), limit_ms=20_000)
    assert {node.replica.view_timeout_ms for node in others(world)} == {timers.view_timeout_ms}
    for node in world.nodes[:tolerated]:
        node.boot()
    world.network.retry()
    finish(world)


@pytest.mark.parametrize("nodes", [4, 7])
@pytest.mark.parametrize("seed", range(5))
def test_an_equivocating_leader_cannot_split_the_chain(nodes: int, seed: int) -> None:
    """It sends two proposals of one (view, height) to two halves, and votes for each where it sent it."""
    world = started(nodes=nodes, seed=seed)
    liar = leader(world)
    world.turn_dishonest(liar)
    half = {node.slot for node in world.nodes if node.slot % 2}

    def equivocate(source: SimNode, target: SimNode, message: Message) -> bool:
        if source is liar and isinstance(message, PrePrepare) and target.slot in half:
            other = world.byzantine.other_pre_prepare(message)
            for forged in world.byzantine.with_votes(other):
                world.network.send(liar.slot, target.slot, world.byzantine.signed(liar, forged))
            return True
        return source is liar and isinstance(message, Prepare | Commit) and target.slot in half

    world.intercept = equivocate
    world.submit(6, world.honest)
    world.demand_progress()
    assert leader(world) is not liar
    world.demand_silence()


@pytest.mark.parametrize("lie", ["robbed", "mixed", "short"])
def test_a_new_view_that_does_not_follow_from_a_quorum_of_view_changes_is_refused(lie: str) -> None:
    """The leader of view 1 robs a view-change of what it proves, mixes two views, or leaves one out."""
    world = started(plan=calm_plan(node=replace(CALM_NODE, overdue_ms=300)))
    n0, n1, *_ = world.nodes
    world.turn_dishonest(n1)

    def forge(source: SimNode, target: SimNode, message: Message) -> bool:
        if source is n1 and isinstance(message, NewView):
            world.network.send(n1.slot, target.slot, world.byzantine.forged_new_view(n1, message, lie))
            return True
        return source is n0 and isinstance(message, PrePrepare) and message.view == 0

    world.intercept = forge
    world.submit(3, world.honest)
    world.demand_progress()
    assert {node.view for node in world.honest} == {2}


@pytest.mark.parametrize("seed", range(6))
def test_a_liar_who_replays_bends_and_invents_votes_changes_nothing(seed: int) -> None:
    world = World(seed=seed, nodes=4, plan=calm_plan(byzantine="liar"))
    world.boot()
    loading = True
    world.keep_submitting(lambda: loading)
    world.run_until(grows(world.honest, 25), limit_ms=90_000)
    loading = False
    assert world.byzantine.lies > 60
    world.resubmit()
    world.demand_progress()
    world.demand_silence()


@pytest.mark.parametrize("seed", range(4))
def test_twins_of_one_validator_cannot_split_the_chain(seed: int) -> None:
    world = World(seed=seed, nodes=4, plan=calm_plan(byzantine="twins"))
    world.boot()
    loading = True
    world.keep_submitting(lambda: loading)
    for _ in range(5):
        world.run_for(500)
        world.byzantine.regroup()
    loading = False
    world.resubmit()
    world.demand_progress()
    world.demand_silence()


def test_a_node_whose_execution_differs_stops_voting_says_so_and_the_others_go_on() -> None:
    world = started()
    strange = world.nodes[3]
    world.expect_divergence = True
    strange.execution.executors.corrupt = True
    world.turn_dishonest(strange)
    world.submit(5, world.honest)
    world.demand_progress(10_000)
    assert strange.diverged is not None
    assert strange.diverged.certified is not None
    world.demand_silence()


def test_a_frozen_leader_whose_connections_live_is_replaced_and_does_no_harm_when_it_thaws() -> None:
    world = started(plan=calm_plan(node=replace(CALM_NODE, overdue_ms=300)))
    old = leader(world)
    old.frozen_until = world.clock.now + 15_000
    world.submit(5, world.honest)
    world.run_until(grows(others(world, old)), limit_ms=10_000)
    assert leader(world) is not old
    world.submit(5, others(world, old))
    world.run_for(old.frozen_until - world.clock.now)
    finish(world)


@pytest.mark.parametrize("pack_ms", [1, 40, 150])
@pytest.mark.parametrize("victim", [0, 2])  # the leader, another
def test_a_node_that_lost_its_whole_disk_catches_up_and_the_others_do_not_notice(victim: int, pack_ms: int) -> None:
    """A leader's open request for a proposal is overtaken by the blocks it fetches."""
    world = started(plan=calm_plan(node=replace(CALM_NODE, pack_ms=(pack_ms, pack_ms))))
    unlucky = world.nodes[victim]
    for _ in range(12):
        world.submit(1, world.honest)
        world.demand_progress(5_000)
    world.turn_dishonest(unlucky)  # it may contradict what it has forgotten; one such node is tolerated
    unlucky.crash()
    unlucky.journal, unlucky.disk_blocks = Journal(), Blocks()
    unlucky.boot()
    world.network.retry()
    world.submit(1, world.nodes)
    world.run_until(reaches(world.nodes, height(world.honest) + 1), limit_ms=20_000)
    headers = [[block.header for block in node.disk_blocks.items[:14]] for node in world.nodes]
    assert headers == [headers[0]] * 4
    world.demand_progress(20_000)
    world.demand_silence()


def test_a_clock_far_ahead_delays_the_chain_by_a_view_change_at_most() -> None:
    """The leader's proposals lie beyond the drift bound: they wait, and a new leader takes over."""
    world = started(plan=calm_plan(node=replace(CALM_NODE, overdue_ms=300)))
    leader(world).skew_ms = 60_000
    world.submit(4, world.honest)
    world.demand_progress(20_000)
    assert max(node.view for node in world.nodes) >= 1
    for node in world.nodes:
        node.skew_ms = 0
    world.demand_silence()


def test_the_checkers_notice_what_they_are_for() -> None:
    """A stored block nobody else agrees with, and a promise about silence that does not hold."""
    world = started()
    world.checkers.blocks[2] = bytes(32)
    world.submit(1, world.honest)
    with pytest.raises(Violation, match="agreement"):
        world.demand_progress(5_000)

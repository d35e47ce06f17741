"""Scripts for mistakes that random runs forgive: each is made good by something else, unless it is struck just so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.model.block import Proposal, proposal_digest
from chain.sim.faults import CALM_NODE, CALM_TIMERS, calm_plan
from chain.sim.node import SimNode
from chain.sim.pool import SimPool
from chain.sim.world import World
from chain.types import Height
from consensus import Phase
from consensus.effects import VoteRecord
from consensus.messages import Checkpoint, Message, MessageType, Prepare, PrePrepare
from tests.sim.test_scripts import started

SECOND = Height(2)


def select_without(node: SimNode, unwanted: bytes) -> None:
    """The node never packs this transaction."""
    pool = node.pool

    def select(count_max: int) -> list[bytes]:
        return [known for known in SimPool.select(pool, count_max + 1) if known != unwanted][:count_max]

    pool.select = select  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_leader_who_leaves_a_transaction_out_for_ever_is_replaced_although_others_are_ordered() -> None:
    world = started(plan=calm_plan(node=replace(CALM_NODE, overdue_ms=300)))
    censor = world.nodes[0]
    world.turn_dishonest(censor)
    [unloved] = world.submit(1, [])
    select_without(censor, unloved)
    loading = True
    world.keep_submitting(lambda: loading)
    for node in world.honest:
        node.add_transactions([unloved])
    before = world.nodes[1].disk_blocks.height
    took = world.run_until(lambda: unloved in world.checkers.seen, limit_ms=60_000)
    assert world.nodes[1].disk_blocks.height > before + 20  # others went on being ordered all the time
    assert min(node.view for node in world.honest) >= 1
    assert took < 10 * CALM_TIMERS.view_timeout_ms
    loading = False
    world.resubmit()
    world.demand_progress()
    world.demand_silence()


@pytest.mark.slow
def test_an_honest_leader_under_overload_is_left_alone() -> None:
    """The oldest transaction is overdue all the time, but it is never the same one for long."""
    slow = replace(CALM_NODE, overdue_ms=300, execute_ms=(80, 80))
    world = started(plan=calm_plan(node=slow, block_transactions_max=1))
    for _ in range(25):
        world.submit(4, world.honest)
        world.run_for(50)
    world.run_for(4 * CALM_TIMERS.view_timeout_ms)
    assert any(node.pool.overdue for node in world.nodes)
    world.demand_progress()
    assert {node.view for node in world.nodes} == {0}


def test_no_vote_for_a_proposal_whose_contents_were_refused() -> None:
    """The leader packs what is executed already, with something new; nobody votes for that, and another one leads."""
    world = started(plan=calm_plan(node=replace(CALM_NODE, overdue_ms=300)))
    liar = world.nodes[0]
    world.turn_dishonest(liar)
    [done] = world.nodes[1].disk_blocks.items[0].proposal.transaction_hashes()
    liar.pool.select = lambda count_max: [done, *SimPool.select(liar.pool, count_max - 1)]  # type: ignore[method-assign]
    world.submit(2, world.honest)
    world.demand_progress()
    assert all(world.checkers.history(node.validator).refused for node in world.honest)
    assert min(node.view for node in world.honest) >= 1


def test_a_vote_is_remembered_after_a_restart_although_another_proposal_was_ordered() -> None:
    """Node 3 learns from the others' commits what is ordered at height 2, and obtains it. Then the leader sends it
    another proposal for that very place, for which it votes. Its journal has both then; the vote tells which is which.
    """
    world = started(plan=calm_plan(window=1, node=replace(CALM_NODE, gossip=False, overdue_ms=60_000)))
    n0, _, _, n3 = world.nodes
    world.turn_dishonest(n0)
    world.intercept = lambda source, target, message: (
        target is n3 and (isinstance(message, Checkpoint) or (source is n0 and isinstance(message, PrePrepare)))
    )
    [own] = world.submit(1, [n3])
    world.submit(1, [n0])
    world.run_until(lambda: n3.replica.ordered_height == SECOND, limit_ms=5_000)
    world.run_until(lambda: n3.replica.phase(SECOND) is Phase.EXECUTED, limit_ms=5_000)
    other = Proposal(
        chain_id=world.chain_id, height=SECOND, timestamp_ms=n3.local_now, proposer=n0.validator, hashes=own
    )
    world.network.send(n0.slot, n3.slot, world.byzantine.signed(n0, PrePrepare(view=0, proposal=other)))
    vote = (MessageType.PREPARE, 0, int(SECOND), proposal_digest(other))
    world.run_until(lambda: vote in n3.journal.vote_keys, limit_ms=5_000)
    assert n3.disk_blocks.height == 1
    n3.crash()
    n3.boot()
    world.run_for(50)
    said = n3.replica.inner._safety.said_prepare(view=n3.replica.view, height=SECOND)
    assert said == proposal_digest(other)
    records = [record for record in n3.journal.load() if isinstance(record, VoteRecord) and record.height == SECOND]
    assert len({record.digest for record in records if record.kind == MessageType.PREPARE}) == 1
    world.intercept = None
    world.network.retry()
    n3.crash()
    n3.boot()
    world.resubmit()
    world.demand_progress()


def test_who_has_missed_a_proposal_without_noticing_gets_it_by_its_leaders_own_repetition() -> None:
    """The leader's messages are lost and no connection breaks: nobody else knows of any work, so nobody asks."""
    patient = replace(CALM_TIMERS, view_timeout_ms=60_000, view_timeout_ms_max=60_000)
    node = replace(CALM_NODE, gossip=False, overdue_ms=60_000)
    world = World(seed=1, nodes=4, plan=calm_plan(node=node, timers=patient))
    world.boot()
    world.run_for(100)
    lost: list[Message] = []

    def lose(source: SimNode, target: SimNode, message: Message) -> bool:
        if isinstance(message, PrePrepare | Prepare) and len(lost) < 6:
            lost.append(message)
            return True
        return False

    world.intercept = lose
    world.submit(1, [world.nodes[0]])
    world.run_until(lambda: len(lost) == 6, limit_ms=5_000)
    took = world.demand_progress(5_000)
    assert took < 4 * CALM_TIMERS.retransmit_ms

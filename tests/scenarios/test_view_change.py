"""Failures that other chains had with view changes. Each test is named after the failure it stops."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from chain.errors import PeerFault
from chain.model.block import NO_PROPOSER, header_hash, proposal_digest
from chain.types import Height
from consensus.effects import Abandon, Diverged, Execute, FetchBlocks, ObtainProposal, Persist, RequestProposal
from consensus.events import BlockFetched, Executed, PeerConnected, Timer, TransactionsWaiting
from consensus.messages import (
    Commit,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    Status,
    ViewChange,
)
from tests.unit.consensus.members import CONFIG, WINDOW, execute, of, said
from tests.unit.consensus.network import Network, Node, lose
from tests.unit.consensus.solo import Solo

TIME_OUT = CONFIG.view_timeout_ms


def texts(node: Node) -> list[bytes]:
    """The transactions of a node's blocks, in order."""
    return [hash_ for proposal, _, _ in node.blocks for hash_ in proposal.transaction_hashes()]


def hashed(*names: str) -> list[bytes]:
    return [hashlib.sha256(name.encode()).digest() for name in names]


def everything(sender: Node, receiver: Node, message: object) -> bool:
    return True


# --- forgeries ---


def test_a_view_changes_inner_parts_are_not_checked_so_a_forged_sender_or_view_passes() -> None:
    chain = Solo().chain
    change = chain.view_change(2, 5)
    forged_view = msgspec.structs.replace(change.message, view=6)
    for forged in (
        Signed(sender=chain.keys[3].validator_id, message=change.message, signature=change.signature),
        Signed(sender=change.sender, message=forged_view, signature=change.signature),
    ):
        with pytest.raises(PeerFault, match="bad_signature"):
            chain.verify(forged)
    nested = chain.new_view(5, [chain.view_change(number, 5) for number in (0, 1, 2)]).message
    entries = [
        msgspec.structs.replace(entry, sender=chain.keys[3].validator_id)
        if entry.sender == chain.keys[2].validator_id
        else entry
        for entry in nested.view_changes
    ]
    stolen = NewView(view=5, view_changes=tuple(sorted(entries, key=lambda entry: entry.sender)))
    with pytest.raises(PeerFault, match="bad_signature"):
        chain.verify(chain.sign(1, stolen))


def test_the_new_leaders_re_proposals_are_not_checked_against_the_view_changes() -> None:
    """They are not even sent: whatever the new leader pre-prepares at a re-proposed height is refused."""
    solo = Solo(number=3)
    chain = solo.chain
    prepared, forged = chain.proposal(1, "prepared"), chain.proposal(1, "forged", leader=1)
    certificate = chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(prepared), signers=(0, 1, 2)
    )
    solo.change_view(1, *[chain.view_change(number, 1, prepared=[certificate]) for number in (0, 1, 2)])
    effects = solo.hear(1, PrePrepare(view=1, proposal=forged)) + solo.obtain(forged)
    assert said(Prepare, effects) == []
    assert [vote.digest for vote in said(Prepare, solo.obtain(prepared))] == [proposal_digest(prepared)]


def test_a_prepared_certificate_of_a_lower_view_is_preferred() -> None:
    solo = Solo(number=3)
    chain = solo.chain

    def change(number: int, view: int, text: str) -> Signed[ViewChange]:
        digest = proposal_digest(chain.proposal(1, text))
        certificate = chain.certificate(MessageType.PREPARE, view=view, height=1, digest=digest, signers=(0, 1, 2))
        return chain.view_change(number, 9, prepared=[certificate])

    effects = solo.change_view(9, change(0, 2, "old"), change(1, 7, "new"), change(2, 3, "older"))
    assert [effect.digest for effect in of(ObtainProposal, effects)] == [proposal_digest(chain.proposal(1, "new"))]


# --- what must survive ---


def test_a_prepared_value_is_lost_in_a_view_change_with_heights_in_a_pipeline_and_gaps() -> None:
    network = Network()
    network.filter = lambda sender, receiver, message: not (
        isinstance(message, Commit)  # nothing gets ordered in view 0
        or (isinstance(message, PrePrepare) and message.proposal.height == 2)  # and height 2 reaches nobody
    )
    network.submit("a", "b", "c", "d")
    assert [node.replica.ordered_height for node in network.nodes] == [0] * 4
    assert [len(node.replica._ordering.prepared_above(0)) for node in network.nodes] == [3] * 4
    network.nodes[0].is_down = True
    network.filter = lambda sender, receiver, message: not (isinstance(message, Commit) and message.view == 0)
    network.elapse(3 * TIME_OUT)
    network.check_agreement()
    for node in network.up():
        assert [proposal.proposer == NO_PROPOSER for proposal, _, _ in node.blocks[:4]] == [False, True, False, False]
        assert texts(node)[:3] == hashed("a", "c", "d")


def test_a_decision_arrives_in_the_same_instant_as_the_views_abort() -> None:
    solo = Solo(number=3)
    proposal = solo.chain.proposal(1, "a")
    solo.propose(proposal)
    solo.prepare(proposal, 0, 1)
    solo.commit(proposal, 0)
    solo.fire(Timer.VIEW)
    late = solo.commit(proposal, 1)  # would have been the quorum
    assert of(Execute, late) == []
    own = solo.replica._view_changes.own
    assert own is not None
    mine = solo.chain.view_change(3, 1, prepared=own.message.prepared)
    effects = solo.change_view(1, *[solo.chain.view_change(number, 1) for number in (0, 1)], mine)
    effects += solo.prepare(proposal, 0, 1, view=1) + solo.commit(proposal, 0, 1, view=1)
    assert [effect.proposal for effect in of(Execute, effects)] == [proposal]


def test_a_value_ordered_by_one_node_alone_is_kept_by_the_next_view() -> None:
    network = Network()
    network.filter = lambda sender, receiver, message: not (isinstance(message, Commit) and receiver.number != 3)
    network.submit("a")
    assert [node.replica.ordered_height for node in network.nodes] == [0, 0, 0, 1]
    network.nodes[0].is_down = True
    network.filter = lambda sender, receiver, message: not (isinstance(message, Commit) and message.view == 0)
    network.elapse(4 * TIME_OUT)
    network.check_agreement()
    assert [texts(node)[:1] for node in network.up()] == [hashed("a")] * 3


def test_more_than_f_faulty_members_make_a_new_view_forget_an_ordered_value() -> None:
    """Nothing can save agreement then, but this node notices, says so, and takes no part in it."""
    for kept in (False, True):
        solo = Solo(number=3)
        chain = solo.chain
        proposal, other = chain.proposal(1, "a"), chain.proposal(1, "b")
        solo.order(proposal)
        certificate = chain.certificate(
            MessageType.PREPARE, view=1, height=1, digest=proposal_digest(other), signers=(0, 1, 2)
        )
        prepared = [certificate] if kept else []
        effects = solo.change_view(2, *[chain.view_change(number, 2, prepared=prepared) for number in (0, 1, 2)])
        [stopped] = of(Diverged, effects)
        assert (stopped.height, stopped.own) == (1, proposal_digest(proposal))
        assert stopped.certified == (proposal_digest(other) if kept else None)
        assert said(Prepare, effects) == []
        assert solo.propose(chain.proposal(2, "c", leader=2), view=2) == []


def test_more_than_f_faulty_members_order_a_second_value() -> None:
    solo = Solo(number=3)
    chain = solo.chain
    proposal, other = chain.proposal(1, "a"), chain.proposal(1, "b")
    solo.order(proposal)
    stable = chain.certificate(MessageType.CHECKPOINT, height=1, digest=bytes(32), signers=(0, 1, 2))
    solo.change_view(2, *[chain.view_change(number, 2, stable=stable) for number in (0, 1, 2)])
    [stopped] = of(Diverged, solo.commit(other, 0, 1, 2, view=2))
    assert (stopped.height, stopped.reason) == (1, "ordered_twice")


def test_after_a_new_view_proposals_already_submitted_never_become_final() -> None:
    network = Network()
    network.filter = lambda sender, receiver, message: not isinstance(message, Commit)
    network.submit("a", "b")
    network.filter = everything
    network.nodes[0].is_down = True
    network.elapse(4 * TIME_OUT)
    assert [texts(node) for node in network.up()] == [hashed("a", "b")] * 3
    assert all(node.replica.armed_timers == () for node in network.up())


def test_after_a_new_view_the_window_is_not_reset_and_nothing_new_is_packed() -> None:
    network = Network()
    network.submit("a", "b", "c")
    network.nodes[0].is_down = True
    network.submit("d", overdue=True)
    network.elapse(2 * TIME_OUT)
    network.submit(*[f"more {number}" for number in range(3 * WINDOW)])
    assert [len(node.blocks) for node in network.up()] == [4 + 3 * WINDOW] * 3
    network.check_agreement()


def test_the_transactions_of_a_proposal_that_nobody_prepared_are_never_given_back() -> None:
    network = Network()
    network.filter = lambda sender, receiver, message: not isinstance(message, PrePrepare)
    leader = network.nodes[0]
    leader.submit("a")
    network.run()
    assert leader.pool == []
    network.elapse(TIME_OUT)  # the leader alone gives up
    network.run()
    assert of(Abandon, leader.trace) != []
    assert leader.pool == ["a"]


def test_the_transactions_of_a_refused_proposal_are_never_given_back_to_the_pool() -> None:
    network = Network()
    refused = network.chain.proposal(1, "a", timestamp_ms=network.now)
    for node in network.nodes[1:]:
        node.refuses.add(proposal_digest(refused))
    network.submit("a")
    assert network.heights() == [0] * 4
    network.elapse(4 * TIME_OUT)
    digests = [effect.digest for effect in of(Abandon, network.nodes[0].trace)]
    assert proposal_digest(refused) in digests
    assert [texts(node) for node in network.nodes] == [hashed("a")] * 4
    network.check_agreement()


# --- who may disturb whom ---


def test_a_lone_view_changer_disturbs_the_healthy_ones() -> None:
    network = Network()
    lone = network.nodes[3]
    lone.step(TransactionsWaiting(overdue=True))
    network.filter = lambda sender, receiver, message: receiver is not lone
    network.elapse(TIME_OUT + 1)
    assert lone.replica.is_changing
    network.filter = everything
    for node in network.nodes:
        node.trace.clear()
    network.submit("a", "b", "c", "d", "e")
    network.elapse(10_000)
    assert [node.replica.view for node in network.nodes[:3]] == [0, 0, 0]
    assert network.heights() == [5, 5, 5, 5]  # and it follows, though it does not vote
    votes = (Prepare, Commit)
    assert all(said(kind, lone.trace) == [] for kind in votes)
    network.check_agreement()


def test_a_lone_view_changer_is_silent_once_it_has_caught_up() -> None:
    network = Network()
    lone = network.nodes[3]
    lone.step(TransactionsWaiting(overdue=True))
    network.elapse(TIME_OUT)
    network.submit("a")
    network.elapse(20_000)
    assert lone.replica.is_changing
    assert lone.replica.certified_height == 1
    assert lone.replica.armed_timers == ()


def test_a_syncing_node_disturbs_healthy_ones_with_view_changes() -> None:
    network = Network()
    network.filter = lose(3)
    network.submit(*[f"{number}" for number in range(40)])
    behind = network.nodes[3]
    network.filter = everything
    for node in network.nodes[:3]:
        node.step(PeerConnected(peer=behind.id))
    behind.step(TransactionsWaiting(overdue=True))
    network.run()
    assert behind.replica.certified_height == 40
    assert said(ViewChange, behind.trace) == []
    assert [(effect.first, effect.last) for effect in of(FetchBlocks, behind.trace)] == [(1, 32), (33, 40)]
    network.check_agreement()


def test_one_faulty_member_drags_the_others_from_view_to_view() -> None:
    solo = Solo()
    for view in range(1, 200):
        assert solo.hear_signed(solo.chain.view_change(3, view)) == []
    assert solo.replica.view == 0
    assert len(solo.replica._view_changes.views()) == 1


def test_time_outs_double_without_a_cap() -> None:
    network = Network()
    network.filter = lose(0, 1)  # no quorum anywhere, but the two others see each other
    network.submit("a", overdue=True)
    network.elapse(3_600_000)
    assert max(node.replica.view_timeout_ms for node in network.nodes) <= CONFIG.view_timeout_ms_max
    network.filter = everything
    network.elapse(4 * CONFIG.view_timeout_ms_max)
    assert min(network.heights()) >= 1
    assert [node.replica.view_timeout_ms for node in network.nodes] == [TIME_OUT] * 4
    network.check_agreement()


# --- the way into a new view ---


def test_a_new_leader_packs_before_it_knows_what_was_proposed_before() -> None:
    """It could pack a transaction twice: it waits for the contents of the re-proposals."""
    solo = Solo(number=1)
    chain = solo.chain
    proposal = chain.proposal(1, "a")
    certificate = chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(proposal), signers=(0, 2, 3)
    )
    solo.step(TransactionsWaiting(overdue=False))
    effects = []
    for number in (2, 3):
        effects += solo.hear_signed(chain.view_change(number, 1, prepared=[certificate]))
    [obtain] = of(ObtainProposal, effects)
    assert (obtain.fresh, obtain.proposal) == (False, None)
    assert obtain.sources == tuple(sorted(chain.keys[number].validator_id for number in (0, 2, 3)))
    assert of(RequestProposal, effects) == []
    effects = solo.obtain(proposal)
    assert [effect.height for effect in of(RequestProposal, effects)] == [2]


def test_a_proposal_that_was_given_up_returns_in_a_later_view_and_its_transactions_stay_unreserved() -> None:
    """Its transactions went back to the pool: it must be obtained again, so that the pool knows."""
    solo = Solo(number=3)
    chain = solo.chain
    proposal = chain.proposal(1, "a")
    solo.propose(proposal)
    effects = solo.fire(Timer.VIEW)
    assert [effect.digest for effect in of(Abandon, effects)] == [proposal_digest(proposal)]
    certificate = chain.certificate(
        MessageType.PREPARE, height=1, digest=proposal_digest(proposal), signers=(0, 1, 2)
    )
    effects = solo.change_view(1, *[chain.view_change(number, 1, prepared=[certificate]) for number in (0, 1, 2)])
    assert [(effect.digest, effect.fresh) for effect in of(ObtainProposal, effects)] == [
        (proposal_digest(proposal), False)
    ]
    assert said(Prepare, solo.obtain(proposal)) != []


def test_a_node_below_the_new_views_checkpoint_fetches_the_blocks() -> None:
    solo = Solo(number=3)
    chain = solo.chain
    stable = chain.certificate(MessageType.CHECKPOINT, height=5, digest=bytes(32), signers=(0, 1, 2))
    effects = solo.change_view(1, *[chain.view_change(number, 1, stable=stable) for number in (0, 1, 2)])
    [fetch] = of(FetchBlocks, effects)
    assert (fetch.first, fetch.last) == (1, 5)
    assert said(Prepare, solo.propose(chain.proposal(3, "x", leader=1), view=1)) == []


def test_a_node_far_below_the_new_view_votes_for_its_re_proposals_once_it_has_the_blocks() -> None:
    chain = Solo().chain
    solo = Solo(chain, 3)
    blocks: list[BlockFetched] = []
    parent = chain.genesis
    for height in range(1, 2 * WINDOW + 3):
        proposal = chain.proposal(height, f"{height}")
        parent = execute(proposal, parent)
        certificate = chain.certificate(
            MessageType.CHECKPOINT, height=height, digest=header_hash(parent), signers=(0, 1, 2)
        )
        blocks.append(BlockFetched(proposal=proposal, header=parent, certificate=certificate))
    top = chain.proposal(2 * WINDOW + 3, "top")
    prepared = chain.certificate(
        MessageType.PREPARE, height=top.height, digest=proposal_digest(top), signers=(0, 1, 2)
    )
    changes = [
        chain.view_change(number, 1, stable=blocks[-1].certificate, prepared=[prepared]) for number in (0, 1, 2)
    ]
    effects = solo.change_view(1, *changes)
    assert of(ObtainProposal, effects) == []
    for block in blocks:
        solo.step(block)
    for block in blocks:
        effects += solo.step(Executed(header=block.header))
    assert [effect.height for effect in of(ObtainProposal, effects)] == [top.height]
    assert [(vote.view, vote.height) for vote in said(Prepare, solo.obtain(top))] == [(1, top.height)]


def test_many_views_without_progress_leave_nothing_behind() -> None:
    solo = Solo(number=3)
    chain = solo.chain
    for view in range(1, 60):
        if view % 4 == 3:
            continue
        solo.change_view(view, *[chain.view_change(number, view) for number in (0, 1, 2)])
        for height in range(1, WINDOW + 1):
            solo.propose(chain.proposal(height, f"{view}/{height}", leader=view % 4), view=view)
    ordering = solo.replica._ordering
    assert len(ordering.heights) == WINDOW
    for height in ordering.heights:
        slot = ordering.slot(Height(height))
        assert slot is not None
        assert len(slot.durable) <= 2
    assert solo.replica._view_changes.views() == {}


def test_the_state_of_a_view_change_is_durable_before_it_is_said() -> None:
    solo = Solo(number=1)
    solo.propose(solo.chain.proposal(1, "a"))
    effects = solo.fire(Timer.VIEW)
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds.index("Persist") < kinds.index("Broadcast")
    effects = solo.hear_signed(solo.chain.view_change(2, 1)) + solo.hear_signed(solo.chain.view_change(3, 1))
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds.index("Persist") < kinds.index("Broadcast")
    assert type(of(Persist, effects)[0].record).__name__ == "NewViewRecord"
    assert solo.hear(2, Status(view=1, changing=False, certified=0, ordered=0)) == []

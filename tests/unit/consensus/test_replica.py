"""The replica as a whole: timers, status, retransmission, bounds."""

from __future__ import annotations

import pytest

from chain.errors import ConfigError, InvariantError
from chain.model.block import header_hash
from chain.types import Height, Instant, View
from consensus import Replica, ReplicaConfig
from consensus.effects import (
    Broadcast,
    CancelRequests,
    Effect,
    FetchBlocks,
    ObtainProposal,
    RequestProposal,
    Send,
    SetTimer,
)
from consensus.events import (
    Executed,
    MessageReceived,
    PeerConnected,
    PoolDrained,
    ProposalPacked,
    Started,
    Timer,
    TransactionsWaiting,
)
from consensus.messages import (
    VIEW_MAX,
    Checkpoint,
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Verified,
    ViewChange,
)
from consensus.pace import CERTIFICATION_PATIENCE
from consensus.story import STORY_LINES_MAX
from tests.unit.consensus.members import CONFIG, START, WINDOW, Chain, evidence_of, execute, of, said
from tests.unit.consensus.network import Network, lose
from tests.unit.consensus.solo import Solo


def sent(effects: list[Effect]) -> list[Message]:
    return [effect.message.message for effect in of(Send, effects)]


# --- idle ---


def test_an_idle_chain_runs_no_timers_and_says_nothing() -> None:
    network = Network()
    network.submit("a", "b", "c")
    assert network.heights() == [3, 3, 3, 3]
    for node in network.nodes:
        node.trace.clear()
        assert node.replica.armed_timers == ()
        assert node.timers == {}
    network.elapse(3_600_000)
    assert all(node.trace == [] for node in network.nodes)


def test_a_leader_with_nothing_to_pack_makes_no_empty_blocks() -> None:
    network = Network()
    for node in network.nodes:
        node.step(TransactionsWaiting(overdue=False))
        node.step(PoolDrained())
    network.elapse(60_000)
    assert network.heights() == [0, 0, 0, 0]


def test_on_start_a_replica_says_where_it_stands() -> None:
    assert said(Status, Solo().first) == [Status(view=0, changing=False, certified=0, ordered=0)]


def test_to_a_peer_that_connects_a_replica_says_where_it_stands() -> None:
    solo = Solo()
    peer = solo.chain.keys[3].validator_id
    assert sent(solo.step(PeerConnected(peer=peer))) == [Status(view=0, changing=False, certified=0, ordered=0)]
    assert solo.step(PeerConnected(peer=solo.replica.id)) == []
    [told] = solo.step(PeerConnected(peer=Chain(5).keys[4].validator_id))  # who only follows must learn it, too
    assert isinstance(told, Send)


def test_messages_before_the_start_are_ignored_and_it_starts_once() -> None:
    chain = Chain()
    replica = chain.replica(1)
    for message in (PrePrepare(view=0, proposal=chain.proposal(1, "a")), Prepare(view=0, height=1, digest=bytes(32))):
        assert replica.step(chain.received(0, message), START) == []
    replica.step(Started(), START)
    with pytest.raises(InvariantError, match="started twice"):
        replica.step(Started(), START)


def test_own_messages_that_come_back_are_ignored() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    (vote,) = said(Prepare, solo.propose(proposal))
    armed = solo.replica.armed_timers
    assert solo.hear(1, vote) == []
    assert solo.hear(1, Status(view=0, changing=False, certified=90, ordered=90)) == []
    assert solo.replica.armed_timers == armed


# --- the view timer ---


def delay(solo: Solo, effects: list[Effect]) -> list[int]:
    return [effect.at - solo.now for effect in of(SetTimer, effects) if effect.timer is Timer.VIEW]


def test_the_view_timer_runs_from_the_first_proposal_until_it_is_ordered() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    assert delay(solo, solo.propose(proposal)) == [CONFIG.view_timeout_ms]
    solo.prepare(proposal, 0, 2)
    assert Timer.VIEW in solo.replica.armed_timers
    solo.commit(proposal, 0, 2)
    assert solo.replica.armed_timers == (Timer.RETRANSMIT,)  # another leader would not execute faster


def test_an_executed_block_that_lacks_votes_makes_this_node_ask_for_another_view_only_after_a_long_time() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    effects = solo.step(Executed(header=execute(proposal, solo.chain.genesis)))
    assert delay(solo, effects) == [CERTIFICATION_PATIENCE * CONFIG.view_timeout_ms]
    solo.now = Instant(solo.now + 100)
    assert delay(solo, solo.propose(solo.chain.proposal(2, "b"))) == [CONFIG.view_timeout_ms]


def test_the_view_timer_is_set_anew_with_each_height_that_is_ordered() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    solo.propose(first)
    solo.propose(second)
    solo.prepare(first, 0, 2)
    solo.now = Instant(solo.now + 900)
    assert delay(solo, solo.commit(first, 0, 2)) == [CONFIG.view_timeout_ms]


def test_an_overdue_transaction_starts_the_view_timer_and_a_drained_pool_stops_it() -> None:
    solo = Solo()
    assert solo.step(TransactionsWaiting(overdue=False)) == []
    assert delay(solo, solo.step(TransactionsWaiting(overdue=True))) == [CONFIG.view_timeout_ms]
    solo.step(PoolDrained())
    assert solo.replica.armed_timers == ()


def test_votes_of_up_to_f_validators_start_no_timer() -> None:
    solo = Solo()
    solo.hear(3, Prepare(view=0, height=1, digest=bytes(32)))
    assert solo.replica.armed_timers == ()
    solo.hear(2, Prepare(view=0, height=1, digest=bytes(32)))  # more than F: an honest one has seen a proposal
    assert list(solo.replica.armed_timers) == [Timer.VIEW, Timer.RETRANSMIT]


def test_time_outs_double_per_failed_view_up_to_the_cap_and_return_to_the_base_on_progress() -> None:
    solo = Solo()
    chain = solo.chain
    solo.step(TransactionsWaiting(overdue=True))
    seen = []
    for view in range(1, 7):
        solo.fire(Timer.VIEW)
        effects: list[Effect] = []
        for number in (0, 2, 3):
            if view % 4 != 1:
                effects += solo.hear_signed(chain.view_change(number, view))
        if view % 4 == 1:  # it leads this view itself: a new view, and again nothing gets ordered
            for number in (0, 2, 3):
                effects += solo.hear_signed(chain.view_change(number, view))
        seen += delay(solo, effects)[-1:]
    assert seen == [2_000, 4_000, 8_000, 8_000, 8_000, 8_000]
    solo.change_view(7, *[chain.view_change(number, 7) for number in (0, 2, 3)])
    proposal = chain.proposal(1, "a", leader=3)
    solo.propose(proposal, view=7)
    solo.prepare(proposal, 0, 2, view=7)
    solo.commit(proposal, 0, 2, view=7)
    assert solo.replica.view_timeout_ms == CONFIG.view_timeout_ms


def test_without_a_quorum_for_its_view_a_replica_does_not_go_further() -> None:
    solo = Solo()
    solo.step(TransactionsWaiting(overdue=True))
    solo.fire(Timer.VIEW)
    assert (solo.replica.view, solo.replica.is_changing) == (1, True)
    assert Timer.VIEW not in solo.replica.armed_timers
    repeated = solo.fire(Timer.RETRANSMIT)
    assert [message.view for message in said(ViewChange, repeated)] == [1]


def test_no_view_is_ever_asked_for_beyond_the_highest() -> None:
    solo = Solo()
    for number in (2, 3):
        solo.hear_signed(solo.chain.view_change(number, VIEW_MAX))
    assert solo.replica.view == VIEW_MAX
    solo.hear_signed(solo.chain.view_change(0, VIEW_MAX))
    solo.fire(Timer.VIEW)
    assert solo.replica.view == VIEW_MAX


def test_a_replica_that_is_behind_does_not_ask_for_another_view() -> None:
    solo = Solo()
    solo.step(TransactionsWaiting(overdue=True))
    assert Timer.VIEW in solo.replica.armed_timers
    solo.hear(2, Status(view=0, changing=False, certified=9, ordered=9))
    assert Timer.VIEW in solo.replica.armed_timers  # one alone may lie
    solo.hear(3, Status(view=0, changing=False, certified=9, ordered=9))
    assert Timer.VIEW not in solo.replica.armed_timers


# --- saying it again ---


def test_while_work_is_outstanding_everything_is_said_again_at_growing_intervals() -> None:
    leader = Solo(number=0)
    leader.step(TransactionsWaiting(overdue=False))
    leader.step(ProposalPacked(view=View(0), proposal=leader.chain.proposal(1, "a")))
    at = []
    for _ in range(4):
        effects = leader.fire(Timer.RETRANSMIT)
        assert [type(effect.message.message) for effect in of(Broadcast, effects)] == [PrePrepare, Prepare, Status]
        at.append(leader.now - START)
    assert at == [200, 600, 1_400, 3_000]


def test_the_answer_to_a_status_is_what_the_peer_seems_to_miss() -> None:
    solo = Solo()
    chain = solo.chain
    header = solo.finish(chain.proposal(1, "a"), chain.genesis)
    second, third = chain.proposal(2, "b"), chain.proposal(3, "c")
    solo.order(second)
    solo.step(Executed(header=execute(second, header)))
    solo.propose(third)
    behind = Status(view=0, changing=False, certified=0, ordered=0)
    assert [type(message) for message in sent(solo.hear(0, behind))] == [
        Prepare, Commit, Prepare, Checkpoint, Checkpoint, Status,
    ]  # fmt: skip
    level = Status(view=0, changing=False, certified=1, ordered=2)
    assert [(type(message), getattr(message, "height", 0)) for message in sent(solo.hear(2, level))] == [
        (Prepare, 3), (Checkpoint, 2),
    ]  # fmt: skip
    ahead = Status(view=0, changing=False, certified=3, ordered=3)
    assert sent(solo.hear(3, ahead)) == []


def test_a_peer_is_not_answered_again_at_once() -> None:
    solo = Solo()
    solo.propose(solo.chain.proposal(1, "a"))
    status = Status(view=0, changing=False, certified=0, ordered=0)
    assert len(sent(solo.hear(3, status))) == 1
    assert sent(solo.hear(3, status)) == []
    assert len(sent(solo.hear(2, status))) == 1
    solo.now = Instant(solo.now + CONFIG.retransmit_ms)
    assert len(sent(solo.hear(3, status))) == 1


def test_two_replicas_never_answer_each_others_status_for_ever() -> None:
    """One is ahead in blocks, the other in views."""
    network = Network()
    network.filter = lose(3)
    network.submit("a", "b", "c")
    network.filter = lambda sender, receiver, message: True
    network.nodes[3].step(TransactionsWaiting(overdue=True))
    network.elapse(CONFIG.view_timeout_ms + 1)
    network.run()  # raises if the queue does not come to rest


def test_the_new_view_goes_to_those_who_have_not_entered_it() -> None:
    solo = Solo()
    changes = [solo.chain.view_change(number, 2) for number in (0, 2, 3)]
    solo.change_view(2, *changes)
    for number, status in (
        (0, Status(view=0, changing=False, certified=0, ordered=0)),
        (3, Status(view=2, changing=True, certified=0, ordered=0)),
    ):
        assert [type(message) for message in sent(solo.hear(number, status))] == [NewView]
    entered = Status(view=2, changing=False, certified=0, ordered=0)
    assert sent(solo.hear(2, entered)) == []


def test_a_replica_that_hears_more_than_f_in_a_later_view_asks_until_it_is_shown_the_new_view() -> None:
    solo = Solo()
    for number in (2, 3):
        solo.hear(number, Prepare(view=5, height=1, digest=bytes(32)))
    assert solo.replica.armed_timers == (Timer.RETRANSMIT,)
    assert said(Status, solo.fire(Timer.RETRANSMIT)) == [Status(view=0, changing=False, certified=0, ordered=0)]


# --- views ---


def test_a_replica_that_changes_its_view_shows_its_view_change_to_those_below() -> None:
    solo = Solo()
    solo.propose(solo.chain.proposal(1, "a"))
    solo.fire(Timer.VIEW)
    status = Status(view=0, changing=False, certified=0, ordered=0)
    assert [type(message) for message in sent(solo.hear(3, status))] == [ViewChange]
    entered = Status(view=1, changing=False, certified=0, ordered=0)
    assert sent(solo.hear(2, entered)) == []


def test_one_missing_block_is_asked_for_after_a_while_and_a_claim_that_leads_nowhere_is_dropped() -> None:
    solo = Solo()
    effects = solo.hear(3, Status(view=0, changing=False, certified=1, ordered=1))
    assert of(FetchBlocks, effects) == []
    assert list(solo.replica.armed_timers) == [Timer.RETRANSMIT]
    [fetch] = of(FetchBlocks, solo.fire(Timer.RETRANSMIT))
    assert (fetch.first, fetch.last) == (1, 1)
    assert of(FetchBlocks, solo.fire(Timer.RETRANSMIT)) == []
    assert list(solo.replica.armed_timers) == []


def test_what_was_said_in_a_view_before_this_replica_came_counts_when_it_comes() -> None:
    solo = Solo(number=3)
    chain = solo.chain
    proposal = chain.proposal(1, "a", leader=1)
    assert solo.hear(1, PrePrepare(view=1, proposal=proposal)) == []
    solo.prepare(proposal, 1, 2, view=1)
    effects = solo.change_view(1, *[chain.view_change(number, 1) for number in (0, 1, 2)])
    assert [effect.proposal for effect in of(ObtainProposal, effects)] == [proposal]
    effects = solo.obtain(proposal)
    assert len(said(Prepare, effects)) == len(said(Commit, effects)) == 1


def test_the_core_itself_refuses_proposals_and_new_views_of_validators_who_do_not_lead() -> None:
    solo = Solo(number=3)
    chain = solo.chain
    mine = chain.sign(2, PrePrepare(view=0, proposal=chain.proposal(1, "a", leader=2)))
    stolen = chain.sign(0, PrePrepare(view=0, proposal=chain.proposal(1, "a", leader=2)))
    new_view = chain.sign(2, chain.new_view(1, [chain.view_change(number, 1) for number in (0, 1, 2)]).message)
    for signed in (mine, stolen, new_view):
        forced = Verified(sender=signed.sender, message=signed.message, signature=signed.signature)
        effects = solo.step(MessageReceived(message=forced))
        assert evidence_of(effects) == ["not_leader"]
    assert (solo.replica.view, solo.replica.in_flight) == (0, ())


def test_leaving_a_view_cancels_the_requests_of_its_leader() -> None:
    leader = Solo(number=0)
    leader.step(TransactionsWaiting(overdue=True))
    effects = leader.fire(Timer.VIEW)
    assert CancelRequests() in effects
    following = Solo(number=1)
    following.step(TransactionsWaiting(overdue=False))
    effects = []
    for number in (2, 3):
        effects += following.hear_signed(following.chain.view_change(number, 1))
    assert [effect.view for effect in of(RequestProposal, effects)] == [1]
    assert [type(effect.message.message) for effect in of(Broadcast, effects)] == [ViewChange, NewView]


def test_a_new_view_below_the_one_asked_for_is_ignored() -> None:
    solo = Solo()
    for number in (2, 3):
        solo.hear_signed(solo.chain.view_change(number, 6))
    solo.change_view(3, *[solo.chain.view_change(number, 3) for number in (0, 2, 3)])
    assert (solo.replica.view, solo.replica.is_changing) == (6, True)


def test_a_new_view_far_above_is_entered_at_once() -> None:
    solo = Solo()
    solo.change_view(1_000_002, *[solo.chain.view_change(number, 1_000_002) for number in (0, 2, 3)])
    assert (solo.replica.view, solo.replica.is_changing) == (1_000_002, False)
    assert solo.replica.leader == solo.chain.keys[2].validator_id


# --- status and debugging ---


def test_the_story_of_a_height_is_readable_and_bounded() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    told = [what.split()[0] for _, what in solo.replica.story(Height(1))]
    assert told[:4] == ["PrePrepare", "obtain", "Prepare", "Prepare"]
    assert told[-1] == "execute"
    for _ in range(STORY_LINES_MAX):
        solo.hear(3, Prepare(view=0, height=2, digest=bytes(32)))
    assert solo.replica.story(Height(1)) == []
    assert len(solo.replica.story(Height(2))) == STORY_LINES_MAX


def test_it_is_visible_where_a_replica_stands() -> None:
    solo = Solo()
    chain = solo.chain
    header = solo.finish(chain.proposal(1, "a"), chain.genesis)
    solo.order(chain.proposal(2, "b"))
    solo.propose(chain.proposal(3, "c"))
    replica = solo.replica
    assert (replica.certified_height, replica.executed_height, replica.ordered_height) == (1, 1, 2)
    assert replica.in_flight == (2, 3)
    assert (replica.view, replica.is_changing, replica.is_leader) == (0, False, False)
    assert replica.leader == chain.keys[0].validator_id
    assert replica.validators_at(Height(9)) is chain.validators
    assert header_hash(header)


def test_a_stranger_cannot_be_a_replica_and_settings_have_ranges() -> None:
    chain = Chain()
    with pytest.raises(ConfigError, match="not a member"):
        Replica(
            config=CONFIG,
            signer=Chain(5).keys[4],
            validators=chain.validators,
            chain_id=chain.id,
            window=WINDOW,
            last=(chain.genesis, None),
        )
    with pytest.raises(ConfigError, match="retransmit_ms is 0"):
        ReplicaConfig(retransmit_ms=0)
    with pytest.raises(ConfigError, match="view_timeout_ms_max is 10"):
        ReplicaConfig(view_timeout_ms=20, view_timeout_ms_max=10)


def test_the_same_events_give_the_same_effects() -> None:
    def life() -> list[str]:
        solo = Solo()
        chain = solo.chain
        effects = solo.order(chain.proposal(1, "a"))
        for number in (3, 0, 2):
            effects += solo.hear_signed(chain.view_change(number, 2))
        return [repr(effect) for effect in effects]

    assert life() == life()


def test_no_exception_leaves_step_whatever_verified_members_send() -> None:
    solo = Solo()
    chain = solo.chain
    digests = (bytes(32), b"x" * 32)
    for number in (0, 2, 3):
        for view in (0, 1, 2, VIEW_MAX):
            for height in (1, 2, WINDOW, WINDOW + 1, 2 * WINDOW, 2**63 - 1):
                for digest in digests:
                    solo.hear(number, Prepare(view=view, height=height, digest=digest))
                    solo.hear(number, Commit(view=view, height=height, digest=digest))
            solo.hear(number, Status(view=view, changing=view % 2 == 1, certified=2**62, ordered=2**63 - 1))
        solo.hear_signed(chain.view_change(number, 3))
    assert solo.replica.diverged is None

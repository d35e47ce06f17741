"""Epochs: the barrier, what counts in which, following, and restarts at any point of a change."""

from __future__ import annotations

import pytest

from chain.errors import ConfigError, InvariantError
from chain.model.block import header_hash, proposal_digest
from chain.model.validators import ValidatorSchedule
from chain.types import Height
from consensus import Succession
from consensus.effects import (
    Abandon,
    Broadcast,
    CancelRequests,
    CertificateRecord,
    Effect,
    Execute,
    FetchBlocks,
    NewViewRecord,
    Persist,
    Send,
    Store,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.events import (
    Executed,
    MessageReceived,
    PeerStatus,
    ProposalPacked,
    Timer,
    TransactionsWaiting,
)
from consensus.messages import (
    Checkpoint,
    Commit,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Verified,
    ViewChange,
)
from consensus.messages import Message as AnyMessage
from tests.unit.consensus.epochs import FIRST, REALM, SEVEN, WINDOW, Heir, requests, set_of
from tests.unit.consensus.members import CONFIG, execute, of, said


def unchecked(number: int, message: AnyMessage) -> MessageReceived:
    """What was verified in another epoch and reaches the core in this one."""
    signed = REALM.sign(number, message)
    return MessageReceived(
        message=Verified(sender=signed.sender, message=message, signature=signed.signature, digest=None)
    )


def changes_for(view: int, *numbers: int, stable: int, digest: bytes, signers: tuple[int, ...]) -> NewView:
    certificate = REALM.certificate(MessageType.CHECKPOINT, height=stable, digest=digest, signers=signers)
    changes = [REALM.view_change(number, view, stable=certificate) for number in numbers]
    return REALM.new_view(view, changes).message


# --- the barrier ---


def test_nobody_votes_above_the_boundary_before_its_block_is_stored() -> None:
    heir = Heir(1)
    heir.to_boundary(SEVEN)
    proposal = REALM.proposal(4, "early", leader=0)
    for number in (0, 2, 3):
        vote = Prepare(view=0, height=4, digest=proposal_digest(proposal))
        assert heir.step(unchecked(number, vote)) == []
    assert heir.step(unchecked(0, PrePrepare(view=0, proposal=proposal))) == []
    assert heir.core.in_flight == ()
    assert heir.core.validators is FIRST
    heir.store()
    assert heir.core.validators.digest == SEVEN.digest


def test_a_leader_proposes_nothing_above_the_boundary() -> None:
    heir = Heir(0)
    heir.step(TransactionsWaiting(overdue=False))
    heir.finish(1, "change", validators=SEVEN)
    heir.finish(2, "more")
    effects = heir.finish(3, "more still")
    assert requests(effects) == []
    assert heir.core.armed_timers == ()  # nothing is left to do but to store
    assert requests(heir.store()) == [(0, 4, False)]  # the next epoch knows that transactions wait


def test_a_block_stored_below_the_boundary_ends_nothing() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    heir.store()
    heir.finish(2)
    heir.store()
    assert heir.core.epoch_base == 0
    heir.finish(3)
    assert heir.core.epoch_base == 0
    heir.store()
    assert heir.core.epoch_base == 3


def test_the_boundary_is_work_for_the_leader_without_any_transaction() -> None:
    heir = Heir(0)
    heir.step(TransactionsWaiting(overdue=False))
    heir.propose(1, "change")
    proposal = REALM.proposal(1, "change", leader=0, timestamp_ms=heir.now)
    for kind in (Prepare, Commit):
        for number in (1, 2, 3):
            heir.hear(number, kind(view=0, height=1, digest=proposal_digest(proposal)))
    assert requests(heir.execute(proposal, SEVEN)) == [(0, 2, True)]  # replaces the open request
    assert Timer.VIEW in heir.core.armed_timers
    empty = REALM.proposal(2, leader=0, timestamp_ms=heir.now)
    effects = heir.step(ProposalPacked(view=heir.core.view, proposal=empty))
    assert [message.proposal.hashes for message in said(PrePrepare, effects)] == [b""]
    assert requests(effects) == []  # the window is 2
    assert requests(heir.certify()) == [(0, 3, True)]


def test_the_view_is_changed_where_the_leader_does_not_go_to_the_boundary() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    assert Timer.VIEW in heir.core.armed_timers
    [change] = said(ViewChange, heir.fire(Timer.VIEW))
    assert (change.view, change.stable.height if change.stable else 0) == (1, 1)


def test_an_empty_fresh_proposal_needs_no_bodies() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    proposal = REALM.proposal(2, leader=0, timestamp_ms=heir.now)
    effects = heir.hear(0, PrePrepare(view=0, proposal=proposal))
    assert [vote.digest for vote in said(Prepare, effects)] == [proposal_digest(proposal)]


def test_a_second_change_before_the_first_is_in_force_is_a_bug() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    proposal = heir.order(2, "another")
    header = execute(proposal, heir.header)
    with pytest.raises(InvariantError, match="is to end at 4"):
        heir.core.step(Executed(header=header, validators=FIRST), heir.now)


# --- what counts in which epoch ---


def test_views_begin_at_0_and_what_was_open_is_void() -> None:
    heir = Heir(2)
    heir.finish(1, "change", validators=SEVEN)
    heir.fire(Timer.VIEW)
    digest = header_hash(heir.header)
    heir.hear_signed(
        REALM.new_view(1, [
            REALM.view_change(number, 1, stable=REALM.certificate(
                MessageType.CHECKPOINT, height=1, digest=digest, signers=(0, 1, 2)
            ))
            for number in (0, 1, 3)
        ])
    )  # fmt: skip
    assert heir.core.view == 1
    for height in (2, 3):
        heir.finish(height)
    effects = heir.store()
    assert heir.core.view == 0
    assert of(CancelRequests, effects) == [CancelRequests()]
    [status] = said(Status, effects)
    assert status == Status(view=0, changing=False, certified=3, ordered=3)


def test_votes_of_the_next_epoch_for_heights_this_one_might_have_had_count_nowhere() -> None:
    """Node 1 is a window behind: heights 4 and 5 could be of its set, for all it knows."""
    heir = Heir(1)
    blocks = [REALM.proposal(height, f"{height}", leader=0) for height in range(1, 5)]
    for height in (3, 4):
        digest = proposal_digest(blocks[height - 1])
        for number in (0, 2, 3):
            for kind in (Prepare, Commit):
                heir.step(unchecked(number, kind(view=0, height=height, digest=digest)))
    assert heir.core.ordered_height == 0
    assert not [record for record in heir.journal if getattr(record, "certificate", None)]
    heir.finish(1, "change", validators=SEVEN)
    assert heir.core.inner.in_flight == (3,)  # certainly of this epoch: heard now
    assert heir.core.inner._ordering.slot(Height(4)) is None  # type: ignore[union-attr]


def test_checkpoint_votes_above_what_is_certain_make_no_certificate() -> None:
    heir = Heir(1)
    for number in (0, 2, 3):
        heir.hear(number, Checkpoint(height=4, digest=b"4" * 32))
    inner = heir.core.inner
    assert inner._checkpoints._certificates == {}
    heir.finish(1, "change", validators=SEVEN)
    assert 4 not in inner._checkpoints._tallies


def test_a_removed_validators_votes_do_not_count() -> None:
    heir = Heir(1)
    heir.to_epoch(set_of(0, 1, 2, 4))
    proposal, _ = heir.propose(4, "new")
    digest = proposal_digest(proposal)
    vote = Prepare(view=0, height=4, digest=digest)
    assert heir.dropped(REALM.sign(3, vote)) == "unknown_sender"
    heir.hear(0, vote)
    assert said(Commit, heir.step(unchecked(3, vote))) == []  # it would have been the third
    assert said(Commit, heir.hear(4, vote)) != []


def test_a_late_vote_of_the_last_epoch_is_nobodys_fault() -> None:
    heir = Heir(1)
    base = heir.to_epoch(set_of(0, 1, 2, 4))
    assert heir.dropped(REALM.sign(3, Checkpoint(height=base, digest=header_hash(heir.header)))) == "other_epoch"
    assert heir.dropped(REALM.sign(3, Prepare(view=2, height=base, digest=bytes(32)))) == "other_epoch"


def test_an_old_new_view_begins_nothing_in_a_new_epoch() -> None:
    heir = Heir(2)
    base = heir.to_boundary(SEVEN)
    old = changes_for(1, 0, 1, 3, stable=1, digest=b"1" * 32, signers=(0, 2, 3))
    before = REALM.sign(1, old)
    heir.store()
    assert base == 3
    assert heir.dropped(before) == "other_epoch"
    assert heir.step(unchecked(1, old)) == []  # verified before the epoch began
    assert (heir.core.view, heir.core.is_changing) == (0, False)


def test_an_old_view_change_is_not_counted_in_a_new_epoch() -> None:
    heir = Heir(1)
    heir.to_epoch(SEVEN)
    stable = REALM.certificate(MessageType.CHECKPOINT, height=2, digest=b"2" * 32, signers=(0, 2, 3))
    for number in (0, 2, 3):
        change = REALM.view_change(number, 5, stable=stable)
        assert heir.dropped(change) == "other_epoch"
        assert heir.step(unchecked(number, change.message)) == []
        genesis = REALM.view_change(number, 6)
        assert heir.dropped(genesis) == "other_epoch"
        assert heir.step(unchecked(number, genesis.message)) == []
    assert heir.core.is_changing is False


def test_a_new_view_of_two_epochs_is_its_leaders_fault() -> None:
    heir = Heir(2)
    base = heir.to_epoch(SEVEN)
    at_base = REALM.certificate(
        MessageType.CHECKPOINT, height=base, digest=header_hash(heir.header), signers=(0, 1, 3)
    )
    below = REALM.certificate(MessageType.CHECKPOINT, height=2, digest=b"2" * 32, signers=(0, 1, 3))
    changes = [REALM.view_change(number, 1, stable=below if number == 6 else at_base) for number in (0, 3, 4, 5, 6)]
    assert heir.dropped(REALM.new_view(1, changes)) == "bad_new_view"


def test_a_stable_certificate_at_the_base_is_checked_against_the_set_before() -> None:
    heir = Heir(1)
    base = heir.to_epoch(SEVEN)
    digest = header_hash(heir.header)
    three = REALM.certificate(MessageType.CHECKPOINT, height=base, digest=digest, signers=(0, 2, 3))
    assert heir.dropped(REALM.view_change(0, 1, stable=three)) == ""  # a quorum of four, not one of seven
    strangers = REALM.certificate(MessageType.CHECKPOINT, height=base, digest=digest, signers=(2, 3, 4, 5, 6))
    assert heir.dropped(REALM.view_change(2, 1, stable=strangers)) == "bad_certificate"
    above = REALM.certificate(MessageType.CHECKPOINT, height=base + 1, digest=digest, signers=(0, 2, 3))
    assert heir.dropped(REALM.view_change(2, 1, stable=above)) == "bad_certificate"


def test_what_is_said_in_an_epoch_to_come_is_no_fault_and_no_vote() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    later = REALM.certificate(MessageType.CHECKPOINT, height=4, digest=b"4" * 32, signers=(0, 2, 3, 4, 5))
    proposal = REALM.proposal(4, "later", leader=5)
    for message in (
        PrePrepare(view=5, proposal=proposal),
        Prepare(view=0, height=4, digest=bytes(32)),
        ViewChange(view=9, stable=later, prepared=()),
    ):
        assert heir.dropped(REALM.sign(5, message)) == "other_epoch"
    assert heir.dropped(REALM.new_view(9, [REALM.view_change(3, 9, stable=later)])) == "other_epoch"


def test_a_view_that_may_be_of_another_epoch_is_not_joined() -> None:
    heir = Heir(1)
    for number in (0, 2, 3):
        stable = REALM.certificate(MessageType.CHECKPOINT, height=40, digest=b"4" * 32, signers=(0, 2, 3))
        assert heir.dropped(REALM.view_change(number, 3, stable=stable)) == "other_epoch"
        heir.step(unchecked(number, ViewChange(view=3, stable=stable, prepared=())))
    assert heir.core.is_changing is False
    assert heir.core.inner.claims != {}  # but a reason to ask for blocks


# --- following ---


def test_a_removed_validator_follows_and_says_nothing_but_where_it_stands() -> None:
    heir = Heir(3)
    base = heir.to_epoch(set_of(0, 1, 2, 4))
    assert heir.core.is_following
    block = heir.block(base + 1, (0, 1, 2), "new")
    for number in (0, 1):
        heir.hear(number, Checkpoint(height=base + 1, digest=header_hash(block.header)))
    [fetch] = of(FetchBlocks, heir.fire(Timer.RETRANSMIT))  # a block behind is normal, for a while
    assert (fetch.first, fetch.last) == (base + 1, base + 1)
    [execution] = of(Execute, heir.step(block))
    effects = heir.execute(execution.proposal)
    assert [store.header.height for store in of(Store, effects)] == [base + 1]
    assert not [effect for effect in effects if isinstance(effect, Broadcast | Persist)]


def test_a_follower_becomes_a_validator_without_a_restart_and_an_observer_again() -> None:
    heir = Heir(4)
    assert heir.core.is_following
    for height in range(1, WINDOW + 2):
        block = heir.block(height, (0, 1, 2), f"{height}")
        heir.step(block)
        heir.execute(block.proposal, SEVEN if height == 1 else None)
    heir.store()
    assert not heir.core.is_following
    heir.finish(4, "with its own vote", validators=FIRST)
    assert VoteRecord(kind=MessageType.PREPARE, view=0, height=4, digest=heir.header.proposal_digest) in heir.journal
    for height in (5, 6):
        heir.finish(height)
    heir.store()
    assert heir.core.is_following


def test_a_follower_asks_again_and_falls_silent_when_nobody_claims_more() -> None:
    heir = Heir(4)
    heir.step(PeerStatus(peer=REALM.keys[0].validator_id, certified=Height(1)))
    assert Timer.RETRANSMIT in heir.core.armed_timers
    assert said(Status, heir.fire(Timer.RETRANSMIT)) != []
    [status] = said(Status, heir.fire(Timer.RETRANSMIT))  # the block asked for has not come
    assert status.certified == 0
    assert heir.core.armed_timers == ()


def test_a_follower_gives_a_packed_proposal_back() -> None:
    heir = Heir(4)
    proposal = REALM.proposal(1, "late", leader=4)
    [given_back] = of(Abandon, heir.step(ProposalPacked(view=heir.core.view, proposal=proposal)))
    assert given_back.digest == proposal_digest(proposal)


def test_a_follower_whose_execution_differs_stops() -> None:
    heir = Heir(4)
    block = heir.block(1, (0, 1, 2), "x")
    heir.step(block)
    other = execute(REALM.proposal(1, "x", timestamp_ms=heir.now), REALM.genesis)
    wrong = type(other)(**{name: getattr(other, name) for name in other.__struct_fields__} | {"gas_used": 7})
    heir.core.step(Executed(header=wrong), heir.now)
    assert heir.core.diverged is not None
    assert heir.core.diverged.reason == "header_differs"


def test_who_does_not_vote_learns_of_blocks_it_lacks_and_may_tell_of_others() -> None:
    heir = Heir(1)
    heir.finish(1, "x")
    observer = REALM.keys[6].validator_id
    [answer] = of(Send, heir.step(PeerStatus(peer=observer, certified=Height(0))))
    assert (answer.to, type(answer.message.message)) == (observer, Status)
    assert heir.step(PeerStatus(peer=observer, certified=Height(0))) == []  # answered a moment ago
    [fetch] = of(FetchBlocks, heir.step(PeerStatus(peer=observer, certified=Height(9))))
    assert fetch.sources == (observer,)


def test_a_status_of_a_stranger_is_no_fault_where_the_set_may_change() -> None:
    status = REALM.sign(6, Status(view=0, changing=False, certified=0, ordered=0))
    assert Heir(1).dropped(status) == "other_epoch"


def test_blocks_are_not_asked_for_nor_executed_beyond_what_is_certain() -> None:
    heir = Heir(4)
    blocks = [heir.block(1, (0, 1, 2), "1")]
    effects = heir.step(blocks[0])
    for height in range(2, 6):
        heir.header = blocks[-1].header
        blocks.append(heir.block(height, (0, 1, 2), f"{height}"))
        effects += heir.step(blocks[-1])
    heir.header = REALM.genesis
    assert [effect.proposal.height for effect in of(Execute, effects)] == [1, 2]
    heir.execute(blocks[0].proposal, SEVEN)
    for block in blocks[1:3]:
        heir.execute(block.proposal)
    assert heir.core.certified_height == 3
    assert heir.core.inner._checkpoints._fetched == {}  # the others were checked against the wrong set
    for number in (0, 1):
        heir.step(PeerStatus(peer=REALM.keys[number].validator_id, certified=Height(9)))
    assert heir.core.armed_timers == ()


# --- restarts ---


def test_a_restart_at_any_record_of_a_change_never_contradicts_what_was_said() -> None:
    """With every prefix of the journal, and with block 3 stored or not."""
    heir = Heir(1)
    heir.to_boundary(SEVEN)
    boundary_block = heir.stored
    heir.schedule.add(4, SEVEN)
    before = len(heir.journal)
    heir.store()
    proposal, _ = heir.propose(4, "new")
    for number in heir.numbers():
        heir.hear(number, Prepare(view=0, height=4, digest=proposal_digest(proposal)))
    assert len(heir.journal) > before
    other = REALM.proposal(4, "other", leader=0)
    for end in range(before, len(heir.journal) + 1):
        records = heir.journal[:end]
        heir.stored = boundary_block
        again = heir.restart(records)
        assert (again.core.epoch_base, again.core.validators.digest) == (3, SEVEN.digest)
        voted = [record for record in records if isinstance(record, VoteRecord) and record.height == 4]
        effects = again.hear(0, PrePrepare(view=0, proposal=other))
        contradicting = [vote for vote in said(Prepare, effects) if voted and vote.digest != voted[0].digest]
        assert not contradicting


def test_views_of_an_earlier_epoch_are_not_taken_up_again_after_a_restart() -> None:
    heir = Heir(2)
    heir.finish(1, "change", validators=SEVEN)
    heir.fire(Timer.VIEW)
    stable = REALM.certificate(MessageType.CHECKPOINT, height=1, digest=header_hash(heir.header), signers=(0, 2, 3))
    heir.hear_signed(REALM.new_view(1, [REALM.view_change(number, 1, stable=stable) for number in (0, 1, 3)]))
    for height in (2, 3):
        heir.finish(height)
    heir.schedule.add(4, SEVEN)
    heir.store()
    kinds = {type(record) for record in heir.journal}
    assert {ViewChangeRecord, NewViewRecord} <= kinds
    again = heir.restart()
    assert (again.core.view, again.core.is_changing, again.core.epoch_base) == (0, False, 3)
    lone = heir.restart([record for record in heir.journal if not isinstance(record, NewViewRecord)])
    assert (lone.core.view, lone.core.is_changing) == (0, False)


def test_a_restart_before_the_boundary_is_stored_goes_on_in_the_old_epoch() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    stored = heir.stored
    heir.schedule.add(4, SEVEN)
    heir.finish(2)
    heir.stored = stored
    again = heir.restart()
    assert (again.core.epoch_base, again.core.boundary) == (0, 3)
    assert [effect.proposal.height for effect in of(Execute, again.first)] == [2]
    assert Timer.VIEW in again.core.armed_timers or Timer.RETRANSMIT in again.core.armed_timers


def test_votes_of_an_epoch_whose_base_was_lost_are_remembered_when_it_comes_again() -> None:
    """The blocks come out of an older copy, the journal does not: it speaks of heights above the boundary."""
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    old = heir.stored
    heir.schedule.add(4, SEVEN)
    blocks = []
    for height in (2, 3):
        heir.finish(height)
        blocks.append(heir.header)
    heir.store()
    proposal, _ = heir.propose(4, "new")
    heir.stored = old
    again = heir.restart()
    assert (again.core.epoch_base, again.core.boundary) == (0, 3)
    for header in blocks:
        again.step(Executed(header=header))
        again.certify(header)
    again.store()
    assert again.core.epoch_base == 3
    other = REALM.proposal(4, "other", leader=0)
    assert said(Prepare, again.hear(0, PrePrepare(view=0, proposal=other))) == []
    assert again.core.inner._safety.said_prepare(
        view=again.core.view, height=Height(4)
    ) == proposal_digest(proposal)


# --- keys ---


def test_the_first_key_that_is_a_member_votes() -> None:
    schedule = ValidatorSchedule(FIRST)
    schedule.add(4, SEVEN)
    core = Succession(
        config=CONFIG, signers=(REALM.keys[5], REALM.keys[2]), schedule=schedule, chain_id=REALM.id, window=WINDOW,
        last=(REALM.genesis, None),
    )  # fmt: skip
    assert core.validator_id == REALM.keys[2].validator_id
    with pytest.raises(ConfigError, match="0 validator keys"):
        Succession(
            config=CONFIG, signers=(), schedule=schedule, chain_id=REALM.id, window=WINDOW, last=(REALM.genesis, None)
        )


@pytest.mark.parametrize("joins", [True, False])
def test_a_view_change_is_never_signed_for_an_epoch_that_has_not_begun(joins: bool) -> None:
    """The boundary's certificate was journalled with a late new-view and the block lost in a crash: who asks for a view
    now would ask for one of the next epoch, and vote in that epoch as if it had not."""
    heir = Heir(3)
    heir.finish(1, "change", validators=SEVEN)
    heir.store()
    heir.finish(2)
    heir.store()
    tip = heir.stored
    if joins:
        heir.finish(3)  # the boundary: certified, and not stored
    else:
        block = heir.block(3, (0, 1, 2))  # it came by sync
        heir.step(block)
        heir.execute(block.proposal)
    assert heir.core.boundary == heir.core.certified_height == 3
    changes = [REALM.view_change(number, 1, stable=tip[1]) for number in (0, 1, 2)]
    records = [effect.record for effect in of(Persist, heir.hear_signed(REALM.new_view(1, changes)))]
    assert [record.certificate.height for record in records if isinstance(record, CertificateRecord)] == [3]
    heir.stored = tip
    heir.schedule.add(4, SEVEN)
    again = heir.restart()
    effects: list[Effect] = []
    if joins:
        for number in (0, 1):
            effects += again.hear_signed(REALM.view_change(number, 2, stable=tip[1]))
    for _ in range(3):
        if Timer.VIEW in again.core.armed_timers:
            effects += again.fire(Timer.VIEW)
    assert said(ViewChange, effects) == []

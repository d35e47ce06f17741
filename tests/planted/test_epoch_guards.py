"""What the mutations of succession, followers and the epochs' borders found to be tested nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chain.errors import ConfigError, InvariantError
from chain.model.block import header_hash, proposal_digest
from chain.model.validators import ValidatorSchedule, ValidatorSet
from chain.types import Height, Instant, ValidatorId
from consensus import Replica, Succession
from consensus.catch_up import FETCH_BLOCKS_MAX
from consensus.effects import (
    Broadcast,
    CertificateRecord,
    Effect,
    Execute,
    FetchBlocks,
    Send,
    SetTimer,
    Store,
    VoteRecord,
)
from consensus.epoch import Epoch
from consensus.events import (
    BlockFetched,
    Executed,
    MessageReceived,
    PeerConnected,
    PeerStatus,
    ProposalObtained,
    Started,
    Stored,
    Timer,
    TransactionsWaiting,
)
from consensus.follower import Follower
from consensus.messages import Checkpoint, Commit, Message, MessageType, Prepare, PrePrepare, Status, Verified
from consensus.slot import Phase
from tests.unit.consensus.epochs import FIRST, REALM, SEVEN, WINDOW, Heir, set_of
from tests.unit.consensus.members import CONFIG, START, execute, of, said

IDS = [key.validator_id for key in REALM.keys]


def status(certified: int, *, view: int = 0, changing: bool = False, ordered: int | None = None) -> Status:
    return Status(view=view, changing=changing, certified=certified, ordered=certified if ordered is None else ordered)


def sent(effects: Sequence[Effect]) -> list[Message]:
    return [effect.message.message for effect in of(Send, effects)]


def blocks(heir: Heir, first: int, last: int) -> list[BlockFetched]:
    """Blocks that follow the last one of `heir`, signed by three of the first set."""
    header, made = heir.header, []
    for height in range(first, last + 1):
        made.append(heir.block(height, (0, 1, 2), f"{height}"))
        heir.header = made[-1].header
    heir.header = header
    return made


# --- what the journal says of other epochs ---


def test_a_view_asked_for_above_the_last_block_but_one_is_not_the_next_epochs() -> None:
    heir = Heir(2)
    heir.finish(1, "change", validators=SEVEN)
    heir.finish(2)
    heir.fire(Timer.VIEW)
    stable = REALM.certificate(MessageType.CHECKPOINT, height=2, digest=header_hash(heir.header), signers=(0, 1, 3))
    heir.hear_signed(REALM.new_view(1, [REALM.view_change(number, 1, stable=stable) for number in (0, 1, 3)]))
    heir.finish(3)
    heir.schedule.add(4, SEVEN)
    heir.store()
    again = heir.restart()
    assert (again.core.epoch_base, again.core.view, again.core.is_changing) == (3, 0, False)


def test_a_view_of_an_epoch_whose_base_was_lost_is_waited_for_when_it_comes_again_and_not_before() -> None:
    heir = Heir(2)
    heir.finish(1, "change", validators=SEVEN)
    old, headers = heir.stored, []
    heir.schedule.add(4, SEVEN)
    for height in (2, 3):
        heir.finish(height)
        headers.append(heir.header)
    heir.store()
    heir.step(TransactionsWaiting(overdue=True))
    heir.fire(Timer.VIEW)
    assert (heir.core.epoch_base, heir.core.view, heir.core.is_changing) == (3, 1, True)
    heir.stored = old
    again = heir.restart()
    assert (again.core.epoch_base, again.core.view, again.core.is_changing) == (0, 0, False)
    for header in headers:
        again.step(Executed(header=header))
        again.certify(header)
    again.store()
    assert (again.core.epoch_base, again.core.view, again.core.is_changing) == (3, 1, True)


def test_what_the_set_before_has_certified_above_its_end_is_not_taken_up_in_the_next_epoch() -> None:
    """All blocks are lost, the journal is not: it speaks of heights whose set is not known any more."""
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    headers = [heir.header]
    for height in (2, 3):
        heir.finish(height)
        headers.append(heir.header)
    heir.store()
    heir.propose(4, "new")
    again = Heir(1, journal=heir.journal)
    assert (again.core.epoch_base, again.core.boundary) == (0, None)
    other = REALM.proposal(4, "other", leader=0)
    for number in (0, 2, 3):  # no quorum of the seven who vote for this height
        again.hear(number, Commit(view=0, height=4, digest=proposal_digest(other)))
    for height, header in enumerate(headers, 1):
        again.step(Executed(header=header, validators=SEVEN if height == 1 else None))
        again.certify(header)
    again.schedule.add(4, SEVEN)
    again.store()
    assert again.core.epoch_base == 3
    for core in (again.core, again.restart().core):
        inner = core.inner
        assert isinstance(inner, Replica)
        slot = inner._ordering.slot(Height(4))
        assert slot is not None
        assert slot.ordered is None
        assert inner._safety.said_prepare(view=core.view, height=Height(4)) == slot.accepted != proposal_digest(other)


def lost(number: int, after: ValidatorSet, *, finished: int = WINDOW + 1) -> Heir:
    """The next life, with the journal only, of a node that has begun the epoch after height 3 with a proposal."""
    heir = Heir(number)
    heir.step(TransactionsWaiting(overdue=False))
    heir.finish(1, "change", validators=after)
    for height in range(2, WINDOW + 2):
        heir.finish(height)
    heir.store()
    for height in range(WINDOW + 2, finished + 1):
        heir.finish(height)
    heir.propose(finished + 1, "new")
    assert (heir.core.epoch_base, heir.core.validators) == (3, after)
    return Heir(number, journal=heir.journal)


def test_where_blocks_were_lost_nothing_follows_from_votes_above_what_is_certain_again() -> None:
    """The journal speaks of the next epoch. Those who vote in it are a quorum of the old set too."""
    again = lost(1, set_of(0, 1, 2, 3, 4))
    assert (again.core.epoch_base, again.core.epoch.end) == (0, WINDOW)
    before = len(again.journal)
    other = REALM.proposal(4, "other", leader=0)
    digest = proposal_digest(other)
    for kind in (Prepare, Commit):
        for number in (0, 2, 3):
            assert not again.hear(number, kind(view=0, height=4, digest=digest))
    again.step(ProposalObtained(digest=digest, proposal=other))
    assert again.journal[before:] == []
    assert again.core.phase(Height(4)) is not Phase.ORDERED


def test_where_blocks_were_lost_the_certificate_of_a_block_of_the_next_epoch_makes_nothing_certain() -> None:
    """It has a quorum of the old set too, and stands in the journal because something was said after it."""
    again = lost(2, set_of(0, 1, 2, 3, 4), finished=5)
    certified = {
        record.certificate.height
        for record in again.journal
        if isinstance(record, CertificateRecord) and record.certificate.kind == MessageType.CHECKPOINT
    }
    assert max(certified) == 5
    assert again.core.epoch.end == WINDOW


def test_where_blocks_were_lost_no_leader_of_the_old_epoch_repeats_what_the_next_ones_has_proposed() -> None:
    again = lost(0, set_of(1, 0, 2, 3, 4))
    assert again.core.is_leader
    repeated = [
        effect.message.message.proposal.height
        for effect in of(Broadcast, again.first)
        if isinstance(effect.message.message, PrePrepare)
    ]
    assert repeated == [1, 2, 3]  # its own


def test_where_blocks_were_lost_who_does_not_lead_the_old_epoch_repeats_nothing() -> None:
    again = lost(1, set_of(1, 0, 2, 3, 4))
    assert not again.core.is_leader
    assert not [effect for effect in of(Broadcast, again.first) if isinstance(effect.message.message, PrePrepare)]


# --- one core after the other ---


def test_a_block_stored_below_the_boundary_leaves_the_core_as_it_is() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    inner = heir.core.inner
    heir.propose(2, "in flight")
    heir.store()
    assert heir.core.inner is inner
    assert heir.core.in_flight == (2,)


def test_the_next_core_knows_of_the_blocks_that_the_last_one_has_heard_of() -> None:
    for number in (1, 6):
        heir = Heir(number)
        for height in range(1, WINDOW + 2):
            if number == 1:
                heir.finish(height, validators=set_of(0, 1, 2, 3, 4) if height == 1 else None)
            else:
                block = heir.block(height, (0, 1, 2))
                heir.step(block)
                heir.execute(block.proposal, set_of(0, 1, 2, 3, 4) if height == 1 else None)
        heir.step(PeerStatus(peer=IDS[5], certified=Height(20)))
        heir.step(PeerStatus(peer=IDS[0], certified=Height(9)))
        heir.store()
        assert heir.core.epoch_base == WINDOW + 1
        assert heir.core.inner.claims == {IDS[5]: 20, IDS[0]: 9}
        assert heir.core.is_following is (number == 6)


def crowned(*numbers: int, then: ValidatorSet) -> Succession:
    """A node with these keys; `then` is in force from height 4 on."""
    schedule = ValidatorSchedule(FIRST)
    schedule.add(4, then)
    return Succession(
        config=CONFIG, signers=[REALM.keys[number] for number in numbers], schedule=schedule, chain_id=REALM.id,
        window=WINDOW, last=(REALM.genesis, None),
    )  # fmt: skip


def to_next_epoch(core: Succession) -> ValidatorId:
    """Blocks come by sync and are stored. The key in use after that."""
    core.step(Started(), START)
    header = REALM.genesis
    for height in range(1, WINDOW + 2):
        proposal = REALM.proposal(height)
        header = execute(proposal, header)
        certificate = REALM.certificate(
            MessageType.CHECKPOINT, height=height, digest=header_hash(header), signers=(0, 1, 2)
        )
        core.step(BlockFetched(proposal=proposal, header=header, certificate=certificate), START)
        core.step(Executed(header=header), START)
    core.step(Stored(height=core.certified_height), START)
    assert core.epoch_base == WINDOW + 1
    return core.id


def test_a_node_has_at_most_two_keys() -> None:
    crowned(3, 5, then=SEVEN)
    with pytest.raises(ConfigError, match="3 validator keys"):
        crowned(3, 4, 5, then=SEVEN)


@pytest.mark.parametrize(
    ("keys", "more", "then", "after"),
    [
        ((3,), (), (0, 1, 2, 5), 3),  # follows
        ((3,), (5,), (0, 1, 2, 5), 5),
        ((3,), (5, 6), (0, 1, 2, 6), 6),  # the newest gives way to none
        ((3,), (5, 6), (0, 1, 2, 5), 3),  # and the one in use is kept
        ((3,), (5, 3), (0, 1, 2, 5), 5),  # one that is known changes nothing
        ((5, 3), (6,), (0, 1, 2, 5), 3),
        ((5, 3), (6,), (0, 1, 2, 3), 3),
        ((3, 5), (6,), (0, 1, 2, 3), 3),
        *(((3, other), (new,), (0, 1, 2, other), 3) for other, new in ((4, 5), (5, 6), (6, 4))),
        *(((0, other), (new,), (3, 1, 2, other), 0) for other, new in ((4, 5), (5, 6), (6, 4))),
        ((4,), (5,), (0, 1, 2, 4), 4),  # a follower's, too
        ((4, 6), (5,), (0, 1, 2, 6), 4),
    ],
)
def test_another_key_takes_the_place_of_the_one_that_is_not_in_use(
    keys: tuple[int, ...], more: tuple[int, ...], then: tuple[int, ...], after: int
) -> None:
    core = crowned(*keys, then=set_of(*then))
    for number in more:
        core.add_signer(REALM.keys[number])
    assert to_next_epoch(core) == IDS[after]


# --- what is certain ---


def test_what_is_certain_never_becomes_uncertain_and_an_end_that_is_reached_is_none_to_reach() -> None:
    epoch = Epoch(FIRST, window=WINDOW, executed=Height(9 - WINDOW))
    epoch.on_executed(Height(1))
    assert epoch.end == 9
    epoch.on_executed(Height(8))
    assert epoch.end == 8 + WINDOW
    epoch.close(Height(10))
    for low, is_ending in ((9, True), (10, False)):
        assert epoch.is_ending(Height(low)) is is_ending
        assert epoch.is_over(Height(low)) is not is_ending


def test_a_validator_executes_no_block_beyond_what_is_certain_to_be_its_epochs() -> None:
    heir = Heir(1)
    made = blocks(heir, 1, 5)
    effects = [effect for block in made for effect in heir.step(block)]
    assert [effect.proposal.height for effect in of(Execute, effects)] == [1, 2]
    assert [effect.proposal.height for effect in of(Execute, heir.execute(made[0].proposal))] == [3]


def test_who_asks_for_blocks_of_another_epoch_gets_no_votes_of_this_one() -> None:
    heir = Heir(1)
    base = heir.to_epoch(SEVEN)
    proposal, _ = heir.propose(base + 1, "new")
    own = [Prepare(view=0, height=base + 1, digest=proposal_digest(proposal))]
    assert sent(heir.hear(0, status(base - 1))) == [status(base)]
    assert sent(heir.hear(2, status(base))) == own
    assert sent(heir.hear(3, status(base + 9))) == []


def test_at_the_end_of_an_epoch_nobody_is_told_what_he_knows() -> None:
    heir = Heir(1)
    boundary = heir.to_boundary(SEVEN)
    assert sent(heir.hear(2, status(boundary))) == []
    assert sent(heir.hear(3, status(boundary - 1))) != []


def test_a_stranger_who_has_as_many_blocks_is_told_nothing() -> None:
    heir = Heir(1)
    heir.finish(1)
    for certified, answer in ((1, []), (0, [status(1)])):
        assert sent(heir.step(PeerStatus(peer=IDS[6], certified=Height(certified)))) == answer


# --- how long to wait, and for what ---


def test_on_the_way_to_a_boundary_everything_is_said_again() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    assert heir.core.armed_timers == (Timer.VIEW, Timer.RETRANSMIT)
    assert said(Status, heir.fire(Timer.RETRANSMIT)) == [status(1)]


def test_at_the_end_of_an_epoch_no_view_and_no_claim_is_waited_for() -> None:
    heir = Heir(2)
    heir.finish(1, "change", validators=SEVEN)
    for number in (0, 3):
        heir.hear_signed(REALM.view_change(number, 1, stable=heir.stored[1]))
    assert heir.core.is_changing
    assert heir.core.armed_timers == (Timer.VIEW, Timer.RETRANSMIT)
    for block in blocks(heir, 2, 3):
        heir.step(block)
        heir.execute(block.proposal)
    for number in (0, 3):
        heir.step(PeerStatus(peer=IDS[number], certified=Height(9)))
    assert heir.core.certified_height == heir.core.boundary == 3
    assert heir.core.is_changing
    assert not heir.core.armed_timers


# --- who has no vote ---


def observer(number: int = 4) -> Heir:
    heir = Heir(number)
    assert heir.core.is_following
    return heir


def heard(number: int, message: Message) -> MessageReceived:
    signed = REALM.sign(number, message)
    return MessageReceived(message=Verified(sender=signed.sender, message=message, signature=signed.signature))


def advanced(heir: Heir, height: int = 1) -> None:
    """One more block, by sync."""
    [block] = blocks(heir, height, height)
    heir.step(block)
    heir.execute(block.proposal)
    assert heir.core.certified_height == height


def follower(claims: dict[ValidatorId, Height] | None = None) -> Follower:
    return Follower(
        config=CONFIG, signer=REALM.keys[4], chain_id=REALM.id, window=WINDOW, last=(REALM.genesis, None),
        epoch=Epoch(FIRST, window=WINDOW), claims=claims,
    )  # fmt: skip


def test_it_is_visible_where_a_follower_stands() -> None:
    heir = observer()
    assert not heir.core.in_flight
    made = blocks(heir, 1, 3)
    for block in made:
        heir.step(block)
    assert (heir.core.in_flight, heir.core.ordered_height, heir.core.executed_height) == ((1, 2), 2, 0)
    heir.execute(made[0].proposal)
    assert heir.core.in_flight == (2, 3)
    assert [heir.core.phase(Height(height)) for height in range(5)] == [
        Phase.CERTIFIED, Phase.CERTIFIED, Phase.ORDERED, Phase.ORDERED, Phase.UNKNOWN,
    ]  # fmt: skip


def test_a_follower_starts_once_and_hears_nothing_before() -> None:
    core = follower(claims={IDS[1]: Height(0), IDS[2]: Height(7)})
    assert core.claims == {IDS[2]: 7}
    assert follower().claims == {}
    assert core.step(heard(0, status(9)), START) == []
    assert core.claims == {IDS[2]: 7}
    core.step(Started(), START)
    with pytest.raises(InvariantError, match="started twice"):
        core.step(Started(), START)


def test_a_follower_that_has_diverged_does_nothing_any_more() -> None:
    heir = observer()
    [block] = blocks(heir, 1, 1)
    heir.step(block)
    wrong = execute(REALM.proposal(1, "1", timestamp_ms=heir.now + 1), REALM.genesis)
    broken = type(wrong)(**{name: getattr(block.header, name) for name in wrong.__struct_fields__} | {"gas_used": 7})
    assert of(Store, heir.step(Executed(header=broken))) == []
    assert heir.core.diverged is not None
    assert heir.step(PeerStatus(peer=IDS[0], certified=Height(9))) == []
    assert heir.step(PeerConnected(peer=IDS[0])) == []
    assert heir.step(block) == []


@pytest.mark.parametrize("number", [4, 5, 6])
def test_a_follower_tells_who_connects_where_it_stands_and_does_not_hear_itself(number: int) -> None:
    heir = observer(number)
    assert sent(heir.step(PeerConnected(peer=IDS[0]))) == [status(0)]
    assert heir.step(PeerConnected(peer=IDS[number])) == []
    for sender in range(7):
        heir.step(heard(sender, status(9)))
    assert set(heir.core.inner.claims) == set(IDS) - {IDS[number]}


def test_a_follower_answers_who_has_fewer_blocks_and_not_too_often() -> None:
    heir = observer()
    advanced(heir)
    begin = heir.now
    for peer, after_ms, certified, answers in (
        (0, 0, 1, 0), (0, 0, 0, 1), (0, 99, 0, 0), (6, 99, 0, 1), (0, 100, 0, 1), (1, 100, 2, 0)
    ):  # fmt: skip
        heir.now = Instant(begin + after_ms)
        effects = heir.step(PeerStatus(peer=IDS[peer], certified=Height(certified)))
        assert sent(effects) == [status(1)] * answers, (peer, after_ms)


def test_a_follower_believes_whoever_claims_more_than_it_has() -> None:
    heir = observer()
    advanced(heir)
    for number, certified in ((0, 1), (5, 1), (1, 2), (6, 3)):
        heir.step(PeerStatus(peer=IDS[number], certified=Height(certified)))
        heir.step(heard(number, Checkpoint(height=certified, digest=bytes(32))))
    assert heir.core.inner.claims == {IDS[1]: 2, IDS[6]: 3}
    heir.step(PeerStatus(peer=IDS[1], certified=Height(5)))
    heir.step(PeerStatus(peer=IDS[1], certified=Height(4)))
    assert heir.core.inner.claims[IDS[1]] == 5


def test_a_follower_keeps_no_block_beyond_what_it_may_have_asked_for() -> None:
    heir = observer()
    made = blocks(heir, 1, FETCH_BLOCKS_MAX + 1)
    for block in made[-2:]:
        heir.step(block)
    checkpoints = heir.core.inner._checkpoints
    assert [checkpoints.is_fetched(Height(FETCH_BLOCKS_MAX + more)) for more in (0, 1)] == [True, False]


def test_a_follower_does_not_ask_again_for_blocks_that_wait_for_execution() -> None:
    heir = observer()
    heir.step(PeerStatus(peer=IDS[0], certified=Height(2)))
    for block in blocks(heir, 1, 2):
        heir.step(block)
    effects = heir.fire(Timer.RETRANSMIT)
    assert of(FetchBlocks, effects) == []
    assert heir.core.inner.claims == {IDS[0]: 2}


def test_a_follower_waits_longer_each_time_and_anew_with_each_block() -> None:
    heir = observer()
    [first, second] = blocks(heir, 1, 2)
    heir.step(first)
    assert heir.core.armed_timers == (Timer.RETRANSMIT,)  # it executes, though nobody claims anything
    heir.step(second)
    waits = []
    for _ in range(3):
        [timer] = of(SetTimer, heir.fire(Timer.RETRANSMIT))
        waits.append(timer.at - heir.now)
    assert waits == [400, 800, 1600]
    assert of(SetTimer, heir.step(PeerConnected(peer=IDS[0]))) == []
    heir.now = Instant(heir.now + 5)
    [timer] = of(SetTimer, heir.execute(first.proposal))
    assert timer.at - heir.now == 200
    assert heir.execute(second.proposal) != []
    assert not heir.core.armed_timers


def test_a_follower_signs_no_vote() -> None:
    heir = observer()
    advanced(heir)
    assert [record for record in heir.journal if isinstance(record, VoteRecord)] == []

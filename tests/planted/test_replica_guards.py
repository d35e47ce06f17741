"""What the mutations of the replica's parts found to be tested nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from chain.codec import encode
from chain.errors import BadInput, DecodeError, InvariantError
from chain.model.block import Proposal, header_hash, proposal_digest
from chain.types import MESSAGE_BYTES_MAX, Digest, Height, Instant, View
from consensus import Replica, ReplicaConfig, decode_signed, encode_signed
from consensus.catch_up import STRANGERS_MAX, CatchUp
from consensus.effects import Abandon, Effect, Execute, FetchBlocks, Send, SetTimer, Speculate
from consensus.epoch import Epoch
from consensus.events import MessageReceived, PeerConnected, PeerStatus, Timer, TransactionsWaiting
from consensus.kept import Kept
from consensus.leader import Leader
from consensus.messages import (
    Checkpoint,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Verified,
)
from consensus.retransmission import ANSWERED_MAX, Answered
from consensus.timers import Timers
from tests.planted.chains import fetched
from tests.unit.consensus.members import CONFIG, START, WINDOW, Chain, Key, evidence_of, execute, of
from tests.unit.consensus.solo import Solo

CHAIN = Chain()
IDS = CHAIN.validators.ids()


def unchecked(number: int, message: Message) -> MessageReceived:
    """As if verification had let it pass."""
    signed = CHAIN.sign(number, message)
    return MessageReceived(message=Verified(sender=signed.sender, message=message, signature=signed.signature))


def status(certified: int, *, view: int = 0, changing: bool = False, ordered: int | None = None) -> Status:
    return Status(view=view, changing=changing, certified=certified, ordered=certified if ordered is None else ordered)


def one_block(number: int = 1) -> Solo:
    """A replica with block 1."""
    solo = Solo(CHAIN, number)
    solo.finish(CHAIN.proposal(1, "a"), CHAIN.genesis)
    assert solo.replica.armed_timers == ()
    return solo


# --- what it is made of ---


def test_a_replica_belongs_to_a_set() -> None:
    with pytest.raises(InvariantError, match="needs a validator set or an epoch"):
        Replica(config=CONFIG, signer=CHAIN.keys[0], chain_id=CHAIN.id, window=WINDOW, last=(CHAIN.genesis, None))


def test_a_replica_knows_from_the_start_of_which_blocks_others_have_spoken() -> None:
    solo = Solo(CHAIN, claims={IDS[2]: Height(9), IDS[3]: Height(0)})
    assert solo.replica.claims == {IDS[2]: 9}
    assert [fetch.sources for fetch in of(FetchBlocks, solo.first)] == [(IDS[2],)]


def test_what_the_pool_keeps_reserved_is_told_height_by_height() -> None:
    solo = Solo(CHAIN)
    first, third = CHAIN.proposal(1, "a"), CHAIN.proposal(3, "c")
    assert not solo.replica.standing
    solo.propose(third)
    solo.commit(CHAIN.proposal(2, "b"), 0, 2)  # not proposed here
    solo.propose(first)
    assert solo.replica.standing == (proposal_digest(first), proposal_digest(third))


# --- what others claim ---


def test_only_who_claims_more_than_is_here_is_remembered() -> None:
    solo = one_block()
    stable = CHAIN.certificate(
        MessageType.CHECKPOINT, height=1, digest=header_hash(execute(CHAIN.proposal(1, "a"), CHAIN.genesis)),
        signers=(0, 2, 3),
    )  # fmt: skip
    horizon = 1 + 2 * WINDOW
    solo.hear(2, status(1))
    solo.step(PeerStatus(peer=IDS[2], certified=Height(1)))
    solo.step(PeerStatus(peer=Key(9).validator_id, certified=Height(1)))
    solo.hear(2, Checkpoint(height=horizon, digest=bytes(32)))  # kept as a vote
    solo.hear_signed(CHAIN.view_change(2, 9, stable=stable))
    solo.change_view(6, *[CHAIN.view_change(number, 6, stable=stable) for number in (0, 2, 3)])
    assert (solo.replica.view, solo.replica.claims) == (6, {})
    solo.hear(2, Checkpoint(height=horizon + 1, digest=bytes(32)))
    assert solo.replica.claims == {IDS[2]: horizon + 1}


def test_claims_only_grow() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 0)
    assert not catch_up.is_behind
    for height in (9, 5, 10, 9):
        catch_up.note(IDS[0], height)
    assert catch_up.claims == {IDS[0]: 10}


def test_of_a_bounded_number_of_strangers_claims_are_kept() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    strangers = [Key(100 + number).validator_id for number in range(STRANGERS_MAX + 1)]
    for member in IDS:
        catch_up.note(member, 3)
    for stranger in strangers:
        catch_up.note_stranger(stranger, 5)
    assert set(catch_up.claims) == {*IDS, *strangers[:-1]}
    catch_up.note_stranger(strangers[0], 8)
    catch_up.note_stranger(strangers[1], 4)
    assert (catch_up.claims[strangers[0]], catch_up.claims[strangers[1]]) == (8, 5)


def test_the_highest_of_uncertain_claims_is_asked_for() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    one, two = sorted(Key(number).validator_id for number in (8, 9))
    catch_up.note_stranger(one, 4)
    catch_up.note_stranger(two, 9)
    asked = catch_up.request(low=Height(0), ordered=Height(0))
    assert asked == FetchBlocks(first=Height(1), last=Height(9), sources=(two,))


def test_two_blocks_of_delay_are_asked_for_at_once_and_one_is_not() -> None:
    for claimed, is_asked in ((6, False), (7, True)):
        catch_up = CatchUp(Epoch(CHAIN.validators))
        catch_up.note(IDS[0], claimed)
        assert (catch_up.request(low=Height(5), ordered=Height(5)) is not None) is is_asked


def test_nothing_is_asked_for_above_the_last_height_of_the_epoch() -> None:
    for low, last in ((5, None), (4, 5)):
        catch_up = CatchUp(Epoch(CHAIN.validators, boundary=Height(5)))
        catch_up.note(IDS[0], 9)
        catch_up.stall(missing=False)
        asked = catch_up.request(low=Height(low), ordered=Height(low))
        assert (None if asked is None else asked.last) == last


def test_who_has_given_what_was_asked_for_is_not_doubted_for_his_next_claim() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 9)
    assert catch_up.request(low=Height(0), ordered=Height(0)) is not None
    catch_up.advance(Height(9))
    catch_up.note(IDS[0], 10)
    catch_up.stall(missing=True)
    assert catch_up.claims == {IDS[0]: 10}


def test_blocks_that_have_come_and_wait_for_execution_are_not_asked_for_again() -> None:
    solo = Solo(CHAIN)
    solo.hear(2, status(3))
    header = CHAIN.genesis
    for height in (1, 2, 3):
        proposal = CHAIN.proposal(height, f"{height}")
        solo.step(fetched(CHAIN, proposal, header))
        header = execute(proposal, header)
    assert of(FetchBlocks, solo.fire(Timer.RETRANSMIT)) == []
    assert solo.replica.claims == {IDS[2]: 3}


# --- answers ---


def test_a_peer_is_answered_again_after_half_the_time_of_retransmission() -> None:
    for retransmit_ms, wait_ms in ((200, 100), (1, 1)):
        config = type(CONFIG)(retransmit_ms=retransmit_ms)
        solo = Solo(CHAIN, config=config)
        solo.propose(CHAIN.proposal(1, "a"))
        for after_ms, count in ((0, 1), (wait_ms - 1, 0), (wait_ms, 1)):
            solo.now = Instant(1_000_000 + after_ms)
            assert len(of(Send, solo.hear(3, status(0)))) == count or (wait_ms, after_ms) == (1, 0)


# --- views ---


def test_a_new_view_comes_from_its_leader_whoever_comes_before_or_after_him() -> None:
    for view in range(1, 5):
        message = CHAIN.new_view(view, [CHAIN.view_change(number, view) for number in (0, 2, 3)]).message
        for sender in {0, 2, 3} - {view % 4}:
            solo = Solo(CHAIN)
            assert evidence_of(solo.step(unchecked(sender, message))) == ["not_leader"]
            assert solo.replica.view == 0


def test_a_new_view_that_comes_late_is_nobodys_fault() -> None:
    solo = Solo(CHAIN)
    late = CHAIN.new_view(2, [CHAIN.view_change(number, 2) for number in (0, 2, 3)])
    assert isinstance(late.message, NewView)
    solo.change_view(3, *[CHAIN.view_change(number, 3) for number in (0, 2, 3)])
    assert solo.hear_signed(late) == []
    assert solo.replica.view == 3


@pytest.mark.parametrize("text", ["b", "c", "d", "e", "f"])
def test_what_another_proposal_has_prepared_does_not_hold_a_fresh_one_when_its_view_ends(text: str) -> None:
    solo = Solo(CHAIN, number=3)
    first, second = CHAIN.proposal(1, "a"), CHAIN.proposal(1, text, leader=1)
    solo.propose(first)
    solo.prepare(first, 0, 2)
    solo.change_view(1, *[CHAIN.view_change(number, 1) for number in (0, 1, 2)])  # none of them has prepared it
    solo.propose(second, view=1)
    given_back = [effect.digest for effect in of(Abandon, solo.fire(Timer.VIEW))]
    assert given_back == [proposal_digest(second)]
    assert solo.replica.standing == ()


# --- execution ahead ---


def test_what_is_ordered_without_having_been_prepared_here_is_named_above_what_is_prepared() -> None:
    solo = Solo(CHAIN)
    first, second = CHAIN.proposal(1, "a"), CHAIN.proposal(2, "b")
    solo.commit(second, 0, 2, 3)
    solo.obtain(second)
    solo.propose(first)
    effects = solo.prepare(first, 0, 2)
    assert [effect.proposal for effect in of(Speculate, effects)] == [first, second]


def test_a_peer_that_connects_is_told_the_height() -> None:
    solo = one_block()
    [told] = of(Send, solo.step(PeerConnected(peer=IDS[3])))
    assert told.message.message == status(1)
    assert solo.replica.view == View(0)


# --- one height ---


def test_what_is_ordered_is_in_flight_after_a_restart_and_is_taken_whenever_it_comes() -> None:
    life = Solo(CHAIN)
    proposal = CHAIN.proposal(1, "a")
    life.commit(proposal, 0, 2, 3)
    again = life.restart()
    assert again.replica.in_flight == (1,)
    assert Timer.RETRANSMIT in again.replica.armed_timers
    assert [effect.proposal for effect in of(Execute, again.obtain(proposal))] == [proposal]


def test_at_an_ordered_height_no_other_proposal_is_kept() -> None:
    solo = Solo(CHAIN)
    late, ordered = CHAIN.proposal(1, "late"), CHAIN.proposal(1, "a")
    solo.hear(0, PrePrepare(view=0, proposal=late))
    solo.change_view(2, *[CHAIN.view_change(number, 2) for number in (0, 2, 3)])
    solo.commit(ordered, 0, 2, 3, view=2)
    assert solo.obtain(late) == []


# --- what is kept until it can be judged ---


def prepare(number: int, view: int, height: int) -> Verified[Prepare]:
    return CHAIN.verified(number, Prepare(view=view, height=height, digest=bytes([view] * 32)))


def test_of_a_sender_what_it_says_in_its_highest_view_is_kept_until_that_view_is_entered() -> None:
    kept = Kept()
    for view, height in ((1, 1), (3, 2), (2, 3), (3, 4)):
        kept.add(prepare(2, view, height), View(view), Height(height))
    kept.add(prepare(3, 1, 1), View(1), Height(1))
    assert list(kept.speakers_above(View(2))) == [IDS[2]]
    assert list(kept.speakers_above(View(3))) == []
    assert list(kept.take_view(View(2))) == []  # what was said in view 1 is void
    assert [received.message.height for received in kept.take_view(View(3)) if isinstance(received.message, Prepare)] \
        == [2, 4]
    assert list(kept.take_view(View(3))) == []


def test_what_was_said_of_higher_heights_is_kept_when_the_lower_ones_are_taken() -> None:
    kept = Kept()
    for height in (5, 7):
        kept.add(prepare(2, 1, height), View(1), Height(height))
    assert kept.take_up_to(Height(4)) == []
    assert kept.take_up_to(Height(5)) == [prepare(2, 1, 5)]
    assert kept.take_up_to(Height(9)) == [prepare(2, 1, 7)]
    kept.add(prepare(2, 0, 5), View(0), Height(5))
    assert kept.take_up_to(Height(9)) == [prepare(2, 0, 5)]  # nothing holds the sender to view 1 any more


# --- bytes ---


def test_a_message_of_the_greatest_length_is_sent_and_one_byte_more_is_not() -> None:
    lengths = [len(encode_signed(CHAIN.sign(0, PrePrepare(view=0, proposal=padded(size))))) for size in (2**20, 2**21)]
    assert lengths[1] - lengths[0] == 2**20
    size = MESSAGE_BYTES_MAX - (lengths[0] - 2**20)
    assert len(encode_signed(CHAIN.sign(0, PrePrepare(view=0, proposal=padded(size))))) == MESSAGE_BYTES_MAX
    with pytest.raises(BadInput, match="at most"):
        encode_signed(CHAIN.sign(0, PrePrepare(view=0, proposal=padded(size + 1))))


def padded(size: int) -> Proposal:
    return msgspec.structs.replace(CHAIN.proposal(1), hashes=bytes(size))


def test_a_message_of_another_shape_is_refused_with_what_would_be_right() -> None:
    vote = prepare(1, 0, 1)
    for kind, sender, signature, text in (
        (0, vote.sender, vote.signature, "message type 0, must be 1..7"),
        (8, vote.sender, vote.signature, "message type 8, must be 1..7"),
        (2, vote.sender[1:], vote.signature, "sender: 19 bytes"),
        (2, vote.sender + b"x", vote.signature, "sender: 21 bytes"),
        (2, vote.sender, vote.signature[1:], "signature: 63 bytes"),
        (2, vote.sender, vote.signature + b"x", "signature: 65 bytes"),
    ):
        with pytest.raises(DecodeError, match=text):
            decode_signed(encode((kind, sender, encode(vote.message), signature)))


# --- how long to wait ---


def test_settings_may_be_as_low_as_one_and_as_equal_as_can_be() -> None:
    config = ReplicaConfig(view_timeout_ms=1, view_timeout_ms_max=1, retransmit_ms=1, timestamp_drift_ms_max=1)
    assert config.view_timeout_ms_max == 1


def test_a_transaction_is_passed_over_from_when_it_is_overdue() -> None:
    leader, one = Leader(), Digest(b"1" * 32)
    leader.on_waiting(overdue=False, oldest=one, now=Instant(10))
    assert leader.passed_over_since is None
    leader.on_waiting(overdue=True, oldest=one, now=Instant(20))
    assert leader.passed_over_since == 20
    leader.on_waiting(overdue=True, oldest=one, now=Instant(30))
    assert leader.passed_over_since == 20


def test_a_timer_that_goes_off_in_the_moment_it_was_set_is_put_back() -> None:
    timers, out = Timers(), list[Effect]()
    timers.arm(Timer.VIEW, now=Instant(10), delay_ms=5, out=out)
    assert not timers.fire(Timer.VIEW, Instant(10), out)
    assert out[1:] == [SetTimer(timer=Timer.VIEW, at=Instant(15))]
    assert timers.fire(Timer.VIEW, Instant(9), out)  # the clock was set back


def test_the_clock_of_a_far_proposal_is_set_once() -> None:
    solo = Solo(CHAIN)
    far = CHAIN.proposal(1, "a", timestamp_ms=START + CONFIG.timestamp_drift_ms_max + 700)
    [timer] = [effect for effect in of(SetTimer, solo.hear(0, PrePrepare(view=0, proposal=far)))
               if effect.timer is Timer.TIMESTAMP]  # fmt: skip
    assert timer.at == START + 700
    for number in (0, 2):
        effects = solo.hear(number, Prepare(view=0, height=1, digest=proposal_digest(far)))
        assert [effect for effect in of(SetTimer, effects) if effect.timer is Timer.TIMESTAMP] == []
    solo.hear(0, PrePrepare(view=0, proposal=CHAIN.proposal(2, "b", timestamp_ms=far.timestamp_ms - 300)))
    assert solo.replica._pace.timers.deadline(Timer.TIMESTAMP) == START + 400


def test_who_waits_for_a_view_has_the_time_of_that_view_whatever_the_last_leader_left_out() -> None:
    solo = Solo(CHAIN)
    oldest = Digest(b"1" * 32)
    solo.step(TransactionsWaiting(overdue=True, oldest=oldest))
    solo.fire(Timer.VIEW)
    assert solo.replica.armed_timers == (Timer.RETRANSMIT,)
    solo.now = Instant(solo.now + 60_000)
    effects = [effect for number in (0, 2) for effect in solo.hear_signed(CHAIN.view_change(number, 2))]
    assert solo.replica.is_changing
    [timer] = [effect for effect in of(SetTimer, effects) if effect.timer is Timer.VIEW]
    assert timer.at - solo.now == solo.replica.view_timeout_ms == 4 * CONFIG.view_timeout_ms


def test_who_only_waits_for_its_leader_says_nothing_and_who_waits_with_a_quorum_says_it_again() -> None:
    solo = Solo(CHAIN)
    solo.step(TransactionsWaiting(overdue=True))
    assert solo.replica.armed_timers == (Timer.VIEW,)
    quiet = Solo(CHAIN)
    for number in (0, 2):
        quiet.hear_signed(CHAIN.view_change(number, 2))
    assert quiet.replica.is_changing
    assert quiet.replica.armed_timers == (Timer.VIEW, Timer.RETRANSMIT)


# --- saying it again ---


def test_of_a_bounded_number_of_peers_it_is_known_when_they_were_answered() -> None:
    answered = Answered(interval_ms=100)
    peers = [Key(200 + number).validator_id for number in range(ANSWERED_MAX + 1)]
    assert all(answered.may_answer(peer, Instant(0)) for peer in peers)
    assert not answered.may_answer(peers[1], Instant(99))
    assert answered.may_answer(peers[0], Instant(0))  # the first one is forgotten
    assert not answered.may_answer(peers[-1], Instant(0))
    assert answered.may_answer(peers[-1], Instant(100))
    assert answered.may_answer(peers[-1], Instant(-5))  # the clock was set back


def test_a_new_view_is_shown_to_none_who_waits_for_a_later_one() -> None:
    solo = Solo(CHAIN)
    solo.change_view(2, *[CHAIN.view_change(number, 2) for number in (0, 2, 3)])
    assert of(Send, solo.hear(3, status(0, view=3, changing=True))) == []
    assert [type(effect.message.message) for effect in of(Send, solo.hear(0, status(0, view=1, changing=True)))] == [
        NewView
    ]


# --- for people ---


def test_the_story_of_a_height_is_told_in_these_words() -> None:
    solo = Solo(CHAIN)
    first, second = CHAIN.proposal(1, "a"), CHAIN.proposal(2, "b")
    leader, digest = IDS[0].hex()[:8], proposal_digest(second).hex()[:8]
    solo.hear(0, PrePrepare(view=0, proposal=first))
    solo.hear(0, PrePrepare(view=0, proposal=second))
    solo.hear(0, Checkpoint(height=2, digest=bytes(32)))
    solo.commit(second, 0, 2, 3)
    assert [text for _, text in solo.replica.story(Height(2))] == [
        f"PrePrepare view 0  from {leader}",
        f"obtain {digest} fresh",
        f"Checkpoint 00000000 from {leader}",
        f"Commit view 0 {digest} from {leader}",
        f"Commit view 0 {digest} from {IDS[2].hex()[:8]}",
        f"Commit view 0 {digest} from {IDS[3].hex()[:8]}",
        f"obtain {digest}",
    ]

"""What the mutations of `consensus/verification.py` found to be tested nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from chain.errors import InvariantError, PeerFault
from chain.model.block import Certificate
from chain.types import Height
from consensus import OtherEpoch, certificate_items, examine, verify
from consensus.epoch import Epoch
from consensus.messages import (
    VIEW_MAX,
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    Status,
    ViewChange,
)
from consensus.verification import HEIGHT_MAX
from tests.unit.consensus.epochs import FIRST, REALM, SEVEN
from tests.unit.consensus.members import Chain, verify_signature

CHAIN = Chain()
WINDOW = 2
DIGEST = bytes(range(32))


def epoch(*, base: int = 0, boundary: int | None = None, executed: int | None = None) -> Epoch:
    """The first epoch of the realm, or the one with seven members after it; certain up to `executed` + 2."""
    return Epoch(
        FIRST if base == 0 else SEVEN,
        base=Height(base),
        previous=None if base == 0 else FIRST,
        boundary=None if boundary is None else Height(boundary),
        window=WINDOW,
        executed=Height(base if executed is None else executed),
    )


def verdict(signed: Signed[Message], at: Epoch) -> str:
    """Empty if it passes, "other_epoch", or the reason of the fault."""
    try:
        verify(signed, epoch=at, chain_id=REALM.id, window=WINDOW, verify_signature=verify_signature)
    except OtherEpoch:
        return "other_epoch"
    except PeerFault as fault:
        return str(fault).split(":", 1)[0]
    return ""


def judged(number: int, message: Message, at: Epoch) -> str:
    return verdict(REALM.sign(number, message), at)


def block(height: int, *signers: int) -> Certificate:
    return REALM.certificate(MessageType.CHECKPOINT, height=height, digest=DIGEST, signers=signers)


def votes(height: int) -> tuple[Message, ...]:
    return (Prepare(view=0, height=height, digest=DIGEST), Commit(view=0, height=height, digest=DIGEST))


# --- whose message it is ---


def test_a_message_is_examined_against_somebody() -> None:
    with pytest.raises(InvariantError, match="against a validator set or an epoch"):
        examine(CHAIN.sign(0, votes(1)[0]), chain_id=CHAIN.id)


def test_where_the_set_never_changes_a_strangers_status_is_its_fault() -> None:
    status = Chain(5).sign(4, Status(view=0, changing=False, certified=0, ordered=0))
    with pytest.raises(PeerFault, match="unknown_sender"):
        examine(status, validators=CHAIN.validators, chain_id=CHAIN.id)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_not_even_tried(length: int) -> None:
    signed = CHAIN.sign(0, votes(1)[0])
    with pytest.raises(PeerFault, match="bad_signature"):
        examine(
            Signed(sender=signed.sender, message=signed.message, signature=bytes(length)),
            validators=CHAIN.validators, chain_id=CHAIN.id,
        )  # fmt: skip


@pytest.mark.parametrize("length", [0, 63, 65])
def test_nor_is_one_in_a_certificate(length: int) -> None:
    first, *others = block(1, 0, 1, 2).signatures
    odd = msgspec.structs.replace(first, signature=bytes(length))
    certificate = msgspec.structs.replace(block(1, 0, 1, 2), signatures=(odd, *others))
    with pytest.raises(PeerFault, match="bad_signature"):
        certificate_items(certificate, kind=MessageType.CHECKPOINT, validators=FIRST, chain_id=REALM.id)


def test_a_view_is_led_by_one_whoever_comes_before_or_after_him() -> None:
    for view in range(4):
        changes = [CHAIN.view_change(number, view + 4) for number in range(4)]
        new_view = CHAIN.new_view(view + 4, changes).message
        for sender in range(4):
            proposed = CHAIN.sign(sender, PrePrepare(view=view, proposal=CHAIN.proposal(1, "a", leader=sender)))
            for signed in (proposed, CHAIN.sign(sender, new_view)):
                if sender == view:
                    CHAIN.verify(signed)
                else:
                    with pytest.raises(PeerFault, match="not_leader"):
                        CHAIN.verify(signed)
        for other in {0, 1, 2, 3} - {view}:
            with pytest.raises(PeerFault, match="bad_proposer"):
                CHAIN.verify(CHAIN.sign(view, PrePrepare(view=view, proposal=CHAIN.proposal(1, "a", leader=other))))


# --- ranges ---


def test_a_status_names_heights_that_there_can_be() -> None:
    for certified, ordered, refused in (
        (0, 0, False), (HEIGHT_MAX, HEIGHT_MAX, False), (3, 4, False),
        (0, HEIGHT_MAX + 1, True), (HEIGHT_MAX + 1, HEIGHT_MAX + 1, True), (4, 3, True), (-1, 0, True),
    ):  # fmt: skip
        signed = CHAIN.sign(1, Status(view=0, changing=False, certified=certified, ordered=ordered))
        if refused:
            with pytest.raises(PeerFault, match="bad_height"):
                CHAIN.verify(signed)
        else:
            CHAIN.verify(signed)


def test_a_claim_of_another_epoch_is_passed_on_if_it_names_a_height_that_there_can_be() -> None:
    for message, claim in (
        (Status(view=0, changing=False, certified=9, ordered=9), 9),
        (Status(view=0, changing=False, certified=0, ordered=0), 0),
        (Status(view=0, changing=False, certified=HEIGHT_MAX, ordered=9), HEIGHT_MAX),
        (Status(view=0, changing=False, certified=HEIGHT_MAX + 1, ordered=9), None),
        (Status(view=0, changing=False, certified=-1, ordered=9), None),
        (Checkpoint(height=9, digest=DIGEST), 9),
        (votes(9)[0], None),
    ):
        with pytest.raises(OtherEpoch) as raised:
            examine(REALM.sign(5, message), epoch=epoch(), chain_id=REALM.id, window=WINDOW)
        assert raised.value.certified == claim


def test_an_empty_certificate_at_the_height_before_the_first_is_refused() -> None:
    for height in (0, -1):
        nothing = Certificate(kind=int(MessageType.PREPARE), view=0, height=height, digest=DIGEST, signatures=())
        assert judged(1, ViewChange(view=1, stable=None, prepared=(nothing,)), epoch()) == "bad_view_change"


def test_the_highest_view_and_the_lowest_pass() -> None:
    for view, reason in ((0, "bad_view"), (1, ""), (VIEW_MAX, ""), (VIEW_MAX + 1, "bad_view")):
        assert judged(1, ViewChange(view=view, stable=None, prepared=()), epoch()) == reason
        changes = [REALM.view_change(number, view) for number in range(4)]
        leader = view % 4
        nested = REALM.sign(leader, msgspec.structs.replace(REALM.new_view(1, changes).message, view=view))
        assert verdict(nested, epoch()) == reason


# --- which epoch it is of ---


def test_a_vote_above_what_is_certain_passes_until_it_is_known_to_be_the_next_epochs() -> None:
    for height in (1, WINDOW, WINDOW + 1, 40):
        for vote in (*votes(height), Checkpoint(height=height, digest=DIGEST)):
            assert judged(1, vote, epoch()) == ""
            expected = "other_epoch" if height > 3 and not isinstance(vote, Checkpoint) else ""
            assert judged(1, vote, epoch(boundary=3)) == expected


@pytest.mark.parametrize("sender", range(4))
def test_a_proposal_above_what_is_certain_may_be_that_of_a_leader_of_the_next_epoch(sender: int) -> None:
    for leader in range(4):
        for height, otherwise in ((1, "not_leader"), (WINDOW, "not_leader"), (WINDOW + 1, "other_epoch")):
            message = PrePrepare(view=leader, proposal=REALM.proposal(height, "a", leader=sender))
            assert judged(sender, message, epoch()) == ("" if sender == leader else otherwise)


def test_what_is_said_up_to_the_base_is_of_an_earlier_epoch() -> None:
    for height, reason in ((0, "bad_height"), (1, "other_epoch"), (3, "other_epoch"), (4, ""), (5, ""), (6, "")):
        for vote in (*votes(height), Checkpoint(height=height, digest=DIGEST)):
            assert judged(1, vote, epoch(base=3)) == reason


def test_a_stranger_may_be_a_validator_of_an_epoch_to_come_and_no_other() -> None:
    for height, reason in ((1, "unknown_sender"), (WINDOW, "unknown_sender"), (WINDOW + 1, "other_epoch")):
        for vote in (*votes(height), Checkpoint(height=height, digest=DIGEST)):
            assert judged(5, vote, epoch()) == reason


def test_a_view_change_above_what_is_certain_is_of_another_epoch_and_one_at_the_base_is_not() -> None:
    for height, signers, reason in (
        (3, (0, 1, 2), ""), (4, range(5), ""), (5, range(5), "other_epoch"), (2, (0, 1, 2), "other_epoch")
    ):  # fmt: skip
        stable = block(height, *signers)
        assert verdict(REALM.view_change(1, 1, stable=stable), epoch(base=3)) == reason
        changes = [REALM.view_change(number, 1, stable=stable) for number in range(5)]
        assert verdict(REALM.new_view(1, changes), epoch(base=3)) == reason
    assert verdict(REALM.view_change(1, 1), epoch(base=3)) == "other_epoch"
    assert judged(1, NewView(view=1, view_changes=()), epoch()) == "bad_new_view"


def test_a_boundary_is_the_last_height_at_which_a_view_change_may_name_something_prepared() -> None:
    at = epoch(boundary=3, executed=2)
    for height, reason in ((3, ""), (4, "bad_view_change")):
        prepared = REALM.certificate(MessageType.PREPARE, height=height, digest=DIGEST, signers=(0, 1, 2))
        change = REALM.view_change(1, 1, stable=block(2, 0, 1, 2), prepared=[prepared])
        assert verdict(change, at) == reason

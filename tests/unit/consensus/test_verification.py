"""Nothing becomes `Verified` that is not signed, in range, and certified all the way down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from chain.errors import PeerFault
from chain.model.block import Certificate, VoteSignature
from chain.types import Height, ValidatorId, View
from consensus import certificate_items, examine, verification_items, verify_certificate
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
    SignedViewChange,
    Status,
    ViewChange,
    signing_bytes,
)
from tests.unit.consensus.members import Chain, verify_signature

CHAIN = Chain()
OTHER_CHAIN = Chain(name="other")
DIGEST = bytes(range(32))
PREPARED = CHAIN.certificate(MessageType.PREPARE, view=2, height=2, digest=DIGEST, signers=(0, 1, 2))
STABLE = CHAIN.certificate(MessageType.CHECKPOINT, height=1, digest=DIGEST, signers=(1, 2, 3))


def changed(record: Any, **fields: object) -> Any:
    return msgspec.structs.replace(record, **fields)


def refuse(signed: Signed[Any], reason: str) -> None:
    with pytest.raises(PeerFault, match=f"^{reason}"):
        CHAIN.verify(signed)


def re_signed(signed: Signed[Any], **fields: object) -> Signed[Any]:
    """The same sender signs a changed message."""
    number = CHAIN.validators.ids().index(signed.sender)
    return CHAIN.sign(number, changed(signed.message, **fields))


def test_good_messages_pass() -> None:
    for message in (
        Prepare(view=0, height=1, digest=DIGEST),
        Commit(view=VIEW_MAX, height=2**63 - 1, digest=DIGEST),
        Checkpoint(height=1, digest=DIGEST),
        Status(view=0, changing=False, certified=0, ordered=0),
        ViewChange(view=3, stable=None, prepared=(PREPARED,)),
        ViewChange(view=3, stable=STABLE, prepared=(PREPARED,)),
    ):
        assert CHAIN.verify(CHAIN.sign(1, message)).message == message
    CHAIN.verify(CHAIN.sign(0, PrePrepare(view=4, proposal=CHAIN.proposal(1, "a"))))


def test_a_vote_is_bound_to_its_type_view_height_digest_and_chain() -> None:
    vote = CHAIN.sign(1, Prepare(view=1, height=1, digest=DIGEST))
    as_commit = Commit(view=1, height=1, digest=DIGEST)
    refuse(Signed(sender=vote.sender, message=as_commit, signature=vote.signature), "bad_signature")
    for fields in ({"view": 2}, {"height": 2}, {"digest": bytes(32)}):
        forged = Signed(sender=vote.sender, message=changed(vote.message, **fields), signature=vote.signature)
        refuse(forged, "bad_signature")
    elsewhere = OTHER_CHAIN.sign(1, Prepare(view=1, height=1, digest=DIGEST))
    assert elsewhere.sender == vote.sender
    refuse(elsewhere, "bad_signature")


def test_a_checkpoint_vote_cannot_stand_for_a_prepare_of_view_0() -> None:
    vote = CHAIN.sign(1, Checkpoint(height=1, digest=DIGEST))
    forged = Prepare(view=0, height=1, digest=DIGEST)
    refuse(Signed(sender=vote.sender, message=forged, signature=vote.signature), "bad_signature")


def test_a_stranger_is_refused() -> None:
    stranger = Chain(5)
    refuse(stranger.sign(4, Prepare(view=0, height=1, digest=DIGEST)), "unknown_sender")


@pytest.mark.parametrize("view", [-1, VIEW_MAX + 1, 2**63 - 1, 2**64 - 1])
def test_views_out_of_range_are_refused(view: int) -> None:
    proposal = CHAIN.proposal(1, "a", leader=view % 4)
    messages: list[Message] = [
        Prepare(view=view, height=1, digest=DIGEST),
        Commit(view=view, height=1, digest=DIGEST),
        ViewChange(view=view, stable=None, prepared=()),
        Status(view=view, changing=False, certified=0, ordered=0),
        PrePrepare(view=view, proposal=proposal),
        NewView(view=view, view_changes=()),
    ]
    for message in messages:
        refuse(CHAIN.sign(view % 4, message), "bad_view")


def test_heights_and_digests_out_of_range_are_refused() -> None:
    for height in (-1, 0, 2**63):
        refuse(CHAIN.sign(1, Prepare(view=0, height=height, digest=DIGEST)), "bad_height")
        refuse(CHAIN.sign(1, Checkpoint(height=height, digest=DIGEST)), "bad_height")
    for digest in (b"", bytes(31), bytes(33)):
        refuse(CHAIN.sign(1, Commit(view=0, height=1, digest=digest)), "bad_digest")
    refuse(CHAIN.sign(1, Status(view=0, changing=False, certified=2, ordered=1)), "bad_height")
    refuse(CHAIN.sign(1, Status(view=0, changing=False, certified=-1, ordered=1)), "bad_height")


def test_only_the_leader_may_propose_and_only_in_its_own_name() -> None:
    refuse(CHAIN.sign(1, PrePrepare(view=0, proposal=CHAIN.proposal(1, "a", leader=1))), "not_leader")
    refuse(CHAIN.sign(0, PrePrepare(view=0, proposal=CHAIN.proposal(1, "a", leader=1))), "bad_proposer")
    refuse(CHAIN.sign(0, PrePrepare(view=0, proposal=OTHER_CHAIN.proposal(1, "a"))), "wrong_chain")
    torn = changed(CHAIN.proposal(1, "a"), hashes=bytes(33))
    refuse(CHAIN.sign(0, PrePrepare(view=0, proposal=torn)), "bad_proposal")
    refuse(CHAIN.sign(0, PrePrepare(view=0, proposal=CHAIN.proposal(0, "a"))), "bad_height")


def test_the_signature_of_a_proposal_covers_its_contents() -> None:
    good = CHAIN.sign(0, PrePrepare(view=0, proposal=CHAIN.proposal(1, "a")))
    other = PrePrepare(view=0, proposal=CHAIN.proposal(1, "b"))
    refuse(Signed(sender=good.sender, message=other, signature=good.signature), "bad_signature")


def bad_certificates() -> list[tuple[Certificate, str]]:
    signatures = PREPARED.signatures
    by_two = CHAIN.certificate(MessageType.PREPARE, view=2, height=2, digest=DIGEST, signers=(0, 1))
    replayed = CHAIN.certificate(MessageType.COMMIT, view=2, height=2, digest=DIGEST, signers=(0, 1, 2))
    older = CHAIN.certificate(MessageType.PREPARE, view=1, height=2, digest=DIGEST, signers=(0, 1, 2))
    elsewhere = OTHER_CHAIN.certificate(MessageType.PREPARE, view=2, height=2, digest=DIGEST, signers=(0, 1, 2))
    stranger = Chain(5).keys[4]
    subject = signing_bytes(
        chain_id=CHAIN.id, kind=MessageType.PREPARE, view=View(2), height=Height(2), digest=DIGEST
    )
    strange = VoteSignature(validator=stranger.validator_id, signature=stranger.sign(subject))
    with_stranger = tuple(sorted((*by_two.signatures, strange), key=lambda vote: vote.validator))
    broken = changed(signatures[0], signature=bytes(64))
    short = changed(signatures[0], signature=bytes(63))
    return [
        (by_two, "bad_certificate"),
        (changed(PREPARED, signatures=(signatures[0], signatures[0], signatures[1])), "bad_certificate"),
        (changed(PREPARED, signatures=(signatures[0],) * 3), "bad_certificate"),
        (changed(PREPARED, signatures=signatures[::-1]), "bad_certificate"),
        (changed(PREPARED, signatures=()), "bad_certificate"),
        (changed(PREPARED, signatures=with_stranger), "bad_certificate"),
        (replayed, "bad_certificate"),
        (changed(replayed, kind=int(MessageType.PREPARE)), "bad_signature"),
        (changed(older, view=2), "bad_signature"),
        (elsewhere, "bad_signature"),
        (changed(PREPARED, signatures=(broken, *signatures[1:])), "bad_signature"),
        (changed(PREPARED, signatures=(short, *signatures[1:])), "bad_signature"),
        (changed(PREPARED, digest=bytes(31)), "bad_digest"),
        (changed(PREPARED, view=VIEW_MAX + 1), "bad_view|bad_view_change"),
        (changed(PREPARED, view=-1), "bad_view"),
    ]


@pytest.mark.parametrize(("certificate", "reason"), bad_certificates())
def test_a_view_change_with_a_bad_prepared_certificate_is_refused(certificate: Certificate, reason: str) -> None:
    refuse(CHAIN.view_change(3, 3, prepared=[certificate]), f"({reason})")


@pytest.mark.parametrize(("certificate", "reason"), bad_certificates())
def test_a_bad_certificate_is_refused_alone(certificate: Certificate, reason: str) -> None:
    with pytest.raises(PeerFault, match=f"^({reason})"):
        verify_certificate(
            certificate,
            validators=CHAIN.validators,
            chain_id=CHAIN.id,
            verify_signature=verify_signature,
            kind=MessageType.PREPARE,
        )


def test_a_stable_certificate_must_be_a_block_certificate() -> None:
    refuse(CHAIN.view_change(3, 3, stable=PREPARED), "bad_certificate")
    in_a_view = CHAIN.certificate(MessageType.CHECKPOINT, view=1, height=1, digest=DIGEST, signers=(0, 1, 2))
    refuse(CHAIN.view_change(3, 3, stable=in_a_view), "bad_certificate")


def test_prepared_certificates_ascend_above_the_stable_one_and_stay_in_the_window() -> None:
    def prepared(height: int) -> Certificate:
        return CHAIN.certificate(MessageType.PREPARE, view=2, height=height, digest=DIGEST, signers=(0, 1, 2))

    refuse(CHAIN.view_change(3, 3, prepared=[prepared(2), prepared(1)]), "bad_view_change")
    refuse(CHAIN.view_change(3, 3, prepared=[prepared(2), prepared(2)]), "bad_view_change")
    refuse(CHAIN.view_change(3, 3, stable=STABLE, prepared=[prepared(1)]), "bad_view_change")
    refuse(CHAIN.view_change(3, 3, prepared=[prepared(CHAIN.window + 1)]), "bad_view_change")
    CHAIN.verify(CHAIN.view_change(3, 3, stable=STABLE, prepared=[prepared(CHAIN.window + 1)]))


def test_nothing_is_prepared_in_the_view_asked_for_or_a_later_one() -> None:
    refuse(CHAIN.view_change(3, 2, prepared=[PREPARED]), "bad_view_change")


def forgeries() -> list[tuple[str, Callable[[list[SignedViewChange]], list[SignedViewChange]], str]]:
    """What a leader may do to the view-changes it was given."""
    return [
        ("too few", lambda nested: nested[:2], "bad_new_view"),
        ("one twice", lambda nested: [nested[0], nested[0], nested[1]], "bad_new_view"),
        ("unordered", lambda nested: nested[::-1], "bad_new_view"),
        ("for another view", lambda nested: [_for_view(nested[0], 4), *nested[1:]], "bad_new_view"),
        ("other sender", lambda nested: _sorted([_in_name_of_3(nested[0]), *nested[1:]]), "bad_signature"),
        ("prepared dropped", lambda nested: [_without_prepared(nested[0]), *nested[1:]], "bad_signature"),
    ]


def _sorted(nested: list[SignedViewChange]) -> list[SignedViewChange]:
    return sorted(nested, key=lambda entry: entry.sender)


def _for_view(entry: SignedViewChange, view: int) -> SignedViewChange:
    number = CHAIN.validators.ids().index(ValidatorId(entry.sender))
    signed = CHAIN.view_change(number, view)
    return SignedViewChange(sender=entry.sender, message=signed.message, signature=signed.signature)


def _in_name_of_3(entry: SignedViewChange) -> SignedViewChange:
    return changed(entry, sender=CHAIN.keys[3].validator_id)  # type: ignore[no-any-return]


def _without_prepared(entry: SignedViewChange) -> SignedViewChange:
    return changed(entry, message=changed(entry.message, prepared=()))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("what", "forge", "reason"), forgeries(), ids=[entry[0] for entry in forgeries()])
def test_a_forged_new_view_is_refused(
    what: str, forge: Callable[[list[SignedViewChange]], list[SignedViewChange]], reason: str
) -> None:
    good = CHAIN.new_view(5, [CHAIN.view_change(number, 5, prepared=[PREPARED]) for number in (0, 1, 2)])
    CHAIN.verify(good)
    refuse(CHAIN.sign(1, NewView(view=5, view_changes=tuple(forge(list(good.message.view_changes))))), reason)


def test_only_the_leader_of_a_view_may_open_it() -> None:
    good = CHAIN.new_view(5, [CHAIN.view_change(number, 5) for number in (0, 1, 2)])
    refuse(CHAIN.sign(2, good.message), "not_leader")


def test_a_nested_certificate_is_checked_inside_a_new_view() -> None:
    forged = changed(PREPARED, digest=bytes(32))
    changes = [CHAIN.view_change(0, 5, prepared=[forged]), CHAIN.view_change(1, 5), CHAIN.view_change(2, 5)]
    refuse(CHAIN.new_view(5, changes), "bad_signature")


def test_the_batch_path_lists_every_signature_once_and_agrees_with_the_simple_path() -> None:
    changes = [CHAIN.view_change(number, 5, stable=STABLE, prepared=[PREPARED]) for number in (0, 1, 2)]
    signed: Signed[Message] = CHAIN.new_view(5, changes)
    items = verification_items(signed, validators=CHAIN.validators, chain_id=CHAIN.id, window=CHAIN.window)
    assert len(items) == len(set(items)) == 1 + 3 + 3 + 3  # new-view, view-changes, one stable and one prepared
    assert all(verify_signature(*item) for item in items)
    examined = examine(signed, validators=CHAIN.validators, chain_id=CHAIN.id, window=CHAIN.window)
    assert examined.verified() == CHAIN.verify(signed)


def test_a_certificate_counts_weight_not_heads() -> None:
    items = certificate_items(STABLE, kind=MessageType.CHECKPOINT, validators=CHAIN.validators, chain_id=CHAIN.id)
    assert len(items) == 3
    heavy = type(CHAIN.validators)(
        changed(member, weight=10 if number == 0 else 1) for number, member in enumerate(CHAIN.validators.members)
    )
    with pytest.raises(PeerFault, match="less than a quorum"):
        certificate_items(STABLE, kind=MessageType.CHECKPOINT, validators=heavy, chain_id=CHAIN.id)

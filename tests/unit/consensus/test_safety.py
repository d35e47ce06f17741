"""The only module that signs: persists first, repeats itself, never contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import consensus
from chain.errors import InvariantError
from chain.model.block import proposal_digest
from chain.types import GENESIS_HEIGHT, Digest, Height, View
from consensus.effects import (
    Broadcast,
    CertificateRecord,
    Effect,
    JournalRecord,
    NewViewRecord,
    Persist,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import MessageType, Verified
from consensus.safety import Safety
from tests.unit.consensus.members import Chain, of

CHAIN = Chain()
A, B = Digest(b"a" * 32), Digest(b"b" * 32)
V0, V1, V2, H1, H2 = View(0), View(1), View(2), Height(1), Height(2)


def safety(number: int = 1, journal: tuple[JournalRecord, ...] = ()) -> Safety:
    made = Safety(signer=CHAIN.keys[number], validators=CHAIN.validators, chain_id=CHAIN.id, floor=GENESIS_HEIGHT)
    for record in journal:
        made.remember(record)
    return made


def records(out: list[Effect]) -> tuple[JournalRecord, ...]:
    return tuple(effect.record for effect in of(Persist, out))


def test_a_vote_is_persisted_before_it_is_sent() -> None:
    out: list[Effect] = []
    safety().prepare(view=V0, height=H1, digest=A, out=out)
    persist, broadcast = out
    assert persist == Persist(record=VoteRecord(kind=MessageType.PREPARE, view=0, height=1, digest=A))
    assert isinstance(broadcast, Broadcast)
    CHAIN.verify(broadcast.message)  # type: ignore[arg-type]


def test_a_vote_may_be_repeated_without_another_record() -> None:
    keeper, out = safety(), list[Effect]()
    first = keeper.prepare(view=V0, height=H1, digest=A, out=out)
    assert keeper.prepare(view=V0, height=H1, digest=A, out=out) == first
    assert len(of(Persist, out)) == 1
    assert len(of(Broadcast, out)) == 2


def test_a_second_prepare_at_one_view_and_height_is_refused() -> None:
    keeper = safety()
    keeper.prepare(view=V0, height=H1, digest=A, out=[])
    with pytest.raises(InvariantError, match="contradicts"):
        keeper.prepare(view=V0, height=H1, digest=B, out=[])
    keeper.prepare(view=V0, height=H2, digest=B, out=[])


def test_a_second_prepare_is_refused_after_a_restart() -> None:
    out: list[Effect] = []
    safety().prepare(view=V0, height=H1, digest=A, out=out)
    again = safety(journal=records(out))
    with pytest.raises(InvariantError, match="contradicts"):
        again.prepare(view=V0, height=H1, digest=B, out=[])
    repeated: list[Effect] = []
    again.prepare(view=V0, height=H1, digest=A, out=repeated)
    assert [type(effect) for effect in repeated] == [Broadcast]


def test_a_commit_needs_a_prepared_certificate() -> None:
    keeper = safety()
    weak = CHAIN.certificate(MessageType.PREPARE, height=1, digest=A, signers=(0, 1))
    commits = CHAIN.certificate(MessageType.COMMIT, height=1, digest=A, signers=(0, 1, 2))
    for certificate in (weak, commits):
        with pytest.raises(InvariantError, match="without a prepared certificate"):
            keeper.commit(prepared=certificate, out=[])


def test_the_prepared_certificate_is_journalled_before_the_commit() -> None:
    out: list[Effect] = []
    prepared = CHAIN.certificate(MessageType.PREPARE, height=1, digest=A, signers=(0, 1, 2))
    safety().commit(prepared=prepared, out=out)
    assert records(out) == (
        CertificateRecord(certificate=prepared),
        VoteRecord(kind=MessageType.COMMIT, view=0, height=1, digest=A),
    )
    assert isinstance(out[-1], Broadcast)


def test_two_commits_at_one_view_and_height_are_refused_also_after_a_restart() -> None:
    out: list[Effect] = []
    safety().commit(
        prepared=CHAIN.certificate(MessageType.PREPARE, height=1, digest=A, signers=(0, 1, 2)), out=out
    )
    other = CHAIN.certificate(MessageType.PREPARE, height=1, digest=B, signers=(0, 1, 2))
    with pytest.raises(InvariantError, match="contradicts"):
        safety(journal=records(out)).commit(prepared=other, out=[])


def test_two_headers_at_one_height_are_refused_also_after_a_restart() -> None:
    out: list[Effect] = []
    safety().checkpoint(height=H1, digest=A, out=out)
    again = safety(journal=records(out))
    assert again.said_checkpoint(H1) == A
    with pytest.raises(InvariantError, match="second checkpoint"):
        again.checkpoint(height=H1, digest=B, out=[])
    repeated: list[Effect] = []
    again.checkpoint(height=H1, digest=A, out=repeated)
    assert [type(effect) for effect in repeated] == [Broadcast]


def test_two_pre_prepares_at_one_view_and_height_are_refused_also_after_a_restart() -> None:
    first, second = CHAIN.proposal(1, "a"), CHAIN.proposal(1, "b")
    out: list[Effect] = []
    leader = safety(0)
    leader.pre_prepare(view=V0, proposal=first, digest=proposal_digest(first), out=out)
    again = safety(0, records(out))
    again.remember_proposal(view=V0, height=H1, digest=proposal_digest(first))
    for keeper in (leader, again):
        with pytest.raises(InvariantError, match="contradicts"):
            keeper.pre_prepare(view=V0, proposal=second, digest=proposal_digest(second), out=[])


def test_of_two_proposals_in_the_journal_for_one_view_and_height_the_first_was_sent() -> None:
    """The second is what others ordered there, under the same key: see two processes with one validator key."""
    first, second = CHAIN.proposal(1, "a"), CHAIN.proposal(1, "b")
    leader = safety(0)
    for proposal in (first, second):
        leader.remember_proposal(view=V0, height=H1, digest=proposal_digest(proposal))
    leader.pre_prepare(view=V0, proposal=first, digest=proposal_digest(first), out=[])


def test_only_the_leader_of_the_view_signs_a_pre_prepare() -> None:
    proposal = CHAIN.proposal(1, "a", leader=1)
    with pytest.raises(InvariantError, match="does not lead"):
        safety(1).pre_prepare(view=V0, proposal=proposal, digest=proposal_digest(proposal), out=[])


def test_after_a_view_change_nothing_is_voted_until_the_new_view() -> None:
    keeper, out = safety(), list[Effect]()
    keeper.view_change(view=V1, stable=None, prepared=(), out=out)
    assert isinstance(records(out)[0], ViewChangeRecord)
    for view in (V0, V1):
        with pytest.raises(InvariantError, match="vote in view"):
            keeper.prepare(view=view, height=H1, digest=A, out=[])
    again = safety(journal=records(out))
    assert (again.view, again.changing) == (V1, True)
    with pytest.raises(InvariantError, match="vote in view"):
        again.prepare(view=V0, height=H1, digest=A, out=[])
    keeper.checkpoint(height=H1, digest=A, out=[])  # the checkpoint does not depend on the view


def test_views_only_go_up() -> None:
    keeper, out = safety(), list[Effect]()
    keeper.view_change(view=V2, stable=None, prepared=(), out=out)
    for view in (V0, V1, V2):
        with pytest.raises(InvariantError, match="view-change to"):
            keeper.view_change(view=view, stable=None, prepared=(), out=[])
    low = CHAIN.new_view(1, [CHAIN.view_change(number, 1) for number in (0, 1, 2)])
    with pytest.raises(InvariantError, match="entering view 1"):
        keeper.enter(Verified(sender=low.sender, message=low.message, signature=low.signature), [])


def test_entering_a_view_is_journalled_and_raises_the_floor_of_views() -> None:
    keeper, out = safety(), list[Effect]()
    signed = CHAIN.new_view(2, [CHAIN.view_change(number, 2) for number in (0, 2, 3)])
    keeper.enter(Verified(sender=signed.sender, message=signed.message, signature=signed.signature), out)
    assert isinstance(records(out)[0], NewViewRecord)
    again = safety(journal=records(out))
    assert (again.view, again.changing) == (V2, False)
    with pytest.raises(InvariantError, match="vote in view"):
        again.prepare(view=V1, height=H1, digest=A, out=[])


def test_nothing_is_voted_at_or_below_the_certified_height() -> None:
    keeper = safety()
    certificate = CHAIN.certificate(MessageType.CHECKPOINT, height=1, digest=A, signers=(0, 1, 2))
    keeper.forget(H1, certificate)
    with pytest.raises(InvariantError, match="at or below"):
        keeper.prepare(view=V0, height=H1, digest=A, out=[])
    with pytest.raises(InvariantError, match="at or below"):
        keeper.checkpoint(height=H1, digest=A, out=[])


def test_the_block_certificate_that_opens_the_window_is_journalled_with_the_next_vote() -> None:
    keeper, out = safety(), list[Effect]()
    certificate = CHAIN.certificate(MessageType.CHECKPOINT, height=1, digest=A, signers=(0, 1, 2))
    keeper.forget(H1, certificate)
    keeper.prepare(view=V0, height=H2, digest=A, out=out)
    keeper.prepare(view=V0, height=Height(3), digest=A, out=out)
    assert [type(record) for record in records(out)] == [CertificateRecord, VoteRecord, VoteRecord]


def test_no_other_module_holds_the_key() -> None:
    folder = Path(consensus.__file__).parent
    signing = [path.name for path in sorted(folder.glob("*.py")) if ".sign(" in path.read_text()]
    assert signing == ["safety.py"]

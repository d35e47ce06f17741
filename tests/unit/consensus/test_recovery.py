"""A replica rebuilt from its journal, or from any prefix of it, repeats itself and never contradicts itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chain.model.block import Certificate, Header, header_hash, proposal_digest
from chain.types import GENESIS_HEIGHT, Height, View
from consensus.effects import (
    Broadcast,
    CertificateRecord,
    Diverged,
    Effect,
    Execute,
    JournalRecord,
    NewViewRecord,
    ObtainProposal,
    Persist,
    ProposalRecord,
    RequestProposal,
    Send,
    Store,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.events import Executed, ProposalPacked, Timer, TransactionsWaiting
from consensus.messages import Checkpoint, Commit, MessageType, NewView, Prepare, PrePrepare, Status, ViewChange
from tests.unit.consensus.members import WINDOW, Chain, execute, of, said
from tests.unit.consensus.solo import Solo

CHAIN = Chain()


def lived(number: int = 1) -> Solo:
    """A life with something of everything: a block, heights in all phases, a view change, votes in the new view."""
    solo = Solo(CHAIN, number)
    first = CHAIN.proposal(1, "a")
    header = solo.finish(first, CHAIN.genesis)
    second, third, fourth = (CHAIN.proposal(height, f"{height}") for height in (2, 3, 4))
    solo.order(second)
    solo.step(Executed(header=execute(second, header)))
    solo.propose(third)
    others = [other for other in range(4) if other != number]
    solo.prepare(third, *others)
    solo.propose(fourth)
    solo.fire(Timer.VIEW)
    changes = [CHAIN.view_change(other, 1) for other in others]
    if CHAIN.validators.leader(View(1)) == solo.replica.id:
        for change in changes:
            solo.hear_signed(change)
    else:
        own = solo.replica._view_changes.own
        assert own is not None
        solo.change_view(1, *changes[:2], CHAIN.sign(number, own.message))
    assert solo.replica.view == 1
    assert not solo.replica.is_changing
    solo.prepare(third, *others, view=1)
    solo.commit(third, *others, view=1)
    return solo


def votes_of(records: Iterable[JournalRecord]) -> dict[tuple[int, int, int], bytes]:
    votes: dict[tuple[int, int, int], bytes] = {}
    for record in records:
        if isinstance(record, VoteRecord):
            assert votes.setdefault((record.kind, record.view, record.height), record.digest) == record.digest
    return votes


def votes_in(effects: Iterable[Effect]) -> list[tuple[tuple[int, int, int], bytes]]:
    votes: list[tuple[tuple[int, int, int], bytes]] = []
    for effect in of(Broadcast, effects):
        match effect.message.message:
            case Prepare(view=view, height=height, digest=digest):
                votes.append(((MessageType.PREPARE, view, height), digest))
            case Commit(view=view, height=height, digest=digest):
                votes.append(((MessageType.COMMIT, view, height), digest))
            case Checkpoint(height=height, digest=digest):
                votes.append(((MessageType.CHECKPOINT, 0, height), digest))
    return votes


def tempt(solo: Solo) -> list[Effect]:
    """Offer another proposal at every height and in both views, with all the votes it would need."""
    effects = list(solo.first)
    for view in (0, 1, 2):
        for height in range(1, WINDOW + 3):
            other = CHAIN.proposal(height, f"other {height}", leader=view % 4)
            others = [number for number in range(4) if number != solo.number]
            if view % 4 != solo.number:
                effects += solo.propose(other, view=view)
            effects += solo.prepare(other, *others, view=view)
    return effects


def test_no_prefix_of_the_journal_leads_to_a_conflicting_vote() -> None:
    life = lived()
    assert {type(record) for record in life.journal} == {
        VoteRecord, ProposalRecord, CertificateRecord, ViewChangeRecord, NewViewRecord,
    }  # fmt: skip
    for end in range(len(life.journal) + 1):
        prefix = life.journal[:end]
        said_before = votes_of(prefix)
        floor = _left_below(prefix)
        for key, digest in votes_in(tempt(life.restart(prefix))):
            assert said_before.get(key, digest) == digest, f"after {end} records"
            assert key[0] == MessageType.CHECKPOINT or key[1] >= floor


def _left_below(records: Sequence[JournalRecord]) -> int:
    views = [record.message.view for record in records if isinstance(record, ViewChangeRecord | NewViewRecord)]
    return max(views, default=0)


def test_no_prefix_of_a_leaders_journal_leads_to_two_proposals_for_one_height() -> None:
    leader = Solo(CHAIN, 0)
    leader.step(TransactionsWaiting(overdue=False))
    for height in (1, 2, 3):
        leader.step(ProposalPacked(view=View(0), proposal=CHAIN.proposal(height, f"{height}")))
    for end in range(len(leader.journal) + 1):
        prefix = leader.journal[:end]
        sent = {record.proposal.height: record.proposal for record in prefix if isinstance(record, ProposalRecord)}
        again = leader.restart(prefix)
        repeated = said(PrePrepare, again.first)
        assert [message.proposal for message in repeated] == list(sent.values())
        [request] = of(RequestProposal, again.step(TransactionsWaiting(overdue=False)))
        assert request.height == len(sent) + 1
        other = CHAIN.proposal(request.height, "other")
        effects = again.step(ProposalPacked(view=View(0), proposal=other))
        assert [message.proposal.height for message in said(PrePrepare, effects)] == [request.height]


def test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte() -> None:
    life = lived()
    again = life.restart()
    before = votes_of(life.journal)
    repeated = dict(votes_in(again.first))
    assert repeated
    for key, digest in repeated.items():
        assert before[key] == digest
    assert of(Persist, again.first) == []
    third = CHAIN.proposal(3, "3")
    assert repeated[(MessageType.PREPARE, 1, 3)] == repeated[(MessageType.COMMIT, 1, 3)] == proposal_digest(third)
    assert (again.replica.view, again.replica.is_changing) == (1, False)


def test_ordered_heights_are_executed_again_from_the_journal_and_certified_blocks_stored_again() -> None:
    life = lived()
    again = life.restart()
    executed = of(Execute, again.first)
    assert [effect.proposal for effect in executed] == [
        CHAIN.proposal(1, "a"), CHAIN.proposal(2, "2"), CHAIN.proposal(3, "3"),
    ]  # fmt: skip
    header = execute(executed[0].proposal, CHAIN.genesis)
    effects = again.step(Executed(header=header))
    [store] = of(Store, effects)  # its certificate was journalled with the votes that followed
    assert store.header == header
    effects = again.step(Executed(header=execute(executed[1].proposal, header)))
    assert [vote.height for vote in said(Checkpoint, effects)] == [2]
    assert of(Persist, effects) == []


def test_a_restart_above_a_stored_block_forgets_what_lies_below() -> None:
    life = Solo(CHAIN)
    proposal = CHAIN.proposal(1, "a")
    header = life.finish(proposal, CHAIN.genesis)
    life.order(CHAIN.proposal(2, "b"))
    again = life.restart(last=(header, _block_certificate(header)))
    assert again.replica.certified_height == 1
    assert [effect.proposal.height for effect in of(Execute, again.first)] == [2]


def _block_certificate(header: Header) -> Certificate:
    return CHAIN.certificate(
        MessageType.CHECKPOINT, height=header.height, digest=header_hash(header), signers=(0, 1, 2)
    )


def test_a_restart_while_the_view_changes_sends_the_same_view_change_again() -> None:
    life = Solo(CHAIN)
    life.propose(CHAIN.proposal(1, "a"))
    [sent] = said(ViewChange, life.fire(Timer.VIEW))
    again = life.restart()
    assert said(ViewChange, again.first) == [sent]
    assert (again.replica.view, again.replica.is_changing) == (1, True)
    assert votes_in(again.first) == []


def test_a_restarted_leader_can_still_show_its_new_view() -> None:
    life = lived(1)
    again = life.restart()
    answer = again.hear(3, Status(view=0, changing=False, certified=0, ordered=0))
    sent = [effect.message for effect in of(Send, answer) if isinstance(effect.message.message, NewView)]
    assert len(sent) == 1
    assert sent[0].sender == CHAIN.keys[1].validator_id


def test_prepared_heights_beyond_the_window_of_the_stored_block_still_go_into_a_view_change() -> None:
    life = Solo(CHAIN)
    header = CHAIN.genesis
    for height in range(1, WINDOW + 3):
        header = life.finish(CHAIN.proposal(height, f"{height}"), header)
    last = CHAIN.proposal(2 * WINDOW + 2, "last")
    life.propose(last)
    life.prepare(last, 0, 2)
    again = life.restart()  # nothing was stored: the horizon of genesis ends below `last`
    assert last.height > GENESIS_HEIGHT + 2 * WINDOW
    again.step(TransactionsWaiting(overdue=True))
    changes = said(ViewChange, again.hear_signed(CHAIN.view_change(2, 1)) + again.hear_signed(CHAIN.view_change(3, 1)))
    assert [entry.height for entry in changes[0].prepared] == [last.height]
    assert changes[0].stable is not None
    assert changes[0].stable.height == WINDOW + 2
    CHAIN.verify(CHAIN.sign(1, changes[0]))


def test_a_proposal_that_was_accepted_and_not_voted_for_is_voted_for_after_the_restart() -> None:
    life = Solo(CHAIN)
    life.propose(CHAIN.proposal(1, "a"))
    assert [type(record) for record in life.journal] == [ProposalRecord, VoteRecord]
    again = life.restart(life.journal[:1])
    assert [vote.height for vote in said(Prepare, again.first)] == [1]
    assert of(ObtainProposal, again.first) == []


def test_a_restart_while_the_view_changes_gives_up_what_was_not_prepared() -> None:
    life = Solo(CHAIN)
    life.propose(CHAIN.proposal(1, "a"))
    life.fire(Timer.VIEW)
    again = life.restart()
    assert again.replica.in_flight == ()
    assert again.replica.armed_timers == ()


def test_a_proposal_obtained_because_it_was_ordered_is_not_taken_for_the_leaders_after_a_restart() -> None:
    life = Solo(CHAIN, 3)
    proposal = CHAIN.proposal(1, "a")
    life.commit(proposal, 0, 1, 2)
    stable = CHAIN.certificate(MessageType.CHECKPOINT, height=2, digest=bytes(32), signers=(0, 1, 2))
    life.change_view(1, *[CHAIN.view_change(number, 1, stable=stable) for number in (0, 1, 2)])
    assert [effect.proposal for effect in of(Execute, life.obtain(proposal))] == [proposal]
    again = life.restart()
    assert [effect.proposal for effect in of(Execute, again.first)] == [proposal]
    assert said(Prepare, again.first) == []


def test_proposals_of_past_views_in_the_journal_are_not_kept_in_memory() -> None:
    old = [ProposalRecord(view=view, proposal=CHAIN.proposal(1, f"{view}", leader=view % 4)) for view in range(20)]
    solo = Solo(CHAIN, journal=old)
    slot = solo.replica._ordering.slot(Height(1))
    assert slot is not None
    assert list(slot.durable.values()) == [CHAIN.proposal(1, "0")]


def test_an_execution_that_does_not_repeat_itself_stops_the_node() -> None:
    life = lived()
    again = life.restart()
    one = execute(CHAIN.proposal(1, "a"), CHAIN.genesis)
    again.step(Executed(header=one))
    two = execute(CHAIN.proposal(2, "2"), one)
    values = {field: getattr(two, field) for field in two.__struct_fields__} | {"gas_used": 5}
    effects = again.step(Executed(header=Header(**values)))
    assert [effect.reason for effect in of(Diverged, effects)] == ["own_checkpoint_contradicted"]
    assert said(Checkpoint, effects) == []


def test_the_journal_of_a_second_life_continues_the_first() -> None:
    """Crash at every point, live on, crash again: the two journals in a row never hold a contradiction."""
    life = lived()
    for end in range(0, len(life.journal) + 1, 3):
        again = life.restart(life.journal[:end])
        tempt(again)
        votes_of(again.journal)
        third = Solo(CHAIN, 1, journal=again.journal)
        tempt(third)
        votes_of(third.journal)


def test_of_two_proposals_of_one_view_the_one_voted_for_is_taken_up_again() -> None:
    """An equivocating leader: this node obtained A because it got ordered, then was sent B and voted for it."""
    solo = Solo(CHAIN)
    ordered, sent = CHAIN.proposal(2, "a"), CHAIN.proposal(2, "b")
    solo.commit(ordered, 0, 2, 3)  # height 1 is missing: nothing is executed
    solo.obtain(ordered)
    assert votes_in(solo.propose(sent)) == [((MessageType.PREPARE, 0, 2), proposal_digest(sent))]
    for end in range(len(solo.journal) + 1):
        again = solo.restart(solo.journal[:end])
        said_before = votes_of(solo.journal[:end])
        for key, digest in votes_in(again.first):
            assert said_before.get(key, digest) == digest
        assert of(Diverged, again.first) == []


def test_a_leader_without_memory_proposes_above_what_others_say_it_proposed() -> None:
    """Its disk is gone, or a second process runs with its key: the others vote for what it does not know."""
    solo = Solo(CHAIN, 0)
    known = CHAIN.proposal(1, "a")
    solo.commit(known, 1, 2)
    [request] = of(RequestProposal, solo.step(TransactionsWaiting(overdue=False)))
    assert request.height == 2

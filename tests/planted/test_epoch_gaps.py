"""What the planted bugs found to be tested nowhere else at the borders of epochs."""

from __future__ import annotations

from chain.model.block import header_hash, proposal_digest
from consensus.effects import Effect, RequestProposal
from consensus.events import Event, PoolDrained, TransactionsWaiting
from consensus.messages import Commit, MessageType, Prepare
from tests.unit.consensus.epochs import REALM, SEVEN, WINDOW, Heir
from tests.unit.consensus.members import of


class Recorded(Heir):
    """Keeps the heights of all requests for a proposal."""

    def __init__(self, number: int) -> None:
        self.asked: list[int] = []
        super().__init__(number)

    def step(self, event: Event) -> list[Effect]:
        effects = super().step(event)
        self.asked += [effect.height for effect in of(RequestProposal, effects)]
        return effects


def test_at_no_moment_a_leader_asks_for_a_proposal_above_the_boundary() -> None:
    heir = Recorded(0)
    heir.step(TransactionsWaiting(overdue=False))
    boundary = heir.to_boundary(SEVEN)
    assert set(heir.asked) == set(range(1, boundary + 1))
    heir.store()
    assert max(heir.asked) == boundary + 1


def test_a_vote_of_a_stranger_for_a_height_that_may_be_anothers_epoch_is_no_fault() -> None:
    heir = Heir(1)
    for height, reason in ((WINDOW, "unknown_sender"), (WINDOW + 1, "other_epoch")):
        assert heir.dropped(REALM.sign(5, Prepare(view=0, height=height, digest=bytes(32)))) == reason


def test_a_view_change_with_a_certificate_above_the_boundary_is_its_senders_fault() -> None:
    heir = Heir(1)
    heir.finish(1, "change", validators=SEVEN)
    heir.finish(2)
    boundary = 1 + WINDOW
    assert heir.core.boundary == boundary
    stable = REALM.certificate(
        MessageType.CHECKPOINT, height=2, digest=header_hash(heir.header), signers=(0, 1, 2)
    )
    below, above = (
        REALM.certificate(MessageType.PREPARE, height=height, digest=bytes(32), signers=(0, 1, 2))
        for height in (boundary, boundary + 1)
    )
    assert heir.dropped(REALM.view_change(2, 1, stable=stable, prepared=[below])) == ""
    assert heir.dropped(REALM.view_change(3, 1, stable=stable, prepared=[above])) == "bad_view_change"


def test_a_leader_whose_pool_is_empty_packs_on_the_way_to_the_boundary() -> None:
    heir = Recorded(0)
    heir.step(TransactionsWaiting(overdue=False))
    heir.step(PoolDrained())
    proposal, _ = heir.propose(1, "change")
    for kind in (Prepare, Commit):
        for number in (1, 2, 3):
            heir.hear(number, kind(view=0, height=1, digest=proposal_digest(proposal)))
    heir.execute(proposal, SEVEN)
    assert heir.asked == [1, 2]

"""Execution in order, checkpoint votes, certificates, divergence."""

from __future__ import annotations

import msgspec
import pytest

from chain.errors import InvariantError
from chain.model.block import Certificate, Header, Proposal, header_hash
from chain.types import Height
from consensus import Phase, verify_certificate
from consensus.effects import (
    Broadcast,
    CancelTimer,
    Diverged,
    Execute,
    FetchBlocks,
    Persist,
    Store,
    VoteRecord,
)
from consensus.events import BlockFetched, Executed, TransactionsWaiting
from consensus.messages import Checkpoint, Commit, MessageType, Prepare, PrePrepare, Status
from tests.unit.consensus.members import WINDOW, Chain, evidence_of, execute, of, said, verify_signature
from tests.unit.consensus.solo import Solo

H1 = Height(1)


def block(chain: Chain, proposal: Proposal, parent: Header) -> BlockFetched:
    header = execute(proposal, parent)
    certificate = chain.certificate(
        MessageType.CHECKPOINT, height=proposal.height, digest=header_hash(header), signers=(0, 2, 3)
    )
    return BlockFetched(proposal=proposal, header=header, certificate=certificate)


def run_of_blocks(chain: Chain, count: int) -> list[BlockFetched]:
    blocks: list[BlockFetched] = []
    parent = chain.genesis
    for height in range(1, count + 1):
        blocks.append(block(chain, chain.proposal(height, f"{height}"), parent))
        parent = blocks[-1].header
    return blocks


def test_the_executed_header_is_signed_persist_first() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    header = execute(proposal, solo.chain.genesis)
    effects = solo.step(Executed(header=header))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Broadcast)
    assert of(Persist, effects)[0].record == VoteRecord(
        kind=MessageType.CHECKPOINT, view=0, height=1, digest=header_hash(header)
    )
    assert said(Checkpoint, effects) == [Checkpoint(height=1, digest=header_hash(header))]
    assert solo.replica.phase(H1) is Phase.EXECUTED


def test_a_quorum_of_equal_votes_stores_the_block_with_a_certificate_that_proves_it() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    header = execute(proposal, solo.chain.genesis)
    solo.step(Executed(header=header))
    assert of(Store, solo.certify(header, 0)) == []
    [store] = of(Store, solo.certify(header, 2))
    assert store.header == header
    verify_certificate(
        store.certificate,
        validators=solo.chain.validators,
        chain_id=solo.chain.id,
        verify_signature=verify_signature,
    )
    assert solo.replica.certified_height == 1
    assert solo.replica.phase(H1) is Phase.CERTIFIED
    assert solo.replica.in_flight == ()


def test_votes_may_come_before_the_execution() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    header = execute(proposal, solo.chain.genesis)
    assert of(Store, solo.certify(header, 0, 2, 3)) == []
    solo.order(proposal)
    effects = solo.step(Executed(header=header))
    assert len(of(Store, effects)) == len(said(Checkpoint, effects)) == 1


def test_blocks_are_stored_strictly_by_height() -> None:
    solo = Solo()
    first, second = solo.chain.proposal(1, "a"), solo.chain.proposal(2, "b")
    solo.order(first)
    solo.order(second)
    one = execute(first, solo.chain.genesis)
    two = execute(second, one)
    solo.step(Executed(header=one))
    solo.step(Executed(header=two))
    assert of(Store, solo.certify(two, 0, 2)) == []
    assert [effect.header for effect in of(Store, solo.certify(one, 0, 2))] == [one, two]


def test_a_header_that_does_not_extend_the_chain_is_our_bug() -> None:
    proposal = Chain().proposal(1, "a")
    header = execute(proposal, Chain().genesis)
    for wrong in (
        msgspec.structs.replace(header, parent_hash=bytes(32)),
        msgspec.structs.replace(header, height=2),
        msgspec.structs.replace(header, proposal_digest=bytes(32)),
        msgspec.structs.replace(header, chain_id=bytes(32)),
    ):
        solo = Solo()
        solo.order(proposal)
        with pytest.raises(InvariantError, match="does not extend"):
            solo.step(Executed(header=wrong))


def test_an_execution_that_nobody_asked_for_is_our_bug() -> None:
    solo = Solo()
    with pytest.raises(InvariantError, match="does not extend"):
        solo.step(Executed(header=execute(solo.chain.proposal(1, "a"), solo.chain.genesis)))


def test_a_certificate_for_another_header_stops_this_node_for_good() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    own = execute(proposal, solo.chain.genesis)
    solo.step(Executed(header=own))
    theirs = msgspec.structs.replace(own, gas_used=1)
    effects = solo.certify(theirs, 0, 2, 3)
    assert of(Diverged, effects) == [
        Diverged(height=H1, own=header_hash(own), certified=header_hash(theirs), reason="header_differs")
    ]
    assert len(of(CancelTimer, effects)) == 2
    assert solo.replica.diverged is not None
    assert solo.replica.armed_timers == ()
    following = solo.chain.proposal(2, "b")
    assert solo.propose(following) + solo.prepare(following, 0, 2) + solo.commit(following, 0, 2) == []
    assert solo.step(TransactionsWaiting(overdue=True)) == []


def test_the_difference_is_noticed_as_well_if_the_certificate_came_first() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    own = execute(proposal, solo.chain.genesis)
    solo.certify(msgspec.structs.replace(own, gas_used=1), 0, 2, 3)
    solo.order(proposal)
    effects = solo.step(Executed(header=own))
    assert len(of(Diverged, effects)) == 1
    assert said(Checkpoint, effects) == []


def test_it_is_noticed_that_no_quorum_can_form_any_more() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    own = execute(proposal, solo.chain.genesis)
    solo.step(Executed(header=own))
    assert solo.certify(msgspec.structs.replace(own, gas_used=1), 0) == []
    effects = solo.certify(msgspec.structs.replace(own, gas_used=2), 2)
    assert of(Diverged, effects) == [
        Diverged(height=H1, own=header_hash(own), certified=None, reason="no_quorum_can_form")
    ]


def test_two_headers_signed_by_one_validator_are_evidence_and_the_first_counts() -> None:
    solo = Solo()
    header = execute(solo.chain.proposal(1, "a"), solo.chain.genesis)
    solo.certify(header, 0)
    effects = solo.certify(msgspec.structs.replace(header, gas_used=1), 0)
    assert evidence_of(effects) == ["equivocation"]
    assert solo.certify(msgspec.structs.replace(header, gas_used=1), 0, 0) != []


def test_a_fetched_block_is_executed_compared_and_stored_without_a_vote() -> None:
    solo = Solo()
    fetched = run_of_blocks(solo.chain, 2)
    effects = [effect for entry in fetched for effect in solo.step(entry)]
    assert [effect.proposal.height for effect in of(Execute, effects)] == [1, 2]
    effects = [effect for entry in fetched for effect in solo.step(Executed(header=entry.header))]
    assert [effect.header.height for effect in of(Store, effects)] == [1, 2]
    assert said(Checkpoint, effects) == []
    assert solo.replica.certified_height == 2


def test_fetched_blocks_may_come_in_any_order() -> None:
    solo = Solo()
    first, second = run_of_blocks(solo.chain, 2)
    assert of(Execute, solo.step(second)) == []
    assert [effect.proposal.height for effect in of(Execute, solo.step(first))] == [1, 2]


def test_a_fetched_certificate_completes_a_block_executed_here() -> None:
    solo = Solo()
    proposal = solo.chain.proposal(1, "a")
    solo.order(proposal)
    fetched = block(solo.chain, proposal, solo.chain.genesis)
    solo.step(Executed(header=fetched.header))
    effects = solo.step(fetched)
    assert len(of(Store, effects)) == 1
    assert of(Execute, effects) == []


def test_a_fetched_block_that_executes_differently_here_stops_this_node() -> None:
    solo = Solo()
    [fetched] = run_of_blocks(solo.chain, 1)
    solo.step(fetched)
    effects = solo.step(Executed(header=msgspec.structs.replace(fetched.header, gas_used=1)))
    assert [effect.reason for effect in of(Diverged, effects)] == ["header_differs"]


@pytest.mark.parametrize("executing", [False, True])
def test_a_fetched_block_that_was_ordered_differently_here_stops_this_node(executing: bool) -> None:
    solo = Solo()
    height = 1 if executing else 2
    solo.order(solo.chain.proposal(height, "a"))
    parent = run_of_blocks(solo.chain, 1)[0].header if height == 2 else solo.chain.genesis
    effects = solo.step(block(solo.chain, solo.chain.proposal(height, "b"), parent))
    assert [effect.reason for effect in of(Diverged, effects)] == ["ordered_differently"]


def test_a_fetched_block_that_does_not_hold_together_is_our_bug() -> None:
    chain = Chain()
    [good] = run_of_blocks(chain, 1)
    prepared = chain.certificate(
        MessageType.PREPARE, height=1, digest=header_hash(good.header), signers=(0, 1, 2)
    )
    other = msgspec.structs.replace(good.header, gas_used=1)
    wrong: list[tuple[Proposal, Header, Certificate]] = [
        (good.proposal, good.header, prepared),
        (good.proposal, other, good.certificate),
        (chain.proposal(1, "other"), good.header, good.certificate),
        (chain.proposal(2, "1"), good.header, good.certificate),
    ]
    for proposal, header, certificate in wrong:
        with pytest.raises(InvariantError, match="does not hold together"):
            Solo(chain).step(BlockFetched(proposal=proposal, header=header, certificate=certificate))


def test_a_fetched_block_that_is_here_already_or_far_ahead_is_ignored() -> None:
    solo = Solo()
    blocks = run_of_blocks(solo.chain, 40)
    solo.step(blocks[0])
    solo.step(Executed(header=blocks[0].header))
    assert solo.step(blocks[0]) == []
    assert solo.step(blocks[39]) == []
    assert solo.replica._checkpoints._fetched == {}


def test_checkpoint_votes_beyond_the_horizon_only_say_that_this_node_is_behind() -> None:
    solo = Solo()
    far = Checkpoint(height=3 * WINDOW, digest=bytes(32))
    [fetch] = of(FetchBlocks, solo.hear(0, far))  # also this one: it will be certified, and nobody may say so again
    assert (fetch.first, fetch.last) == (1, 3 * WINDOW)
    assert of(FetchBlocks, solo.hear(2, far)) == []
    assert solo.replica._checkpoints._tallies == {}


def test_a_status_far_ahead_makes_this_node_fetch() -> None:
    solo = Solo()
    effects = solo.hear(3, Status(view=0, changing=False, certified=7, ordered=8))
    [fetch] = of(FetchBlocks, effects)
    assert (fetch.first, fetch.last, fetch.sources) == (1, 7, (solo.chain.keys[3].validator_id,))


def test_a_long_run_of_blocks_is_fetched_range_by_range_and_leaves_nothing_behind() -> None:
    solo = Solo()
    blocks = run_of_blocks(solo.chain, 70)
    fetches = of(FetchBlocks, solo.hear(3, Status(view=0, changing=False, certified=70, ordered=70)))
    asked = []
    while fetches:
        [fetch] = fetches
        asked.append((fetch.first, fetch.last))
        effects = []
        for entry in blocks[fetch.first - 1 : fetch.last]:
            effects += solo.step(entry)
        for entry in blocks[fetch.first - 1 : fetch.last]:
            effects += solo.step(Executed(header=entry.header))
        fetches = of(FetchBlocks, effects)
    assert asked == [(1, 32), (33, 64), (65, 70)]
    assert solo.replica.certified_height == 70
    assert solo.replica.armed_timers == ()
    assert solo.replica._checkpoints._headers == {}


def test_a_vote_without_any_proposal_is_kept_and_harmless() -> None:
    solo = Solo()
    for kind in (Prepare, Commit):
        assert solo.hear(3, kind(view=0, height=2, digest=bytes(32))) == []
    assert solo.hear(3, Checkpoint(height=2, digest=bytes(32))) == []
    assert solo.replica.in_flight == ()
    assert said(Prepare, solo.hear(0, PrePrepare(view=0, proposal=solo.chain.proposal(2, "a")))) == []

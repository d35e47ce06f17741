"""What the mutations of `consensus/checkpoint.py` and `consensus/view_change.py` found to be tested nowhere else."""

from __future__ import annotations

import msgspec
import pytest

from chain.errors import InvariantError
from chain.model.block import Header, Proposal, header_hash, proposal_digest
from chain.types import GENESIS_HEIGHT, Digest, Height
from consensus.checkpoint import Checkpoints
from consensus.effects import CertificateRecord, Diverged, Effect, Store
from consensus.epoch import Epoch
from consensus.events import BlockFetched, Executed, Timer
from consensus.messages import Checkpoint, MessageType, PrePrepare
from consensus.safety import Safety
from consensus.view_change import Plan, Reproposal
from tests.planted.chains import fetched
from tests.unit.consensus.members import WINDOW, Chain, evidence_of, execute, of
from tests.unit.consensus.solo import Solo

CHAIN = Chain()
LOW, HIGH = bytes(32), b"\xff" * 32


def blocks(count: int) -> list[BlockFetched]:
    """The first blocks of a chain."""
    made: list[BlockFetched] = []
    parent = CHAIN.genesis
    for height in range(1, count + 1):
        made.append(fetched(CHAIN, CHAIN.proposal(height, f"{height}"), parent))
        parent = made[-1].header
    return made


def checkpoints(chain: Chain = CHAIN, *, epoch: Epoch | None = None) -> Checkpoints:
    """Those of replica 1, which has nothing but genesis."""
    safety = Safety(signer=chain.keys[1], validators=chain.validators, chain_id=chain.id, floor=GENESIS_HEIGHT)
    return Checkpoints(
        safety=safety, epoch=epoch or Epoch(chain.validators), chain_id=chain.id, window=chain.window,
        last=(chain.genesis, None),
    )  # fmt: skip


def vote(made: Checkpoints, header: Header, *numbers: int, chain: Chain = CHAIN) -> None:
    for number in numbers:
        message = Checkpoint(height=header.height, digest=header_hash(header))
        made.on_checkpoint(chain.verified(number, message), [])


# --- what is work ---


def test_there_is_work_while_a_block_is_being_executed_or_certified_or_more_than_f_have_it() -> None:
    [first, *_] = blocks(1)
    idle, issued, certified, voted = (checkpoints() for _ in range(4))
    issued.issue(first.proposal, proposal_digest(first.proposal), [])
    certified.on_fetched(first)
    vote(voted, first.header, 0)
    assert [made.has_work for made in (idle, issued, certified, voted)] == [False, True, True, False]
    vote(voted, first.header, 2)
    assert voted.has_work


def test_the_certificate_of_the_block_that_is_stored_is_no_work_when_the_journal_has_it_too() -> None:
    [block] = blocks(1)
    journal = [CertificateRecord(certificate=block.certificate)]
    assert Solo(CHAIN, journal=journal).replica.armed_timers == (Timer.RETRANSMIT,)
    assert Solo(CHAIN, journal=journal, last=(block.header, block.certificate)).replica.armed_timers == ()


# --- what was executed ---


def executing(*proposals: Proposal) -> Checkpoints:
    made = checkpoints()
    for proposal in proposals:
        made.issue(proposal, proposal_digest(proposal), [])
    return made


def test_a_header_of_another_height_than_the_next_is_our_bug() -> None:
    one, two = CHAIN.proposal(1, "a"), CHAIN.proposal(2, "b")
    first = execute(one, CHAIN.genesis)
    made = executing(one, two)
    with pytest.raises(InvariantError, match="does not extend"):
        made.on_executed(execute(two, CHAIN.genesis), [])
    made.on_executed(first, [])
    with pytest.raises(InvariantError, match="does not extend"):
        made.on_executed(msgspec.structs.replace(first, parent_hash=header_hash(first)), [])
    made.on_executed(execute(two, first), [])


@pytest.mark.parametrize("digest", [LOW, HIGH])
def test_a_header_of_another_proposal_than_the_one_issued_is_our_bug(digest: bytes) -> None:
    proposal = CHAIN.proposal(1, "a")
    header = msgspec.structs.replace(execute(proposal, CHAIN.genesis), proposal_digest=digest)
    with pytest.raises(InvariantError, match="does not extend"):
        executing(proposal).on_executed(header, [])


def test_votes_for_a_height_that_becomes_certain_make_its_certificate() -> None:
    epoch = Epoch(CHAIN.validators, window=WINDOW)
    made = checkpoints(epoch=epoch)
    *_, block = blocks(WINDOW + 1)
    vote(made, block.header, 0, 2, 3)
    assert made.certified_ahead() is None  # others may have to vote for it
    [first] = blocks(1)
    made.issue(first.proposal, proposal_digest(first.proposal), [])
    made.on_executed(first.header, [])
    signers = tuple(sorted(CHAIN.keys[number].validator_id for number in (0, 2, 3)))
    assert made.certified_ahead() == (WINDOW + 1, signers)


def test_votes_that_cannot_agree_say_nothing_before_the_block_is_executed_here() -> None:
    solo = Solo(CHAIN)
    proposal = CHAIN.proposal(1, "a")
    solo.order(proposal)
    effects: list[Effect] = []
    for number in (0, 2, 3):
        effects += solo.hear(number, Checkpoint(height=1, digest=bytes([number] * 32)))
    assert of(Diverged, effects) == []
    effects = solo.step(Executed(header=execute(proposal, CHAIN.genesis)))
    assert [effect.reason for effect in of(Diverged, effects)] == ["no_quorum_can_form"]


# --- what was fetched ---


def unfitting(what: str) -> BlockFetched:
    """A block of height 2 with a part that does not belong to it, everything else signed as it should be."""
    _, block = blocks(2)
    header, proposal = block.header, block.proposal
    kind, height, digest = MessageType.CHECKPOINT, 2, None
    match what.split():
        case ["header", number]:
            header = msgspec.structs.replace(header, height=int(number))
            height = header.height
        case ["certificate", number]:
            height = int(number)
        case ["proposal", number]:
            proposal = CHAIN.proposal(int(number), "2")
            header = msgspec.structs.replace(header, proposal_digest=proposal_digest(proposal))
        case ["chain", _]:
            header = msgspec.structs.replace(header, chain_id=HIGH)
        case ["kind", number]:
            kind = MessageType(int(number))
        case ["digest", side]:
            digest = LOW if side == "low" else HIGH
    certificate = CHAIN.certificate(kind, height=height, digest=digest or header_hash(header), signers=(0, 2, 3))
    return BlockFetched(proposal=proposal, header=header, certificate=certificate)


@pytest.mark.parametrize(
    "what",
    ["header 1", "header 3", "certificate 1", "certificate 3", "proposal 1", "proposal 3", "chain other", "kind 3",
     "kind 5", "digest low", "digest high"],
)  # fmt: skip
def test_a_fetched_block_with_a_part_of_another_one_is_our_bug(what: str) -> None:
    with pytest.raises(InvariantError, match="does not hold together"):
        checkpoints().on_fetched(unfitting(what))
    made = checkpoints()
    made.on_fetched(unfitting("nothing"))
    assert made.is_fetched(Height(2))


def test_a_fetched_block_above_the_boundary_is_not_this_epochs() -> None:
    epoch = Epoch(CHAIN.validators, window=WINDOW)
    epoch.close(Height(2))
    made = checkpoints(epoch=epoch)
    for block in blocks(3):
        made.on_fetched(block)
    assert [made.is_fetched(Height(height)) for height in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_certificates_of_one_height_are_noticed_whichever_came_first(order: tuple[int, int]) -> None:
    solo = Solo(CHAIN)
    proposal = CHAIN.proposal(2, "a")
    effects = [
        effect for gas in order for effect in solo.step(fetched(CHAIN, proposal, CHAIN.genesis, gas_used=gas))
    ]
    assert [effect.reason for effect in of(Diverged, effects)] == ["certified_twice"]


def test_a_certificate_that_was_fetched_stands_whatever_votes_come_after_it() -> None:
    solo = Solo(CHAIN)
    first, second = CHAIN.proposal(1, "1"), CHAIN.proposal(2, "2")
    header = execute(first, CHAIN.genesis)
    block = fetched(CHAIN, second, header, signers=(0, 1, 2))
    solo.step(block)
    solo.order(first)
    solo.step(Executed(header=header))
    solo.certify(block.header, 0, 2, 3)
    solo.step(Executed(header=block.header))
    stores = of(Store, solo.certify(header, 0, 2))
    assert [store.header.height for store in stores] == [1, 2]
    assert stores[1].certificate == block.certificate


# --- what is ahead ---


def test_the_highest_block_that_others_have_and_this_node_lacks_is_known_with_its_signers() -> None:
    chain = Chain(7)
    made = checkpoints(chain)
    headers: list[Header] = [chain.genesis]
    for height in (1, 2, 3):
        headers.append(execute(chain.proposal(height, f"{height}"), headers[-1]))
    assert made.certified_ahead() is None
    vote(made, headers[3], 2, 3, 4, 5, 6, chain=chain)
    vote(made, headers[2], 0, 2, 3, 4, 5, chain=chain)
    signers = tuple(sorted(chain.keys[number].validator_id for number in (2, 3, 4, 5, 6)))
    assert made.certified_ahead() == (3, signers)
    for height in (1, 2):
        proposal = chain.proposal(height, f"{height}")
        made.issue(proposal, proposal_digest(proposal), [])
        made.on_executed(headers[height], [])
    made.on_fetched(fetched(chain, chain.proposal(3, "3"), headers[2], signers=(0, 2, 3, 4, 5)))
    assert made.certified_ahead() is None  # one is fetched, one executed


# --- plans ---


def test_a_plan_goes_up_to_the_boundary_and_no_further() -> None:
    reproposals = {
        Height(height): Reproposal(digest=Digest(bytes([height] * 32)), gap=None, sources=()) for height in (3, 4, 5)
    }
    plan = Plan(low=Height(2), reproposals=reproposals)
    assert plan.first_fresh == 6
    assert plan.up_to(Height(5)) is plan
    cut = plan.up_to(Height(4))
    assert (cut.low, cut.first_fresh, list(cut.reproposals)) == (2, 5, [3, 4])
    assert plan.up_to(Height(2)).first_fresh == 3


def test_nothing_fresh_is_taken_at_any_height_that_the_new_view_has_filled() -> None:
    solo = Solo(CHAIN)
    certificates = [
        CHAIN.certificate(MessageType.PREPARE, height=height, digest=bytes(32), signers=(0, 2, 3)) for height in (1, 2)
    ]
    solo.change_view(2, *[CHAIN.view_change(number, 2, prepared=certificates) for number in (0, 2, 3)])
    for height, expected in ((1, ["out_of_place"]), (2, ["out_of_place"]), (3, [])):
        fresh = CHAIN.proposal(height, f"{height}", leader=2)
        assert evidence_of(solo.hear(2, PrePrepare(view=2, proposal=fresh))) == expected
    assert Timer.VIEW in solo.replica.armed_timers

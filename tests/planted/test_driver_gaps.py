"""What the planted bugs found to be tested nowhere else in the driver, in sync and in storage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput
from chain.model.block import Certificate, VoteSignature, decode_header, encode_header, gap_proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.model.transaction import Transaction
from chain.model.validators import ValidatorSchedule
from chain.pipeline.order import FRAMES_PER_ROUND_MAX
from chain.store.layout import pack_parts
from chain.sync import BlockChecker, RequestKind, SyncServer
from chain.sync.server import Archive
from chain.sync.wire import (
    ANSWER_BYTES_MAX,
    HASHES_PER_REQUEST_MAX,
    BlocksAnswer,
    BlocksRequest,
    FetchedBlock,
    ProposalBodies,
    TransactionsRequest,
)
from chain.types import DIGEST_BYTES, MESSAGE_BYTES_MAX, Digest, Height, Instant, ValidatorId
from consensus import encode_signed
from consensus.effects import CancelTimer
from consensus.events import MessageReceived, Timer, TimerFired
from consensus.messages import Message, MessageType, Prepare, Signed, ViewChange
from tests.unit.pipeline.test_order import KEYS, World
from tests.unit.pool.transactions import CHAIN_ID, make_transaction
from tests.unit.sync.test_blocks import HONEST, OLD, make_block
from tests.unit.sync.test_blocks import World as Fetching
from tests.unit.sync.test_proposals import LEADER, fresh, make_proposal, required
from tests.unit.sync.test_proposals import World as Obtaining

# --- driver ---


def test_a_round_hears_one_sender_after_the_other() -> None:
    stage = World().stage
    loud, quiet = KEYS[0].validator_id, KEYS[1].validator_id
    for number in range(3 * FRAMES_PER_ROUND_MAX):
        stage.receive(loud, b"loud %d" % number)
    for number in range(3):
        stage.receive(quiet, b"quiet %d" % number)
    taken = stage._next_frames()
    assert len(taken) <= FRAMES_PER_ROUND_MAX + 1
    assert [frame for peer, frame in taken if peer == quiet] == [b"quiet 0", b"quiet 1", b"quiet 2"]
    assert [frame for peer, frame in taken if peer == loud][:2] == [b"loud 0", b"loud 1"]
    assert stage.depth == 3 * FRAMES_PER_ROUND_MAX + 3 - len(taken)


def test_a_timer_set_anew_takes_the_place_of_the_last_one() -> None:
    """An alarm may ring too early for a timer that was armed again or cancelled since, and then it is not heard."""
    world = World([])
    stage, fired = world.stage, TimerFired(timer=Timer.VIEW)

    async def go() -> None:
        stage._set_timer(Timer.VIEW, Instant(1_000_000))
        first = stage._alarms[Timer.VIEW]
        stage._set_timer(Timer.VIEW, Instant(900_000))
        assert first.cancelled()
        stage._set_timer(Timer.VIEW, Instant(2_000_000))
        stage._ring(Timer.VIEW)
        assert stage._alarms[Timer.VIEW].when() == stage._due[Timer.VIEW]
        stage._perform(CancelTimer(timer=Timer.VIEW))
        stage._ring(Timer.VIEW)
        assert not stage._alarms
        assert fired not in world.replica.events
        stage._set_timer(Timer.VIEW, Instant(0))
        async with asyncio.timeout(10):
            while fired not in world.replica.events:
                await asyncio.sleep(0)
        assert not stage._alarms
        assert not stage._due

    asyncio.run(go())


class LastIsForged(World):
    """The last signature of a batch is wrong."""

    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]], *, urgent: bool = False) -> list[bool]:
        return [True] * (len(items) - 1) + [False]


def test_each_message_stands_and_falls_with_its_own_signatures() -> None:
    world = LastIsForged()
    signers = sorted(key.validator_id for key in KEYS[:3])
    prepared = Certificate(
        kind=int(MessageType.PREPARE), view=0, height=1, digest=bytes(32),
        signatures=tuple(VoteSignature(validator=signer, signature=bytes(64)) for signer in signers),
    )  # fmt: skip
    messages: list[Message] = [
        ViewChange(view=1, stable=None, prepared=(prepared,)),
        Prepare(view=0, height=1, digest=bytes(32)),
    ]

    def hear() -> None:
        for key, message in zip(KEYS, messages, strict=False):
            frame = encode_signed(Signed(sender=key.validator_id, message=message, signature=bytes(64)))
            world.stage.receive(key.validator_id, frame)

    world.run(hear, lambda: bool(world.faults))
    assert world.faults == ["bad_signature"]
    heard = [event.message.message for event in world.replica.events if isinstance(event, MessageReceived)]
    assert heard == messages[:1]


# --- sync ---


def checker() -> BlockChecker:
    return BlockChecker(chain_id=CHAIN_ID, schedule=lambda: ValidatorSchedule(OLD.validators))


def test_an_empty_block_needs_its_certificate_like_any_other() -> None:
    proposal = gap_proposal(chain_id=CHAIN_ID, height=Height(1))
    header = msgspec.structs.replace(
        OLD.genesis_header, chain_id=CHAIN_ID, height=1, proposal_digest=proposal_digest(proposal),
        validator_set_hash=OLD.validators.digest,
    )  # fmt: skip
    certificate = OLD.certify(header)
    short = msgspec.structs.replace(certificate, signatures=certificate.signatures[:2])
    forged = msgspec.structs.replace(
        certificate,
        signatures=tuple(msgspec.structs.replace(vote, signature=bytes(64)) for vote in certificate.signatures),
    )
    good, *wrong = (
        FetchedBlock(
            bodies=pack_parts((encode(proposal),)), header=encode_header(header), certificate=encode(one), skipped=b""
        )
        for one in (certificate, short, forged)
    )
    assert checker().check([good], 1)[0].certified_by == OLD.validators.digest
    for block in wrong:
        with pytest.raises(BadInput):
            checker().check([block], 1)


def test_a_good_block_of_another_height_is_not_the_one_asked_for() -> None:
    fifth = make_block(5)
    assert checker().check([fifth], 5)[0].header.height == 5
    with pytest.raises(BadInput, match="where 3 was asked for"):
        checker().check([fifth], 3)


class Generous(Fetching):
    """Its peers send all they have, whatever they are asked for."""

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        first = decode(BlocksRequest, payload).first
        return encode(BlocksAnswer(blocks=tuple(self.chain[first - 1 :])))


def test_what_a_peer_sends_beyond_what_it_was_asked_for_is_left_unread() -> None:
    assert Generous().run([HONEST], last=2).posted == [1, 2]


def test_a_body_of_another_chain_or_with_more_gas_than_one_may_ask_for_is_not_taken_from_a_peer() -> None:
    good = make_transaction(1)
    foreign = make_transaction(2, chain_id=Digest(bytes(32)))
    greedy = make_transaction(3, gas_limit=ChainParameters().transaction_gas_max + 1)
    greatest = make_transaction(4, gas_limit=ChainParameters().transaction_gas_max)

    async def taken(transaction: Transaction) -> list[Transaction]:
        world = Obtaining()
        world.peers[LEADER] = [transaction.raw]
        return await world.obtainer()._fetch_some((LEADER,), [transaction.hash])

    for transaction, expected in ((good, 1), (greatest, 1), (foreign, 0), (greedy, 0)):
        assert len(asyncio.run(taken(transaction))) == expected


def test_a_proposal_that_must_be_had_is_no_longer_judged() -> None:
    bodies = [make_transaction(at) for at in range(3)]

    async def scenario() -> Obtaining:
        world = Obtaining()
        for transaction in bodies:
            world.pool.add(transaction, Instant(0))
        world.done.add(bodies[0].hash)  # so that a fresh proposal is refused
        proposal, _ = make_proposal(bodies)
        world.proposals[LEADER] = ProposalBodies(
            proposal=encode(proposal), transactions=tuple(transaction.raw for transaction in bodies)
        )
        obtainer = world.obtainer()
        obtainer.want(fresh(bodies))
        obtainer.want(required(bodies, (LEADER,)))
        async with asyncio.timeout(5):
            await world.settled.wait()
        return world

    world = asyncio.run(scenario())
    assert (len(world.obtained), world.refused) == (1, [])


class Gap:
    """Has the blocks 1 and 3."""

    def load_block(self, height: Height) -> FetchedBlock | None:
        return make_block(height) if height in (1, 3) else None


def test_the_blocks_of_an_answer_follow_each_other() -> None:
    server = SyncServer(cast("Archive", Gap()))
    answer = decode(BlocksAnswer, server.answer(RequestKind.BLOCKS, encode(BlocksRequest(first=1, last=4))))
    assert [decode_header(block.header).height for block in answer.blocks] == [1]


class Heavy:
    """Each of its blocks alone fits into an answer; no two do."""

    def load_block(self, height: Height) -> FetchedBlock | None:
        size = 1024 * 1024 if height == 1 else ANSWER_BYTES_MAX - 1024
        return FetchedBlock(bodies=bytes(size), header=b"", certificate=b"", skipped=b"")


def test_no_answer_is_longer_than_a_message() -> None:
    server = SyncServer(cast("Archive", Heavy()))
    answer = server.answer(RequestKind.BLOCKS, encode(BlocksRequest(first=1, last=4)))
    assert len(answer) <= MESSAGE_BYTES_MAX
    assert len(decode(BlocksAnswer, answer).blocks) == 1


class Nothing:
    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        return None


def test_a_request_for_more_bodies_than_a_message_has_hashes_is_refused() -> None:
    server = SyncServer(cast("Archive", Nothing()))
    for count, is_refused in ((HASHES_PER_REQUEST_MAX, False), (HASHES_PER_REQUEST_MAX + 1, True)):
        request = encode(TransactionsRequest(hashes=bytes(count * DIGEST_BYTES)))
        with pytest.raises(BadInput) if is_refused else nullcontext():
            server.answer(RequestKind.TRANSACTIONS, request)

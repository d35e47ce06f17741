"""The driver of the core: durable before visible, gap proposals, per-sender bounds, a halt that is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from chain.errors import InvariantError
from chain.model.block import Certificate, Proposal, gap_proposal, proposal_digest
from chain.model.signing import ValidatorKey
from chain.model.validators import Validator, ValidatorSet
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.order import FRAMES_PENDING_MAX, RECORDS_HELD_MAX, ConsensusStage
from chain.pipeline.spans import CpuMeter, Spans
from chain.types import Digest, Height, Instant, ValidatorId
from consensus import Epoch, Replica, encode_signed
from consensus.effects import (
    Broadcast,
    CertificateRecord,
    Effect,
    Execute,
    JournalRecord,
    Persist,
    ProposalRecord,
    VoteRecord,
)
from consensus.events import Event, PeerStatus, Started, Stored
from consensus.messages import Message, MessageType, Prepare, Signed, Status, Verified

CHAIN_ID = Digest(b"\xc0" * 32)
KEYS = [ValidatorKey(bytes((at + 1,)) * 32) for at in range(4)]
VALIDATORS = ValidatorSet(
    [Validator(name=f"v{at}", public_key=key.public_key, weight=1) for at, key in enumerate(KEYS)]
)
PREPARE = Prepare(view=0, height=1, digest=bytes(32))
VOTE = Persist(record=VoteRecord(kind=2, view=0, height=1, digest=bytes(32)))
SEND = Broadcast(
    message=cast("Verified[Message]", Verified(sender=KEYS[0].validator_id, message=PREPARE, signature=bytes(64)))
)


class ScriptedReplica:
    """Stands in for the core: answers each event with the next list of effects."""

    view = 0
    epoch = Epoch(VALIDATORS)

    def __init__(self, *answers: Sequence[Effect]) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []

    def step(self, event: Event, now: Instant) -> list[Effect]:
        self.events.append(event)
        return list(self.answers.pop(0)) if self.answers else []


class NoArchive:
    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        return None


class World:
    """Records the order of what leaves and what becomes durable."""

    def __init__(self, *answers: Sequence[Effect], fail_write: bool = False) -> None:
        self.log: list[str] = []
        self.written: list[LiveProposal] = []
        self.faults: list[str] = []
        self.fail_write = fail_write
        self.on_write: Callable[[], None] = lambda: None
        self.replica = ScriptedReplica(*answers)
        self.thread = ThreadPoolExecutor(1)
        self.stage = ConsensusStage(
            replica=cast("Replica", self.replica),
            chain_id=CHAIN_ID,
            window=8,
            verifier=self,
            transport=self,
            journal=self,
            journal_thread=self.thread,
            bodies=Bodies(NoArchive()),
            neighbours=self,  # type: ignore[arg-type]  # only faults are reported in these tests
            spans=Spans(),
            cpu=CpuMeter(),
            now=lambda: Instant(0),
        )

    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]], *, urgent: bool = False) -> list[bool]:
        return [False] * len(items)

    def broadcast(self, payload: bytes) -> None:
        self.log.append("sent")

    def send(self, peer: ValidatorId, payload: bytes) -> None:
        self.log.append("sent")

    def execute(self, proposal: Proposal, digest: Digest) -> None:
        self.log.append("executed")

    def report_fault(self, peer: ValidatorId, reason: str, evidence: bytes = b"") -> None:
        self.faults.append(reason)

    def write(self, records: Sequence[JournalRecord], proposals: Sequence[LiveProposal]) -> None:
        if self.fail_write:
            raise InvariantError("the disk is gone")
        self.on_write()
        self.written += proposals
        self.log.append(f"durable {len(records)}")

    def run(self, scenario: Callable[[], object], until: Callable[[], bool]) -> None:
        async def go() -> None:
            task = asyncio.create_task(self.stage.run())
            try:
                scenario()
                async with asyncio.timeout(10):
                    while not until() and not task.done():
                        await asyncio.sleep(0.001)
                if task.done():
                    await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        try:
            asyncio.run(go())
        finally:
            self.thread.shutdown()


def test_nothing_behind_a_persist_leaves_before_it_is_durable() -> None:
    world = World([SEND, VOTE, SEND, VOTE, SEND])
    world.run(lambda: world.stage.post(Started()), lambda: len(world.log) == 4)
    assert world.log == ["sent", "durable 2", "sent", "sent"]


def certified(kind: MessageType) -> Persist:
    certificate = Certificate(kind=kind, view=0, height=4, digest=bytes(32), signatures=())
    return Persist(record=CertificateRecord(certificate=certificate))


def test_that_a_height_is_ordered_is_written_with_the_next_record_and_execution_does_not_wait() -> None:
    ordered = certified(MessageType.COMMIT)
    execute = Execute(proposal=gap_proposal(chain_id=CHAIN_ID, height=Height(4)))
    world = World([ordered, execute], [ordered, execute], [VOTE, SEND])

    async def scenario() -> None:
        task = asyncio.create_task(world.stage.run())
        async with asyncio.timeout(10):
            for count in (1, 2, 4):
                world.stage.post(Started())
                while len(world.log) < count:
                    await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    world.thread.shutdown()
    assert world.log == ["executed", "executed", "durable 3", "sent"]


@pytest.mark.parametrize("leaves", [True, False])
def test_whatever_leaves_waits_for_what_was_held_back(leaves: bool) -> None:
    """Also in another batch of effects, and with no record of its own."""
    world = World([certified(MessageType.COMMIT)], [SEND])
    if leaves:
        world = World([certified(MessageType.COMMIT), SEND])

    def scenario() -> None:
        world.stage.post(Started())
        if not leaves:
            asyncio.get_running_loop().call_later(0.02, world.stage.post, Started())

    world.run(scenario, lambda: len(world.log) == 2)
    assert world.log == ["durable 1", "sent"]


@pytest.mark.parametrize("record", ["vote", "prepared", "block"])
def test_no_other_record_is_held_back(record: str) -> None:
    kinds = {"prepared": MessageType.PREPARE, "block": MessageType.CHECKPOINT}
    world = World([VOTE if record == "vote" else certified(kinds[record])])
    world.run(lambda: world.stage.post(Started()), lambda: world.log == ["durable 1"])


def test_what_is_held_back_is_bounded() -> None:
    world = World(*[[certified(MessageType.COMMIT)]] * (RECORDS_HELD_MAX + 1))

    def scenario() -> None:
        for at in range(RECORDS_HELD_MAX + 1):
            asyncio.get_running_loop().call_later(at / 1_000, world.stage.post, Started())

    world.run(scenario, lambda: bool(world.log))
    assert world.log == [f"durable {RECORDS_HELD_MAX + 1}"]


def test_nothing_leaves_at_all_when_the_journal_cannot_be_written() -> None:
    world = World([VOTE, SEND], fail_write=True)
    with pytest.raises(ExceptionGroup):
        world.run(lambda: world.stage.post(Started()), lambda: False)
    assert world.log == []


def test_a_gap_proposal_of_a_new_view_needs_no_bodies() -> None:
    gap = gap_proposal(chain_id=CHAIN_ID, height=Height(4))
    world = World([Persist(record=ProposalRecord(view=1, proposal=gap)), VOTE, SEND])
    world.run(lambda: world.stage.post(Started()), lambda: len(world.log) == 2)
    assert world.log == ["durable 2", "sent"]
    assert [(live.digest, live.proposal, live.transactions) for live in world.written] == [
        (proposal_digest(gap), gap, ())
    ]


def test_a_proposal_without_its_bodies_is_never_journalled() -> None:
    proposal = Proposal(chain_id=CHAIN_ID, height=4, timestamp_ms=1, proposer=KEYS[0].validator_id, hashes=bytes(32))
    world = World([Persist(record=ProposalRecord(view=1, proposal=proposal)), SEND])
    with pytest.raises(ExceptionGroup):
        world.run(lambda: world.stage.post(Started()), lambda: False)
    assert world.log == []


def test_a_sender_that_floods_loses_its_own_frames_only() -> None:
    world = World()
    loud, quiet = KEYS[0].validator_id, KEYS[1].validator_id
    world.stage.receive(quiet, b"one vote")
    for _ in range(FRAMES_PENDING_MAX + 500):
        world.stage.receive(loud, b"noise")
    assert world.stage.depth == FRAMES_PENDING_MAX + 1
    assert world.stage._next_frames()[0] == (quiet, b"one vote")
    world.thread.shutdown()


def test_garbage_is_a_fault_of_its_sender_and_reaches_no_core() -> None:
    world = World()
    world.run(lambda: world.stage.receive(KEYS[0].validator_id, b"\xff garbage"), lambda: bool(world.faults))
    assert world.replica.events == []


def test_after_a_halt_nothing_is_stepped_or_sent() -> None:
    world = World([SEND], [SEND])
    world.run(lambda: world.stage.post(Started()), lambda: world.log == ["sent"])
    world.stage.halt()
    world.stage.post(Started())
    assert len(world.replica.events) == 1


def test_a_message_with_a_wrong_signature_reaches_no_core() -> None:
    """The verifier of this world refuses every signature."""
    world = World()
    signed = Signed(sender=KEYS[0].validator_id, message=PREPARE, signature=bytes(64))
    frame = encode_signed(cast("Signed[Message]", signed))
    world.run(lambda: world.stage.receive(KEYS[0].validator_id, frame), lambda: bool(world.faults))
    assert world.faults == ["bad_signature"]
    assert world.replica.events == []


def test_a_halt_stops_what_is_already_on_its_way_out() -> None:
    world = World([VOTE, SEND])
    world.on_write = world.stage.halt
    world.run(lambda: world.stage.post(Started()), lambda: world.log == ["durable 1"])
    assert world.log == ["durable 1"]


def test_a_status_of_who_does_not_vote_is_no_fault_and_told_to_the_core_under_the_connections_name() -> None:
    stranger, other = ValidatorKey(b"\x77" * 32), ValidatorKey(b"\x78" * 32)
    world = World()
    world.replica.epoch = Epoch(VALIDATORS, window=8)
    status = Status(view=0, changing=False, certified=5, ordered=5)
    frame = encode_signed(Signed(sender=stranger.validator_id, message=status, signature=bytes(64)))

    def hear() -> None:
        world.stage.receive(other.validator_id, frame)
        world.stage.receive(stranger.validator_id, frame)

    world.run(hear, lambda: bool(world.replica.events))
    assert world.replica.events == [PeerStatus(peer=stranger.validator_id, certified=Height(5))]
    assert world.faults == []


def test_what_the_store_has_is_told_to_the_core() -> None:
    world = World()
    world.stage.on_stored(Height(7))
    assert world.replica.events == [Stored(height=Height(7))]
    world.thread.shutdown()

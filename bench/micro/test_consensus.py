"""The consensus core: CPU of one block through four replicas, from its proposal to four certificates.

Everything that the driver does with a message is in it: bytes to message, the checks of `examine`, signatures in one
batch for all frames that wait, the step, message to bytes. The keys are real. Not in it: the network (test_gateway),
the journal (test_store), execution; a header is made up from the proposal.

`cpu_us_per_block_and_node` is what a node pays; of that, `signing_us` and `checking_us` are its signatures.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest

from bench.micro.figures import CPU, note_cpu
from chain.crypto.batches import Checker, checker_of
from chain.model.block import Header, Proposal, proposal_digest
from chain.model.genesis import Genesis, chain_id, genesis_header
from chain.model.signing import ValidatorKey
from chain.model.validators import ValidatorSet
from chain.types import Instant, ValidatorId
from consensus import Replica, ReplicaConfig, decode_signed, encode_signed, examine
from consensus.effects import Broadcast, Effect, Execute, ObtainProposal, RequestProposal, Send, Store
from consensus.events import (
    Event,
    Executed,
    MessageReceived,
    ProposalObtained,
    ProposalPacked,
    Started,
    TransactionsWaiting,
)
from tests.unit.consensus.members import execute
from tests.unit.sync.chain import KEYS, make_genesis

pytestmark = CPU

ROUNDS: Final = 60  # blocks
WARMUP: Final = 5
BLOCK_MS: Final = 100
ED25519: Final = 1
R = TypeVar("R")


class Stopwatch:
    """CPU of one kind of work."""

    def __init__(self) -> None:
        self.spent_ns = 0

    def time(self, work: Callable[[], R]) -> R:
        start_ns = time.thread_time_ns()
        result = work()
        self.spent_ns += time.thread_time_ns() - start_ns
        return result


class TimedKey:
    """Signs as a validator does."""

    def __init__(self, key: ValidatorKey, watch: Stopwatch) -> None:
        self._key = key
        self._watch = watch
        self.validator_id = key.validator_id

    def sign(self, message: bytes) -> bytes:
        return self._watch.time(lambda: self._key.sign(message))


class Member:
    """A replica and what its driver does for it."""

    def __init__(self, network: Network, key: ValidatorKey) -> None:
        self.network = network
        self.id = key.validator_id
        self.frames: list[bytes] = []
        self.request: RequestProposal | None = None
        self.tip: Header = network.genesis_header  # executed
        self.stored = 0
        self.replica = Replica(
            config=ReplicaConfig(), signer=TimedKey(key, network.signing), validators=network.validators,
            chain_id=network.chain_id, window=network.window, last=(network.genesis_header, None),
        )  # fmt: skip

    def take_in(self) -> None:
        """All frames that wait, their signatures in one batch."""
        network, frames = self.network, self.frames
        self.frames = []
        examined = [
            examine(
                decode_signed(frame), epoch=self.replica.epoch, chain_id=network.chain_id, window=network.window
            )
            for frame in frames
        ]
        items = [(ED25519, *item) for message in examined for item in message.items]
        assert all(network.checking.time(lambda: network.checker.check(items)))
        for message in examined:
            self.step(MessageReceived(message=message.verified()))

    def step(self, event: Event) -> None:
        events: deque[Event] = deque((event,))
        while events:
            for effect in self.replica.step(events.popleft(), self.network.now):
                answer = self._carry_out(effect)
                if answer is not None:
                    events.append(answer)

    def _carry_out(self, effect: Effect) -> Event | None:
        """What needs no answer, and no message, costs nothing here: records and timers."""
        match effect:
            case Broadcast(message=message):
                frame = encode_signed(message)
                for member in self.network.members:
                    if member is not self:
                        member.frames.append(frame)
            case Send(to=to, message=message):
                self.network.member(to).frames.append(encode_signed(message))
            case RequestProposal():
                self.request = effect
            case ObtainProposal(digest=digest, proposal=proposal):
                assert proposal is not None  # nobody lags behind
                return ProposalObtained(digest=digest, proposal=proposal)
            case Execute(proposal=proposal):
                self.tip = execute(proposal, self.tip)
                return Executed(header=self.tip)
            case Store(header=header):
                self.stored = header.height
            case _:
                pass
        return None


class Network:
    """Four members; frames are delivered in rounds."""

    def __init__(self, genesis: Genesis, keys: list[ValidatorKey]) -> None:
        self.now = Instant(genesis.created_ms)
        self.chain_id = chain_id(genesis)
        self.window = genesis.parameters.window
        self.genesis_header = genesis_header(genesis)
        self.validators = ValidatorSet(genesis.validators)
        self.checker: Checker = checker_of("auto")
        self.signing, self.checking = Stopwatch(), Stopwatch()
        self.members: list[Member] = []
        self.members += [Member(self, key) for key in keys]
        for member in self.members:
            member.step(Started())
            member.step(TransactionsWaiting(overdue=False))
        self.deliver()

    def member(self, validator: ValidatorId) -> Member:
        return next(member for member in self.members if member.id == validator)

    def deliver(self) -> None:
        """Until nobody has anything to say."""
        while any(member.frames for member in self.members):
            for member in self.members:
                if member.frames:
                    member.take_in()

    def next_proposal(self, transactions: int) -> tuple[Member, ProposalPacked]:
        """The leader's answer to its core."""
        leader = next(member for member in self.members if member.request is not None)
        request, leader.request = leader.request, None
        assert request is not None
        self.now = Instant(self.now + BLOCK_MS)
        hashes = [hashlib.sha256(b"%d/%d" % (request.height, number)).digest() for number in range(transactions)]
        proposal = Proposal(
            chain_id=self.chain_id, height=request.height, timestamp_ms=self.now, proposer=leader.id,
            hashes=b"".join(hashes),
        )  # fmt: skip
        return leader, ProposalPacked(view=request.view, proposal=proposal)

    def run(self, leader: Member, packed: ProposalPacked) -> None:
        leader.step(packed)
        self.deliver()


@pytest.mark.parametrize("transactions", [100, 500])
def test_a_block_through_four_replicas(benchmark: Any, transactions: int) -> None:
    network = Network(make_genesis(), KEYS)
    benchmark.pedantic(
        network.run, setup=lambda: (network.next_proposal(transactions), {}), rounds=ROUNDS, warmup_rounds=WARMUP
    )
    height = network.members[0].stored
    assert [member.stored for member in network.members] == [height] * len(network.members)
    nodes = len(network.members)
    note_cpu(benchmark, block=1, block_and_node=nodes)
    for name, watch in (("signing_us", network.signing), ("checking_us", network.checking)):
        benchmark.extra_info[name] = round(watch.spent_ns / 1e3 / (height * nodes), 1)


@pytest.mark.parametrize("transactions", [100, 500])
def test_digest_of_a_proposal(benchmark: Any, transactions: int) -> None:
    """Each node computes it once a block."""
    _, packed = Network(make_genesis(), KEYS).next_proposal(transactions)
    benchmark(proposal_digest, packed.proposal)
    note_cpu(benchmark, block=1)

"""A peer that floods: what it costs is counted in frames, bytes and signatures, and the others do not wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from chain.crypto import verify_batch
from chain.net import Channel
from chain.node.consortium import NetworkInfo
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.order import (
    FRAME_BYTES_PENDING_MAX,
    FRAMES_PENDING_MAX,
    FRAMES_PER_ROUND_MAX,
    ConsensusStage,
)
from chain.pipeline.spans import CpuMeter, Spans
from chain.sim.bounds import check_bounds
from chain.types import Digest, ValidatorId
from consensus import Succession, encode_signed
from consensus.effects import FetchBlocks, JournalRecord
from consensus.events import Started
from consensus.messages import Commit, Prepare, Status
from tests.integration.gateways import (
    Node,
    context_of,
    frame,
    hello,
    make_network,
    make_node,
    raw_peer,
    run,
    running,
    until,
)
from tests.unit.consensus.members import START, WINDOW, Chain

FLOODER, FRIEND = 3, 2


class NoArchive:
    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        return None


class Victim:
    """The real core and its driver behind a real gateway; nothing is executed or stored."""

    def __init__(self, node: Node) -> None:
        self.chain = Chain()
        self.node = node
        self.rounds: list[int] = []  # signatures checked in each
        self.arrived: dict[ValidatorId, int] = {}  # after how many rounds a peer's first frame came
        self.heard: dict[ValidatorId, int] = {}  # after how many it had been checked, where it is a status
        self.depth_max = 0
        self.bytes_max = 0
        self.faults: list[str] = []
        self.replica = self.chain.replica(1)
        self._thread = ThreadPoolExecutor(1)
        self.stage = ConsensusStage(
            replica=self.replica, chain_id=Digest(self.chain.id), window=WINDOW, verifier=self, transport=self,
            journal=self, journal_thread=self._thread, bodies=Bodies(NoArchive()),
            neighbours=self,  # type: ignore[arg-type]  # no proposal is ever complete here
            spans=Spans(), cpu=CpuMeter(), now=lambda: START,
        )  # fmt: skip
        node.hears = self.hear

    def hear(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        self.stage.receive(peer, payload)
        self.arrived.setdefault(peer, len(self.rounds))
        inbox = self.stage._frames[peer]
        self.depth_max = max(self.depth_max, len(inbox.frames))
        self.bytes_max = max(self.bytes_max, inbox.size)

    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]], *, urgent: bool = False) -> list[bool]:
        self.rounds.append(len(items))
        for member in self.stage.peer_certified:
            self.heard.setdefault(member, len(self.rounds))
        await asyncio.sleep(0)  # in the node it is done by threads, and frames arrive meanwhile
        return verify_batch(items)

    def broadcast(self, payload: bytes) -> None:
        return

    def send(self, peer: ValidatorId, payload: bytes) -> None:
        return

    def write(self, records: Sequence[JournalRecord], proposals: Sequence[LiveProposal]) -> None:
        return

    def fetch_blocks(self, effect: FetchBlocks) -> None:
        return

    def report_fault(self, peer: ValidatorId, reason: str, evidence: bytes = b"") -> None:
        self.faults.append(reason)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        self.stage.post(Started())
        task = asyncio.ensure_future(self.stage.run())
        try:
            yield
        finally:
            failed = task.exception() if task.done() else None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.stage.stop()
            self._thread.shutdown()
            assert failed is None, failed


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return make_network(tmp_path_factory.mktemp("flood"))


def votes(chain: Chain) -> list[bytes]:
    """Well signed, all different, near and far."""
    heights = (1, 2, WINDOW, 2 * WINDOW, 2 * WINDOW + 1, 10**6)
    said: list[Prepare | Commit] = []
    for view, height, number in itertools.product((0, 1, 7), heights, (1, 2)):
        digest = bytes((number,)) * 32
        said += [Prepare(view=view, height=height, digest=digest), Commit(view=view, height=height, digest=digest)]
    return [encode_signed(chain.sign(FLOODER, vote)) for vote in said]


def test_a_flood_of_votes_costs_bounded_memory_and_signatures_and_delays_nobody(network: NetworkInfo) -> None:
    """A member sends as fast as it can; what it says is true in form and signed. The others are heard in between."""
    victim, friend, flooder = make_node(network, 3), make_node(network, 1), make_node(network, 0)
    world = Victim(victim)
    said = votes(world.chain)
    flood = b"".join(frame(Channel.CONSENSUS, vote) for vote in said)
    times = 4 * FRAMES_PENDING_MAX // len(said)
    status = encode_signed(world.chain.sign(FRIEND, Status(view=0, changing=False, certified=7, ordered=7)))
    friend_id = world.chain.keys[FRIEND].validator_id

    async def scene() -> None:
        async with running(victim, friend), world.at_work(), raw_peer(victim, context_of(flooder)) as raw:
            await raw.write(hello(network, flooder.id))
            await until(lambda: flooder.id in victim.connected)
            writing = asyncio.ensure_future(raw.write(flood * times))
            await until(lambda: world.depth_max > FRAMES_PER_ROUND_MAX)
            assert friend.gateway.send(victim.id, Channel.CONSENSUS, status)
            await until(lambda: world.stage.peer_certified.get(friend_id) == 7)
            await writing
            await until(lambda: world.stage.depth == 0)

    run("asyncio", scene())
    assert world.heard[friend_id] - world.arrived[friend.id] <= 3  # one was under way, the next had it, one noticed
    assert world.depth_max <= FRAMES_PENDING_MAX
    assert world.bytes_max <= FRAME_BYTES_PENDING_MAX
    assert max(world.rounds) <= FRAMES_PER_ROUND_MAX
    core = cast("Succession", world.replica)  # or a part of it
    assert check_bounds(core, window=WINDOW, nodes=4, transactions_max=16, restored_heights=0) > 0
    assert world.replica.in_flight == ()  # one member's word for anything is nothing
    assert world.faults.count("equivocation") > 0


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_flood_of_frames_that_are_nothing_is_dropped_unread_beyond_the_bound(
    network: NetworkInfo, size: int
) -> None:
    victim, flooder = make_node(network, 3), make_node(network, 0)
    world = Victim(victim)
    count = 40 if size > 1 else 3 * FRAMES_PENDING_MAX
    flood = b"".join(frame(Channel.CONSENSUS, b"\xc1" * size) for _ in range(count))

    async def scene() -> None:
        async with running(victim), raw_peer(victim, context_of(flooder)) as raw:
            await raw.write(hello(network, flooder.id))
            await raw.write(flood)
            frames = victim.gateway.counters[flooder.id]
            await until(lambda: frames.frames_received > count)  # the hello, too
            assert world.stage.depth <= FRAMES_PENDING_MAX
            assert world.bytes_max <= FRAME_BYTES_PENDING_MAX
            async with world.at_work():
                await until(lambda: world.stage.depth == 0)

    run("asyncio", scene())
    assert sum(world.rounds) == 0  # no signature was looked at
    assert set(world.stage.faults) == {next(iter(world.stage.faults))}
    assert len(world.faults) <= FRAMES_PENDING_MAX

"""The pack stage: when it packs at once, when it waits, what cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chain.model.block import Proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.pack import PackRequest, PackStage
from chain.pipeline.spans import CpuMeter, Spans
from chain.pool import Pool, PoolLimits
from chain.types import Digest, Height, Instant, ValidatorId, View
from tests.unit.pool.transactions import CHAIN_ID, make_transaction

LEADER = ValidatorId(b"\x01" * 20)


class NoArchive:
    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        return None


class World:
    def __init__(self, *, interval_ms: int = 3_600_000, transactions_max: int = 3) -> None:
        self.pool = Pool(PoolLimits())
        self.bodies = Bodies(NoArchive())
        self.in_flight = 0
        self.backlog = 0
        self.packed: list[tuple[View, Proposal]] = []
        self.stage = PackStage(
            chain_id=CHAIN_ID,
            proposer=LEADER,
            parameters=ChainParameters(block_transactions_max=transactions_max),
            pool=self.pool,
            bodies=self.bodies,
            spans=Spans(),
            cpu=CpuMeter(),
            block_interval_ms=interval_ms,
            in_flight=lambda: self.in_flight,
            backlog=lambda: self.backlog,
            backlog_max=4,
            wall_ms=lambda: Instant(1_000),
            packed=lambda view, proposal: self.packed.append((view, proposal)),
        )

    def add(self, *numbers: int, expiry: int = 100) -> None:
        for number in numbers:
            self.pool.add(make_transaction(number, expiry=expiry), Instant(0))
        self.stage.wake()

    def request(self, height: int = 1, view: int = 0) -> None:
        self.stage.request(PackRequest(View(view), Height(height)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.stage.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self) -> None:
        """Lets the stage do all it can do without time passing."""
        for _ in range(20):
            await asyncio.sleep(0)


def run(scenario: Callable[[World], object], **options: int) -> World:
    world = World(**options)

    async def go() -> None:
        async with world.running():
            result = scenario(world)
            assert asyncio.iscoroutine(result)
            await result

    asyncio.run(go())
    return world


def test_with_nothing_in_flight_one_transaction_is_packed_at_once() -> None:
    async def scenario(world: World) -> None:
        world.request()
        await world.settle()
        assert world.packed == []
        world.add(1)
        await world.settle()

    world = run(scenario)
    [(view, proposal)] = world.packed
    assert (view, proposal.height, proposal.proposer) == (0, 1, LEADER)
    assert proposal.transaction_hashes() == [make_transaction(1).hash]
    digest = proposal_digest(proposal)
    assert world.pool.reserved_by(make_transaction(1).hash) == digest
    assert world.bodies.get(digest).proposal is proposal


def test_with_proposals_in_flight_it_waits_for_a_full_block() -> None:
    async def scenario(world: World) -> None:
        world.in_flight = 1
        world.stage._last_packed_us = 2**62
        world.request()
        world.add(1, 2)
        await world.settle()
        assert world.packed == []
        world.add(3, 4)
        await world.settle()

    assert [proposal.count for _, proposal in run(scenario).packed] == [3]


def test_a_full_line_behind_it_stops_packing_until_a_block_is_stored() -> None:
    async def scenario(world: World) -> None:
        world.backlog = 4
        world.request()
        world.add(1, 2, 3)
        await world.settle()
        assert world.packed == []
        world.backlog = 3
        world.stage.wake()
        await world.settle()

    assert len(run(scenario).packed) == 1


def test_requests_of_a_view_that_is_over_are_void() -> None:
    async def scenario(world: World) -> None:
        world.request(height=1, view=0)
        await world.settle()
        world.stage.cancel()
        await world.settle()
        world.add(1)
        await world.settle()
        assert world.packed == []
        world.request(height=1, view=1)
        await world.settle()

    assert [view for view, _ in run(scenario).packed] == [1]


def test_what_is_cancelled_is_void_whatever_its_view() -> None:
    """Views begin again at 0 in every epoch."""

    async def scenario(world: World) -> None:
        world.request(height=1, view=7)
        await world.settle()
        world.stage.cancel()
        world.request(height=2, view=0)
        world.add(1)
        await world.settle()

    assert [(view, proposal.height) for view, proposal in run(scenario).packed] == [(0, 2)]


def test_towards_a_boundary_an_empty_proposal_is_packed_at_once() -> None:
    async def scenario(world: World) -> None:
        world.in_flight = 1
        world.stage._last_packed_us = 2**62
        world.request(height=5)
        await world.settle()
        assert world.packed == []
        world.backlog = 4
        world.stage.request(PackRequest(View(0), Height(5), may_be_empty=True))
        await world.settle()
        assert world.packed == [], "a full line holds back empty blocks too"
        world.backlog = 3
        world.stage.wake()
        await world.settle()

    [(_, proposal)] = run(scenario).packed
    assert (proposal.height, proposal.hashes, proposal.proposer) == (5, b"", LEADER)


def test_expired_transactions_make_no_empty_block() -> None:
    async def scenario(world: World) -> None:
        world.add(1, expiry=4)
        world.request(height=5)
        await world.settle()
        assert world.packed == []
        world.add(2)
        await world.settle()

    [(_, proposal)] = run(scenario).packed
    assert proposal.transaction_hashes() == [make_transaction(2).hash]

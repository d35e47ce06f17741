"""The pack stage: when it packs at once, when it waits, what cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st

from chain.model.block import Proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.pack import (
    BUSY_RATE,
    CALM_INTERVAL_MS,
    RATE_SPAN_US,
    ArrivalRate,
    PackRequest,
    PackStage,
    bounded_interval_ms,
    spacing_us,
)
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
        self.now_us = 10 * RATE_SPAN_US
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
            clock_us=lambda: self.now_us,
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


def test_a_calm_leader_does_not_wait_and_a_busy_one_keeps_its_distance() -> None:
    assert spacing_us(rate=0, interval_ms=150, in_flight=0) == 0
    assert spacing_us(rate=50, interval_ms=150, in_flight=0) < 10_000, "50 a second are packed one by one"
    assert spacing_us(rate=50, interval_ms=150, in_flight=1) == CALM_INTERVAL_MS * 1_000
    for in_flight in (0, 1, 8):
        assert spacing_us(rate=BUSY_RATE, interval_ms=150, in_flight=in_flight) == 150_000
        assert spacing_us(rate=10**9, interval_ms=150, in_flight=in_flight) == 150_000
        assert spacing_us(rate=10**9, interval_ms=0, in_flight=in_flight) == 0
    assert spacing_us(rate=0, interval_ms=20, in_flight=1) == 20_000, "never more than the interval"


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 60_000), st.integers(0, 8))
def test_the_distance_grows_with_the_rate_and_is_bounded(rate: int, other: int, interval: int, in_flight: int) -> None:
    low, high = sorted((rate, other))
    lower = spacing_us(rate=low, interval_ms=interval, in_flight=in_flight)
    assert 0 <= lower <= spacing_us(rate=high, interval_ms=interval, in_flight=in_flight) <= interval * 1_000
    assert spacing_us(rate=low, interval_ms=interval, in_flight=0) <= lower


@given(st.integers(0, 60_000), st.integers(100, 600_000), st.integers(100, 600_000))
def test_a_waiting_leader_is_no_silent_one(interval: int, view_timeout: int, pooled: int) -> None:
    bounded = bounded_interval_ms(interval, view_timeout_ms=view_timeout, pooled_ms_max=pooled)
    assert bounded <= interval
    assert 4 * bounded <= min(view_timeout, pooled)
    assert bounded_interval_ms(150, view_timeout_ms=2_000, pooled_ms_max=3_000) == 150


def test_the_rate_is_that_of_the_last_second() -> None:
    rate = ArrivalRate(0)
    seen = [rate.at(at * 20_000, at * 50) for at in range(1, 201)]  # 2,500 a second, looked at every 20 ms
    assert seen[24] == 1_250, "half a second of it"
    assert all(2_200 <= value <= 2_500 for value in seen[60:])
    assert len(rate._samples) <= 13
    assert rate.at(4_400_000, 10_000) <= 1_500
    assert rate.at(5_600_000, 10_000) == 0
    assert rate.at(10_600_000, 10_100) <= 20, "after a pause, the mean of it"


def test_with_a_high_rate_of_arrival_blocks_are_apart_though_nothing_is_in_flight() -> None:
    async def scenario(world: World) -> None:
        world.stage._rate.at = lambda now_us, arrivals: BUSY_RATE  # type: ignore[method-assign]
        world.request(height=1)
        world.add(1)
        await world.settle()
        for packed, passes_us in ((1, 0), (1, 99_000), (2, 1_000)):
            world.now_us += passes_us
            world.request(height=2)
            world.add(1 + packed)
            await world.settle()
            assert len(world.packed) == packed

    run(scenario, interval_ms=100)


def test_the_last_of_a_burst_is_packed_when_its_time_comes_without_being_woken() -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        world.stage._clock_us = lambda: int((loop.time() - start) * 1e6) + 1
        world.stage._last_packed_us, world.in_flight = 0, 1
        world.request()
        world.add(1)
        async with asyncio.timeout(5):
            while not world.packed:
                await asyncio.sleep(0.005)

    assert len(run(scenario, interval_ms=20).packed) == 1

"""Many units from several sources: in order, each once, in bounded memory, whoever fails or lies."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing

from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import BadInput, PeerFault
from chain.sync import download
from chain.sync.download import RUNS_MAX, Download
from chain.types import ValidatorId

SOURCES = tuple(ValidatorId(bytes((number,)) * 20) for number in (1, 2, 3))


class World:
    """Sources with what they have; some answer little, nothing, or lies."""

    def __init__(self, has: dict[ValidatorId, int], *, gives: int = 100, ahead: int = 1_000) -> None:
        self.has = has
        self.gives = gives
        self.ahead = ahead
        self.lies: set[ValidatorId] = set()
        self.silent: set[ValidatorId] = set()
        self.asked: Counter[ValidatorId] = Counter()
        self.faults: list[ValidatorId] = []
        self.highest = 0
        self.open = self.open_max = 0

    async def fetch(self, source: ValidatorId, first: int, last: int) -> list[int]:
        self.asked[source] += 1
        self.highest = max(self.highest, last)
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        try:
            await asyncio.sleep(0)
        finally:
            self.open -= 1
        if source in self.silent:
            raise PeerFault("connection_lost")
        if source in self.lies:
            raise BadInput("wrong", "a lie")
        return list(range(first, min(last, self.has[source], first + self.gives - 1) + 1))

    def download(self, first: int, last: int, **claimed: int) -> Download[int]:
        return Download(
            first=first, last=last, sources={**self.has, **claimed}, fetch=self.fetch,  # type: ignore[dict-item]
            fault=lambda source, reason: self.faults.append(source), per_request=10, ahead=self.ahead,
        )  # fmt: skip

    def get(self, first: int, last: int) -> list[int]:
        async def go() -> list[int]:
            found: list[int] = []
            async with asyncio.timeout(20):
                async with aclosing(self.download(first, last).runs()) as runs:
                    async for run in runs:
                        assert run.first == run.units[0]
                        found += run.units
            return found

        return asyncio.run(go())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 5), st.integers(0, 120), st.lists(st.integers(0, 130), min_size=3, max_size=3), st.integers(1, 12),
    st.sets(st.sampled_from(SOURCES)), st.sets(st.sampled_from(SOURCES)),
)  # fmt: skip
def test_everything_that_can_be_had_comes_once_and_in_order(
    first: int, count: int, has: list[int], gives: int, lies: set[ValidatorId], silent: set[ValidatorId]
) -> None:
    world = World(dict(zip(SOURCES, has, strict=True)), gives=gives)
    world.lies, world.silent = lies, silent - lies
    download.BACKOFF_S, before = 0.0, download.BACKOFF_S  # type: ignore[misc]
    try:
        found = world.get(first, first + count - 1)
    finally:
        download.BACKOFF_S = before  # type: ignore[misc]
    reach = max((known for source, known in world.has.items() if source not in lies | silent), default=-1)
    assert found == list(range(first, min(first + count - 1, reach) + 1))
    assert set(world.faults) <= lies
    assert max(Counter(world.faults).values(), default=0) <= 1, "named once"


def test_several_sources_work_at_once() -> None:
    world = World(dict.fromkeys(SOURCES, 1_000))
    assert world.get(1, 1_000) == list(range(1, 1_001))
    assert set(world.asked) == set(SOURCES)
    assert world.open_max >= len(SOURCES)


def test_nobody_is_asked_far_ahead_of_what_was_taken() -> None:
    world = World(dict.fromkeys(SOURCES, 10_000), ahead=50)

    async def go() -> None:
        async with aclosing(world.download(1, 10_000).runs()) as runs:
            async for run in runs:
                for _ in range(50):
                    await asyncio.sleep(0)
                assert world.highest <= run.first + len(run.units) + 50 + 10
                if run.first > 200:
                    break

    asyncio.run(asyncio.wait_for(go(), 20))


def test_answers_that_wait_are_few_however_large_they_are() -> None:
    world = World(dict.fromkeys(SOURCES, 10_000), gives=1)

    async def go() -> None:
        fetching = world.download(1, 10_000)
        async with aclosing(fetching.runs()) as runs:
            async for run in runs:
                for _ in range(50):
                    await asyncio.sleep(0)
                assert len(fetching._window.here) + fetching._window.open <= RUNS_MAX
                if run.first > 100:
                    break

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_source_that_turns_up_later_takes_part_and_the_end_may_move() -> None:
    world = World({SOURCES[0]: 50})

    async def go() -> list[int]:
        fetching = world.download(1, 20)
        found: list[int] = []
        async with aclosing(fetching.runs()) as runs:
            async for run in runs:
                found += run.units
                if run.first == 11:
                    world.has[SOURCES[1]] = 80
                    fetching.extend(70, {SOURCES[1]: 80})
        return found

    assert asyncio.run(asyncio.wait_for(go(), 20)) == list(range(1, 71))


def test_what_turns_out_wrong_later_is_a_lie_too() -> None:
    world = World(dict.fromkeys(SOURCES[:2], 100))

    async def go() -> None:
        fetching = world.download(1, 100)
        async with aclosing(fetching.runs()) as runs:
            async for run in runs:
                fetching.refuse(run.source, "late")
                fetching.refuse(run.source, "late")
                assert fetching.refused == {run.source}
                break

    asyncio.run(asyncio.wait_for(go(), 20))
    assert len(world.faults) == 1

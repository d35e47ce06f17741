"""What the mutations of downloads, of fetching blocks and of serving them found to be tested nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput
from chain.model.block import decode_header, encode_header
from chain.sync import BlockChecker, BlockFetcher, CheckedBlock, RequestKind, download
from chain.sync.download import FAILURES_MAX, REQUESTS_PER_SOURCE, RUNS_MAX, Download
from chain.sync.wire import BlocksRequest, TipAnswer
from chain.types import DIGEST_BYTES, Height, ValidatorId
from tests.unit.pool.transactions import CHAIN_ID
from tests.unit.sync.test_blocks import AFTER_CHANGE, CHAIN, HONEST, LIAR, OLD, OTHER, forge_header
from tests.unit.sync.test_blocks import World as Fetching
from tests.unit.sync.test_download import SOURCES
from tests.unit.sync.test_download import World as Loading

T = TypeVar("T")
ONE, TWO = SOURCES[:2]
TURNS = 30  # of the loop: whatever is not waiting for somebody else has come to its end


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF_S", 0.0)


def finish(story: Coroutine[Any, Any, T]) -> T:
    """What comes of it; nothing here takes more than a moment."""

    async def within() -> T:
        async with asyncio.timeout(5):
            return await story

    return asyncio.run(within())


async def read(fetching: Download[int], at_each: Callable[[int], Awaitable[None]] | None = None) -> list[int]:
    """All units; `at_each` is called with the first unit of each run, while the reader has it."""
    found: list[int] = []
    async with aclosing(fetching.runs()) as runs:
        async for run in runs:
            found += run.units
            if at_each is not None:
                await at_each(run.first)
    return found


# --- downloads ---


@pytest.mark.parametrize("by", [ONE, TWO])
def test_what_is_wanted_while_the_last_run_is_handed_over_is_loaded_too(by: ValidatorId) -> None:
    """No worker is left by then; the one that had all of it, or another one, goes on."""
    world = Loading({ONE: 20})
    fetching = world.download(1, 20)
    world.has[by] = 80

    async def extend(first: int) -> None:
        await settle()
        if first == 11:
            assert fetching.complete
            fetching.extend(70, {by: 80})
            assert not fetching.complete

    assert finish(read(fetching, extend)) == list(range(1, 71))
    assert fetching.complete


class Watched(Loading):
    """Notes every request; a source in `held` answers when it is let go."""

    def __init__(self, has: dict[ValidatorId, int], **given: int) -> None:
        super().__init__(has, **given)
        self.requests: list[tuple[ValidatorId, int, int]] = []
        self.held: dict[ValidatorId, asyncio.Event] = {}
        self.open_by: dict[ValidatorId, int] = dict.fromkeys(SOURCES, 0)
        self.open_by_max = 0

    async def fetch(self, source: ValidatorId, first: int, last: int) -> list[int]:
        assert first <= last, "nobody is asked for nothing"
        self.requests.append((source, first, last))
        self.open_by[source] += 1
        self.open_by_max = max(self.open_by_max, self.open_by[source])
        try:
            if source in self.held:
                await self.held[source].wait()
            return await super().fetch(source, first, last)
        finally:
            self.open_by[source] -= 1


def test_requests_are_as_long_as_they_may_be_and_none_begins_too_far_ahead() -> None:
    world = Watched({ONE: 1_000}, ahead=50)

    async def go() -> None:
        async with aclosing(world.download(1, 1_000).runs()) as runs:
            async for run in runs:
                await settle()
                reach = run.first + len(run.units) + 50
                assert world.requests[-1] == (ONE, reach - 10, reach - 1)
                if run.first > 200:
                    break

    finish(go())
    assert [(first, last) for _, first, last in world.requests] == [
        (first, first + 9) for first in range(1, world.requests[-1][2], 10)
    ]
    assert world.open_by_max == REQUESTS_PER_SOURCE


def test_as_many_answers_wait_as_the_bound_says() -> None:
    world = Watched({ONE: 1_000})

    async def go() -> None:
        fetching = world.download(1, 1_000)
        async with aclosing(fetching.runs()) as runs:
            async for _ in runs:
                await settle()
                assert len(fetching._window.here) + fetching._window.open == RUNS_MAX
                if world.highest > 300:
                    break

    finish(go())


def test_it_is_complete_when_the_last_unit_is_given_out_and_what_is_wanted_never_shrinks() -> None:
    world = Watched({ONE: 21})
    fetching = world.download(1, 21)

    async def look(first: int) -> None:
        assert fetching.complete == (first == 21)
        fetching.extend(5, {ONE: 3})

    assert finish(read(fetching, look)) == list(range(1, 22))


def test_a_stranger_cannot_be_refused() -> None:
    world = Watched({ONE: 5})
    world.download(1, 5).refuse(TWO, "unknown")
    assert world.faults == []


def test_an_error_of_ours_ends_it() -> None:
    async def broken(source: ValidatorId, first: int, last: int) -> list[int]:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    world = Watched({ONE: 5})
    world.fetch = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        finish(read(world.download(1, 5)))


def test_whoever_stops_reading_leaves_nothing_behind() -> None:
    """No task, and no error in a callback of one."""
    world = Watched({ONE: 1_000, TWO: 1_000})
    world.held[TWO] = asyncio.Event()
    errors: list[dict[str, object]] = []

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        async with aclosing(world.download(1, 1_000).runs()) as runs:
            async for _ in runs:
                break
        await settle()
        assert len(asyncio.all_tasks()) == 1

    finish(go())
    assert errors == []


def test_a_source_that_is_out_of_reach_is_asked_a_few_times() -> None:
    world = Watched({ONE: 5})
    world.silent = {ONE}
    assert finish(read(world.download(1, 5))) == []
    assert world.requests == [(ONE, 1, 5)] * FAILURES_MAX


def test_a_source_that_lied_is_asked_no_more() -> None:
    world = Watched({ONE: 5})
    world.lies = {ONE}
    fetching = world.download(1, 5)
    assert finish(read(fetching)) == []
    assert world.requests == [(ONE, 1, 5)]
    assert fetching.refused == {ONE}


def test_what_a_liar_sends_after_its_lie_is_left_unread() -> None:
    """It was asked for two ranges: the second answer lies, and comes first."""
    world = Watched({ONE: 20})
    late = asyncio.Event()

    async def fetch(source: ValidatorId, first: int, last: int) -> list[int]:
        if source == ONE and first == 11:
            await asyncio.sleep(0)
            raise BadInput("wrong", "a lie")
        if source == ONE:
            await late.wait()
            return [-1] * 10
        return list(range(first, last + 1))

    world.fetch = fetch  # type: ignore[method-assign]
    fetching = world.download(1, 20)

    async def go() -> list[int]:
        reading = asyncio.ensure_future(read(fetching))
        await settle()
        assert fetching.refused == {ONE}
        fetching.extend(20, {TWO: 20})
        late.set()
        return await reading

    assert finish(go()) == list(range(1, 21))


def test_a_source_with_nothing_to_do_stays_until_the_last_unit_is_here() -> None:
    """The first one that is asked for the only unit does not answer."""
    for silent, other in ((ONE, TWO), (TWO, ONE)):
        world = Watched({ONE: 7, TWO: 7})
        world.silent = {silent}
        assert finish(read(world.download(7, 7))) == [7]
        assert other in {source for source, _, _ in world.requests}


def test_a_source_that_has_less_than_it_said_still_gives_what_it_has() -> None:
    """It has no 16; only then another one fails to give 11..15."""
    world = Watched({TWO: 15, ONE: 15})
    world.silent = {TWO}
    world.held[TWO] = asyncio.Event()

    async def go() -> list[int]:
        fetching = world.download(6, 25)
        fetching._per_request = 5
        fetching.extend(25, {ONE: 25})
        reading = asyncio.ensure_future(read(fetching))
        await settle()
        assert [request for request in world.requests if request[0] == TWO] == [(TWO, 6, 10), (TWO, 11, 15)]
        world.held[TWO].set()
        return await reading

    assert finish(go()) == list(range(6, 16))


# --- fetching blocks ---


class Chain(Fetching):
    """As `Fetching`, with several wishes, tips of its own, and hooks."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.tips: dict[ValidatorId, TipAnswer] = {}
        self.before: Callable[[ValidatorId, RequestKind], Awaitable[None]] | None = None
        self.requests: list[tuple[ValidatorId, int, int]] = []
        self.kept_at_once: list[list[int]] = []

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        if self.before is not None:
            await self.before(peer, kind)
        if kind is RequestKind.TIP and peer in self.tips:
            return encode(self.tips[peer])
        if kind is RequestKind.BLOCKS:
            request = decode(BlocksRequest, payload)
            self.requests.append((peer, request.first, request.last))
        return await super().ask(peer, kind, payload, timeout_s)

    async def keep(self, blocks: Sequence[CheckedBlock]) -> None:
        self.kept_at_once.append([block.header.height for block in blocks])
        await super().keep(blocks)

    def go(self, story: Callable[[BlockFetcher], Awaitable[None]], peers: Sequence[ValidatorId] = ()) -> Chain:
        """`story` with a fetcher, and until its last run is over."""

        async def scenario() -> None:
            with ThreadPoolExecutor(1) as thread:
                self.fetcher = BlockFetcher(
                    ask=self.ask, checker=BlockChecker(chain_id=CHAIN_ID, schedule=lambda: self.schedule),
                    schedule=lambda: self.schedule, keep=self.keep, post=self.post,
                    certified_height=lambda: Height(self.height), deliverable=self.deliverable, peers=lambda: peers,
                    fault=lambda peer, reason: self.faults.append((peer, reason)), spawn=self.spawn, thread=thread,
                )  # fmt: skip
                async with asyncio.timeout(10):
                    await story(self.fetcher)
                    await self.task

        asyncio.run(scenario())
        return self

    def fetch(self, last: int, sources: Sequence[ValidatorId], peers: Sequence[ValidatorId] = ()) -> Chain:
        async def story(fetcher: BlockFetcher) -> None:
            fetcher.want(Height(self.height + 1), Height(last), sources)

        return self.go(story, peers)


def test_one_block_is_fetched_and_the_next_one_by_the_next_wish() -> None:
    world = Chain()
    assert world.fetch(1, [HONEST]).posted == [1]
    assert world.fetch(3, [HONEST]).posted == [1, 2, 3]
    assert world.requests == [(HONEST, 1, 1), (HONEST, 2, 3)]


def test_a_fetcher_goes_from_run_to_run() -> None:
    world = Chain()

    async def story(fetcher: BlockFetcher) -> None:
        assert not fetcher.running
        for last in (2, 5):
            fetcher.want(Height(world.height + 1), Height(last), [HONEST])
            assert fetcher.running
            await world.task
            assert not fetcher.running

    assert world.go(story).posted == [1, 2, 3, 4, 5]


def test_a_wish_while_one_runs_extends_it_and_never_shortens_it() -> None:
    world = Chain(batch=2)

    async def story(fetcher: BlockFetcher) -> None:
        fetcher.want(Height(1), Height(6), [HONEST])
        first = world.task
        while not world.posted:
            await asyncio.sleep(0)
        fetcher.want(Height(1), Height(3), [HONEST])
        fetcher.want(Height(1), Height(10), [HONEST])
        assert world.task is first

    assert world.go(story).posted == list(range(1, 11))


def test_the_hint_of_a_peer_only_ever_extends() -> None:
    """A tip that is lower than what is wanted, and one that begins too late, change nothing."""
    world = Chain()
    world.tips = {HONEST: TipAnswer(height=2, base=1, snapshots=()), OTHER: TipAnswer(height=12, base=2, snapshots=())}

    async def slowly(peer: ValidatorId, kind: RequestKind) -> None:
        if kind is RequestKind.BLOCKS:
            await settle()

    world.before = slowly
    assert world.fetch(5, [HONEST], [HONEST, OTHER]).posted == [1, 2, 3, 4, 5]
    assert OTHER not in world.asked


@pytest.mark.parametrize(("base", "takes_part"), [(4, True), (5, True), (6, False)])
def test_a_peer_takes_part_if_it_has_the_next_block(base: int, takes_part: bool) -> None:
    world = Chain()
    world.height = 4
    world.tips = {OTHER: TipAnswer(height=12, base=base, snapshots=())}

    async def slowly(peer: ValidatorId, kind: RequestKind) -> None:
        if kind is RequestKind.BLOCKS:
            await settle()

    world.before = slowly
    world.fetch(5, [HONEST], [OTHER])
    assert world.posted == (list(range(5, 13)) if takes_part else [5])


def test_a_liar_is_not_taken_back_while_the_run_lasts() -> None:
    world = Chain(lie=forge_header, batch=2)

    async def slowly(peer: ValidatorId, kind: RequestKind) -> None:
        if (peer, kind) == (HONEST, RequestKind.BLOCKS):
            while not world.faults:
                await asyncio.sleep(0)

    async def story(fetcher: BlockFetcher) -> None:
        fetcher.want(Height(1), Height(8), [LIAR, HONEST])
        while not world.faults:
            await asyncio.sleep(0)
        before = world.asked.count(LIAR)
        fetcher.want(Height(1), Height(9), [LIAR])
        await world.task
        assert world.asked.count(LIAR) == before

    world.before = slowly
    world.go(story)
    assert world.posted == list(range(1, len(world.posted) + 1)) and len(world.posted) >= 8
    assert [peer for peer, _ in world.faults] == [LIAR]


def test_nothing_is_handed_over_behind_a_block_that_is_none_of_this_chain() -> None:
    """The set has changed at 7; blocks of the old one come in several runs, and then good ones again."""
    mixed = [*CHAIN[:8], *AFTER_CHANGE[8:]]
    world = Chain(chain=mixed, batch=2, window=2, boundary=6).fetch(12, [HONEST])
    assert world.posted == [1, 2, 3, 4, 5, 6]
    assert len(world.faults) == 1


def test_a_node_that_does_not_get_on_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.sync.blocks.PROGRESS_WAIT_S", 0.05)
    world = Chain(batch=2, window=3)
    world.execute = lambda height: None  # type: ignore[method-assign]
    assert world.fetch(12, [HONEST]).posted == [1, 2, 3]
    assert world.faults == []


def test_a_block_that_came_by_itself_meanwhile_is_passed_over() -> None:
    world = Chain(batch=12, window=3)
    world.height = 0

    async def story(fetcher: BlockFetcher) -> None:
        fetcher.want(Height(1), Height(8), [HONEST])
        world.execute = lambda height: None  # type: ignore[method-assign]
        while len(world.posted) < 3:
            await asyncio.sleep(0)
        world.height = 5  # two of them by themselves
        del world.execute
        fetcher.progressed()

    assert world.go(story).posted == [1, 2, 3, 6, 7, 8]


def test_bodies_of_blocks_that_are_here_already_are_not_kept_again() -> None:
    world = Chain(batch=12)

    async def meanwhile(peer: ValidatorId, kind: RequestKind) -> None:
        if kind is RequestKind.BLOCKS:
            world.height = 3

    world.before = meanwhile
    assert world.fetch(6, [HONEST]).posted == [4, 5, 6]
    assert world.kept_at_once == [[4, 5, 6]]


@pytest.mark.parametrize("digest", [bytes(DIGEST_BYTES), b"\xff" * DIGEST_BYTES])
def test_the_set_that_a_block_names_is_the_one_in_force_whichever_way_they_differ(digest: bytes) -> None:
    header = msgspec.structs.replace(decode_header(CHAIN[0].header), validator_set_hash=digest)
    block = msgspec.structs.replace(
        CHAIN[0], header=encode_header(header), certificate=encode(OLD.certify(header))
    )
    world = Chain(chain=[block]).fetch(1, [HONEST])
    assert world.posted == []
    assert [reason.partition(":")[0] for _, reason in world.faults] == ["sync_wrong_set"]

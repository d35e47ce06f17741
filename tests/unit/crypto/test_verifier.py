"""Unit tests of chain.crypto.verifier."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from chain.crypto import PrivateKey, Scheme, Verifier, verify_batch
from chain.crypto import verifier as module
from chain.crypto.schemes import Item
from chain.crypto.verifier import Batching
from chain.errors import InvariantError

KEYS = [PrivateKey.from_secret(scheme, bytes(range(1, 33))) for scheme in Scheme]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def make_items(count: int, *, bad: frozenset[int] = frozenset()) -> list[Item]:
    items = []
    for at in range(count):
        key = KEYS[at % len(KEYS)]
        message = at.to_bytes(32, "big")
        signature = bytes(64) if at in bad else key.sign(message)
        items.append((int(key.scheme), key.public_key, message, signature))
    return items


def run(loop: str, coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(coroutine)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("count", [0, 1, 3, 130, 300])
def test_verdicts_are_those_of_the_plain_batch_in_order(loop: str, count: int) -> None:
    items = make_items(count, bad=frozenset(range(0, count, 7)))

    async def scene() -> None:
        verifier = Verifier()
        assert await verifier.verify(items) == verify_batch(items)
        assert verifier.items_checked == count
        assert verifier.items_refused == len(range(0, count, 7))
        await verifier.close()

    run(loop, scene())


def test_concurrent_callers_share_batches_and_get_their_own_verdicts() -> None:
    async def scene() -> None:
        verifier = Verifier(threads=1)
        items = make_items(100, bad=frozenset((17, 60)))
        verdicts = await asyncio.gather(*(verifier.verify([item]) for item in items))
        assert verdicts == [[verdict] for verdict in verify_batch(items)]
        assert verifier.batches == 1
        await verifier.close()

    asyncio.run(scene())


def test_urgent_items_overtake_the_others() -> None:
    async def scene() -> None:
        verifier = Verifier(threads=1)
        done: list[str] = []

        async def ask(name: str, count: int, urgent: bool) -> None:
            assert all(await verifier.verify(make_items(count), urgent=urgent))
            done.append(name)

        await asyncio.gather(ask("transactions", 400, False), ask("more", 10, False), ask("vote", 1, True))
        assert done == ["vote", "transactions", "more"]
        await verifier.close()

    asyncio.run(scene())


def test_items_that_wait_are_bounded_and_urgent_ones_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_ITEMS_MAX", 50)
    monkeypatch.setattr(module, "BATCH_ITEMS_MAX", 10)

    async def scene() -> None:
        verifier = Verifier(threads=1)
        items = make_items(20)
        asked = [asyncio.ensure_future(verifier.verify(items)) for _ in range(10)]
        await asyncio.sleep(0)
        assert verifier.pending_items == 60  # the third call found room, the fourth waits
        assert await verifier.verify(items[:1], urgent=True) == [True]
        assert await asyncio.gather(*asked) == [[True] * 20] * 10
        assert verifier.pending_items == 0
        await verifier.close()

    asyncio.run(scene())


def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    async def scene() -> None:
        verifier = Verifier(threads=1)
        leaver = asyncio.ensure_future(verifier.verify(make_items(200)))
        stayer = asyncio.ensure_future(verifier.verify(make_items(5, bad=frozenset((2,)))))
        await asyncio.sleep(0)
        leaver.cancel()
        assert await stayer == [True, True, False, True, True]
        with pytest.raises(asyncio.CancelledError):
            await leaver
        await verifier.close()

    asyncio.run(scene())


def test_close_cancels_what_waits_and_refuses_what_comes() -> None:
    async def scene() -> None:
        verifier = Verifier(threads=1)
        asked = [asyncio.ensure_future(verifier.verify(make_items(300))) for _ in range(3)]
        await asyncio.sleep(0)
        await verifier.close()
        for request in asked:
            with pytest.raises(asyncio.CancelledError):
                await request
        with pytest.raises(asyncio.CancelledError):
            await verifier.verify(make_items(1))

    asyncio.run(scene())


class Recorder:
    """A checker that remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def check(self, items: Sequence[Item]) -> list[bool]:
        self.sizes.append(len(items))
        return verify_batch(items)


def busy_verifier(recorder: Recorder, *, threads: int = 1, wait_s: float = 60.0, inline: int = 2) -> Verifier:
    """Where as many items have come in that it is worth waiting for company."""
    verifier = Verifier(threads, recorder.check, Batching(full=16, wait_s=wait_s, inline=inline))
    verifier._arrivals.add(1_000_000, asyncio.get_running_loop().time())
    return verifier


def test_items_wait_until_a_batch_is_full_and_each_call_gets_its_own_verdicts() -> None:
    async def scene() -> None:
        recorder = Recorder()
        verifier = busy_verifier(recorder)
        items = make_items(16, bad=frozenset((0, 7, 15)))
        calls = [items[:5], items[5:6], items[6:12], items[12:]]
        asked = [asyncio.ensure_future(verifier.verify(call)) for call in calls]
        assert await asyncio.gather(*asked) == [verify_batch(call) for call in calls]
        assert recorder.sizes == [16]
        await verifier.close()

    asyncio.run(scene())


def test_items_without_company_go_when_they_have_waited_long_enough() -> None:
    async def scene() -> None:
        recorder = Recorder()
        verifier = busy_verifier(recorder, wait_s=0.01)
        loop = asyncio.get_running_loop()
        start = loop.time()
        three, two = await asyncio.gather(verifier.verify(make_items(3)), verifier.verify(make_items(2)))
        assert (three, two) == ([True] * 3, [True] * 2)
        assert loop.time() - start >= 0.009
        assert recorder.sizes == [5]
        await verifier.close()

    asyncio.run(scene())


def test_where_little_comes_in_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPANY_MIN", 3_001)  # five items in a tenth of a second: 3,000 in sixty

    async def scene() -> None:
        recorder = Recorder()
        verifier = Verifier(1, recorder.check, Batching(full=16, wait_s=60.0))
        async with asyncio.timeout(10):
            assert await verifier.verify(make_items(5)) == [True] * 5
        await verifier.close()

    asyncio.run(scene())


def test_urgent_items_never_wait_and_take_along_who_does() -> None:
    async def scene() -> None:
        recorder = Recorder()
        verifier = busy_verifier(recorder)
        waiting = asyncio.ensure_future(verifier.verify(make_items(5)))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await verifier.verify(make_items(2, bad=frozenset((1,))), urgent=True) == [True, False]
            assert (recorder.sizes, waiting.done()) == ([2], False)  # a vote or two: here and now, and alone
            assert await verifier.verify(make_items(3), urgent=True) == [True] * 3
            assert await waiting == [True] * 5
        assert recorder.sizes == [2, 8]
        assert verifier.items_checked == 10
        assert verifier.items_refused == 1
        await verifier.close()

    asyncio.run(scene())


@pytest.mark.parametrize(("count", "sizes"), [(31, [31]), (32, [16, 16]), (33, [16, 17]), (256, [128, 128])])
def test_a_batch_is_split_over_threads_only_into_full_ones(count: int, sizes: list[int]) -> None:
    async def scene() -> None:
        recorder = Recorder()
        verifier = busy_verifier(recorder, threads=2)
        assert await verifier.verify(make_items(count)) == [True] * count
        assert sorted(recorder.sizes, reverse=True) == sorted(sizes, reverse=True)
        await verifier.close()

    asyncio.run(scene())


def test_what_comes_while_a_thread_is_at_work_waits_for_it_and_goes_together() -> None:
    async def scene() -> None:
        release, sizes = threading.Event(), []

        def check(items: Sequence[Item]) -> list[bool]:
            sizes.append(len(items))
            release.wait(10)
            return [True] * len(items)

        verifier = Verifier(2, check, Batching(full=16, wait_s=0.001))
        first = asyncio.ensure_future(verifier.verify(make_items(16)))
        while not verifier.batches:
            await asyncio.sleep(0)
        others = []
        for count in (3, 4):
            others.append(asyncio.ensure_future(verifier.verify(make_items(count))))
            for _ in range(50):
                await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *others)
        assert sizes == [16, 7]
        await verifier.close()

    asyncio.run(scene())


def test_a_checker_that_forgets_a_verdict_is_found_out() -> None:
    async def scene() -> None:
        verifier = Verifier(1, lambda items: [True] * (len(items) - 1))
        async with asyncio.timeout(10):
            with pytest.raises(InvariantError):
                await verifier.verify(make_items(9))
        await verifier.close()

    asyncio.run(scene())


def test_close_ends_the_waiting_for_company() -> None:
    async def scene() -> None:
        verifier = busy_verifier(Recorder())
        waiting = asyncio.ensure_future(verifier.verify(make_items(5)))
        await asyncio.sleep(0)
        await verifier.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())

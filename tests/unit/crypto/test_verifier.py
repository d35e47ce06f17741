"""Unit tests of chain.crypto.verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from chain.crypto import PrivateKey, Scheme, Verifier, verify_batch
from chain.crypto import verifier as module
from chain.crypto.schemes import Item

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

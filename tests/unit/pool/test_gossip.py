"""Unit tests of chain.pool.gossip."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from chain.codec import decode
from chain.pool import Gossip, TransactionsMessage
from chain.pool import gossip as module


def some(count: int, size: int = 10) -> list[Any]:
    return [SimpleNamespace(raw=bytes((at % 256,)) * size) for at in range(count)]


class Sent:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.there = asyncio.Event()

    def __call__(self, payload: bytes) -> None:
        self.messages.append(payload)
        self.there.set()

    @property
    def counts(self) -> list[int]:
        return [len(decode(TransactionsMessage, message).transactions) for message in self.messages]


@pytest.mark.parametrize(("count", "wait_s"), [(1, module.GOSSIP_WAIT_S), (50, module.GOSSIP_WAIT_S_MAX)])
def test_the_wait_is_longer_where_much_comes_in(count: int, wait_s: float) -> None:
    async def scene() -> None:
        sent = Sent()
        gossip = Gossip(sent)
        loop = asyncio.get_running_loop()
        start = loop.time()
        gossip.add(some(count))
        gossip.add(some(1))
        async with asyncio.timeout(10):
            await sent.there.wait()
        assert loop.time() - start >= wait_s - 0.001
        assert sent.counts == [count + 1]
        assert (count < 20) == (wait_s < 0.01)

    asyncio.run(scene())


def test_a_full_message_does_not_wait() -> None:
    async def scene() -> None:
        sent = Sent()
        gossip = Gossip(sent)
        gossip.add(some(5, module.GOSSIP_BYTES // 2))
        assert sent.counts == [2, 2]
        gossip.stop()

    asyncio.run(scene())

"""Two real gateways on loopback, mutual TLS between them: CPU a frame of both ends together, sockets included.

In a burst frames share writes and records of TLS, as when a block is full; one by one each is awaited by its receiver
before the next is sent, as votes are on a calm chain.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from bench.micro.figures import CPU, note_cpu
from chain.net import Channel, GatewayTimes
from chain.types import ValidatorId
from tests.integration.gateways import make_network, make_node, running

pytestmark = CPU

FRAMES: Final = 64  # in a round
ROUNDS: Final = 30
WARMUP: Final = 3
DEADLINE_S: Final = 20.0


class Receiver:
    """Counts what comes in."""

    def __init__(self) -> None:
        self.frames = 0
        self.size = 0
        self.wanted = 0
        self.enough = asyncio.Event()

    def hear(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        self.frames += 1
        self.size += len(payload)
        if self.frames >= self.wanted:
            self.enough.set()

    async def more(self, count: int) -> None:
        """So many more frames have come than had been waited for before."""
        self.wanted += count
        self.enough.clear()
        if self.frames < self.wanted:
            async with asyncio.timeout(DEADLINE_S):
                await self.enough.wait()


@pytest.mark.parametrize("burst", [FRAMES, 1], ids=["burst", "one by one"])
@pytest.mark.parametrize("size", [256, 32 * 1024], ids=["256 B", "32 KB"])
def test_frames(benchmark: Any, tmp_path: Path, size: int, burst: int) -> None:
    network = make_network(tmp_path)
    sender, receiver = (make_node(network, at, times=GatewayTimes()) for at in (0, 1))
    payload = bytes(size)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()

        async def connect() -> tuple[Receiver, Any]:
            heard = Receiver()
            receiver.hears = heard.hear
            connected = running(sender, receiver)
            await connected.__aenter__()
            return heard, connected

        async def send(heard: Receiver) -> None:
            for _ in range(0, FRAMES, burst):
                for _ in range(burst):
                    sender.gateway.send(receiver.id, Channel.CONSENSUS, payload)
                await heard.more(burst)

        heard, connected = loop.run_until_complete(connect())
        benchmark.pedantic(
            lambda: loop.run_until_complete(send(heard)), rounds=ROUNDS, warmup_rounds=WARMUP
        )
        runner.run(connected.__aexit__(None, None, None))
    assert heard.size == heard.frames * size
    note_cpu(benchmark, frame=FRAMES)

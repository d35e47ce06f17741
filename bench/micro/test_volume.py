"""CPU of a post to /transactions, client included: by the short way, and by the general server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from chain.codec import encode
from chain.rpc import NodeServices, RpcServer
from chain.rpc.services import SubmitResult

REQUESTS = 200
RAW_BYTES = 250


class Node:
    """Accepts everything at once."""

    def certified_height(self) -> int:
        return 1

    async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
        return [SubmitResult(hash=bytes(32), error="", message="") for _ in raws]


async def post(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(REQUESTS):
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


@pytest.mark.parametrize("count", [6, 25])
@pytest.mark.parametrize("header", [b"", b"X-Unknown: 1\r\n"], ids=["short", "general"])
def test_post(benchmark: BenchmarkFixture, header: bytes, count: int) -> None:
    body = encode([bytes(RAW_BYTES)] * count)
    head = b"POST /transactions HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (header, len(body))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def serve() -> RpcServer:
            server = RpcServer(cast(NodeServices, Node()))
            await server.start()
            return server

        server = runner.run(serve())
        rounds = 5
        before = time.process_time()
        benchmark.pedantic(lambda: runner.run(post(server.port, head + body)), rounds=rounds, iterations=1)  # type: ignore[no-untyped-call]
        spent = (time.process_time() - before) / rounds
        benchmark.extra_info["cpu_us_per_request"] = round(spent * 1e6 / REQUESTS, 1)
        runner.run(server.stop())

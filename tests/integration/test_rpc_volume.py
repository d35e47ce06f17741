"""The short way for POST /transactions: what it takes, what it leaves to the general server, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chain.codec import decode, encode
from chain.rpc import RpcLimits
from chain.rpc.connection import HELD_BYTES_MAX, plain_head
from chain.rpc.services import SubmitResult
from tests.unit.rpc.fake_node import FakeNode
from tests.unit.rpc.harness import Harness, a_transaction, serving

LINE = b"POST /transactions HTTP/1.1\r\n"
HOST = LINE + b"Host: x\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(body: bytes, headers: bytes = b"Host: x\r\n") -> bytes:
    return LINE + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def connect(api: Harness) -> Stream:
    return await asyncio.open_connection("127.0.0.1", api.server.port)


async def answer(stream: Stream) -> tuple[bytes, bytes]:
    """Head and body of the next answer."""
    head = await stream[0].readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await stream[0].readexactly(int(length.split(b":")[1]))


def codes(body: bytes) -> list[int]:
    return [code for _, code, _ in decode(list[tuple[bytes, int, str]], body)]


class SlowNode(FakeNode):
    """Takes transactions when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.asked = asyncio.Event()

    async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
        self.asked.set()
        await self.open.wait()
        return await super().submit(raws)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        b"POST /transactions HTTP/1.0\r\nContent-Length: 1\r\n\r\n",
        b"POST /transactions?x HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        LINE,
        LINE + b"\r\n",
        LINE + b"Content-Length: 1\r\n",
        LINE + b"Host: x\r\n\r\n",
        HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        HOST + b"Content-Length: +1\r\n\r\n",
        HOST + b"Content-Length: 1, 1\r\n\r\n",
        HOST + b"Content-Length: \r\n\r\n",
        HOST + b"Content-Length : 1\r\n\r\n",
        HOST + b"Content-Length: 00000000001\r\n\r\n",
        HOST + b"Content-Length: 101\r\n\r\n",
        HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HOST + b"Content-Length: 1\r\nContent-Encoding: gzip\r\n\r\n",
        HOST + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        HOST + b"Content-Length: 1\r\nConnection: close\r\n\r\n",
        HOST + b"Content-Length: 1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        HOST + b"Content-Length: 1\r\nAccept: x\nTransfer-Encoding: chunked\r\n\r\n",
        HOST + b"Content-Length: 1\r\nAccept: x\rTransfer-Encoding: chunked\r\n\r\n",
        HOST + b"Content-Length: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
        HOST + b"Content-Length: 1\r\nX-Unknown: 1\r\n\r\n",
        LINE + b"Content-Length: 1\r\n\r\n",
        HOST + b"Host: x\r\nContent-Length: 1\r\n\r\n",
        LINE + b"Host: " + b"x" * 9_000 + b"\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_only_the_plainest_heads_are_taken(data: bytes) -> None:
    assert plain_head(data + b"abc", body_bytes_max=100) is None


def test_a_plain_head_tells_its_size_and_that_of_the_body() -> None:
    head = LINE + b"Host: x\r\ncontent-LENGTH:\t100 \r\nConnection: Keep-Alive\r\nAccept: */*\r\n\r\n"
    assert plain_head(head + b"body", body_bytes_max=100) == (len(head), 100)


def test_both_ways_answer_alike() -> None:
    async def scenario() -> None:
        async with serving() as api:
            raws = [a_transaction(nonce=bytes((at,)) * 16).raw for at in range(3)]
            for body in (encode([raws[0]]), encode([*raws, b"x"]), encode([]), b"", b"\xc0", encode([5])):
                short, general = await connect(api), await connect(api)
                short[1].write(request(body))
                first = await answer(short)
                api.node.pool.clear()
                general[1].write(request(body, b"Host: x\r\nX-Unknown: 1\r\n"))
                second = await answer(general)
                api.node.pool.clear()
                assert first[1] == second[1]
                assert first[0].split(b"\r\n")[0] == second[0].split(b"\r\n")[0]
                types = [
                    [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-type")]
                    for head, _ in (first, second)
                ]
                assert types[0] == types[1]
                for _, writer in (short, general):
                    writer.close()

    asyncio.run(scenario())


def test_a_request_may_come_in_pieces_and_several_at_once() -> None:
    async def scenario() -> None:
        async with serving() as api:
            stream = await connect(api)
            data = request(encode([a_transaction().raw]))
            head = data.index(b"\r\n\r\n") + 4
            for cut in (head, head + 1, head + 60, len(data) - 1):
                api.node.pool.clear()
                stream[1].write(data[:cut])
                await asyncio.sleep(0)
                stream[1].write(data[cut:])
                assert codes((await answer(stream))[1]) == [0]
            api.node.pool.clear()
            stream[1].write(data * 3 + data[:-1])
            first, *others = [codes((await answer(stream))[1]) for _ in range(3)]
            assert (first, len(others), others[0] == first) == ([0], 2, False)  # the same bytes again: duplicates
            stream[1].write(data[-1:])
            assert codes((await answer(stream))[1]) == others[0]
            stream[1].close()

    asyncio.run(scenario())


@pytest.mark.parametrize("cut", [10, len(LINE), len(LINE) + 20])
def test_a_head_in_pieces_and_other_requests_on_the_same_connection_are_answered_too(cut: int) -> None:
    async def scenario() -> None:
        async with serving() as api:
            data = request(encode([a_transaction().raw]))
            health = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
            stream = await connect(api)
            stream[1].write(data + health + data[:cut])
            assert codes((await answer(stream))[1]) == [0]
            assert b"true" in (await answer(stream))[1]
            stream[1].write(data[cut:])
            assert len(codes((await answer(stream))[1])) == 1
            stream[1].close()

    asyncio.run(scenario())


def test_the_body_of_another_request_is_never_taken_for_a_request() -> None:
    async def scenario() -> None:
        async with serving() as api:
            stream = await connect(api)
            inner = request(encode([a_transaction().raw]))
            stream[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n[" % (len(inner) + 1))
            async with asyncio.timeout(10):
                while not any(connection._foreign for connection in api.server._http.open):
                    await asyncio.sleep(0)
                stream[1].write(inner)
                head, body = await answer(stream)
            assert head.startswith(b"HTTP/1.1 200")
            assert b"-32700" in body
            assert not api.node.pool
            stream[1].close()

    asyncio.run(scenario())


def test_what_comes_while_a_request_is_answered_waits_its_turn_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    node = None

    def make() -> SlowNode:
        nonlocal node
        node = SlowNode()
        return node

    monkeypatch.setattr("tests.unit.rpc.harness.FakeNode", make)

    async def scenario() -> None:
        async with serving() as api:
            assert node is not None
            stream = await connect(api)
            count = 6_000
            data = request(encode([a_transaction().raw]))
            writing = asyncio.ensure_future(_write(stream, data * count))
            async with asyncio.timeout(20):
                await node.asked.wait()
                (connection,) = api.server._http.open
                while not connection._stopped:
                    await asyncio.sleep(0)
                for _ in range(200):
                    await asyncio.sleep(0)
                assert len(connection._held) < HELD_BYTES_MAX + 512 * 1024 < len(data) * count // 2
                assert not node.pool
                node.open.set()
                found = [codes((await answer(stream))[1]) for _ in range(count)]
                await writing
            assert (found[0], len(node.pool)) == ([0], 1)
            stream[1].close()

    asyncio.run(scenario())


async def _write(stream: Stream, data: bytes) -> None:
    stream[1].write(data)
    await stream[1].drain()


def test_slow_bodies_idle_connections_and_bodies_over_the_bound_end_as_on_the_general_way() -> None:
    async def scenario() -> None:
        limits = RpcLimits(body_timeout_ms=50, idle_timeout_ms=50, linger_ms=50, body_bytes_max=1_000)
        async with serving(limits) as api:
            stalled, idle, large = [await connect(api) for _ in range(3)]
            stalled[1].write(LINE + b"Host: x\r\nContent-Length: 1000\r\n\r\n\x91")
            idle[1].write(request(encode([])))
            large[1].write(LINE + b"Host: x\r\nContent-Length: 1001\r\n\r\n")
            async with asyncio.timeout(10):
                assert (await stalled[0].read()).startswith(b"HTTP/1.1 408")
                assert (await answer(idle))[0].startswith(b"HTTP/1.1 200")
                assert await idle[0].read() == b""
                assert (await large[0].read()).startswith(b"HTTP/1.1 413")
            assert not api.server.connections
            for _, writer in (stalled, idle, large):
                writer.close()

    asyncio.run(scenario())


def test_a_request_under_way_is_answered_before_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        node = SlowNode()
        monkeypatch.setattr("tests.unit.rpc.harness.FakeNode", lambda: node)
        async with serving() as api:
            stream = await connect(api)
            stream[1].write(request(encode([a_transaction().raw])))
            await node.asked.wait()
            (connection,) = api.server._http.open
            stopping = asyncio.ensure_future(api.server.stop())
            for _ in range(200):
                await asyncio.sleep(0)
            assert connection._closes
            node.open.set()
            assert codes((await answer(stream))[1]) == [0]
            await stopping
            assert await stream[0].read() == b""
            stream[1].close()

    asyncio.run(scenario())


def test_an_error_of_the_node_is_answered_and_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeNode):
        async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
            raise RuntimeError("our bug")

    monkeypatch.setattr("tests.unit.rpc.harness.FakeNode", Broken)

    async def scenario() -> None:
        async with serving() as api:
            stream = await connect(api)
            stream[1].write(request(encode([a_transaction().raw])))
            head, _ = await answer(stream)
            assert head.startswith(b"HTTP/1.1 500")
            assert b"Connection: close" in head
            assert await stream[0].read() == b""
            stream[1].close()

    asyncio.run(scenario())

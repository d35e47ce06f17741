"""The proxies between nodes do to a connection what the report says they did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bench.chaos.proxy import Fabric, Link

SHORT_S = 0.05
LONG_S = 10.0


async def with_link(body: Callable[[Link, list[bytes]], Awaitable[None]]) -> None:
    """A link to a server that keeps what it hears and answers each message with the same in capitals."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                heard.append(data)
                writer.write(data.upper())
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    link = Link("a", "b", (host, port))
    await link.open()
    try:
        await body(link, heard)
    finally:
        await link.close()
        server.close()


async def dial(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def hears(reader: asyncio.StreamReader, expected: bytes) -> None:
    async with asyncio.timeout(LONG_S):
        assert await reader.readexactly(len(expected)) == expected


async def hears_nothing(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT_S):
            await reader.read(1)


def test_a_blocked_direction_holds_its_bytes_and_the_other_goes_on() -> None:
    async def body(link: Link, heard: list[bytes]) -> None:
        reader, writer = await dial(link)
        writer.write(b"one")
        await hears(reader, b"ONE")
        link.block(sender="b")
        writer.write(b"two")
        await hears_nothing(reader)
        assert b"".join(heard) == b"onetwo"
        link.block(sender="a")
        writer.write(b"three")
        await hears_nothing(reader)
        assert b"".join(heard) == b"onetwo"
        link.heal()
        await hears(reader, b"TWOTHREE")
        writer.close()

    asyncio.run(with_link(body))


def test_a_cut_link_drops_its_connections_and_refuses_new_ones_until_it_heals() -> None:
    async def body(link: Link, heard: list[bytes]) -> None:
        reader, writer = await dial(link)
        writer.write(b"one")
        await hears(reader, b"ONE")
        link.cut()
        refused, other = await dial(link)
        for end in (reader, refused):
            async with asyncio.timeout(LONG_S):
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await end.readexactly(1)
        other.close()
        link.heal()
        reader, again = await dial(link)
        again.write(b"two")
        await hears(reader, b"TWO")
        again.close()
        writer.close()

    asyncio.run(with_link(body))


def test_a_slow_link_takes_its_time_and_keeps_the_order() -> None:
    async def body(link: Link, heard: list[bytes]) -> None:
        reader, writer = await dial(link)
        loop = asyncio.get_running_loop()
        link.slow(100)
        start = loop.time()
        writer.write(b"one")
        writer.write(b"two")
        await hears(reader, b"ONETWO")
        assert loop.time() - start >= 0.2
        writer.close()

    asyncio.run(with_link(body))


def test_who_is_isolated_is_so_towards_everybody_and_in_the_directions_asked_for() -> None:
    fabric = Fabric([(name, "127.0.0.1", 1) for name in ("a", "b", "c")])
    assert len(fabric.links) == 6

    def blocked() -> set[tuple[str, str]]:
        ways = set()
        for (source, destination), link in fabric.links.items():
            if not link._there._open.is_set():
                ways.add((source, destination))
            if not link._back._open.is_set():
                ways.add((destination, source))
        return ways

    fabric.isolate("a")
    assert blocked() == {("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")}
    fabric.heal()
    fabric.isolate("a", hears=True)
    assert blocked() == {("a", "b"), ("a", "c")}
    fabric.heal()
    fabric.isolate("a", sends=True)
    assert blocked() == {("b", "a"), ("c", "a")}
    fabric.heal()
    assert blocked() == set()

"""TCP proxies between nodes: a link can be cut, blocked in one direction or both, or slowed, and then heals.

A blocked direction loses nothing: bytes wait, as they do on a real network whose packets are dropped and sent again. A
connection made meanwhile is accepted and says nothing. A cut link drops its connections and refuses new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from typing import Final

CHUNK_BYTES: Final = 64 * 1024
WAITING_CHUNKS_MAX: Final = 64  # of a direction; then the sender is held up
LINGER_NONE: Final = struct.pack("ii", 1, 0)  # close with a reset, as a cut does


class Link:
    """From one node to another: the first dials `port`, the second listens at `target`."""

    def __init__(self, source: str, destination: str, target: tuple[str, int]) -> None:
        self.source = source
        self.destination = destination
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._there = _Direction()
        self._back = _Direction()
        self._cut = False
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen; `port` is known afterwards."""
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Drop everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self._drop()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- faults ---

    def block(self, *, sender: str) -> None:
        """Nothing that `sender` sends arrives."""
        self._of(sender).block()

    def slow(self, delay_ms: int) -> None:
        """Everything takes so long, both ways."""
        self._there.delay_s = self._back.delay_s = delay_ms / 1_000

    def cut(self) -> None:
        """Connections are reset, and new ones too."""
        self._cut = True
        self._drop()

    def heal(self) -> None:
        """As if nothing had ever been wrong."""
        self._cut = False
        self.slow(0)
        self._there.unblock()
        self._back.unblock()

    def _of(self, sender: str) -> _Direction:
        return self._there if sender == self.source else self._back

    def _drop(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    # --- connections ---

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._there.carry(reader, far_writer))
                tasks.create_task(self._back.carry(far_reader, writer))
        except* OSError:
            pass  # one end is gone
        finally:
            self._writers -= ends
            for end in ends:
                end.close()


class _Direction:
    """One way of a link."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self._open = asyncio.Event()
        self._open.set()

    def block(self) -> None:
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the sender closes; then so does this side, when everything has arrived."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_CHUNKS_MAX)

        async def take() -> None:
            while data := await reader.read(CHUNK_BYTES):
                await waiting.put((loop.time() + self.delay_s, data))
            await waiting.put((loop.time() + self.delay_s, b""))

        async def give() -> None:
            while True:
                due, data = await waiting.get()
                if (left := due - loop.time()) > 0:
                    await asyncio.sleep(left)
                await self._open.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(take())
            tasks.create_task(give())


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    writer.transport.abort()


class Fabric:
    """All links of a network, one for each ordered pair of nodes."""

    def __init__(self, nodes: Iterable[tuple[str, str, int]]) -> None:
        """`nodes` are (name, host, gateway port)."""
        known = list(nodes)
        self.links = {
            (source, name): Link(source, name, (host, port))
            for source, _, _ in known
            for name, host, port in known
            if source != name
        }

    async def open(self) -> None:
        for link in self.links.values():
            await link.open()

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self.links.values()))

    def of(self, name: str) -> list[Link]:
        """Every link that ends at a node."""
        return [link for pair, link in self.links.items() if name in pair]

    def isolate(self, name: str, *, sends: bool = False, hears: bool = False) -> None:
        """A node is cut off from all others, unless it still `sends` to them or `hears` them."""
        for link in self.of(name):
            other = link.destination if link.source == name else link.source
            if not sends:
                link.block(sender=name)
            if not hears:
                link.block(sender=other)

    def heal(self) -> None:
        for link in self.links.values():
            link.heal()

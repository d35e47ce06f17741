"""The node's side of one executor process: frames in and out of its socket on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from chain.codec import Record
from executor.process import ExecutorProcess
from executor.protocol import HEAD_BYTES, ChannelLost, Reply, Setup, body_bytes, decode_reply, frame_of

START_S: Final = 60.0  # to start Python, import the machine and open the state on a busy computer
BUFFER_BYTES: Final = 4 * 1024 * 1024  # read ahead of a frame's end
STOP_S: Final = 1.0  # to notice that the socket is closed; it holds nothing durable, so a long block is cut short


class Connection:
    """An executor process that speaks to the node."""

    def __init__(
        self, process: ExecutorProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Use `start`."""
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, setup: Setup, *, control: socket.socket | None = None) -> Connection:
        """A running process that was sent its setup; its first reply comes when it is ready.

        Raises:
            OSError: the system starts no more processes.
        """
        process = ExecutorProcess(control=control)
        reader, writer = await asyncio.open_unix_connection(sock=process.socket, limit=BUFFER_BYTES)
        connection = cls(process, reader, writer)
        with contextlib.suppress(ChannelLost):  # then the first receive says so
            await connection.send(setup)
        return connection

    @property
    def alive(self) -> bool:
        return self.process.alive and not self._reader.at_eof()

    async def send(self, message: Record) -> None:
        """Raises ChannelLost: the process is gone."""
        try:
            self._writer.write(frame_of(message))
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise ChannelLost(f"send: {error or type(error).__name__}") from None

    def post(self, message: Record) -> None:
        """Send without waiting until there is room; of a process that is gone, the next receive says so."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(frame_of(message))

    async def receive(self) -> Reply:
        """The next reply. Raises ChannelLost: the process is gone or sent what is none."""
        try:
            head = await self._reader.readexactly(HEAD_BYTES)
            body = await self._reader.readexactly(body_bytes(head))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ChannelLost(f"receive: {error or type(error).__name__}") from None
        return decode_reply(body)

    def kill(self) -> None:
        """End the process at once."""
        self._writer.transport.abort()
        self.process.end()

    async def stop(self) -> None:
        """Close the socket, upon which the process ends; insist after `STOP_S`."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self.process.wait(STOP_S)

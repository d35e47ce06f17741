"""The least of an HTTP/1.1 client that posting transactions needs: a general one costs several times the CPU, and the
load shares the machine with the nodes it measures.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from urllib.parse import urlsplit

HEAD_BYTES_MAX: Final = 64 * 1024
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
_LENGTH: Final = b"content-length:"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpError(Exception):
    """The node did not answer, or not in a way this client understands."""


class Poster:
    """Posts bodies to one path of one server; connections are kept and used again, one request at a time on each."""

    def __init__(self, url: str, path: str, *, timeout_s: float) -> None:
        """`url` is http://HOST:PORT."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: ".encode()
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            HttpError: none came in time. The server may have taken the request all the same.
        """
        while True:
            fresh = not self._idle
            connection: Connection | None = None
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connect() if fresh else self._idle.pop()
                    status, answer, keeps = await self._exchange(connection, body)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                if connection is not None:
                    connection[1].close()
                if fresh or isinstance(error, TimeoutError):
                    raise HttpError(str(error) or type(error).__name__) from None
                continue  # the server had closed the idle connection
            if keeps:
                self._idle.append(connection)
            else:
                connection[1].close()
            return status, answer

    async def close(self) -> None:
        """Close the kept connections; a request under way keeps its own."""
        writers = [writer for _, writer in self._idle]
        self._idle.clear()
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> Connection:
        return await asyncio.open_connection(self._host, self._port, limit=HEAD_BYTES_MAX)

    async def _exchange(self, connection: Connection, body: bytes) -> tuple[int, bytes, bool]:
        reader, writer = connection
        writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[len(_LENGTH) :]) for line in lines if line.startswith(_LENGTH)), -1)
        if not 0 <= length <= ANSWER_BYTES_MAX:
            raise ValueError("an answer without a usable length")
        answer = await reader.readexactly(length)
        return int(lines[0].split(b" ", 2)[1]), answer, b"connection: close" not in lines

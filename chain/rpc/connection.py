"""One HTTP connection: aiohttp's, with a deadline for the first head and a short way for POST /transactions.

aiohttp spends up to 300 microseconds on a request in a busy node, as much as ten transactions do. So a connection whose
requests so far were all plain posts to /transactions (method, path, and only headers that change nothing) is served
here, one request after the other. With the first request that is anything else, the connection is aiohttp's for good:
there is no moment at which two parsers have an opinion about the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

import structlog
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_protocol import RequestHandler

from chain.rpc.limits import RpcLimits

log = structlog.get_logger("chain.rpc")

HEAD_BYTES_MAX: Final = 8_190
HELD_BYTES_MAX: Final = 64 * 1024  # read ahead while a request is being answered
_REQUEST_LINE: Final = b"POST /transactions HTTP/1.1\r\n"
_LENGTH_DIGITS_MAX: Final = 10
_PLAIN_HEADERS: Final = frozenset(
    (b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"content-type", b"date")
)


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Owner(Protocol):
    """What a connection needs of its server."""

    limits: RpcLimits
    take: Callable[[bytes], Awaitable[Answer]]  # the body of a post to /transactions

    def admit(self, connection: Connection) -> bool: ...
    def dismiss(self, connection: Connection) -> None: ...


def plain_head(data: bytes, *, body_bytes_max: int) -> tuple[int, int] | None:
    """(bytes of the head, bytes of the body) if `data` begins with a whole plain head; None: it is for aiohttp."""
    if not data.startswith(_REQUEST_LINE):
        return None
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    lines = data[len(_REQUEST_LINE) : end].split(b"\r\n") if end >= len(_REQUEST_LINE) else []
    length, hosts = -1, 0
    for line in lines:
        if b"\r" in line or b"\n" in line:
            return None
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length":
            if length >= 0 or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
                return None
            length = int(value)
        elif name == b"host":
            hosts += 1
        elif name not in _PLAIN_HEADERS and not (name == b"connection" and value.lower() == b"keep-alive"):
            return None
    return (end + 4, length) if hosts == 1 and 0 <= length <= body_bytes_max else None


class Connection(RequestHandler):
    """Later heads than the first fall under the idle time."""

    __slots__ = (
        "_answering", "_body", "_closes", "_foreign", "_head_deadline", "_held", "_late", "_owner", "_stopped",
        "_wanted",
    )  # fmt: skip

    def __init__(self, owner: Owner, server: Any, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._owner = owner
        self._head_deadline: asyncio.TimerHandle | None = None
        self._foreign = False  # aiohttp's for good
        self._body = bytearray()
        self._wanted = 0  # bytes of the body that is being read; 0: none is
        self._late: asyncio.TimerHandle | None = None  # when the body must be complete
        self._answering: asyncio.Task[None] | None = None
        self._held = b""  # what came meanwhile
        self._stopped = False  # reading, because too much came meanwhile
        self._closes = False  # when the answer is out

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._owner.admit(self):
            self.force_close()
            return
        loop = asyncio.get_running_loop()
        self._head_deadline = loop.call_later(self._owner.limits.head_timeout_ms / 1_000, transport.close)

    def head_complete(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.head_complete()
        self._body_complete()
        self._owner.dismiss(self)
        if self._answering is not None:
            self._answering.cancel()
        super().connection_lost(exc)

    def close(self) -> None:
        """When the request under way is answered; a shutdown of aiohttp waits for that within its bound."""
        if self._answering is None:
            super().close()
        else:
            self._closes = True

    def _process_keepalive(self) -> None:
        """aiohttp's idle time: it does not know of the requests that are served here."""
        if self._wanted or self._answering is not None:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)
        else:
            super()._process_keepalive()

    # --- in ---

    def data_received(self, data: bytes) -> None:
        if self._force_close or self._close:
            return
        if self._foreign:
            super().data_received(data)
        elif self._answering is not None:
            self._hold(data)
        elif self._wanted:
            self._gather(data)
        else:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        found = plain_head(data, body_bytes_max=self._owner.limits.body_bytes_max)
        if found is None:
            self._foreign = True
            super().data_received(data)
            return
        self.head_complete()
        head, length = found
        if len(data) == head + length:
            self._take(data[head:])
            return
        self._wanted = length
        timeout_s = self._owner.limits.body_timeout_ms / 1_000
        self._late = self._loop.call_later(timeout_s, self._refuse_late)
        self._gather(data[head:])

    def _gather(self, data: bytes) -> None:
        missing = self._wanted - len(self._body)
        self._body += data[:missing]
        if len(self._body) == self._wanted:
            body = bytes(self._body)
            self._body_complete()
            self._take(body)
            if len(data) > missing:
                self._hold(data[missing:])

    def _body_complete(self) -> None:
        self._body = bytearray()
        self._wanted = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HELD_BYTES_MAX and not self._stopped and self.transport is not None:
            self._stopped = True
            self.transport.pause_reading()

    # --- out ---

    def _take(self, body: bytes) -> None:
        self._answering = self._loop.create_task(self._answer(body))

    async def _answer(self, body: bytes) -> None:
        try:
            answer = await self._owner.take(body)
        except Exception as error:  # our bug must not look like a lost connection
            log.error("rpc_volume_failed", exc_info=error)
            answer = Answer(500, b"an error of the node; its log has the details\n")
        self._closes = self._closes or answer.status >= 500
        await self._write(answer)
        self._answering = None
        if self._closes:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        held, self._held = self._held, b""
        if self._stopped and self.transport is not None:
            self._stopped = False
            self.transport.resume_reading()
        if held and self.transport is not None:
            self.data_received(held)

    async def _write(self, answer: Answer) -> None:
        """A client that does not read its answer is cut off."""
        if self.transport is None:
            return
        self.transport.write(_head(answer, closes=self._closes) + answer.body)
        if self.writing_paused:
            try:
                async with asyncio.timeout(self._owner.limits.answer_timeout_ms / 1_000):
                    await self._drain_helper()
            except TimeoutError:
                if self.transport is not None:
                    self.transport.abort()

    def _refuse_late(self) -> None:
        self._body_complete()
        if self.transport is not None:
            answer = Answer(408, b"the body took too long\n")
            self.transport.write(_head(answer, closes=True) + answer.body)
            self.force_close()


def _head(answer: Answer, *, closes: bool) -> bytes:
    status = HTTPStatus(answer.status)
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n" % (
        status, status.phrase.encode(), answer.content_type.encode(), len(answer.body),
        rfc822_formatted_time().encode(), b"Connection: close\r\n" if closes else b"",
    )  # fmt: skip

"""HTTP: JSON-RPC at `/`, the binary way in at `/transactions`, health, metrics. Bounded in every direction.

The server is aiohttp's low-level one: no routes, no middleware, one handler. What aiohttp leaves open is bounded
here: connections, the time to send a request's head (slow clients), the time and size of its body.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from chain.codec import decode, encode
from chain.errors import DecodeError
from chain.rpc import methods
from chain.rpc.connection import HEAD_BYTES_MAX, Answer, Connection
from chain.rpc.definitions import METHODS, Api, Call
from chain.rpc.dispatch import Dispatcher
from chain.rpc.errors import ERRORS, TOO_LARGE, RpcError
from chain.rpc.limits import RpcLimits
from chain.rpc.methods.transactions import code_of, submit_many
from chain.rpc.services import NodeServices
from chain.types import Instant

log = structlog.get_logger("chain.rpc")

BACKLOG: Final = 512
SHUTDOWN_TIMEOUT_S: Final = 5.0
HEADERS_MAX: Final = 64
SMALL_ANSWER_BYTES: Final = 32 * 1024  # fits into the socket's buffer
WELCOME: Final = """\
This is a Headrace node. It speaks JSON-RPC 2.0: POST to this address.

  curl -s -H 'Content-Type: application/json' \\
       -d '{"jsonrpc":"2.0","id":1,"method":"status"}' http://HOST:PORT/

rpc.discover   the whole API as an OpenRPC document
/transactions  POST a packed array of raw transactions, for volume
/health        is it well (also /health/live and /health/ready)
/metrics       Prometheus
"""


def wall_clock() -> Instant:
    return Instant(time.time_ns() // 1_000_000)


class _HttpServer(web.Server):
    """Makes connections and counts them."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        take: Callable[[bytes], Awaitable[Answer]],
        limits: RpcLimits,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.take = take
        self.limits = limits
        self.open: set[Connection] = set()
        self.refused = 0

    def __call__(self) -> Connection:
        return Connection(
            self, self, loop=asyncio.get_running_loop(), keepalive_timeout=self.limits.idle_timeout_ms / 1_000,
            lingering_time=self.limits.linger_ms / 1_000, access_log=None, auto_decompress=False,
            max_headers=HEADERS_MAX, max_line_size=HEAD_BYTES_MAX, max_field_size=HEAD_BYTES_MAX,
        )  # fmt: skip

    def admit(self, connection: Connection) -> bool:
        if len(self.open) >= self.limits.connections_max:
            self.refused += 1
            return False
        self.open.add(connection)
        return True

    def dismiss(self, connection: Connection) -> None:
        self.open.discard(connection)


class RpcServer:
    """One listening socket. `start`, then `stop`; `port` is the real one where 0 was asked for."""

    def __init__(
        self,
        services: NodeServices,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: RpcLimits | None = None,
        now: Callable[[], Instant] = wall_clock,
        on_bug: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._services = services
        self._host = host
        self._port = port
        self._limits = limits or RpcLimits()
        self._api = Api(services, self._limits, now)
        self.dispatcher = Dispatcher(METHODS, self._api, on_bug=on_bug)
        self._http = _HttpServer(self._handle, self._take, self._limits)
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises OSError if the address cannot be listened on."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._http, self._host, self._port, backlog=BACKLOG)

    @property
    def port(self) -> int:
        if self._listener is None:
            return self._port
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._http.open)

    @property
    def waiting(self) -> int:
        """Requests that wait for a height or a transaction."""
        return self._api.waits.busy

    async def stop(self) -> None:
        """No new connection; requests under way get a moment, then their connections are closed."""
        if self._listener is None:
            return
        self._listener.close()
        self._http.pre_shutdown()  # idle connections go at once
        await self._http.shutdown(SHUTDOWN_TIMEOUT_S)
        await self._listener.wait_closed()
        self._listener = None

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.head_complete()
        response = await self._respond(request)
        if isinstance(response.body, bytes) and len(response.body) > SMALL_ANSWER_BYTES:
            await self._write(request, response)
        return response

    async def _write(self, request: web.BaseRequest, response: web.Response) -> None:
        """Send an answer that the socket does not take at once; a client that does not read it is cut off."""
        try:
            async with asyncio.timeout(self._limits.answer_timeout_ms / 1_000):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        path = request.path
        if request.method == "POST":
            if path in ("/", "/rpc"):
                return await self._post_rpc(request)
            if path == "/transactions":
                return await self._post_transactions(request)
        elif request.method in ("GET", "HEAD"):
            page = self._page(path)
            if page is not None:
                return page
        known = path in ("/", "/rpc", "/transactions", "/metrics") or path.startswith("/health")
        return web.Response(status=405 if known else 404, text="POST JSON-RPC to /, or GET / to read more\n")

    def _page(self, path: str) -> web.Response | None:
        services = self._services
        if path == "/":
            return web.Response(text=WELCOME)
        if path == "/metrics":
            return web.Response(body=services.metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})
        if path == "/health/live":
            return _health(services.is_live(), {"live": services.is_live()})
        if path in ("/health", "/health/ready"):
            live, ready = services.is_live(), services.is_ready()
            document = {"live": live, "ready": ready, "certified_height": services.certified_height()}
            return _health(live and ready, document)
        return None

    async def _post_rpc(self, request: web.BaseRequest) -> web.Response:
        body = await self._read(request)
        if isinstance(body, web.Response):
            return body
        answer = await self.dispatcher.answer(body)
        if answer is None:
            return web.Response(status=204)
        return web.Response(body=answer, content_type="application/json")

    async def _post_transactions(self, request: web.BaseRequest) -> web.Response:
        body = await self._read(request)
        if isinstance(body, web.Response):
            return body
        answer = await self._take(body)
        return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})

    async def _take(self, body: bytes) -> Answer:
        """Body: canonical msgpack array of raw transactions. Answer: array of [hash, code, message], same order."""
        try:
            raws = decode(list[bytes], body, bytes_max=self._limits.body_bytes_max)
            results = await submit_many(Call(self._api), raws)
        except DecodeError as error:
            return Answer(400, f"malformed: {error.message}\n".encode())
        except RpcError as error:
            return Answer(413, f"{ERRORS[error.number][0]}: {error.message}\n".encode())
        answer = encode([(result.hash, code_of(result), result.message) for result in results])
        return Answer(200, answer, "application/msgpack")

    async def _read(self, request: web.BaseRequest) -> bytes | web.Response:
        """The body, or the answer that refuses it: too large (unread where its length is told), late, compressed."""
        bound = self._limits.body_bytes_max
        if request.content_length is not None and request.content_length > bound:
            return _too_large(bound)
        if request.headers.get("Content-Encoding", "identity") != "identity":
            return _closing(web.Response(status=415, text="compressed bodies are not taken\n"))
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_ms / 1_000):
                while part := await request.content.readany():
                    size += len(part)
                    if size > bound:
                        return _too_large(bound)
                    parts.append(part)
        except TimeoutError:
            return _closing(web.Response(status=408, text="the body took too long\n"))
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(bound: int) -> web.Response:
    """HTTP 413 with a JSON-RPC error, so that both kinds of client understand."""
    error = RpcError(TOO_LARGE, f"the body is over {bound} bytes").document()
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
    return _closing(web.Response(status=413, body=body, content_type="application/json"))


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response


def _health(well: bool, document: dict[str, Any]) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(status=200 if well else 503, body=body, content_type="application/json")


__all__ = ["RpcServer", "methods", "wall_clock"]

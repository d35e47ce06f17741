"""JSON-RPC calls to one of several nodes: the next one takes over when one does not answer."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import aiohttp

from chain.client.errors import BUSY, HALTED, NOT_READY, NodesUnreachable, RpcFailed
from chain.types import MESSAGE_BYTES_MAX

CONNECTIONS_MAX: Final = 64
ANSWER_BYTES_MAX: Final = 8 * MESSAGE_BYTES_MAX
PLAIN_BODY_BYTES_MAX: Final = 512 * 1024  # larger ones are written in parts, so that the loop is not held up
PAUSE_MS_MIN: Final = 50  # after all nodes failed, doubling
PAUSE_MS_MAX: Final = 2_000
ATTEMPT_MS: Final = 10_000  # for one node to answer what needs no waiting
GRACE_MS: Final = 5_000  # a node's own wait is over before ours
# Another node may do better; it is harmless to ask it the same.
ELSEWHERE: Final = frozenset({NOT_READY, BUSY, HALTED})

ResultT = TypeVar("ResultT")


class Transport:
    """Asks the nodes at `urls`, staying with one as long as it answers. Not to be shared between event loops.

    When none answers, all are asked again for `retry_ms` (within the time of the call).
    """

    def __init__(self, urls: Sequence[str], *, timeout_ms: int, retry_ms: int | None = None) -> None:
        if not urls:
            raise ValueError("at least one URL of a node is needed")
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._current = 0
        self._timeout_ms = timeout_ms
        self._retry_ms = retry_ms
        self._session: aiohttp.ClientSession | None = None
        self._ids = itertools.count(1)

    @property
    def url(self) -> str:
        """The node that is asked first."""
        return self._urls[self._current]

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, method: str, params: dict[str, Any], *, timeout_ms: int | None = None, attempt_ms: int | None = None
    ) -> dict[str, Any]:
        """The result of a method. One node has `attempt_ms` to answer, all together `timeout_ms`.

        Raises:
            RpcFailed: the node answered with an error (of the last node asked, if each has one that may pass).
            NodesUnreachable: no node answered within `timeout_ms`.
        """
        body = json.dumps({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}).encode()

        async def ask(url: str, left_ms: int) -> dict[str, Any]:
            answer = json.loads(await self._post(url + "/", body, "application/json", left_ms))
            if not isinstance(answer, dict):
                raise aiohttp.ClientPayloadError("not an answer to a JSON-RPC request")
            error = answer.get("error")
            if error is not None:
                raise RpcFailed(int(error["code"]), str(error["message"]), error.get("data"))
            return dict(answer["result"])

        return await self._anywhere(ask, timeout_ms, attempt_ms)

    async def post(self, path: str, body: bytes, *, timeout_ms: int | None = None) -> bytes:
        """The answer to a binary POST. Raises RpcFailed (HTTP status as code) or NodesUnreachable."""

        async def ask(url: str, left_ms: int) -> bytes:
            return await self._post(url + path, body, "application/msgpack", left_ms)

        return await self._anywhere(ask, timeout_ms, None)

    async def _anywhere(
        self, ask: Callable[[str, int], Awaitable[ResultT]], timeout_ms: int | None, attempt_ms: int | None
    ) -> ResultT:
        """Ask one node after the other until one answers; a refusal that another node may not share counts as none."""
        loop = asyncio.get_running_loop()
        total_ms = self._timeout_ms if timeout_ms is None else timeout_ms
        deadline = loop.time() + total_ms / 1_000
        last_round = deadline if self._retry_ms is None else min(deadline, loop.time() + self._retry_ms / 1_000)
        failures: dict[str, str] = {}
        refusal: RpcFailed | None = None
        pause_ms = PAUSE_MS_MIN
        while True:
            for _ in self._urls:
                url = self.url
                left_ms = max(1, int((deadline - loop.time()) * 1_000))
                left_ms = min(left_ms, ATTEMPT_MS if attempt_ms is None else attempt_ms)
                try:
                    return await ask(url, left_ms)
                except RpcFailed as failure:
                    if failure.code not in ELSEWHERE:
                        raise
                    refusal = failure
                    failures[url] = str(failure)
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as failure:
                    failures[url] = f"{type(failure).__name__}: {failure}".rstrip(": ")
                self._current = (self._current + 1) % len(self._urls)
                if loop.time() >= deadline:
                    break
            if loop.time() + pause_ms / 1_000 >= last_round:
                if refusal is not None and len(failures) == len(self._urls):
                    raise refusal
                raise NodesUnreachable(failures)
            await asyncio.sleep(pause_ms / 1_000)
            pause_ms = min(2 * pause_ms, PAUSE_MS_MAX)

    async def _post(self, url: str, body: bytes, kind: str, left_ms: int) -> bytes:
        session = self._session
        if session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
            session = self._session = aiohttp.ClientSession(connector=connector)
        timeout = aiohttp.ClientTimeout(total=left_ms / 1_000)
        data = io.BytesIO(body) if len(body) > PLAIN_BODY_BYTES_MAX else body
        async with session.post(url, data=data, headers={"Content-Type": kind}, timeout=timeout) as response:
            if (response.content_length or 0) > ANSWER_BYTES_MAX:
                raise aiohttp.ClientPayloadError(f"an answer of {response.content_length} bytes")
            answer = await response.read()
            if response.status != 200 and response.content_type != "application/json":
                text = answer[:200].decode("utf-8", "replace").strip()
                raise RpcFailed(response.status, text or f"HTTP {response.status}")
            return answer

"""A server on a real socket over a `FakeNode`, and the shortest way to ask it something."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from chain.crypto import PrivateKey, Scheme
from chain.model.signing import sign_transaction
from chain.model.transaction import Transaction
from chain.rpc import RpcLimits, RpcServer
from chain.types import Instant
from tests.unit.rpc.fake_node import CHAIN_ID, ECHO, FakeNode

ALICE = PrivateKey.from_secret(Scheme.ED25519, b"\xa1" * 32)
NOW = Instant(1_800_000_000_000)


class Harness:
    def __init__(self, node: FakeNode, server: RpcServer, session: aiohttp.ClientSession, bugs: list[Any]) -> None:
        self.node = node
        self.server = server
        self.session = session
        self.bugs = bugs

    async def post(self, body: bytes, path: str = "/") -> tuple[int, Any]:
        """(HTTP status, parsed body or None)."""
        async with self.session.post(self.server.url + path, data=io.BytesIO(body)) as response:
            text = await response.read()
            return response.status, json.loads(text) if text else None

    async def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        """The whole response object."""
        request = {"jsonrpc": "2.0", "id": 7, "method": method}
        if params is not None:
            request["params"] = params
        status, answer = await self.post(json.dumps(request).encode())
        assert status == 200
        assert answer["id"] == 7
        assert answer["jsonrpc"] == "2.0"
        return dict(answer)

    async def result(self, method: str, params: Any = None) -> dict[str, Any]:
        answer = await self.ask(method, params)
        assert "result" in answer, answer
        return dict(answer["result"])

    async def error(self, method: str, params: Any = None) -> dict[str, Any]:
        answer = await self.ask(method, params)
        assert "error" in answer, answer
        return dict(answer["error"])


@contextlib.asynccontextmanager
async def serving(limits: RpcLimits | None = None) -> AsyncIterator[Harness]:
    node = FakeNode()
    bugs: list[Any] = []
    server = RpcServer(node, limits=limits, now=lambda: NOW, on_bug=bugs.append)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Harness(node, server, session, bugs)
    finally:
        await server.stop()


def a_transaction(
    method: str = "say", *, arguments: tuple[Any, ...] = ("hello",), expiry: int = 100, chain_id: bytes = CHAIN_ID,
    nonce: bytes | None = None, key: PrivateKey = ALICE,
) -> Transaction:  # fmt: skip
    return sign_transaction(
        key, chain_id=chain_id, target=ECHO, method=method, arguments=arguments, expiry=expiry, gas_limit=10_000,
        nonce=nonce,
    )  # fmt: skip


def hexed(data: bytes) -> str:
    return "0x" + data.hex()

"""Gateways on loopback with real certificates, and a raw TLS client that may misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from chain.config import EndpointConfig, PeerConfig, load_node_config
from chain.errors import BadInput
from chain.net import Channel, Gateway, GatewayHandlers, GatewayTimes, TlsFiles
from chain.net.frames import PROTOCOL_VERSION, FrameKind, Hello, encode_frame, encode_hello
from chain.net.tls import client_context
from chain.node.consortium import NetworkInfo, NodeInfo, create_network
from chain.types import ValidatorId

DEADLINE_S: Final = 20.0
FAST: Final = GatewayTimes(keepalive=0.1, silence_max=0.5, handshake_max=2.0, reconnect_min=0.02, reconnect_max=0.1,
                           duplicate_max=0.5)  # fmt: skip
LOOPS: Final = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run(loop: str, coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on that event loop; a task left over or an unhandled error is a failure."""
    problems: list[dict[str, Any]] = []

    async def checked() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        async with asyncio.timeout(2 * DEADLINE_S):
            await coroutine
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(checked())
    assert not problems, problems


async def until(condition: Callable[[], object]) -> None:
    """Returns when the condition holds.

    Raises:
        TimeoutError: not within `DEADLINE_S`.
    """
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass
class Node:
    """A gateway that writes down what happens to it. Request kinds: 1 echo, 2 wait for `gate`, 3 BadInput, 4 a bug."""

    info: NodeInfo
    gateway: Gateway = field(init=False)
    frames: list[tuple[ValidatorId, Channel, bytes]] = field(default_factory=list)
    connected: list[ValidatorId] = field(default_factory=list)
    lost: list[ValidatorId] = field(default_factory=list)
    faults: list[tuple[ValidatorId | None, str]] = field(default_factory=list)
    duplicates: list[tuple[ValidatorId, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    serving: int = 0
    serve: Callable[[ValidatorId, int, bytes], Awaitable[bytes]] | None = None  # in place of the request kinds above
    hears: Callable[[ValidatorId, Channel, bytes], None] | None = None  # in place of writing frames down

    @property
    def id(self) -> ValidatorId:
        return self.info.validator

    def payloads(self, channel: Channel) -> list[bytes]:
        return [payload for _, at, payload in self.frames if at is channel]

    def reasons(self) -> list[str]:
        return [reason for _, reason in self.faults]

    async def answer(self, peer: ValidatorId, kind: int, payload: bytes) -> bytes:
        self.serving += 1
        try:
            if self.serve is not None:
                return await self.serve(peer, kind, payload)
            if kind == 2:
                await self.gate.wait()
            if kind == 3:
                raise BadInput("not_found", "there is no such thing")
            if kind == 4:
                raise RuntimeError("planted")
            return bytes((kind,)) + payload
        finally:
            self.serving -= 1

    def on_frame(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        if self.hears is not None:
            self.hears(peer, channel, payload)
        else:
            self.frames.append((peer, channel, payload))

    def handlers(self) -> GatewayHandlers:
        return GatewayHandlers(
            on_frame=self.on_frame,
            on_request=self.answer,
            on_connected=self.connected.append,
            on_lost=self.lost.append,
            on_fault=lambda peer, reason: self.faults.append((peer, reason)),
            on_duplicate=lambda peer, address: self.duplicates.append((peer, address)),
        )


def make_network(folder: Path, name: str = "Test") -> NetworkInfo:
    return create_network(folder / "network", name=name)


def make_node(
    network: NetworkInfo,
    at: int,
    *,
    times: GatewayTimes = FAST,
    chain_id: bytes | None = None,
    link_delay_ms: int = 0,
    port: int | None = None,
    peers: Sequence[PeerConfig] | None = None,
    instance: bytes | None = None,
) -> Node:
    """The node at that place in the order of validator ids: a lower one dials the higher ones."""
    info = sorted(network.nodes, key=lambda node: node.validator)[at]
    config = load_node_config(info.config_path)
    endpoint = config.gateway if port is None else EndpointConfig(host=config.gateway.host, port=port)
    node = Node(info)
    node.gateway = Gateway(
        own=info.validator, chain_id=network.chain_id if chain_id is None else chain_id, endpoint=endpoint,
        peers=config.peers if peers is None else peers, files=TlsFiles.of(config), handlers=node.handlers(),
        times=times, link_delay_ms=link_delay_ms, instance=instance,
    )  # fmt: skip
    return node


def peer_configs(*nodes: Node) -> list[PeerConfig]:
    """How others are told of these nodes."""
    return [
        PeerConfig(validator=node.id, name=node.info.name, host=node.info.host, port=node.info.gateway_port)
        for node in nodes
    ]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def running(*nodes: Node, connect: bool = True) -> AsyncIterator[None]:
    """Started, with `connect` also connected to each other; stopped at the end."""
    try:
        for node in nodes:
            await node.gateway.start()
        if connect:
            ids = {node.id for node in nodes}
            await until(lambda: all(ids - {node.id} <= set(node.gateway.connected()) for node in nodes))
        yield
    finally:
        for node in nodes:
            await node.gateway.stop()


@dataclass
class RawPeer:
    """A TLS connection to a gateway under full control of the test."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def read_frame(self) -> tuple[int, bytes]:
        prefix = await self.reader.readexactly(4)
        body = await self.reader.readexactly(int.from_bytes(prefix, "big"))
        return body[0], body[1:]

    async def read_bye(self) -> int:
        """The reason of the BYE that ends the connection; other frames before it are skipped."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                kind, payload = await self.read_frame()
                if kind == FrameKind.BYE:
                    return payload[0]

    async def read_to_end(self) -> bytes:
        """Everything until the gateway has closed."""
        data = b""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while more := await self.reader.read(65_536):
                    data += more
        return data


@contextlib.asynccontextmanager
async def raw_peer(target: Node, context: ssl.SSLContext | None) -> AsyncIterator[RawPeer]:
    """Connected to the gateway of `target`; without a context there is no TLS."""
    config = load_node_config(target.info.config_path)
    reader, writer = await asyncio.open_connection(config.gateway.host, config.gateway.port, ssl=context)
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def context_of(node: Node | NodeInfo) -> ssl.SSLContext:
    """The dialling context with that node's certificate."""
    info = node.info if isinstance(node, Node) else node
    return client_context(TlsFiles.of(load_node_config(info.config_path)))


def hello(network: NetworkInfo, node: bytes, /, **changes: Any) -> bytes:
    """A right HELLO frame, but for the changes."""
    fields = {"version": PROTOCOL_VERSION, "chain_id": network.chain_id, "node": node, "instance": b"i" * 16, **changes}
    return encode_hello(Hello(**fields))


def frame(kind: int, payload: bytes = b"") -> bytes:
    return encode_frame(kind, payload)

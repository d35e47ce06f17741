"""The gateway: every node listens and dials; one authenticated connection to each other validator.

Of two nodes the one with the lower validator id dials, so two connections never race. The higher one, if it is not
dialled, knocks: it says hello, is sent away and is dialled at once. A new connection of a peer's process replaces its
old one: the dialler only dials when its end is gone. Another process with the key of a connected peer is refused while
the first one answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chain.config import EndpointConfig, NodeConfig, PeerConfig
from chain.errors import BadInput, ConfigError, PeerFault
from chain.net.connection import CLOSE_TIMEOUT_S, Connection, State
from chain.net.counters import PeerCounters
from chain.net.frames import INSTANCE_BYTES, ByeReason, Channel, encode_frame
from chain.net.tls import TlsFiles, check_files, client_context, server_context
from chain.types import MESSAGE_BYTES_MAX, ValidatorId

HANDSHAKES_MAX: Final = 256  # accepted sockets that have not said hello yet
HANDSHAKES_PER_HOST_MAX: Final = 32  # so that one host cannot keep the others out
BACKLOG: Final = 128
ACCEPT_PAUSE_S: Final = 0.1  # after the system refused a socket (file handles used up)


async def _answer_nothing(peer: ValidatorId, kind: int, payload: bytes) -> bytes:
    raise BadInput("unknown_request", f"request kind {kind} is not served here")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayHandlers:
    """What the gateway calls, on the event loop. An exception from `on_frame` is our bug: it reaches the loop's
    exception handler and ends the connection."""

    on_frame: Callable[[ValidatorId, Channel, bytes], None] = lambda peer, channel, payload: None
    on_request: Callable[[ValidatorId, int, bytes], Awaitable[bytes]] = _answer_nothing  # BadInput: refused, its code
    on_connected: Callable[[ValidatorId], None] = lambda peer: None
    on_lost: Callable[[ValidatorId], None] = lambda peer: None
    on_fault: Callable[[ValidatorId | None, str], None] = lambda peer, reason: None  # None: nobody we know
    on_duplicate: Callable[[ValidatorId, str], None] = lambda peer, address: None  # it refuses us: see `duplicate_at`


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTimes:
    """Seconds. A peer is lost `silence_max` after its last byte; within `handshake_max` it must have said hello.

    Within `duplicate_max` (and the link's delay both ways) a connected process must answer a ping, or another one with
    its key may take its place; `handshake_max` must leave room for that.
    """

    keepalive: float = 1.0
    silence_max: float = 4.0
    handshake_max: float = 5.0
    reconnect_min: float = 0.05
    reconnect_max: float = 2.0
    duplicate_max: float = 1.0


@dataclass(slots=True)
class _Peer:
    config: PeerConfig
    counters: PeerCounters = field(default_factory=PeerCounters)
    live: Connection | None = None
    task: asyncio.Task[None] | None = None  # dials or knocks
    knocked: asyncio.Event = field(default_factory=asyncio.Event)
    duplicate_at: str | None = None  # where it sees another process with our key, while it refuses us for that

    @property
    def id(self) -> ValidatorId:
        return ValidatorId(self.config.validator)


class Gateway:
    """Start with `start`, end with `stop`; the attributes `counters` and `strangers` may be read at any time."""

    def __init__(
        self,
        *,
        own: ValidatorId,
        chain_id: bytes,
        endpoint: EndpointConfig,
        peers: Sequence[PeerConfig],
        files: TlsFiles,
        handlers: GatewayHandlers,
        authority_sha256: bytes | None = None,
        link_delay_ms: int = 0,
        times: GatewayTimes | None = None,
        instance: bytes | None = None,
    ) -> None:
        """Reads the TLS files. `instance` is this process's, random by default.

        Raises:
            ConfigError: the files are not this validator's, or not of the CA with `authority_sha256` (from genesis);
                or this node is among its own peers.
        """
        check_files(files, own=own, authority_sha256=authority_sha256)
        self.own = own
        self.instance = os.urandom(INSTANCE_BYTES) if instance is None else instance
        self.chain_id = chain_id
        self.link_delay_s = link_delay_ms / 1_000
        self._endpoint = endpoint
        self._handlers = handlers
        self._times = GatewayTimes() if times is None else times
        self._files = files
        self._authority_sha256 = authority_sha256
        self._server_context = server_context(files)
        self._client_context = client_context(files)
        self._peers = {ValidatorId(peer.validator): _Peer(peer) for peer in peers}
        if own in self._peers:
            raise ConfigError(f"peers has {own.hex()}, must not contain this node itself")
        self.strangers: Counter[str] = Counter()  # faults of whoever is not a configured peer
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._accepted: set[socket.socket] = set()  # nobody has taken them on yet
        self._handshakes: Counter[str] = Counter()  # by remote host

    @classmethod
    def from_config(
        cls,
        config: NodeConfig,
        *,
        own: ValidatorId,
        chain_id: bytes,
        handlers: GatewayHandlers,
        authority_sha256: bytes | None = None,
        times: GatewayTimes | None = None,
    ) -> Gateway:
        """The gateway of a node's configuration. Raises ConfigError."""
        return cls(
            own=own, chain_id=chain_id, endpoint=config.gateway, peers=config.peers, files=TlsFiles.of(config),
            handlers=handlers, authority_sha256=authority_sha256, link_delay_ms=config.gateway.link_delay_ms,
            times=times,
        )  # fmt: skip

    # --- life ---

    async def start(self) -> None:
        """Listen, and dial the peers that are ours to dial.

        Raises:
            ConfigError: the endpoint cannot be listened on.
        """
        self._listener = _listen(self._endpoint)
        self._spawn(self._accept(self._listener))
        self._spawn(self._keep_alive())
        for peer in self._peers.values():
            peer.task = self._spawn(self._reach(peer))

    async def stop(self) -> None:
        """Say goodbye, close every socket, end every task. Idempotent; returns within about `CLOSE_TIMEOUT_S`."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in tuple(self._connections):
            connection.close(ByeReason.STOPPING)
        closing = [asyncio.ensure_future(connection.wait_closed()) for connection in self._connections]
        if closing:
            await asyncio.wait(closing, timeout=2 * CLOSE_TIMEOUT_S)
        for waiting in closing:
            waiting.cancel()
        for accepted in self._accepted:
            accepted.close()
        self._accepted.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # --- changes at run time ---

    def set_members(self, peers: Sequence[PeerConfig]) -> None:
        """Whom this node talks to from now on, all of them; itself among them does no harm. Before or after `start`.

        Whoever is kept keeps the connection; a changed address counts at the next dial. The connections of whoever is
        not in it any more are closed with `not_a_member`, and so is every later attempt.
        """
        before = self._peers
        configs = {ValidatorId(peer.validator): peer for peer in peers if peer.validator != self.own}
        for peer, record in before.items():
            if peer not in configs:
                self._part(record, ByeReason.NOT_A_MEMBER)
        self._peers = {peer: before.get(peer) or _Peer(config) for peer, config in configs.items()}
        for peer, record in self._peers.items():
            record.config = configs[peer]
            if record.task is None and self._listener is not None:
                record.task = self._spawn(self._reach(record))

    def reload_tls(self, files: TlsFiles | None = None, *, own: ValidatorId | None = None) -> None:
        """Use renewed files, by default those under the same names, for every handshake from now on.

        Live connections stay, unless `own` makes this node another validator: then all are closed and made anew.

        Raises:
            ConfigError: as at the start; nothing has changed.
        """
        files = self._files if files is None else files
        identity = self.own if own is None else own
        check_files(files, own=identity, authority_sha256=self._authority_sha256)
        contexts = server_context(files), client_context(files)
        self._files = files
        self._server_context, self._client_context = contexts
        if identity == self.own:
            return
        for record in self._peers.values():
            self._part(record, ByeReason.REPLACED)
        self.own = identity
        self.set_members([record.config for record in self._peers.values()])

    def _part(self, record: _Peer, reason: ByeReason) -> None:
        """Close what there is with that peer and stop reaching for it."""
        if record.task is not None:
            record.task.cancel()
            record.task = None
        for connection in tuple(self._connections):
            if record.id in (connection.peer, connection.expected):
                connection.close(reason)

    # --- sending ---

    def send(self, peer: ValidatorId, channel: Channel, payload: bytes) -> bool:
        """Queue a message; False if it was not taken (no connection, or the channel's queue is full).

        True means queued, not delivered. Consensus messages may later make way for newer ones.

        Raises:
            BadInput: `too_large`: over MESSAGE_BYTES_MAX.
        """
        _check_size(payload)
        return self._send(peer, channel, encode_frame(channel, payload))

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        """`send` to every peer; the number of peers it was queued for.

        Raises:
            BadInput: `too_large`: over MESSAGE_BYTES_MAX.
        """
        _check_size(payload)
        frame = encode_frame(channel, payload)
        return sum(self._send(peer, channel, frame) for peer in self._peers)

    async def request(self, peer: ValidatorId, kind: int, payload: bytes, timeout_s: float) -> bytes:
        """The peer's answer; `kind` is 0..255.

        Raises:
            PeerFault: `not_connected`, `connection_lost`, `too_many_requests`, `outbox_full` or `refused: CODE`.
            TimeoutError: no answer in time.
            BadInput: `too_large`: over MESSAGE_BYTES_MAX.
        """
        _check_size(payload)
        record = self._peers.get(peer)
        if record is None or record.live is None:
            raise PeerFault("not_connected")
        return await record.live.request(kind, payload, timeout_s)

    def connected(self) -> tuple[ValidatorId, ...]:
        """The peers that can be reached now, in configuration order."""
        return tuple(peer for peer, record in self._peers.items() if record.live is not None)

    @property
    def peers(self) -> tuple[ValidatorId, ...]:
        return tuple(self._peers)

    @property
    def counters(self) -> dict[ValidatorId, PeerCounters]:
        return {peer: record.counters for peer, record in self._peers.items()}

    @property
    def duplicate_at(self) -> dict[ValidatorId, str]:
        """The peers that refuse this node because another process with its key is connected to them: where that is."""
        return {peer: record.duplicate_at for peer, record in self._peers.items() if record.duplicate_at is not None}

    @property
    def bytes_queued(self) -> int:
        """Bytes that wait for slow peers, all together."""
        return sum(record.live.bytes_queued for record in self._peers.values() if record.live is not None)

    def _send(self, peer: ValidatorId, channel: Channel, frame: bytes) -> bool:
        record = self._peers.get(peer)
        if record is None:
            return False
        if record.live is None:
            record.counters.frames_unsent += 1
            return False
        return record.live.send(channel, frame)

    # --- what connections ask (`connection.Owner`) ---

    def judge(self, connection: Connection, peer: ValidatorId) -> ByeReason | None:
        if connection.expected is not None and connection.expected != peer:
            return ByeReason.WRONG_IDENTITY
        return None if peer in self._peers else ByeReason.NOT_A_MEMBER

    def counters_of(self, peer: ValidatorId) -> PeerCounters:
        return self._peers[peer].counters

    def on_hello(self, connection: Connection) -> None:
        record = self._record_of(connection)
        if record is None:
            connection.refuse(ByeReason.NOT_A_MEMBER)
        elif record.live is None or record.live.instance == connection.instance:
            self._let_in(record, connection)
        else:
            self._spawn(self._let_in_or_refuse(record, connection))

    async def _let_in_or_refuse(self, record: _Peer, connection: Connection) -> None:
        """Another process of a connected peer: it gets in only if the connected one does not answer any more."""
        wait_s = self._times.duplicate_max + 2 * self.link_delay_s
        while (rival := record.live) is not None and rival.instance != connection.instance:
            if await rival.challenge(wait_s):
                connection.refuse(ByeReason.DUPLICATE_VALIDATOR, rival.remote)
                return
            if rival.state is State.LIVE:
                rival.fail("silent")
        if connection.state is State.OPENING:
            self._let_in(record, connection)

    def _let_in(self, record: _Peer, connection: Connection) -> None:
        if self.own > record.id:
            connection.admit()
        else:
            connection.close(ByeReason.WRONG_DIRECTION)
            record.knocked.set()

    def on_live(self, connection: Connection) -> None:
        record = self._record_of(connection)
        if record is None:
            return
        if record.live is not None:
            record.live.close(ByeReason.REPLACED)
        record.live = connection
        record.duplicate_at = None
        self._handlers.on_connected(record.id)

    def on_bye(self, peer: ValidatorId, reason: ByeReason | None, text: str) -> None:
        record = self._peers.get(peer)
        if record is not None and reason is ByeReason.DUPLICATE_VALIDATOR:
            record.duplicate_at = text
            self._handlers.on_duplicate(peer, text)

    def on_ended(self, connection: Connection, *, was_live: bool) -> None:
        record = self._record_of(connection)
        if record is not None and record.live is connection:
            record.live = None
            self._handlers.on_lost(record.id)

    def on_closed(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def on_fault(self, peer: ValidatorId | None, reason: str) -> None:
        if peer is None:
            self.strangers[reason] += 1
        self._handlers.on_fault(peer, reason)

    def on_frame(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        self._handlers.on_frame(peer, channel, payload)

    async def answer(self, peer: ValidatorId, code: int, payload: bytes) -> bytes:
        return await self._handlers.on_request(peer, code, payload)

    def _record_of(self, connection: Connection) -> _Peer | None:
        return None if connection.peer is None else self._peers.get(connection.peer)

    # --- connecting ---

    async def _reach(self, peer: _Peer) -> None:
        """Keep a connection to a peer, for ever. The pause grows with failures and short lives, and has jitter.

        Where dialling is the peer's part, knock after the longest pause: it may not know that we are back, or it may
        hold a connection to another process with our key.
        """
        loop = asyncio.get_running_loop()
        knocks = self.own > peer.id
        pause = self._times.reconnect_max if knocks else 0.0
        while True:
            await _wait(peer.knocked, pause * random.uniform(0.5, 1.0))
            if peer.live is not None:
                await peer.live.wait_closed()
                continue
            connection = Connection(self, expected=peer.id)
            if await self._dial_once(peer, connection):
                since = loop.time()
                await connection.wait_closed()
                if loop.time() - since > self._times.reconnect_max:
                    pause = 0.0
            await asyncio.sleep(self._times.reconnect_min * random.uniform(0.5, 1.0))  # however much it knocks
            if not knocks:
                pause = min(max(2 * pause, self._times.reconnect_min), self._times.reconnect_max)

    async def _dial_once(self, peer: _Peer, connection: Connection) -> bool:
        """True if the connection became live."""
        peer.counters.dials += 1
        self._connections.add(connection)
        try:
            async with asyncio.timeout(self._times.handshake_max):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    peer.config.host,
                    peer.config.port,
                    ssl=self._client_context,
                    ssl_handshake_timeout=self._times.handshake_max,
                    ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
                )
                await connection.opened.wait()
        except (OSError, UnicodeError) as error:  # TLS errors and time-outs are among them; a host name that is none
            if not isinstance(error, ConnectionError):
                self._count_failure(peer.id, _reason_of(error))
        finally:
            if connection.state is State.OPENING:
                connection.abort()
        return connection.state is State.LIVE

    def _count_failure(self, peer: ValidatorId | None, reason: str) -> None:
        """A connection that never came about."""
        record = None if peer is None else self._peers.get(peer)
        if record is not None:
            record.counters.faults[reason] += 1
        self.on_fault(peer, reason)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError:
                self.strangers["accept_failed"] += 1
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            host = str(address[0])
            if self._handshakes[host] >= HANDSHAKES_PER_HOST_MAX or self._handshakes.total() >= HANDSHAKES_MAX:
                self.strangers["too_many_handshakes"] += 1
                accepted.close()
                continue
            self._handshakes[host] += 1
            self._accepted.add(accepted)
            self._spawn(self._welcome(accepted, host))

    async def _welcome(self, accepted: socket.socket, host: str) -> None:
        """TLS and hello of one accepted socket."""
        self._accepted.discard(accepted)
        connection = Connection(self, expected=None)
        self._connections.add(connection)
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._times.handshake_max):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._server_context,
                    ssl_handshake_timeout=self._times.handshake_max,
                    ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
                )
                await connection.opened.wait()
        except OSError as error:
            self._count_failure(connection.peer, _reason_of(error))
        finally:
            self._handshakes -= Counter((host,))  # forgets hosts at zero
            if connection.state is State.OPENING:
                connection.abort()

    async def _keep_alive(self) -> None:
        """Ping the quiet, cut the silent. A peer that is frozen keeps its TCP connection; only silence tells."""
        loop = asyncio.get_running_loop()
        expected = loop.time()
        while True:
            expected += self._times.keepalive / 2
            await asyncio.sleep(expected - loop.time())
            now = loop.time()
            if now - expected > self._times.keepalive:  # we were frozen ourselves: nobody could be heard
                expected = now
                for record in self._peers.values():
                    if record.live is not None:
                        record.live.received_at = now
            for record in self._peers.values():
                if record.live is None:
                    continue
                quiet = now - record.live.received_at
                if quiet > self._times.silence_max:
                    record.live.fail("silent")
                elif quiet >= self._times.keepalive / 2:
                    record.live.ping()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "a gateway task failed", "exception": task.exception(), "task": task}
            task.get_loop().call_exception_handler(context)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Returns when the event is set, or after that long; then it is clear."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    event.clear()


def _check_size(payload: bytes) -> None:
    if len(payload) > MESSAGE_BYTES_MAX:
        raise BadInput("too_large", f"message of {len(payload)} bytes, at most {MESSAGE_BYTES_MAX} are allowed")


def _reason_of(error: Exception) -> str:
    """A short fixed word: counters must not grow with what a stranger sends."""
    if isinstance(error, TimeoutError):
        return "handshake_timeout"
    if isinstance(error, ConnectionError):
        return "handshake_cut"
    return "tls_refused" if type(error).__module__ == "ssl" else "unreachable"


def _listen(endpoint: EndpointConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((endpoint.host, endpoint.port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"gateway endpoint is {endpoint.host}:{endpoint.port}, must be free and of this machine: {error.strerror}"
        ) from None
    return listener

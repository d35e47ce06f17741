"""One TLS connection to a peer: who is there, frames in, coalesced writes out, an end with a reason."""

from __future__ import annotations

import asyncio
import enum
import os
import time
from typing import Final, Protocol, cast

from chain.errors import PeerFault
from chain.net.counters import PeerCounters
from chain.net.frames import (
    FRAME_BYTES_MAX,
    PING_BYTES_MAX,
    PROTOCOL_VERSION,
    ByeReason,
    Channel,
    FrameKind,
    FrameReader,
    Hello,
    decode_bye,
    decode_hello,
    encode_bye,
    encode_frame,
    encode_hello,
)
from chain.net.outbox import Outbox
from chain.net.requests import RequestBook
from chain.net.tls import peer_validator
from chain.types import ValidatorId

WRITE_BYTES_MAX: Final = 256 * 1024  # of one write; a single larger frame is written alone
WRITE_BUFFER_BYTES_MAX: Final = 512 * 1024  # in the transport, before frames wait in the outbox instead
CLOSE_TIMEOUT_S: Final = 1.0  # for the last frames and TLS's own farewell; then the socket is cut
_TIMER_S_MIN: Final = 0.001  # the loop's clock may lag the real one by its tick: never spin on a due time

_PING: Final = encode_frame(FrameKind.PING, b"")
_NONCE_BYTES: Final = 8


class State(enum.Enum):
    """OPENING: TLS or hello under way, or not admitted yet. LIVE: both hellos are right. ENDED: closing or closed."""

    OPENING = "opening"
    LIVE = "live"
    ENDED = "ended"


class Owner(Protocol):
    """What a connection needs of its gateway."""

    own: ValidatorId
    instance: bytes
    chain_id: bytes
    link_delay_s: float

    def judge(self, connection: Connection, peer: ValidatorId) -> ByeReason | None:
        """Why `peer` must not use this connection, if so."""
        ...

    def counters_of(self, peer: ValidatorId) -> PeerCounters: ...

    def on_hello(self, connection: Connection) -> None:
        """An accepted connection has said a right hello: `admit` or `refuse` it, now or later."""
        ...

    def on_bye(self, peer: ValidatorId, reason: ByeReason | None, text: str) -> None: ...
    def on_live(self, connection: Connection) -> None: ...
    def on_ended(self, connection: Connection, *, was_live: bool) -> None: ...
    def on_closed(self, connection: Connection) -> None: ...
    def on_fault(self, peer: ValidatorId | None, reason: str) -> None: ...
    def on_frame(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None: ...
    async def answer(self, peer: ValidatorId, code: int, payload: bytes) -> bytes: ...


class Connection(asyncio.BufferedProtocol):
    """`expected` is the peer we dialled, None for a connection we accepted.

    `peer` is set once the certificate has been judged, `instance` with a right hello. The dialler says hello first, the
    other side when it admits the dialler. Frames before that, apart from the hello, are faults.
    """

    def __init__(self, owner: Owner, *, expected: ValidatorId | None) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.expected = expected
        self.peer: ValidatorId | None = None
        self.instance = b""
        self.state = State.OPENING
        self.opened = asyncio.Event()  # live or ended
        self.closed = asyncio.Event()  # the socket is gone
        self.received_at = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._use_counters(PeerCounters())
        self._flush_scheduled = False
        self._due: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._paused = False
        self._challenges: dict[bytes, asyncio.Future[bool]] = {}  # by what the ping carries

    # --- for the gateway ---

    @property
    def remote(self) -> str:
        """Host and port of the other end; empty while there is none."""
        address = None if self._transport is None else self._transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if address else ""

    def admit(self) -> None:
        """Answer an accepted connection's hello: it is live from here on."""
        self._say_hello()
        self._go_live()

    def refuse(self, reason: ByeReason, text: str = "") -> None:
        """The hello was right, and yet: count it and close."""
        self._count_fault(reason.name.lower())
        self.close(reason, text)

    async def challenge(self, timeout_s: float) -> bool:
        """True if the peer answers a ping that nobody could have foreseen: its process runs now."""
        nonce = os.urandom(_NONCE_BYTES)
        if not self.send(FrameKind.PING, encode_frame(FrameKind.PING, nonce)):
            return False
        answered: asyncio.Future[bool] = self._loop.create_future()
        self._challenges[nonce] = answered
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            return False
        finally:
            del self._challenges[nonce]

    def send(self, kind: int, frame: bytes) -> bool:
        """Queue a whole frame; False if the connection is not live or the frame's class is full."""
        return self.state is State.LIVE and self._enqueue(kind, frame)

    async def request(self, code: int, payload: bytes, timeout_s: float) -> bytes:
        """See `RequestBook.ask`."""
        if self.state is not State.LIVE:
            raise PeerFault("not_connected")
        return await self._requests.ask(code, payload, timeout_s)

    def ping(self) -> None:
        """Ask for a sign of life; whatever the peer sends is one."""
        self.send(FrameKind.PING, _PING)

    @property
    def bytes_queued(self) -> int:
        """Bytes that wait here, not counting the transport's buffer."""
        return self._outbox.bytes_queued

    def close(self, reason: ByeReason, text: str = "") -> None:
        """Say why and hang up; the socket is cut if that takes longer than `CLOSE_TIMEOUT_S`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_bye(reason, text))
            self._transport.close()
            if self._cut is None:
                self._cut = self._loop.call_later(CLOSE_TIMEOUT_S, self.abort)
        self._end()

    def abort(self) -> None:
        """Cut the socket now."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def fail(self, reason: str) -> None:
        """The peer broke the protocol or is silent: count it and cut."""
        self._count_fault(reason)
        self.abort()

    async def wait_closed(self) -> None:
        """Returns when the socket and every task of this connection are gone."""
        await self.closed.wait()
        await self._requests.wait_closed()

    # --- asyncio.BufferedProtocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.state is State.ENDED:  # aborted before TLS was done
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self.received_at = self._loop.time()
        try:
            peer = peer_validator(transport.get_extra_info("ssl_object"))
        except PeerFault as fault:
            self._count_fault(str(fault))
            self.close(ByeReason.WRONG_IDENTITY)
            return
        reason = self._owner.judge(self, peer)
        if reason is not None:
            self._count_fault(reason.name.lower())
            self.close(reason)
            return
        self.peer = peer
        self._use_counters(self._owner.counters_of(peer))
        if self.expected is not None:
            self._say_hello()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        self.received_at = self._loop.time()
        self.counters.bytes_received += nbytes
        try:
            self._on_bytes(nbytes)
        except PeerFault as fault:
            self._count_fault(str(fault))
            self.close(ByeReason.PROTOCOL)

    def eof_received(self) -> bool:
        return False  # close

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state is State.OPENING:
            self._count_fault("closed_before_hello")
        self._end()
        if self._cut is not None:
            self._cut.cancel()
        self._close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # --- in ---

    def _on_bytes(self, count: int) -> None:
        frames = self._reader.received(count)
        while frames:
            for kind, payload in frames:
                if self._is_ended():
                    return
                self.counters.frames_received += 1
                self._on_frame(kind, payload)
            frames = self._reader.received(0)  # what stood behind the hello

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if self.state is State.OPENING:
            self._on_opening_frame(kind, payload)
            return
        peer = cast(ValidatorId, self.peer)
        match kind:
            case FrameKind.CONSENSUS | FrameKind.CONTROL | FrameKind.TRANSACTIONS:
                self._owner.on_frame(peer, Channel(kind), payload)
            case FrameKind.REQUEST:
                self._requests.on_request(payload)
            case FrameKind.RESPONSE:
                self._requests.on_response(payload)
            case FrameKind.REFUSAL:
                self._requests.on_refusal(payload)
            case FrameKind.PING:
                if len(payload) > PING_BYTES_MAX:
                    raise PeerFault("ping_too_long")
                self._enqueue(FrameKind.PONG, encode_frame(FrameKind.PONG, payload))
            case FrameKind.PONG:
                self._on_pong(payload)
            case FrameKind.BYE:
                self._on_bye(payload)
            case _:
                raise PeerFault("unexpected_hello")

    def _on_opening_frame(self, kind: int, payload: bytes) -> None:
        if kind == FrameKind.BYE:
            self._on_bye(payload)
            return
        if kind != FrameKind.HELLO or self.instance:
            raise PeerFault("frame_before_hello")
        hello = decode_hello(payload)
        reason = None
        if hello.version != PROTOCOL_VERSION:
            reason = ByeReason.WRONG_VERSION
        elif hello.chain_id != self._owner.chain_id:
            reason = ByeReason.WRONG_CHAIN
        elif hello.node != self.peer:
            reason = ByeReason.WRONG_IDENTITY
        if reason is not None:
            self._count_fault(reason.name.lower())
            self.close(reason)
            return
        self.instance = hello.instance
        if self.expected is None:
            self._owner.on_hello(self)
        else:
            self._go_live()

    def _go_live(self) -> None:
        self._reader.frame_bytes_max = FRAME_BYTES_MAX
        self.received_at = self._loop.time()  # it had nothing to say while it waited to be admitted
        self.state = State.LIVE
        self.counters.connections += 1
        self.opened.set()
        self._owner.on_live(self)

    def _on_pong(self, payload: bytes) -> None:
        """A plain one has done its work by arriving."""
        challenge = self._challenges.get(payload)
        if challenge is not None and not challenge.done():
            challenge.set_result(True)

    def _on_bye(self, payload: bytes) -> None:
        reason, text = decode_bye(payload)
        self.counters.byes["unknown" if reason is None else reason.name.lower()] += 1
        self.abort()
        if self.peer is not None:
            self._owner.on_bye(self.peer, reason, text)

    def _use_counters(self, counters: PeerCounters) -> None:
        """Nobody's at first, the peer's once it is known; nothing is queued before."""
        self.counters = counters
        self._outbox = Outbox(self._owner.link_delay_s, counters.frames_dropped)
        self._requests = RequestBook(send=self._enqueue, answer=self._answer, counters=counters)

    async def _answer(self, code: int, payload: bytes) -> bytes:
        return await self._owner.answer(cast(ValidatorId, self.peer), code, payload)

    # --- out ---

    def _say_hello(self) -> None:
        owner = self._owner
        hello = Hello(version=PROTOCOL_VERSION, chain_id=owner.chain_id, node=owner.own, instance=owner.instance)
        cast(asyncio.Transport, self._transport).write(encode_hello(hello))

    def _enqueue(self, kind: int, frame: bytes) -> bool:
        if self.state is not State.LIVE:
            return False
        queued = self._outbox.put(kind, frame, time.monotonic())
        if queued:
            self._schedule_flush()
        return queued

    def _schedule_flush(self) -> None:
        """One write per loop tick for all that is queued in it."""
        if self._flush_scheduled or self._paused or self.state is not State.LIVE:
            return
        if self._outbox.has_ready():
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
            return
        due = self._outbox.next_due()
        if due is not None and self._due is None:
            self._due = self._loop.call_later(max(due - time.monotonic(), _TIMER_S_MIN), self._on_due)

    def _on_due(self) -> None:
        self._due = None
        self._flush()

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._paused or self.state is not State.LIVE or self._transport is None or self._transport.is_closing():
            return
        frames = self._outbox.take(WRITE_BYTES_MAX, time.monotonic())
        if frames:
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            self.counters.writes += 1
            self.counters.frames_sent += len(frames)
            self.counters.bytes_sent += len(data)
            self._transport.write(data)
        self._schedule_flush()

    # --- end ---

    def _is_ended(self) -> bool:
        return self.state is State.ENDED

    def _count_fault(self, reason: str) -> None:
        self.counters.faults[reason] += 1
        self._owner.on_fault(self.peer, reason)

    def _close(self) -> None:
        self.closed.set()
        self._owner.on_closed(self)

    def _end(self) -> None:
        if self.state is State.ENDED:
            return
        was_live = self.state is State.LIVE
        self.state = State.ENDED
        self._outbox.clear()
        self._requests.close()
        for challenge in self._challenges.values():
            if not challenge.done():
                challenge.set_result(False)
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self.opened.set()
        if self._transport is None:
            self._close()
        if was_live:
            self.counters.losses += 1
        self._owner.on_ended(self, was_live=was_live)

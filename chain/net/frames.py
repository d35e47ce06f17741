"""The wire between two nodes: 4 bytes length (big-endian, of what follows), 1 byte kind, payload.

A connection opens with one HELLO each way. A length prefix is a claim: it is checked against the bound before
anything is stored, and memory grows with the bytes that really arrived, never with the claim.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from chain.codec import Record, decode, encode
from chain.errors import DecodeError, PeerFault
from chain.types import ADDRESS_BYTES, DIGEST_BYTES, MESSAGE_BYTES_MAX

PROTOCOL_VERSION: Final = 2
PREFIX_BYTES: Final = 4
REQUEST_HEADER_BYTES: Final = 9
FRAME_BYTES_MAX: Final = MESSAGE_BYTES_MAX + 64  # kind, request header and payload
HELLO_BYTES_MAX: Final = 256  # bound before the peer has said who it is
INSTANCE_BYTES: Final = 16  # random, of one running process
PING_BYTES_MAX: Final = 16
BYE_TEXT_BYTES_MAX: Final = 64
BUFFER_BYTES: Final = 64 * 1024  # receive buffer of a quiet connection
_ROOM_BYTES_MIN: Final = 4 * 1024

_PREFIX: Final = struct.Struct(">IB")
_REQUEST: Final = struct.Struct(">QB")


class Channel(enum.IntEnum):
    """What a node sends through `Gateway.send`; consensus leaves first, transactions last."""

    CONSENSUS = 1
    CONTROL = 2
    TRANSACTIONS = 3


class FrameKind(enum.IntEnum):
    """The kind byte: the channels and what the gateways say to each other."""

    CONSENSUS = Channel.CONSENSUS
    CONTROL = Channel.CONTROL
    TRANSACTIONS = Channel.TRANSACTIONS
    REQUEST = 4
    RESPONSE = 5
    REFUSAL = 6
    HELLO = 16
    PING = 17
    PONG = 18
    BYE = 19


class ByeReason(enum.IntEnum):
    """Why a node closes a connection; the last frame it sends."""

    STOPPING = 1
    WRONG_VERSION = 2
    WRONG_CHAIN = 3
    WRONG_IDENTITY = 4  # certificate, hello and configuration do not name one validator
    NOT_A_MEMBER = 5
    WRONG_DIRECTION = 6  # the higher validator id has knocked: the lower one dials
    REPLACED = 7  # the same process has connected again
    PROTOCOL = 8
    DUPLICATE_VALIDATOR = 9  # another process with this key is connected and answers; its address follows


class Hello(Record, frozen=True, kw_only=True):
    """The first frame each way, after the TLS handshake. The dialler speaks first; the answer is the admission."""

    version: int
    chain_id: bytes
    node: bytes  # validator id
    instance: bytes  # tells two processes with one key apart


class _HelloOne(Record, frozen=True, kw_only=True):
    """Protocol version 1: read so that its sender learns what is wrong."""

    version: int
    chain_id: bytes
    node: bytes


_KINDS: Final = frozenset(int(kind) for kind in FrameKind)


def encode_frame(kind: int, payload: bytes) -> bytes:
    """The bytes of one frame."""
    return _PREFIX.pack(len(payload) + 1, kind) + payload


def encode_hello(hello: Hello) -> bytes:
    """The whole HELLO frame."""
    return encode_frame(FrameKind.HELLO, encode(hello))


def decode_hello(payload: bytes) -> Hello:
    """A well-formed hello; of another version, `instance` may be anything.

    Raises:
        PeerFault: `bad_hello`.
    """
    try:
        hello = decode(Hello, payload, bytes_max=HELLO_BYTES_MAX)
    except DecodeError:
        hello = _decode_hello_one(payload)
    if len(hello.chain_id) != DIGEST_BYTES or len(hello.node) != ADDRESS_BYTES:
        raise PeerFault("bad_hello")
    if hello.version == PROTOCOL_VERSION and len(hello.instance) != INSTANCE_BYTES:
        raise PeerFault("bad_hello")
    return hello


def _decode_hello_one(payload: bytes) -> Hello:
    try:
        old = decode(_HelloOne, payload, bytes_max=HELLO_BYTES_MAX)
    except DecodeError:
        raise PeerFault("bad_hello") from None
    return Hello(version=old.version, chain_id=old.chain_id, node=old.node, instance=b"")


def encode_bye(reason: ByeReason, text: str = "") -> bytes:
    """The whole BYE frame; of the text only printable ASCII goes, `BYE_TEXT_BYTES_MAX` characters at most."""
    return encode_frame(FrameKind.BYE, bytes((reason,)) + _printable(text.encode("ascii", "replace")).encode())


def decode_bye(payload: bytes) -> tuple[ByeReason | None, str]:
    """The reason, None if it is none we know, and the text; whatever the peer sent, the text is short and printable."""
    try:
        reason = ByeReason(payload[0])
    except (IndexError, ValueError):
        return None, ""
    return reason, _printable(payload[1:])


def _printable(text: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in text[:BYE_TEXT_BYTES_MAX])


def encode_request(frame_kind: FrameKind, correlation: int, code: int, payload: bytes) -> bytes:
    """The whole frame of a request, response or refusal; `code` is the request's kind, 0..255."""
    header = _PREFIX.pack(len(payload) + 1 + REQUEST_HEADER_BYTES, frame_kind)
    return header + _REQUEST.pack(correlation, code) + payload


def decode_request(payload: bytes) -> tuple[int, int, bytes]:
    """(correlation id, request kind, payload) of a request, response or refusal.

    Raises:
        PeerFault: `bad_request_header`: too short.
    """
    if len(payload) < REQUEST_HEADER_BYTES:
        raise PeerFault("bad_request_header")
    correlation, code = _REQUEST.unpack_from(payload)
    return correlation, code, payload[REQUEST_HEADER_BYTES:]


class FrameReader:
    """Turns received bytes into frames; the socket writes straight into its buffer.

    Use: fill some of `room()`, then `received(count)`. A fault is final: the connection must be closed.
    """

    __slots__ = ("_buffer", "_end", "_start", "_view", "frame_bytes_max")

    def __init__(self) -> None:
        self.frame_bytes_max = HELLO_BYTES_MAX  # raised to FRAME_BYTES_MAX once the peer is known
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    @property
    def capacity(self) -> int:
        """Bytes allocated now."""
        return len(self._buffer)

    def room(self) -> memoryview:
        """Where to write the next bytes; never empty."""
        if len(self._buffer) - self._end < _ROOM_BYTES_MIN:
            held = bytes(self._view[self._start : self._end])
            self._replace_buffer(max(BUFFER_BYTES, min(2 * len(held), FRAME_BYTES_MAX + BUFFER_BYTES)))
            self._view[: len(held)] = held
            self._end = len(held)
        return self._view[self._end :]

    def received(self, count: int) -> list[tuple[int, bytes]]:
        """The complete frames, (kind, payload), after `count` more bytes.

        Raises:
            PeerFault: `frame_too_long`, `frame_empty` or `unknown_frame_kind`; frames before it are lost with it.
        """
        self._end += count
        frames: list[tuple[int, bytes]] = []
        view, start, end = self._view, self._start, self._end
        while end - start > PREFIX_BYTES:
            length, kind = _PREFIX.unpack_from(view, start)
            if length > self.frame_bytes_max:
                raise PeerFault("frame_too_long")
            if length == 0:
                raise PeerFault("frame_empty")
            if kind not in _KINDS:
                raise PeerFault("unknown_frame_kind")
            stop = start + PREFIX_BYTES + length
            if stop > end:
                break
            frames.append((kind, bytes(view[start + PREFIX_BYTES + 1 : stop])))
            start = stop
            if self.frame_bytes_max == HELLO_BYTES_MAX:
                break  # what follows is judged by the bound that holds after the hello
        self._start = start
        if start == end:
            if len(self._buffer) > BUFFER_BYTES:
                self._replace_buffer(BUFFER_BYTES)
            self._start = self._end = 0
        return frames

    def _replace_buffer(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

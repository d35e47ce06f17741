"""What the node, the lead and the other executors say to each other, and the frames that carry it.

    node -> lead        Setup, CatchUp, ExecuteBlock, Discard       lead -> node      Ready, ExecutorLost, BlockDone
    lead -> executor    OfferShare, RunShare (Setup: the node)      executor -> lead  ShareOutcome
    node -> query       Setup, RunQuery                             query -> node     Ready, QueryDone

Any of them may say Failed as its last word.

A frame is a 4-byte little-endian length and one encoded message. No two processes ever wait for each other to read: the
node never blocks on a write, the lead sends a share only to an executor that has answered the last one, and offers one
before that only if the offer fits into the socket's buffer whole.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Final, TypeAlias

import msgspec

from chain.codec import Record, encode
from chain.errors import HeadraceError
from executor.outcome import ExecutionInput, ExecutionOutput, QueryInput, QueryOutput
from executor.transactions import ChainContext

FRAME_BYTES_MAX: Final = 512 * 1024 * 1024  # a block's input and output are bounded by its bytes and gas, far below
_HEAD: Final = struct.Struct("<I")


class ChannelLost(HeadraceError):
    """The other process closed its end, died, fell silent or sent what is no frame."""


class Setup(Record, frozen=True, kw_only=True, tag=1):
    """The first frame to any executor process. `mode`: "parallel", "serial", "forced"."""

    role: str  # "lead", "share", "query"
    index: int
    executors: int
    mode: str
    predictor: str  # "summary"; for tests and benchmarks "empty", "everything", "random"
    state_path: str
    chain: ChainContext


class Overlay(Record, frozen=True, kw_only=True):
    """The write set of an executed height, as `ExecutionOutput.writes`, and the state root after it.

    With `own` it is for one executor: what its share of that number wrote, and on top of that `writes`, in any order.
    """

    height: int
    state_root: bytes
    writes: bytes
    own: int = 0


class CatchUp(Record, frozen=True, kw_only=True, tag=2):
    """Executed heights that may not be stored yet, ascending; for a lead that replaces a dead one."""

    overlays: tuple[Overlay, ...]


class ExecuteBlock(Record, frozen=True, kw_only=True, tag=3):
    """`attempt` 2: the lead before this one died on the same block, so go one by one and name the transaction."""

    block: ExecutionInput
    attempt: int


class RunShare(Record, frozen=True, kw_only=True, tag=4):
    """One executor's transactions of a block and the write sets it has not been told of.

    `number` comes back with the answer. What the executor was told of heights above `told` is void: discarded since.
    With `offered` the transactions came before, in the `OfferShare` of the same number, and the fields are empty here.
    """

    number: int
    told: int
    height: int
    time_ms: int
    overlays: tuple[Overlay, ...]
    positions: bytes  # int32 each, ascending
    hashes: bytes  # 32 each
    senders: bytes  # 20 each
    transactions: tuple[bytes, ...]
    offered: bool = False


class OfferShare(Record, frozen=True, kw_only=True, tag=12):
    """The transactions of the next share, which do not depend on the block before: an executor that waits, or is about
    to, can decode them meanwhile. Fields as in `RunShare`, which follows."""

    number: int
    positions: bytes
    hashes: bytes
    senders: bytes
    transactions: tuple[bytes, ...]


class RunQuery(Record, frozen=True, kw_only=True, tag=5):
    query: QueryInput


class Ready(Record, frozen=True, kw_only=True, tag=6):
    """The process has opened the state, at this height."""

    height: int


class ExecutorLost(Record, frozen=True, kw_only=True, tag=7):
    """The lead works without this executor from now on: end it and start another."""

    index: int
    reason: str


class BlockDone(Record, frozen=True, kw_only=True, tag=8):
    output: ExecutionOutput


class Failed(Record, frozen=True, kw_only=True, tag=9):
    """A promise of ours is broken; the process stops after this frame."""

    reason: str


class Discard(Record, frozen=True, kw_only=True, tag=11):
    """Forget executed heights from this one on; none of them is stored."""

    height: int


class QueryDone(Record, frozen=True, kw_only=True, tag=10):
    output: QueryOutput


Request: TypeAlias = Setup | CatchUp | ExecuteBlock | Discard | OfferShare | RunShare | RunQuery
Reply: TypeAlias = Ready | ExecutorLost | BlockDone | Failed | QueryDone

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def decode_request(frame: bytes) -> Request:
    """Raises ChannelLost: not a request."""
    try:
        return _requests.decode(frame)
    except msgspec.DecodeError as error:
        raise ChannelLost(f"not a request: {error}") from None


def decode_reply(frame: bytes) -> Reply:
    """Raises ChannelLost: not a reply."""
    try:
        return _replies.decode(frame)
    except msgspec.DecodeError as error:
        raise ChannelLost(f"not a reply: {error}") from None


def frame_of(message: Record) -> bytes:
    """The frame that carries `message`."""
    body = encode(message)
    return _HEAD.pack(len(body)) + body


def body_bytes(head: bytes) -> int:
    """The length that a frame's first `HEAD_BYTES` bytes announce.

    Raises:
        ChannelLost: more than `FRAME_BYTES_MAX`.
    """
    (length,) = _HEAD.unpack(head)
    if length > FRAME_BYTES_MAX:
        raise ChannelLost(f"a frame of {length} bytes, at most {FRAME_BYTES_MAX}")
    return int(length)


HEAD_BYTES: Final = _HEAD.size


class Channel:
    """The blocking end of a socket pair inside an executor process."""

    __slots__ = ("_socket",)

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: Record, *, timeout_s: float | None = None) -> None:
        """Raises ChannelLost: the other end is gone, or has not read for `timeout_s`."""
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(frame_of(message))
        except OSError as error:
            raise ChannelLost(f"send: {error or type(error).__name__}") from None

    @property
    def room_bytes(self) -> int:
        """What surely fits into the socket's buffer while at most one other message lies there unread."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4  # half of it is the system's own

    def is_readable(self) -> bool:
        """True if a frame has begun to arrive, or the other end is gone."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def receive(self, *, timeout_s: float | None = None) -> bytes:
        """The next frame's body. Raises ChannelLost: the other end is gone, or no whole frame came in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        return self._exactly(body_bytes(self._exactly(HEAD_BYTES, deadline)), deadline)

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        buffer = bytearray(min(count, 1024 * 1024))  # grows as bytes arrive, not as a length claims
        filled = 0
        while filled < count:
            if filled == len(buffer):
                buffer.extend(bytes(min(len(buffer), count - filled)))
            try:
                self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
                with memoryview(buffer) as view:
                    received = self._socket.recv_into(view[filled:])
            except OSError as error:
                raise ChannelLost(f"receive: {error or type(error).__name__}") from None
            if received == 0:
                raise ChannelLost("receive: closed by the other end")
            filled += received
        return bytes(buffer)

    def close(self) -> None:
        self._socket.close()

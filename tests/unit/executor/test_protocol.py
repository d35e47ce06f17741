"""Frames: what goes in comes out, and what is no frame is refused at once."""

from __future__ import annotations

import socket
import threading

import msgspec
import pytest

from chain.codec import Record
from executor.outcome import QueryInput, QueryOutput
from executor.protocol import (
    FRAME_BYTES_MAX,
    HEAD_BYTES,
    BlockDone,
    CatchUp,
    Channel,
    ChannelLost,
    Discard,
    ExecuteBlock,
    ExecutorLost,
    Failed,
    OfferShare,
    Overlay,
    QueryDone,
    Ready,
    RunQuery,
    RunShare,
    Setup,
    body_bytes,
    decode_reply,
    decode_request,
    frame_of,
)
from tests.unit.executor.workbench import CHAIN, Oracle, block_of, transaction

QUERY = QueryInput(sender=b"s", target=b"t", method="m", arguments=b"\x90", gas_limit=1, time_ms=2)
OVERLAY = Overlay(height=2, state_root=b"r" * 32, writes=b"\x90")


def share_of(*transactions: bytes) -> RunShare:
    return RunShare(
        number=5, told=1, height=3, time_ms=4, overlays=(OVERLAY,), positions=bytes(4), hashes=b"h" * 32,
        senders=b"s" * 20, transactions=transactions,
    )  # fmt: skip


SETUP = Setup(
    role="lead", index=0, executors=4, mode="forced", predictor="splitting", state_path="/nowhere", chain=CHAIN
)
REQUESTS: list[Record] = [
    SETUP,
    CatchUp(overlays=(OVERLAY, OVERLAY)),
    ExecuteBlock(block=block_of(3, [transaction(1, bytes(20), "m", (1, "x"))]), attempt=2),
    Discard(height=2**40),
    share_of(b"x"),
    OfferShare(number=5, positions=bytes(4), hashes=b"h" * 32, senders=b"s" * 20, transactions=(b"x",)),
    RunQuery(query=QUERY),
]
REPLIES: list[Record] = [
    Ready(height=7),
    ExecutorLost(index=2, reason="r"),
    BlockDone(output=Oracle().run([transaction(1, bytes(20), "m", ())])),
    Failed(reason="f"),
    QueryDone(output=QueryOutput(height=1, status=0, gas_used=1, result=b"", error="", events=(), writes=())),
]


def body_of(message: Record) -> bytes:
    return frame_of(message)[HEAD_BYTES:]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
def test_requests_keep_their_kind(request_: Record) -> None:
    assert decode_request(body_of(request_)) == request_
    with pytest.raises(ChannelLost, match="not a reply"):
        decode_reply(body_of(request_))


@pytest.mark.parametrize("reply", REPLIES, ids=lambda message: type(message).__name__)
def test_replies_keep_their_kind(reply: Record) -> None:
    assert decode_reply(body_of(reply)) == reply
    with pytest.raises(ChannelLost, match="not a request"):
        decode_request(body_of(reply))


def test_no_two_messages_have_one_tag() -> None:
    tags = [msgspec.msgpack.decode(body_of(message))[0] for message in (*REQUESTS, *REPLIES)]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x90", b"\xc1", b"\x91\x63", b"\x92\x0b\xa1x"])
def test_what_is_no_message_is_told(body: bytes) -> None:
    with pytest.raises(ChannelLost, match="not a request"):
        decode_request(body)
    with pytest.raises(ChannelLost, match="not a reply"):
        decode_reply(body)


def test_a_length_over_the_bound_is_refused() -> None:
    assert body_bytes(FRAME_BYTES_MAX.to_bytes(4, "little")) == FRAME_BYTES_MAX
    with pytest.raises(ChannelLost, match="at most"):
        body_bytes((FRAME_BYTES_MAX + 1).to_bytes(4, "little"))


def test_a_large_frame_arrives_whole_through_a_small_buffer() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    large = share_of(bytes(5_000_000), b"end")
    thread = threading.Thread(target=sender.send, args=(large,))
    thread.start()
    assert decode_request(receiver.receive(timeout_s=30)) == large
    thread.join()
    sender.close()
    with pytest.raises(ChannelLost, match="closed"):
        receiver.receive()
    with pytest.raises(ChannelLost, match="send"):
        receiver.send(large)
    receiver.close()


def test_a_claimed_length_takes_no_memory_before_bytes_arrive() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(FRAME_BYTES_MAX.to_bytes(4, "little") + b"few")
    with theirs, pytest.raises(ChannelLost, match="timed out"):
        channel.receive(timeout_s=0.05)
    channel.close()


def test_a_channel_knows_whether_something_has_come() -> None:
    """One frame, half a frame, and the end; it neither takes anything nor waits."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    assert not channel.is_readable()
    theirs.sendall(frame_of(Discard(height=3)) + frame_of(Discard(height=2))[:3])
    for _ in range(2):
        assert channel.is_readable()
    assert decode_request(channel.receive()) == Discard(height=3)
    assert channel.is_readable()
    theirs.sendall(frame_of(Discard(height=2))[3:])
    assert decode_request(channel.receive()) == Discard(height=2)
    assert not channel.is_readable()
    theirs.close()
    assert channel.is_readable()
    with pytest.raises(ChannelLost, match="closed"):
        channel.receive()
    channel.close()


def test_a_channel_that_was_closed_here_is_lost() -> None:
    """As that of an executor that was replaced while it had something to do."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    channel.close()
    with theirs, pytest.raises(ChannelLost, match="receive"):
        channel.receive(timeout_s=10)
    with pytest.raises(ChannelLost, match="send"):
        channel.send(Discard(height=1), timeout_s=10)

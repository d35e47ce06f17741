"""Frames: what goes in comes out, and what is no frame is refused at once."""

from __future__ import annotations

import socket
import threading

import pytest

from executor.outcome import QueryInput
from executor.protocol import (
    FRAME_BYTES_MAX,
    HEAD_BYTES,
    Channel,
    ChannelLost,
    ExecutorLost,
    Failed,
    Overlay,
    RunQuery,
    RunShare,
    body_bytes,
    decode_reply,
    decode_request,
    frame_of,
)

QUERY = QueryInput(sender=b"s", target=b"t", method="m", arguments=b"\x90", gas_limit=1, time_ms=2)


def test_requests_and_replies_keep_their_kind() -> None:
    share = RunShare(
        height=3, time_ms=4, overlays=(Overlay(height=2, writes=b"\x90"),), positions=b"", transactions=(b"x",)
    )
    for request in (share, RunQuery(query=QUERY)):
        assert decode_request(frame_of(request)[HEAD_BYTES:]) == request
    for reply in (ExecutorLost(index=2, reason="r"), Failed(reason="f")):
        assert decode_reply(frame_of(reply)[HEAD_BYTES:]) == reply
    with pytest.raises(ChannelLost, match="not a request"):
        decode_request(frame_of(Failed(reason="f"))[HEAD_BYTES:])
    with pytest.raises(ChannelLost, match="not a reply"):
        decode_reply(b"\x00")


def test_a_length_over_the_bound_is_refused() -> None:
    assert body_bytes(FRAME_BYTES_MAX.to_bytes(4, "little")) == FRAME_BYTES_MAX
    with pytest.raises(ChannelLost, match="at most"):
        body_bytes((FRAME_BYTES_MAX + 1).to_bytes(4, "little"))


def test_a_large_frame_arrives_whole_through_a_small_buffer() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    large = RunShare(height=1, time_ms=1, overlays=(), positions=b"", transactions=(bytes(5_000_000), b"end"))
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

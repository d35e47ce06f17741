"""Unit tests of chain.net.frames."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import encode
from chain.errors import PeerFault
from chain.net.frames import (
    BUFFER_BYTES,
    BYE_TEXT_BYTES_MAX,
    FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    PROTOCOL_VERSION,
    ByeReason,
    Channel,
    FrameKind,
    FrameReader,
    Hello,
    decode_bye,
    decode_hello,
    decode_request,
    encode_bye,
    encode_frame,
    encode_hello,
    encode_request,
)
from chain.types import MESSAGE_BYTES_MAX

HELLO = Hello(version=PROTOCOL_VERSION, chain_id=bytes(32), node=bytes(20), instance=bytes(16))


def feed(reader: FrameReader, data: bytes) -> list[tuple[int, bytes]]:
    """All of `data`, in as many steps as the reader's room asks for."""
    frames = []
    while data:
        room = reader.room()
        count = min(len(room), len(data))
        assert count > 0
        room[:count] = data[:count]
        frames += reader.received(count)
        data = data[count:]
    return frames


def live_reader() -> FrameReader:
    reader = FrameReader()
    reader.frame_bytes_max = FRAME_BYTES_MAX
    return reader


sizes = st.one_of(st.integers(0, 40), st.integers(0, 3 * BUFFER_BYTES))


@settings(max_examples=60, deadline=None)
@given(
    frames=st.lists(st.tuples(st.sampled_from(list(FrameKind)), sizes), max_size=8),
    cuts=st.lists(st.integers(1, 2 * BUFFER_BYTES), min_size=1, max_size=30),
)
def test_any_cutting_of_the_stream_gives_the_same_frames(frames: list[tuple[FrameKind, int]], cuts: list[int]) -> None:
    expected = [(int(kind), bytes((at,)) * size) for at, (kind, size) in enumerate(frames)]
    stream = b"".join(encode_frame(kind, payload) for kind, payload in expected)
    reader = live_reader()
    read: list[tuple[int, bytes]] = []
    at = 0
    for step in range(len(stream) + 1):
        if at >= len(stream):
            break
        cut = cuts[step % len(cuts)]
        read += feed(reader, stream[at : at + cut])
        at += cut
    assert read == expected
    assert reader.capacity == BUFFER_BYTES  # what a big frame needed is given back


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_gives_frames_or_a_fault_and_nothing_else(garbage: bytes) -> None:
    for reader in (FrameReader(), live_reader()):
        try:
            feed(reader, garbage)
        except PeerFault as fault:
            assert str(fault) in ("frame_too_long", "frame_empty", "unknown_frame_kind")


@pytest.mark.parametrize(
    ("length", "kind", "reason"),
    [
        (FRAME_BYTES_MAX + 1, Channel.CONSENSUS, "frame_too_long"),
        (2**32 - 1, Channel.CONSENSUS, "frame_too_long"),
        (0, Channel.CONSENSUS, "frame_empty"),
        (1, 0, "unknown_frame_kind"),
        (1, 255, "unknown_frame_kind"),
    ],
)
def test_a_bad_header_is_refused_before_any_payload(length: int, kind: int, reason: str) -> None:
    reader = live_reader()
    with pytest.raises(PeerFault, match=reason):
        feed(reader, length.to_bytes(4, "big") + bytes((kind,)))
    assert reader.capacity == BUFFER_BYTES


def test_before_the_hello_only_a_hello_has_room() -> None:
    with pytest.raises(PeerFault, match="frame_too_long"):
        feed(FrameReader(), encode_frame(FrameKind.HELLO, bytes(HELLO_BYTES_MAX)))
    assert feed(FrameReader(), encode_frame(FrameKind.HELLO, bytes(HELLO_BYTES_MAX - 1)))


def test_what_stands_behind_the_hello_is_judged_by_the_later_bound() -> None:
    reader = FrameReader()
    behind = encode_frame(Channel.CONSENSUS, bytes(HELLO_BYTES_MAX * 2))
    assert feed(reader, encode_hello(HELLO) + behind) == [(FrameKind.HELLO, encode(HELLO))]
    reader.frame_bytes_max = FRAME_BYTES_MAX
    assert reader.received(0) == [(Channel.CONSENSUS, bytes(HELLO_BYTES_MAX * 2))]


def test_memory_grows_with_the_bytes_that_arrived_not_with_the_claim() -> None:
    reader = live_reader()
    assert feed(reader, encode_frame(Channel.CONTROL, bytes(MESSAGE_BYTES_MAX))[:BUFFER_BYTES]) == []
    arrived = BUFFER_BYTES
    while arrived < MESSAGE_BYTES_MAX:
        assert reader.capacity <= 2 * arrived + BUFFER_BYTES
        arrived += feed(reader, bytes(BUFFER_BYTES)) == [] and BUFFER_BYTES
    assert reader.capacity <= FRAME_BYTES_MAX + BUFFER_BYTES


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        encode(HELLO) + b"\0",
        encode(Hello(version=PROTOCOL_VERSION, chain_id=bytes(31), node=bytes(20), instance=bytes(16))),
        encode(Hello(version=PROTOCOL_VERSION, chain_id=bytes(32), node=bytes(21), instance=bytes(16))),
        encode(Hello(version=PROTOCOL_VERSION, chain_id=bytes(32), node=bytes(20), instance=bytes(15))),
        encode(("one", bytes(32), bytes(20))),
        bytes(1_000),
    ],
)
def test_a_malformed_hello_is_a_fault(payload: bytes) -> None:
    with pytest.raises(PeerFault, match="bad_hello"):
        decode_hello(payload)


def test_a_hello_of_another_version_is_read_far_enough_to_say_so() -> None:
    assert decode_hello(encode((1, bytes(32), bytes(20)))).version == 1
    assert decode_hello(encode((3, bytes(32), bytes(20), b""))).version == 3


def test_a_bye_carries_a_reason_and_a_short_printable_text() -> None:
    assert decode_bye(encode_bye(ByeReason.STOPPING)[5:]) == (ByeReason.STOPPING, "")
    assert decode_bye(encode_bye(ByeReason.DUPLICATE_VALIDATOR, "10.0.0.1:7")[5:])[1] == "10.0.0.1:7"
    assert decode_bye(b"\x09" + b"a\n\x1b[31m\xff" + b"x" * 200) == (
        ByeReason.DUPLICATE_VALIDATOR, ("a??[31m?" + "x" * 200)[:BYE_TEXT_BYTES_MAX]
    )  # fmt: skip
    assert decode_bye(b"") == decode_bye(b"\xff") == decode_bye(b"\0") == (None, "")
    assert encode_bye(ByeReason.PROTOCOL, "\u20ac" * 99)[6:] == b"?" * BYE_TEXT_BYTES_MAX


def test_hello_and_requests_round_trip() -> None:
    assert decode_hello(encode_hello(HELLO)[5:]) == HELLO
    whole = encode_request(FrameKind.REQUEST, 2**64 - 1, 255, b"payload")
    assert feed(live_reader(), whole) == [(FrameKind.REQUEST, whole[5:])]
    assert decode_request(whole[5:]) == (2**64 - 1, 255, b"payload")
    assert decode_request(bytes(9)) == (0, 0, b"")
    with pytest.raises(PeerFault, match="bad_request_header"):
        decode_request(bytes(8))


def test_the_largest_message_fits_into_a_frame_of_every_kind() -> None:
    largest = bytes(MESSAGE_BYTES_MAX)
    assert len(encode_frame(Channel.CONSENSUS, largest)) - 4 <= FRAME_BYTES_MAX
    assert len(encode_request(FrameKind.RESPONSE, 1, 1, largest)) - 4 <= FRAME_BYTES_MAX

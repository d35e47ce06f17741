"""Unit tests of chain.net.outbox."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from chain.net.frames import FRAME_BYTES_MAX, FrameKind
from chain.net.outbox import CLASS_BYTES_MAX, CONSENSUS, CONTROL, SYSTEM, TRANSACTIONS, Outbox

KINDS = [FrameKind.PING, FrameKind.CONSENSUS, FrameKind.CONTROL, FrameKind.TRANSACTIONS]


def drain(outbox: Outbox, bytes_max: int = 1_000, now: float = 0.0) -> list[bytes]:
    taken: list[bytes] = []
    while frames := outbox.take(bytes_max, now):
        taken += frames
    return taken


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=40), st.integers(1, 200))
def test_classes_leave_in_order_of_priority_and_each_in_order_of_arrival(
    puts: list[tuple[int, int]], bytes_max: int
) -> None:
    outbox = Outbox()
    frames = [(rank, bytes((rank, at)) + bytes(size)) for at, (rank, size) in enumerate(puts)]
    for rank, frame in frames:
        assert outbox.put(KINDS[rank], frame, 0.0)
    assert outbox.bytes_queued == sum(len(frame) for _, frame in frames)
    assert drain(outbox, bytes_max) == [frame for rank in range(4) for at, frame in frames if at == rank]
    assert outbox.bytes_queued == 0
    assert not outbox.has_ready()


def test_one_take_is_bounded_but_a_large_frame_goes_alone() -> None:
    outbox = Outbox()
    for size in (600, 600, 5_000, 10):
        outbox.put(FrameKind.CONTROL, bytes(size), 0.0)
    assert [[len(frame) for frame in outbox.take(1_000, 0.0)] for _ in range(4)] == [[600], [600], [5_000], [10]]


def test_requests_and_responses_share_a_class_and_refusals_go_first() -> None:
    outbox = Outbox()
    for at, kind in enumerate((FrameKind.TRANSACTIONS, FrameKind.RESPONSE, FrameKind.REQUEST, FrameKind.REFUSAL)):
        outbox.put(kind, bytes((at,)), 0.0)
    assert b"".join(drain(outbox)) == b"\x03\x01\x02\x00"


def test_a_full_class_refuses_the_new_frame() -> None:
    for kind, rank, name in (
        (FrameKind.TRANSACTIONS, TRANSACTIONS, "transactions"),
        (FrameKind.RESPONSE, CONTROL, "control"),
        (FrameKind.PONG, SYSTEM, "system"),
    ):
        dropped: Counter[str] = Counter()
        outbox = Outbox(0.0, dropped)
        assert outbox.put(kind, bytes(CLASS_BYTES_MAX[rank]), 0.0)
        assert not outbox.put(kind, b"x", 0.0)
        assert dropped == {name: 1}
        assert outbox.put(FrameKind.CONSENSUS, b"x", 0.0)  # another class has its own room
        outbox.take(1, 0.0)
        outbox.take(1, 0.0)
        assert outbox.put(kind, b"x", 0.0)


def test_a_full_consensus_class_drops_its_oldest_frames() -> None:
    dropped: Counter[str] = Counter()
    outbox = Outbox(0.0, dropped)
    size = CLASS_BYTES_MAX[CONSENSUS] // 4
    for at in range(7):
        assert outbox.put(FrameKind.CONSENSUS, bytes((at,)) * size, 0.0)
    assert outbox.bytes_queued == CLASS_BYTES_MAX[CONSENSUS]
    assert [frame[0] for frame in drain(outbox)] == [3, 4, 5, 6]
    assert dropped == {"consensus": 3}


def test_the_largest_frame_fits_into_every_class_of_messages() -> None:
    for rank in (CONSENSUS, CONTROL, TRANSACTIONS):
        assert CLASS_BYTES_MAX[rank] >= FRAME_BYTES_MAX + 4


def test_a_delay_postpones_keeps_order_and_counts_from_the_start() -> None:
    outbox = Outbox(0.010)
    outbox.put(FrameKind.TRANSACTIONS, b"first", 1.0001)
    outbox.put(FrameKind.TRANSACTIONS, b"second", 1.0004)
    outbox.put(FrameKind.CONSENSUS, b"vote", 1.0042)
    assert outbox.bytes_queued == 15
    assert not outbox.has_ready()
    assert outbox.next_due() == 1.011  # on a whole millisecond: neighbours share a write
    assert outbox.take(1_000, 1.0109) == []
    assert outbox.take(1_000, 1.011) == [b"first", b"second"]
    assert outbox.next_due() == 1.015
    assert outbox.take(1_000, 2.0) == [b"vote"]
    assert outbox.next_due() is None


def test_what_is_on_the_delayed_link_makes_no_way() -> None:
    dropped: Counter[str] = Counter()
    outbox = Outbox(1.0, dropped)
    assert outbox.put(FrameKind.CONSENSUS, bytes(CLASS_BYTES_MAX[CONSENSUS]), 0.0)
    assert not outbox.put(FrameKind.CONSENSUS, b"x", 0.0)
    assert dropped == {"consensus": 1}
    outbox.clear()
    assert outbox.bytes_queued == 0
    assert outbox.next_due() is None
    assert outbox.put(FrameKind.CONSENSUS, b"x", 0.0)

"""Unit tests of chain.net.requests."""

from __future__ import annotations

import asyncio

import pytest

from chain.errors import BadInput, PeerFault
from chain.net.counters import PeerCounters
from chain.net.frames import FrameKind, decode_request, encode_request
from chain.net.requests import ASKED_MAX, SERVED_BYTES_MAX, RequestBook
from chain.types import MESSAGE_BYTES_MAX


class Wire:
    """Collects what a book sends; `open` False refuses it."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, tuple[int, int, bytes]]] = []
        self.open = True
        self.counters = PeerCounters()
        self.gate = asyncio.Event()
        self.book = RequestBook(send=self.send, answer=self.answer, counters=self.counters)

    def send(self, kind: int, frame: bytes) -> bool:
        if self.open:
            self.sent.append((kind, decode_request(frame[5:])))
        return self.open

    async def answer(self, code: int, payload: bytes) -> bytes:
        if code == 2:
            await self.gate.wait()
        if code == 3:
            raise BadInput("pruned", "gone")
        return payload[::-1]


def payload_of(correlation: int, code: int, body: bytes = b"") -> bytes:
    return encode_request(FrameKind.REQUEST, correlation, code, body)[5:]


def test_answers_find_their_question_whatever_their_order() -> None:
    async def scene() -> None:
        wire = Wire()
        asked = [asyncio.ensure_future(wire.book.ask(at, b"", 10.0)) for at in range(5)]
        await asyncio.sleep(0)
        for _, (correlation, code, _) in reversed(wire.sent):
            wire.book.on_response(payload_of(correlation, code, b"%d" % code))
        assert await asyncio.gather(*asked) == [b"0", b"1", b"2", b"3", b"4"]
        assert wire.book.asked == 0

    asyncio.run(scene())


def test_an_answer_nobody_waits_for_is_counted() -> None:
    async def scene() -> None:
        wire = Wire()
        with pytest.raises(TimeoutError):
            await wire.book.ask(1, b"", 0.0)
        (_, (correlation, _, _)) = wire.sent[0]
        wire.book.on_response(payload_of(correlation, 1))
        wire.book.on_refusal(payload_of(correlation, 1))
        wire.book.on_response(payload_of(10**6, 1))
        assert (wire.counters.requests_timed_out, wire.counters.responses_late) == (1, 3)

    asyncio.run(scene())


def test_a_full_outbox_and_too_many_questions_fail_at_once() -> None:
    async def scene() -> None:
        wire = Wire()
        wire.open = False
        with pytest.raises(PeerFault, match="outbox_full"):
            await wire.book.ask(1, b"", 10.0)
        assert (wire.book.asked, wire.counters.requests_sent) == (0, 0)
        wire.open = True
        asked = [asyncio.ensure_future(wire.book.ask(1, b"", 10.0)) for _ in range(ASKED_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(PeerFault, match="too_many_requests"):
            await wire.book.ask(1, b"", 10.0)
        wire.book.close()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(result) for result in results} == {"connection_lost"}

    asyncio.run(scene())


def test_a_refusal_carries_its_code_and_nothing_that_is_not_text() -> None:
    async def scene() -> None:
        wire = Wire()
        for body, text in ((b"pruned", "refused: pruned"), (b"\xff" * 1_000, "refused: " + "\ufffd" * 64)):
            asked = asyncio.ensure_future(wire.book.ask(1, b"", 10.0))
            await asyncio.sleep(0)
            wire.book.on_refusal(payload_of(wire.sent[-1][1][0], 1, body))
            with pytest.raises(PeerFault) as fault:
                await asked
            assert str(fault.value) == text

    asyncio.run(scene())


def test_bad_input_is_refused_with_its_code() -> None:
    async def scene() -> None:
        wire = Wire()
        wire.book.on_request(payload_of(7, 3))
        wire.book.on_request(payload_of(8, 1, b"abc"))
        await wire.book.wait_closed()
        assert wire.sent == [(FrameKind.REFUSAL, (7, 3, b"pruned")), (FrameKind.RESPONSE, (8, 1, b"cba"))]
        assert (wire.counters.requests_refused, wire.counters.requests_served) == (1, 1)

    asyncio.run(scene())


def test_the_bytes_of_questions_under_way_are_bounded_too() -> None:
    async def scene() -> None:
        wire = Wire()
        whole = SERVED_BYTES_MAX // MESSAGE_BYTES_MAX
        for at in range(whole + 1):
            wire.book.on_request(payload_of(at, 2, bytes(MESSAGE_BYTES_MAX)))
        assert wire.sent == [(FrameKind.REFUSAL, (whole, 2, b"busy"))]
        wire.gate.set()
        await wire.book.wait_closed()
        assert wire.counters.requests_served == whole
        wire.book.on_request(payload_of(99, 1, b"room again"))
        await wire.book.wait_closed()
        assert wire.sent[-1] == (FrameKind.RESPONSE, (99, 1, b"niaga moor"))

    asyncio.run(scene())


def test_close_stops_the_answers_under_way() -> None:
    async def scene() -> None:
        wire = Wire()
        wire.book.on_request(payload_of(1, 2))
        await asyncio.sleep(0)
        assert wire.book.served == 1
        wire.book.close()
        await wire.book.wait_closed()
        assert wire.book.served == 0
        assert wire.sent == []

    asyncio.run(scene())

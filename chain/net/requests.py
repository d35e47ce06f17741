"""Questions to a peer and their answers over one connection; both directions are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from chain.errors import BadInput, PeerFault
from chain.net.counters import PeerCounters
from chain.net.frames import FrameKind, decode_request, encode_request
from chain.types import MESSAGE_BYTES_MAX

ASKED_MAX: Final = 64  # our open requests to one peer
SERVED_MAX: Final = 32  # a peer's requests that are being answered
SERVED_BYTES_MAX: Final = 2 * MESSAGE_BYTES_MAX  # of their payloads

Send = Callable[[int, bytes], bool]  # frame kind, whole frame
Answer = Callable[[int, bytes], Awaitable[bytes]]  # request kind, payload


class RequestBook:
    """The open requests of one connection, ours and the peer's.

    `answer` may raise BadInput: the peer gets its code as a refusal. Anything else it raises is our bug and goes to
    the loop's exception handler; the peer gets the refusal `internal`.
    """

    def __init__(self, *, send: Send, answer: Answer, counters: PeerCounters) -> None:
        self._send = send
        self._answer = answer
        self._counters = counters
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._next_correlation = 0
        self._served: set[asyncio.Task[None]] = set()
        self._served_bytes = 0

    @property
    def asked(self) -> int:
        """Our open requests."""
        return len(self._asked)

    @property
    def served(self) -> int:
        """The peer's requests that are being answered."""
        return len(self._served)

    async def ask(self, code: int, payload: bytes, timeout_s: float) -> bytes:
        """The peer's answer.

        Raises:
            PeerFault: `too_many_requests` or `outbox_full` (nothing was sent), `refused: CODE`, or `connection_lost`.
            TimeoutError: no answer in time; one that comes later is counted and dropped.
        """
        if len(self._asked) >= ASKED_MAX:
            raise PeerFault("too_many_requests")
        self._next_correlation += 1
        correlation = self._next_correlation
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not self._send(FrameKind.REQUEST, encode_request(FrameKind.REQUEST, correlation, code, payload)):
            raise PeerFault("outbox_full")
        self._asked[correlation] = future
        self._counters.requests_sent += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            self._counters.requests_timed_out += 1
            raise
        finally:
            self._asked.pop(correlation, None)

    def on_request(self, payload: bytes) -> None:
        """A REQUEST frame. Raises PeerFault if it is malformed."""
        correlation, code, body = decode_request(payload)
        if len(self._served) >= SERVED_MAX or self._served_bytes + len(body) > SERVED_BYTES_MAX:
            self._refuse(correlation, code, "busy")
            return
        self._served_bytes += len(body)
        task = asyncio.get_running_loop().create_task(self._serve(correlation, code, body))
        self._served.add(task)
        task.add_done_callback(self._served.discard)

    def on_response(self, payload: bytes) -> None:
        """A RESPONSE frame. Raises PeerFault if it is malformed."""
        correlation, _, body = decode_request(payload)
        future = self._asked.pop(correlation, None)
        if future is None or future.done():
            self._counters.responses_late += 1
        else:
            future.set_result(body)

    def on_refusal(self, payload: bytes) -> None:
        """A REFUSAL frame. Raises PeerFault if it is malformed."""
        correlation, _, body = decode_request(payload)
        future = self._asked.pop(correlation, None)
        if future is None or future.done():
            self._counters.responses_late += 1
        else:
            reason = body[:64].decode("ascii", "replace")
            future.set_exception(PeerFault(f"refused: {reason}"))

    def close(self) -> None:
        """The connection is gone: fail what we asked, stop what we serve."""
        for future in self._asked.values():
            if not future.done():
                future.set_exception(PeerFault("connection_lost"))
        self._asked.clear()
        for task in self._served:
            task.cancel()

    async def wait_closed(self) -> None:
        """Returns when no answering task is left."""
        if self._served:
            await asyncio.wait(self._served)

    async def _serve(self, correlation: int, code: int, body: bytes) -> None:
        try:
            answer = await self._answer(code, body)
        except BadInput as error:
            self._refuse(correlation, code, error.code)
        except Exception as error:  # noqa: BLE001 - our bug: told to the loop, never to the peer
            self._refuse(correlation, code, "internal")
            context = {"message": f"answering request kind {code} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        else:
            if len(answer) > MESSAGE_BYTES_MAX:
                self._refuse(correlation, code, "answer_too_large")
            elif self._send(FrameKind.RESPONSE, encode_request(FrameKind.RESPONSE, correlation, code, answer)):
                self._counters.requests_served += 1
            else:
                self._refuse(correlation, code, "busy")
        finally:
            self._served_bytes -= len(body)

    def _refuse(self, correlation: int, code: int, reason: str) -> None:
        self._counters.requests_refused += 1
        body = reason[:64].encode("ascii", "replace")
        self._send(FrameKind.REFUSAL, encode_request(FrameKind.REFUSAL, correlation, code, body))

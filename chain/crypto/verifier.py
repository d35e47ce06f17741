"""Signature checks off the event loop: concurrent callers share batches, batches run in threads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chain.crypto.schemes import Item, verify_batch

BATCH_ITEMS_MAX: Final = 128
BATCH_ITEMS_MIN: Final = 4  # below this a second thread costs more than it brings
PENDING_ITEMS_MAX: Final = 32_768  # beyond this `verify` waits for room; urgent items never wait


class _Job:
    """The items of one call; pieces of it may be checked in different threads."""

    __slots__ = ("future", "items", "remaining", "taken", "verdicts")

    def __init__(self, items: Sequence[Item], future: asyncio.Future[list[bool]]) -> None:
        self.items = items
        self.future = future
        self.verdicts = [False] * len(items)
        self.taken = 0
        self.remaining = len(items)


_Piece = tuple[_Job, int, int]  # job, first item, one past the last


class Verifier:
    """`verify` for the event loop. One instance per loop; `close` it.

    What is asked for in one loop tick, and while all threads are busy, is checked together. Urgent items (votes) go
    before the others (transactions), within their kind first come, first served.
    """

    def __init__(self, threads: int = 2, check: Callable[[Sequence[Item]], list[bool]] = verify_batch) -> None:
        """`check` gives the verdicts of a batch; called in any of the threads."""
        self._threads = threads
        self._verify_batch = check
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="headrace-verify")
        self._urgent: deque[_Job] = deque()
        self._pending: deque[_Job] = deque()
        self._pending_items = 0  # not yet in a batch
        self._room: deque[asyncio.Future[None]] = deque()
        self._busy = 0
        self._pump_scheduled = False
        self._closed = False
        self.items_checked = 0
        self.items_refused = 0
        self.batches = 0
        self.cpu_us = 0  # of all threads

    @property
    def pending_items(self) -> int:
        """Items that wait for a thread."""
        return self._pending_items

    def check_now(self, items: Sequence[Item]) -> list[bool]:
        """The verdicts, in the calling thread: for those who have a thread and a batch of their own."""
        return self._verify_batch(items) if items else []

    async def verify(self, items: Sequence[Item], *, urgent: bool = False) -> list[bool]:
        """The verdict of each item, in order: exactly `chain.crypto.verify_batch(items)`.

        Raises:
            asyncio.CancelledError: the verifier was closed.
        """
        if not items:
            return []
        loop = asyncio.get_running_loop()
        while not urgent and not self._closed and self._pending_items >= PENDING_ITEMS_MAX:
            room: asyncio.Future[None] = loop.create_future()
            self._room.append(room)
            await room
        if self._closed:
            raise asyncio.CancelledError("the verifier is closed")
        job = _Job(tuple(items), loop.create_future())
        (self._urgent if urgent else self._pending).append(job)
        self._pending_items += len(job.items)
        self._schedule_pump(loop)
        return await job.future

    async def close(self) -> None:
        """Cancel what waits, let running batches end, stop the threads."""
        self._closed = True
        for job in (*self._urgent, *self._pending):
            job.future.cancel()
        self._urgent.clear()
        self._pending.clear()
        self._pending_items = 0
        while self._room:
            self._room.popleft().cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)

    def _schedule_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._pump_scheduled and self._busy < self._threads:
            self._pump_scheduled = True
            loop.call_soon(self._pump, loop)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pump_scheduled = False
        while self._pending_items and self._busy < self._threads:
            idle = self._threads - self._busy
            share = -(-self._pending_items // idle)
            pieces = self._take(min(max(share, BATCH_ITEMS_MIN), BATCH_ITEMS_MAX))
            self._busy += 1
            self.batches += 1
            task = loop.run_in_executor(self._executor, self._check, pieces)
            task.add_done_callback(lambda done, pieces=pieces: self._finish(pieces, done, loop))  # type: ignore[misc]

    def _take(self, count: int) -> list[_Piece]:
        """The next `count` items at most, urgent first."""
        pieces: list[_Piece] = []
        for queue in (self._urgent, self._pending):
            while queue and count:
                job = queue[0]
                first = job.taken
                last = min(first + count, len(job.items))
                pieces.append((job, first, last))
                job.taken = last
                count -= last - first
                self._pending_items -= last - first
                if last == len(job.items):
                    queue.popleft()
        return pieces

    def _finish(self, pieces: list[_Piece], done: asyncio.Future[list[bool]], loop: asyncio.AbstractEventLoop) -> None:
        self._busy -= 1
        error = None if done.cancelled() else done.exception()
        verdicts = [] if done.cancelled() or error is not None else done.result()
        at = 0
        for job, first, last in pieces:
            if job.future.done():  # the caller has gone
                at += last - first
                continue
            if error is not None:
                job.future.set_exception(error)
                continue
            job.verdicts[first:last] = verdicts[at : at + last - first]
            at += last - first
            job.remaining -= last - first
            if job.remaining == 0:
                job.future.set_result(job.verdicts)
        self.items_checked += len(verdicts)
        self.items_refused += verdicts.count(False)
        while self._room and self._pending_items < PENDING_ITEMS_MAX:  # all look again, in order
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
        if self._pending_items and not self._closed:
            self._schedule_pump(loop)

    def _check(self, pieces: list[_Piece]) -> list[bool]:
        """In a thread: the verdicts of all pieces, one after the other."""
        start = time.thread_time_ns()
        verdicts: list[bool] = []
        for job, first, last in pieces:
            verdicts += self._verify_batch(job.items[first:last])
        self.cpu_us += (time.thread_time_ns() - start) // 1_000
        return verdicts

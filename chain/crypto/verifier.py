"""Signature checks off the event loop: concurrent callers share batches, batches run in threads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from chain.arrivals import Arrivals
from chain.crypto.schemes import Item, verify_batch
from chain.errors import InvariantError

BATCH_ITEMS_MAX: Final = 128
PENDING_ITEMS_MAX: Final = 32_768  # beyond this `verify` waits for room; urgent items never wait
COMPANY_MIN: Final = 8  # whoever may expect fewer items to come while it waits does not wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """What suits a checker.

    `full`: items from which on a larger batch is not much cheaper an item; a smaller one is never split over threads.
    `wait_s`: how long items may wait until a batch is full, while enough come in that it is worth it; urgent ones
    never do. `inline`: so many urgent items are checked at once by the caller, because the way to a thread and back
    costs more than they do.
    """

    full: int = 4
    wait_s: float = 0.0
    inline: int = 0


PLAIN: Final = Batching()  # each check costs the same, whatever is beside it


class _Job:
    """The items of one call; pieces of it may be checked in different threads."""

    __slots__ = ("due", "future", "items", "remaining", "taken", "verdicts")

    def __init__(self, items: Sequence[Item], future: asyncio.Future[list[bool]], due: float) -> None:
        self.items = items
        self.future = future
        self.due = due  # when it goes even if the batch is not full; 0: at once
        self.verdicts: list[bool] = []
        self.taken = 0
        self.remaining = len(items)


_Piece = tuple[_Job, int, int]  # job, first item, one past the last


class Verifier:
    """`verify` for the event loop. One instance per loop; `close` it.

    What is asked for in one loop tick, while all threads are busy, and while it may wait (`Batching`), is checked
    together. Urgent items (votes) go before the others (transactions), within their kind first come, first served.
    """

    def __init__(
        self,
        threads: int = 2,
        check: Callable[[Sequence[Item]], list[bool]] = verify_batch,
        batching: Batching = PLAIN,
    ) -> None:
        """`check` gives the verdicts of a batch; called in any of the threads, and on the loop if `batching.inline`."""
        self._threads = threads
        self._verify_batch = check
        self._batching = batching
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="headrace-verify")
        self._urgent: deque[_Job] = deque()
        self._pending: deque[_Job] = deque()
        self._pending_items = 0  # not yet in a batch
        self._arrivals = Arrivals()
        self._room: deque[asyncio.Future[None]] = deque()
        self._busy = 0
        self._pump_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
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
        """The verdict of each item, in order: exactly `chain.crypto.verify_batch(items)`. `items` must not change.

        Raises:
            asyncio.CancelledError: the verifier was closed.
        """
        if not items:
            return []
        if self._closed:
            raise asyncio.CancelledError("the verifier is closed")
        loop = asyncio.get_running_loop()
        if urgent:
            if len(items) <= self._batching.inline and not self._urgent:
                return self._check_inline(items)
            job = _Job(items, loop.create_future(), 0.0)
            self._urgent.append(job)
        else:
            while self._pending_items >= PENDING_ITEMS_MAX:
                await self._wait_for_room(loop)
            job = _Job(items, loop.create_future(), self._due(len(items), loop.time()))
            self._pending.append(job)
        self._pending_items += len(items)
        if job.due and self._pending_items < self._batching.full:
            self._wait_until(job.due, loop)
        else:
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._room:
            self._room.popleft().cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)

    async def _wait_for_room(self, loop: asyncio.AbstractEventLoop) -> None:
        room: asyncio.Future[None] = loop.create_future()
        self._room.append(room)
        await room
        if self._closed:
            raise asyncio.CancelledError("the verifier is closed")

    def _due(self, count: int, now: float) -> float:
        """When items that come in now must go; 0, which is at once, unless waiting will bring company."""
        wait_s = self._batching.wait_s
        if not wait_s:
            return 0.0
        self._arrivals.add(count, now)
        return now + wait_s if self._arrivals.expected(wait_s) >= COMPANY_MIN else 0.0

    def _check_inline(self, items: Sequence[Item]) -> list[bool]:
        start = time.thread_time_ns()
        verdicts = self._verify_batch(items)
        self.cpu_us += (time.thread_time_ns() - start) // 1_000
        self.batches += 1
        self._count(verdicts)
        return verdicts

    # --- batches ---

    def _schedule_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._pump_scheduled and self._busy < self._threads:
            self._pump_scheduled = True
            loop.call_soon(self._pump, loop)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pump_scheduled = False
        while self._pending_items and self._busy < self._threads:
            count = self._next_count(loop)
            if not count:
                return
            pieces = self._take(count)
            self._busy += 1
            self.batches += 1
            task = loop.run_in_executor(self._executor, self._check, pieces)
            task.add_done_callback(lambda done, pieces=pieces: self._finish(pieces, done, loop))  # type: ignore[misc]

    def _next_count(self, loop: asyncio.AbstractEventLoop) -> int:
        """How many items the next batch has; 0 while it is better to wait, for company or for the thread at work."""
        pending, full = self._pending_items, self._batching.full
        threads = min(self._threads - self._busy, max(1, pending // full))
        if not self._urgent and pending < full and self._batching.wait_s:
            if self._busy:
                return 0  # it will not be long, and then there may be more
            due = self._pending[0].due
            if due > loop.time():
                self._wait_until(due, loop)
                return 0
        return min(-(-pending // threads), BATCH_ITEMS_MAX)

    def _wait_until(self, due: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._timer = loop.call_at(due, self._on_due, loop)

    def _on_due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._pump(loop)

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
            mine = verdicts[at : at + last - first]
            at += last - first
            if job.future.done():  # the caller has gone
                continue
            if error is not None:
                job.future.set_exception(error)
                continue
            self._give(job, first, mine)
        self._count(verdicts)
        while self._room and self._pending_items < PENDING_ITEMS_MAX:  # all look again, in order
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
        if self._pending_items and not self._closed:
            self._schedule_pump(loop)

    def _give(self, job: _Job, first: int, verdicts: list[bool]) -> None:
        if len(verdicts) == len(job.items):
            job.future.set_result(verdicts)
            return
        if not job.verdicts:
            job.verdicts = [False] * len(job.items)
        job.verdicts[first : first + len(verdicts)] = verdicts
        job.remaining -= len(verdicts)
        if job.remaining == 0:
            job.future.set_result(job.verdicts)

    def _count(self, verdicts: list[bool]) -> None:
        self.items_checked += len(verdicts)
        self.items_refused += verdicts.count(False)

    def _check(self, pieces: list[_Piece]) -> list[bool]:
        """In a thread: the verdicts of all pieces, one after the other."""
        start = time.thread_time_ns()
        items: list[Item] = []
        for job, first, last in pieces:
            items += job.items[first:last]
        verdicts = self._verify_batch(items)
        if len(verdicts) != len(items):
            raise InvariantError(f"{len(verdicts)} verdicts on {len(items)} signatures")
        self.cpu_us += (time.thread_time_ns() - start) // 1_000
        return verdicts

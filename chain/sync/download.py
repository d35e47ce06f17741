"""Numbered units (blocks, chunks) from several peers at once, given out in order and in bounded memory."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from chain.errors import BadInput, PeerFault
from chain.types import ValidatorId

T = TypeVar("T")

REQUESTS_PER_SOURCE: Final = 2  # in flight: one is answered while the other travels
RUNS_MAX: Final = 8  # answers under way or waiting for their turn: each may be as large as a message
FAILURES_MAX: Final = 3  # in a row: the source is left out
BACKOFF_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """Consecutive units, all of one source."""

    first: int
    units: list[T]
    source: ValidatorId


@dataclass(slots=True)
class _Source:
    last: int  # the highest unit it says it has
    failures: int = 0
    refused: bool = False
    workers: int = 0


@dataclass(slots=True)
class _Window(Generic[T]):
    """What is wanted, on its way, and here but not given out."""

    next: int  # the next unit to give out
    last: int
    wanted: list[tuple[int, int]] = field(default_factory=list)  # heap of first, last
    here: dict[int, Run[T]] = field(default_factory=dict)
    open: int = 0  # requests under way


class Download(Generic[T]):
    """Every unit of `first`..`last`, in order: `async for run in download.runs()`.

    A request is for at most `per_request` units, none further than `ahead` units above the next one to give out. A
    source that sends something wrong is named and asked no more; one that is out of reach or has nothing is left out
    after a while. It ends early when no source is left.
    """

    def __init__(
        self,
        *,
        first: int,
        last: int,
        sources: Mapping[ValidatorId, int],
        fetch: Callable[[ValidatorId, int, int], Awaitable[list[T]]],
        fault: Callable[[ValidatorId, str], None],
        per_request: int,
        ahead: int,
        name: str = "sync",
    ) -> None:
        """`sources` says the last unit that each has. `fetch` gives the first units of a range, at least one unless
        the source has none; it raises BadInput (a lie), PeerFault or TimeoutError (out of reach)."""
        self._fetch = fetch
        self._fault = fault
        self._name = name
        self._per_request = per_request
        self._ahead = ahead
        self._sources = {source: _Source(known) for source, known in sources.items()}
        self._window: _Window[T] = _Window(next=first, last=last)
        self._planned = first  # units below are wanted, on their way, or here
        self._waiters: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._is_running = False  # `runs` is being read: also while its reader has the last run and no worker is left

    @property
    def complete(self) -> bool:
        return self._window.next > self._window.last

    @property
    def refused(self) -> frozenset[ValidatorId]:
        """Sources that lied."""
        return frozenset(source for source, state in self._sources.items() if state.refused)

    def extend(self, last: int, sources: Mapping[ValidatorId, int]) -> None:
        """More is wanted, or sources have more."""
        self._window.last = max(self._window.last, last)
        for source, known in sources.items():
            state = self._sources.get(source)
            if state is None:
                state = self._sources[source] = _Source(known)
            state.last = max(state.last, known)
        if self._is_running:
            self._start_all()
        self._note()

    def refuse(self, source: ValidatorId, reason: str) -> None:
        """What it gave turned out wrong later."""
        state = self._sources.get(source)
        if state is not None and not state.refused:
            state.refused = True
            self._fault(source, reason)
        self._note()

    async def runs(self) -> AsyncGenerator[Run[T], None]:
        """The runs in order; ends when all are given out or nobody can give the next one."""
        window = self._window
        self._is_running = True
        self._start_all()
        try:
            while window.next <= window.last:
                run = window.here.pop(window.next, None)
                if run is not None:
                    window.next += len(run.units)
                    self._note()
                    yield run
                    continue
                if self._error is not None:
                    raise self._error
                if not self._workers:
                    return
                await self._wait()
        finally:
            self._is_running = False
            for worker in list(self._workers):
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)

    def _start_all(self) -> None:
        for source, state in self._sources.items():
            self._start(source, state)

    def _start(self, source: ValidatorId, state: _Source) -> None:
        while state.workers < REQUESTS_PER_SOURCE and not state.refused and state.failures < FAILURES_MAX:
            state.workers += 1
            worker = asyncio.get_running_loop().create_task(self._work(source, state))
            self._workers.add(worker)
            worker.add_done_callback(lambda done: self._on_worker_done(done, state))

    def _on_worker_done(self, worker: asyncio.Task[None], state: _Source) -> None:
        self._workers.discard(worker)
        state.workers -= 1
        if not worker.cancelled() and (error := worker.exception()) is not None and self._error is None:
            self._error = error
        self._note()

    def _note(self) -> None:
        """Whoever waits looks again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    # --- one source ---

    async def _work(self, source: ValidatorId, state: _Source) -> None:
        while not state.refused and state.failures < FAILURES_MAX:
            work = self._take(state.last)
            if work is None:
                if not self._may_come(state.last):
                    return
                await self._wait()
                continue
            await self._serve(source, state, *work)

    async def _serve(self, source: ValidatorId, state: _Source, first: int, last: int) -> None:
        window = self._window
        window.open += 1
        units: list[T] = []
        try:
            units = await self._fetch(source, first, last)
            state.failures = 0
        except BadInput as error:
            self.refuse(source, f"{self._name}_{error.code}: {error.message}")
        except (PeerFault, TimeoutError):
            state.failures += 1
        finally:
            window.open -= 1
            if units and not state.refused:
                window.here[first] = Run(first, units, source)
            else:
                units = []
            if first + len(units) <= last:
                heapq.heappush(window.wanted, (first + len(units), last))
            self._note()
        if not units and not state.refused:
            if not state.failures:
                state.last = min(state.last, first - 1)  # it has less than it said
            await asyncio.sleep(BACKOFF_S * state.failures)

    def _take(self, known: int) -> tuple[int, int] | None:
        """The lowest range nobody was asked for that this source has."""
        window = self._window
        if window.open + len(window.here) >= RUNS_MAX:  # the next unit to give out is among them: see below
            return None
        if window.wanted and window.wanted[0][0] <= known:
            first, last = heapq.heappop(window.wanted)
            if last > known:
                heapq.heappush(window.wanted, (known + 1, last))
            return first, min(last, known)
        first = self._planned  # only if nothing below is wanted: what is wanted lies below, so a source has that first
        if first > min(window.last, known) or first >= window.next + self._ahead:
            return None
        last = min(window.last, known, first + self._per_request - 1)
        self._planned = last + 1
        return first, last

    def _may_come(self, known: int) -> bool:
        """Whether this source may be needed again."""
        window = self._window
        return window.next <= window.last and known >= window.next

"""An asyncio event loop in virtual time, on which the processes of several machines run, deterministically.

Time is a number of microseconds that jumps from one timer to the next. Each callback belongs to the *process* in whose
context it was asked for. A process can be *frozen* (its callbacks wait, in order) and *killed* (none of them runs any
more). What goes to a thread runs inline, at a moment of virtual time drawn from the seed; a pool of one thread takes
one job after the other, as a real one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from random import Random
from typing import Any, Final, TypeVarTuple

UNWIND_ROUNDS_MAX: Final = 1_000
STEPS_MAX: Final = 2_000_000  # callbacks of a run: twenty times what a long one takes
START_US: Final = 1_000_000  # what the monotonic clock shows when a run begins

_Ts = TypeVarTuple("_Ts")


class PowerLost(BaseException):
    """Raised in a thread's work where the process that does it is to end; nothing catches it but the loop."""


class Process:
    """One life of one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.parked: deque[asyncio.Handle] = deque()  # what a frozen process would have run
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.lanes: dict[Executor, _Lane] = {}
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """The process whose callback runs; None for the world outside."""
    return _PROCESS.get()


class _Lane:
    """The threads of one pool: when each of them is free."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.free_us = [0] * threads


class SimLoop(asyncio.BaseEventLoop):
    """`run_until_complete` as ever; it ends with an error where nothing is left that could complete its future.

    `job_us(process, lane)` draws how long a job takes in the threads called `lane`; `lost(process)` is called when a
    job ended with `PowerLost`; `failed(process, context)` when a callback raised. `broken` ends the run at once.
    """

    def __init__(
        self,
        random: Random,
        *,
        job_us: Callable[[Process, str], int],
        lost: Callable[[Process], None],
        failed: Callable[[Process | None, dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self.now_us = START_US
        self.steps = 0
        self.broken: Exception | None = None
        self._random = random
        self._job_us = job_us
        self._lost = lost
        self._soon: deque[asyncio.Handle] = deque()
        self._due: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._sequence = 0
        self._afterlife: deque[asyncio.Handle] = deque()
        self._dying: list[Process] = []
        self.after_step: Callable[[Process], None] = lambda process: None
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _, context: failed(self._process_of(context.get("handle")), context))

    # --- asyncio's interface ---

    def time(self) -> float:
        return self.now_us / 1e6

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        process = self._process_of(handle)
        if process is None or process.alive:
            self._soon.append(handle)
        else:
            self._afterlife.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.at(self.now_us + max(0, round(delay * 1e6)), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        when_us = round(when * 1e6)
        if when_us <= self.now_us and when > self.time():  # whoever waits again and again for less than that, waits
            when_us = self.now_us + 1
        return self.at(when_us, callback, *args, context=context)

    def at(
        self, when_us: int, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """`call_at` in microseconds."""
        handle = asyncio.TimerHandle(when_us / 1e6, callback, args, self, context)
        self._sequence += 1
        process = self._process_of(handle)
        if process is None or process.alive:
            heapq.heappush(self._due, (when_us, self._sequence, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """The function runs at some moment of its job's time, its result is there at the end of it."""
        future: asyncio.Future[Any] = self.create_future()
        process = current_process()
        if executor is None:  # the shutting down of another one
            future.set_result(func(*args))
            return future
        if process is None:
            raise RuntimeError("only processes have threads")
        if not process.alive:
            return future
        lane = process.lanes.get(executor)
        if lane is None:
            lane = process.lanes[executor] = _Lane(*_describe(executor))
        thread = min(range(len(lane.free_us)), key=lane.free_us.__getitem__)
        start = max(self.now_us, lane.free_us[thread])
        end = lane.free_us[thread] = start + max(1, self._job_us(process, lane.name))
        self.at(self._random.randint(start, end), self._work, process, future, end, func, args)
        return future

    def _work(self, process: Process, future: asyncio.Future[Any], end_us: int, func: Any, args: Any) -> None:
        result: Any = None
        error: Exception | None = None
        try:
            result = func(*args)
        except PowerLost:
            self._lost(process)
            return
        except Exception as raised:  # noqa: BLE001  it goes to whoever waits, as from a thread
            error = raised
        self.at(end_us, _settle, future, result, error)

    # --- processes ---

    def spawn(self, process: Process, coroutine: Any) -> asyncio.Task[Any]:
        """A task of the process."""
        return self.create_task(coroutine, context=process.context)

    def freeze(self, process: Process) -> None:
        process.frozen = True

    def thaw(self, process: Process) -> None:
        process.frozen = False
        self._soon.extend(process.parked)
        process.parked.clear()

    def kill(self, process: Process) -> None:
        """Nothing of it runs any more, but for the unwinding of its coroutines, which nobody outside notices."""
        process.alive = False
        process.frozen = False
        self._afterlife.extend(process.parked)
        process.parked.clear()
        self._afterlife.extend(handle for handle in self._soon if self._process_of(handle) is process)
        self._dying.append(process)

    @property
    def idle(self) -> bool:
        """True if nothing will ever happen again by itself."""
        self._drop_cancelled()
        return not self._soon and not self._due

    def drain(self, limit_us: int) -> bool:
        """Run until nothing is left to happen; False if that is not so after `limit_us`."""
        end_us = self.now_us + limit_us
        asyncio.events._set_running_loop(self)
        try:
            while not self.idle:
                if self.now_us > end_us:
                    return False
                self._run_once()
        finally:
            asyncio.events._set_running_loop(None)
        return True

    def pending(self) -> list[str]:
        """What is still to happen, for messages."""
        self._drop_cancelled()
        return [repr(handle) for handle in (*self._soon, *(entry[2] for entry in sorted(self._due)))][:5]

    def _drop_cancelled(self) -> None:
        """Timers that were cancelled, and those of the dead."""
        self._due = [entry for entry in self._due if not entry[2].cancelled() and self._counts(entry[2])]
        heapq.heapify(self._due)

    def _counts(self, handle: asyncio.Handle) -> bool:
        process = self._process_of(handle)
        return process is None or process.alive

    def _make_task(self, loop: Any, coroutine: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        if context is None:
            context = contextvars.copy_context()
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, context=context)
        process = context.get(_PROCESS)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(process.tasks.pop, context=context)
        return task

    @staticmethod
    def _process_of(handle: Any) -> Process | None:
        return None if handle is None else handle._context.get(_PROCESS)

    # --- steps ---

    def _run_once(self) -> None:
        if not self._soon:
            self._jump()
        handle = self._soon.popleft()
        if handle._cancelled:
            return
        process = self._process_of(handle)
        if process is not None:
            if not process.alive:
                return
            if process.frozen:
                process.parked.append(handle)
                return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError(f"more than {STEPS_MAX} callbacks: the run goes round in circles")
        handle._run()
        while self._dying:
            self._unwind(self._dying.pop())
        if process is not None and process.alive:
            self.after_step(process)
        if self.broken is not None:
            raise self.broken

    def _jump(self) -> None:
        """On to the next instant at which something is to happen."""
        due = self._due
        while due and due[0][2]._cancelled:
            heapq.heappop(due)
        if not due:
            raise RuntimeError("the simulation stands still: nothing is left that could happen")
        self.now_us = max(self.now_us, due[0][0])
        while due and due[0][0] <= self.now_us:
            self._soon.append(heapq.heappop(due)[2])

    def _unwind(self, process: Process) -> None:
        for _ in range(UNWIND_ROUNDS_MAX):
            for task in list(process.tasks):
                task.cancel()
            if not self._afterlife:
                break
            while self._afterlife:
                handle = self._afterlife.popleft()
                if not handle._cancelled:
                    handle._run()
        for task in process.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it waits in its last words for ever
        process.tasks.clear()

    def bury(self, processes: list[Process]) -> None:
        """At the end of a run: kill and unwind all of them, then what is left of the world."""
        for process in processes:
            if process.alive:
                self.kill(process)
        while self._dying:
            self._unwind(self._dying.pop())
        for task in sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name):
            task.cancel()
        while self._soon:
            self.broken = None  # what is found now is the end's doing
            with contextlib.suppress(Exception):
                self._run_once()


def _describe(executor: Executor) -> tuple[str, int]:
    if not isinstance(executor, ThreadPoolExecutor):
        raise TypeError(f"{executor!r} is no pool of threads")
    return (executor._thread_name_prefix or "").removeprefix("headrace-"), executor._max_workers


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

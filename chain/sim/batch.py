"""Many seeds of both simulators: in several processes, with progress, to be interrupted at any time.

*core* is the consensus core of every node with models of all around it (`chain.sim.world`), *whole* the whole node
(`chain.sim.whole`). A job is one seed of one of them on so many nodes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from typing import Any, Final, Literal, NamedTuple, TextIO

Kind = Literal["core", "whole"]
PROGRESS_S: Final = 5.0
LOOK_S: Final = 0.2  # how soon Ctrl-C is seen
AHEAD: Final = 4  # jobs handed out to each worker


class Job(NamedTuple):
    kind: Kind
    seed: int
    nodes: int
    small: bool = False  # cut short, as in the test suite


class Done(NamedTuple):
    """A job that ended. `report` has the fields of the simulator's own report."""

    job: Job
    problem: str  # empty if every promise held
    stalled: bool  # what was missing is progress, or silence
    height: int
    faults: int  # strikes, crashes and broken connections
    virtual_ms: int
    report: dict[str, Any]


def say(text: str, to: TextIO | None = None) -> None:
    stream = to or sys.stdout
    stream.write(text + "\n")
    stream.flush()


def parse_range(text: str) -> range:
    """`A..B`, both ends in it, or one number. Raises ValueError."""
    first, dots, last = text.partition("..")
    found = range(int(first), int(last if dots else first) + 1)
    if found.start < 0 or not found:
        raise ValueError(f"{text!r} names no seeds")
    return found


def jobs_of(kinds: Iterable[Kind], seeds: Iterable[int], sizes: Iterable[int], *, small: bool) -> Iterator[Job]:
    """One seed after the other, on all sizes, in all kinds."""
    chosen, counts = tuple(kinds), tuple(sizes)
    return (Job(kind, seed, nodes, small) for seed in seeds for nodes in counts for kind in chosen)


def run_job(job: Job) -> Done:
    if job.kind == "core":
        from chain.sim.world import run_seed

        report, _ = run_seed(job.seed, nodes=job.nodes, cut_short=job.small)
        faults = sum(report.strikes.values()) + report.crashes + report.lost
        stalled = report.problem.startswith(("Violation: liveness", "Violation: silence"))
        fields = dataclasses.asdict(report)
    else:
        from chain.sim.whole.world import run_seed as run_whole

        whole, _ = run_whole(job.seed, nodes=job.nodes, cut_short=job.small)
        faults = sum(whole.strikes.values()) + sum(whole.lies.values()) + whole.connections_lost + whole.leads_lost
        stalled = whole.stalled
        fields = dataclasses.asdict(whole)
    return Done(job, fields["problem"], stalled, fields["height"], faults, fields["virtual_ms"], fields)


def replay_command(job: Job) -> str:
    small = " --small" if job.small else ""
    return f"headrace sim --{job.kind} --seeds {job.seed} --nodes {job.nodes}{small} --story"


def tell_story(job: Job, *, tail: int = 0) -> int:
    """Print what happened, a line each; 0 if every promise held, else 1."""
    if job.kind == "core":
        from chain.sim.world import run_seed

        report, world = run_seed(job.seed, nodes=job.nodes, cut_short=job.small, story=True)
        plan, lines, problem = str(world.plan), world.trace.lines, report.problem
    else:
        from chain.sim.whole.world import run_seed as run_whole

        whole, trace = run_whole(job.seed, nodes=job.nodes, cut_short=job.small, story=True)
        plan, lines, problem = whole.plan, trace.lines, whole.problem
    say(plan)
    for line in lines[-tail:] if tail else lines:
        say(line)
    say(problem or "every promise held")
    return 1 if problem else 0


def run_jobs(
    jobs: Iterator[Job], *, workers: int, until: float = float("inf"), stopped: Callable[[], bool] = lambda: False
) -> Iterator[Done]:
    """The jobs as they end, in their order; none is begun after `until` (`time.monotonic`), and all are given up as
    soon as `stopped`. Whoever stops listening leaves no process behind and no file either."""
    if workers <= 1:
        for job in jobs:
            if time.monotonic() >= until:
                return
            yield run_job(job)
        return
    folder = tempfile.mkdtemp(prefix="headrace-sim-")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(folder,))
    try:
        waiting: deque[Future[Done | None]] = deque()
        while not stopped():
            while len(waiting) < AHEAD * workers and time.monotonic() < until:
                following = next(jobs, None)
                if following is None:
                    break
                waiting.append(pool.submit(_in_worker, following))
            if not waiting:
                return
            wait(list(waiting)[:1], timeout=LOOK_S)
            if waiting[0].done() and (done := waiting.popleft().result()) is not None:
                yield done
    finally:
        for child in set(multiprocessing.active_children()) - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, signal.SIGINT)
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(folder, ignore_errors=True)


class _Worker:
    """What a worker knows: a signal ends the job it is at, and all that are still handed to it."""

    busy = stopped = False


def _start_worker(folder: str) -> None:
    """What workers leave in files goes where it is cleared away."""
    signal.signal(signal.SIGINT, _stop_worker)
    tempfile.tempdir = folder


def _stop_worker(*_: object) -> None:
    _Worker.stopped = True
    if _Worker.busy:
        raise KeyboardInterrupt


def _in_worker(job: Job) -> Done | None:
    """None: it was given up."""
    try:
        _Worker.busy = True
        return None if _Worker.stopped else run_job(job)
    except KeyboardInterrupt:
        return None
    finally:
        _Worker.busy = False


class Tally:
    """What a batch of jobs came to."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self._start = time.monotonic()

    def add(self, done: Done) -> None:
        self.done.append(done)

    @property
    def failures(self) -> list[Done]:
        return [done for done in self.done if done.problem]

    def progress(self) -> str:
        wall = round(time.monotonic() - self._start)
        last = self.done[-1].job if self.done else None
        at = f", now at seed {last.seed}" if last is not None else ""
        return f"{len(self.done)} runs in {wall} s, {len(self.failures)} failed{at}"

    def summary(self, *, interrupted: bool = False) -> dict[str, Any]:
        """`violations` counts runs that broke a promise of safety, `stalled` those that missed progress or silence;
        `sim_seconds` is virtual time."""
        failures = self.failures
        by: dict[str, dict[str, int]] = {}
        strikes: dict[str, int] = {}
        for done in self.done:
            counted = by.setdefault(done.job.kind, {"runs": 0, "heights": 0, "failed": 0})
            counted["runs"] += 1
            counted["heights"] += done.height
            counted["failed"] += bool(done.problem)
            for kind, count in done.report["strikes"].items():
                strikes[kind] = strikes.get(kind, 0) + count
        return {
            "seeds": len(self.done),
            "heights": sum(done.height for done in self.done),
            "transactions": sum(done.report["transactions"] for done in self.done),
            "faults": sum(done.faults for done in self.done),
            "violations": sum(not done.stalled for done in failures),
            "stalled": sum(done.stalled for done in failures),
            "sim_seconds": sum(done.virtual_ms for done in self.done) // 1_000,
            "wall_seconds": round(time.monotonic() - self._start, 1),
            "steps": sum(done.report["steps"] for done in self.done),
            "messages": sum(done.report["messages"] for done in self.done),
            "recovery_ms_max": max((done.report["recovery_ms"] for done in self.done), default=0),
            "by": by,
            "strikes": dict(sorted(strikes.items())),
            "interrupted": interrupted,
            "failures": [
                {"problem": done.problem, "replay": replay_command(done.job), **done.job._asdict()} for done in failures
            ],
        }


def run_batch(
    jobs: Iterator[Job], *, workers: int, minutes: float | None = None, note: Callable[[str], None]
) -> tuple[Tally, bool]:
    """Run them all, or as many as fit into `minutes`, or until Ctrl-C: what was done, and whether it was interrupted.

    `note` is told of every failure with the command that replays it, and of progress every few seconds.
    """
    tally = Tally()
    until = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    shown = time.monotonic()
    interrupts: list[int] = []
    # An exception at any moment could hit the pool at work, so there a signal only leaves a note.
    before = signal.signal(signal.SIGINT, lambda *_: interrupts.append(1)) if workers > 1 else None
    running = run_jobs(jobs, workers=workers, until=until, stopped=lambda: bool(interrupts))
    try:
        for done in running:
            tally.add(done)
            if done.problem:
                note(f"{done.job.kind} seed {done.job.seed}, {done.job.nodes} nodes: {done.problem}")
                note(f"  replay: {replay_command(done.job)}")
            if time.monotonic() - shown > PROGRESS_S:
                shown = time.monotonic()
                note(tally.progress())
    except KeyboardInterrupt:
        interrupts.append(1)
    finally:
        running.close()  # type: ignore[attr-defined]
        if before is not None:
            signal.signal(signal.SIGINT, before)
    return tally, bool(interrupts)

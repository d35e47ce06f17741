"""What k executors with a core of their own would make of a workload: a MODEL, from times measured on this machine.

The lead's own code plans and validates every block for k executors, and the executors' own code runs every share, but
one after the other in this process, so that k may be larger than the number of cores. The CPU time of each step is
taken on the way. `block_us` then says how long a block takes in a steady stream of them if the executors run at the
same time. It leaves out what executors take from each other: caches, memory bandwidth, the clock rate of a busy chip.
"""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from bench.execute.world import CHAIN
from chain.codec import Record
from chain.errors import InvariantError
from chain.store.state import StateReader
from contracts.runtime import Machine
from executor.governor import Governor
from executor.outcome import ExecutionInput, ShareOutcome
from executor.parallel import Lead
from executor.planners import planner_of
from executor.process import NoProgress
from executor.protocol import HEAD_BYTES, OfferShare, RunShare, decode_request, frame_of
from executor.state import BaseState
from executor.worker import answer_share

EXECUTORS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
BLOCKS: Final = 5  # that count
WARMUP: Final = 8  # before them: caches fill, and the lead learns how much it can take on beside its other work
WARMUP_HEAVY: Final = 3  # where its other work is next to nothing
HEAVY_US: Final = 60_000  # of a block, serially
PARTS_AT: Final = 2  # executors at which the report lists the parts
ECHOES: Final = 200

T = TypeVar("T")
P = ParamSpec("P")

_decode_outcome = msgspec.msgpack.Decoder(ShareOutcome).decode


@dataclass(frozen=True, slots=True)
class Share:
    """One executor's part of a block, CPU microseconds: for the lead to send it, to run it, for the lead to read the
    answer."""

    dispatch_us: float
    run_us: float
    collect_us: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """One block in a stream, as the lead goes about it; CPU microseconds.

    It sends the shares, seals the block before, runs its own part, plans the next block, takes the answers, validates.
    """

    shares: Sequence[Share]
    seal_us: float
    own_us: float
    plan_us: float
    validate_us: float

    @property
    def lead_us(self) -> float:
        """What the lead does while the others run."""
        return self.seal_us + self.own_us + self.plan_us


def ready_us(line: Timeline, *, wake_us: float) -> list[float]:
    """When each answer is there, from the first dispatch on; a message takes `wake_us` to wake the other process up."""
    now, ready = 0.0, []
    for share in line.shares:
        now += share.dispatch_us
        ready.append(now + wake_us + share.run_us + wake_us)
    return ready


def block_us(line: Timeline, *, wake_us: float) -> float:
    """Wall time of one block in a steady stream of blocks like this one."""
    now = sum(share.dispatch_us for share in line.shares) + line.lead_us
    for share, at in zip(line.shares, ready_us(line, wake_us=wake_us), strict=True):
        now = max(now, at) + share.collect_us
    return now + line.validate_us


def measure_model(state: Path, blocks: Sequence[ExecutionInput]) -> dict[str, Any]:
    """The model's part of the report: predicted speed-up over serial execution for each of `EXECUTORS`.

    `planned` is the way of sharing out; `speedup` is what a governor makes of it that runs a block serially where that
    is faster.
    """
    wake_us = measure_wake_us()
    machine = Machine(CHAIN.rule_set)
    serial = _Stream(state, machine, 1, wake_us).run(_take(blocks, WARMUP))
    serial_us = min([block_us(line, wake_us=wake_us) for line in serial])  # the block that nothing disturbed
    blocks = _take(blocks, WARMUP_HEAVY if serial_us > HEAVY_US else WARMUP)
    planned: dict[str, float] = {"1": 1.0}
    parts: dict[str, float] = {}
    count = len(blocks[0].transactions)
    for executors in EXECUTORS[1:]:
        lines = _Stream(state, machine, executors, wake_us).run(blocks)
        planned[str(executors)] = round(serial_us / min([block_us(line, wake_us=wake_us) for line in lines]), 3)
        if executors == PARTS_AT:
            parts = parts_per_transaction(lines, count)
    return {
        "what": "a model: measured CPU times, one core for each executor, no contention between cores",
        "serial_cpu_us_per_tx": round(serial_us / count, 2),
        "parts_cpu_us_per_tx": parts,
        "wake_us": round(wake_us, 1),
        "planned": planned,
        "speedup": {executors: max(value, 1.0) for executors, value in planned.items()},
    }


def parts_per_transaction(lines: Sequence[Timeline], count: int) -> dict[str, float]:
    """Medians over blocks of `count` transactions, microseconds of CPU a transaction, all processes."""
    return {
        name: round(median(values) / count, 2)
        for name, values in {
            "plan": [line.plan_us for line in lines],
            "dispatch": [sum(share.dispatch_us for share in line.shares) for line in lines],
            "execute": [line.own_us + sum(share.run_us for share in line.shares) for line in lines],
            "collect": [sum(share.collect_us for share in line.shares) for line in lines],
            "validate": [line.validate_us for line in lines],
            "seal": [line.seal_us for line in lines],
        }.items()
    }


def measure_wake_us() -> float:
    """Half of the median round trip of one byte through another process."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as echo:
        assert echo.stdin is not None and echo.stdout is not None
        trips: list[float] = []
        for _ in range(ECHOES):
            start_ns = time.perf_counter_ns()
            echo.stdin.write(b".")
            echo.stdout.read(1)
            trips.append((time.perf_counter_ns() - start_ns) / 1e3)
        echo.stdin.close()
    return median(trips) / 2


# --- measuring ---


def _take(blocks: Sequence[ExecutionInput], warmup: int) -> Sequence[ExecutionInput]:
    return blocks[: warmup + BLOCKS]


@dataclass(slots=True)
class _Marks:
    """What one block has taken so far, CPU nanoseconds."""

    since_ns: int = 0  # the lead's last step ended here
    dispatch_ns: list[int] = field(default_factory=list)
    run_ns: list[int] = field(default_factory=list)
    collect_ns: list[int] = field(default_factory=list)
    seal_ns: int = 0
    own_ns: int = 0
    plan_ns: int = 0
    finish_ns: int = 0

    def line(self) -> Timeline:
        """Collecting is a part of finishing."""
        collect_ns = [*self.collect_ns, *[0] * (len(self.run_ns) - len(self.collect_ns))]
        shares = [
            Share(dispatch / 1e3, run / 1e3, collect / 1e3)
            for dispatch, run, collect in zip(self.dispatch_ns, self.run_ns, collect_ns, strict=True)
        ]
        return Timeline(
            shares=shares,
            seal_us=self.seal_ns / 1e3,
            own_us=self.own_ns / 1e3,
            plan_us=self.plan_ns / 1e3,
            validate_us=(self.finish_ns - sum(collect_ns)) / 1e3,
        )


class _Link:
    """An executor in this process, behind the interface and the encoding of a real one."""

    def __init__(self, stream: _Stream, state: Path, machine: Machine) -> None:
        self._stream = stream
        self._base = BaseState(StateReader(state))
        self._machine = machine
        self._answer = b""
        self._number = 0  # among those that got a share of this block

    def send(self, share: Record) -> None:
        marks = self._stream.marks
        frame = frame_of(share)
        sent_ns = time.process_time_ns()
        request = decode_request(frame[HEAD_BYTES:])
        if not isinstance(request, RunShare):
            raise InvariantError(f"the model's executor was sent a {type(request).__name__}")
        answer = answer_share(
            request, chain=CHAIN, base=self._base, machine=self._machine, progress=NoProgress()
        )
        self._answer = frame_of(answer)[HEAD_BYTES:]
        self._number = len(marks.run_ns)
        marks.dispatch_ns.append(sent_ns - marks.since_ns)
        marks.since_ns = time.process_time_ns()
        marks.run_ns.append(marks.since_ns - sent_ns)

    def offer(self, share: OfferShare) -> bool:
        """What the offer saves is waiting, which is not modelled."""
        return False

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        """The answer, with the time at which it would have been there: the lead learns from it how to share out."""
        start_ns = time.process_time_ns()
        answer = _decode_outcome(self._answer)
        self._stream.marks.collect_ns.append(time.process_time_ns() - start_ns)
        late_ns = int(1e3 * self._stream.late_us(self._number))
        return msgspec.structs.replace(answer, end_ns=time.monotonic_ns() + late_ns)

    def close(self) -> None:
        self._base.close()


class _Stream:
    """A lead and its executors in this process, and blocks that go through the lead's steps in the order of
    `executor.worker.serve_lead`: the next block is planned before this one is finished, and sent before it is sealed.
    """

    def __init__(self, state: Path, machine: Machine, executors: int, wake_us: float) -> None:
        self._wake_us = wake_us
        self.marks = _Marks()  # of the block that is being shared out, run or collected
        self._base = BaseState(StateReader(state))
        self._lead = Lead(
            base=self._base,
            machine=machine,
            chain=CHAIN,
            planner=planner_of("summary"),
            governor=Governor("serial" if executors == 1 else "forced"),
            progress=NoProgress(),
            executors=executors,
            lost=_lost,
        )
        self._links = [_Link(self, state, machine) for _ in range(1, executors)]
        for index, link in enumerate(self._links, 1):
            self._lead.attach(index, link)

    def run(self, blocks: Sequence[ExecutionInput]) -> list[Timeline]:
        """Of the last `BLOCKS` of these blocks, or of fewer if there are no more than that."""
        lead, lines = self._lead, []
        gc.collect()
        job, _ = _timed(lead.plan, blocks[0])
        lead.dispatch(job)
        seal_ns = 0
        for following in (*blocks[1:], None):
            marks = self.marks
            marks.seal_ns = seal_ns  # of the block before: what the lead does while the others run
            _, marks.own_ns = _timed(lead.run, job)
            planned = None
            if following is not None:
                planned, marks.plan_ns = _timed(lead.plan, following)
            _, marks.finish_ns = _timed(lead.finish, job)
            self.marks = _Marks(since_ns=time.process_time_ns())
            if planned is not None:
                lead.dispatch(planned)
            _, seal_ns = _timed(lead.seal, job)
            lines.append(marks.line())
            if planned is not None:
                job = planned
        for link in self._links:
            link.close()
        self._base.close()
        return lines[1:-1][-BLOCKS:] or lines  # the first has nothing to seal, the last nothing to plan

    def late_us(self, number: int) -> float:
        """How long after the lead is ready for answers the one with this number would be there."""
        line = self.marks.line()
        ready = sum(share.dispatch_us for share in line.shares) + line.lead_us
        return ready_us(line, wake_us=self._wake_us)[number] - ready


def _timed(action: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> tuple[T, int]:
    """(what it returns, CPU nanoseconds)."""
    start_ns = time.process_time_ns()
    result = action(*arguments, **named)
    return result, time.process_time_ns() - start_ns


def _lost(index: int, reason: str) -> None:
    raise InvariantError(f"executor {index} of the model: {reason}")

"""The lead executor: plans a block, shares it out, runs its own part, validates in block order.

It works the same with real processes and with links that answer in this process; every result is that of
`execute_serially`, whoever ran what, whatever the predictor said and whichever executor failed.

A block goes through the steps of `Lead` in order: `plan`, `dispatch`, `run`, `finish`, `seal`. The next block may be
planned and offered after `run` and dispatched after `finish`, so that the other executors have work while the lead
waits, merges their results and seals.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypedDict

from chain.codec import Record
from chain.errors import InvariantError
from chain.model.merkle import unpack_writes
from contracts.runtime import BlockContext, Machine
from executor.governor import Governor
from executor.outcome import POSITION_NONE, ExecutionInput, ExecutionOutput, ExecutionStats, ShareOutcome
from executor.plan import Plan, Planner
from executor.protocol import ChannelLost, OfferShare, Overlay, RunShare
from executor.serial import execute_serially
from executor.share import is_well_formed, run_share
from executor.state import BaseState, Writes
from executor.transactions import ChainContext, Progress, Result, call_at, output_of, roots_of
from executor.validate import ShareResult, merge, rests_of, undisturbed, validate_exactly

PATIENCE_S: Final = 5.0  # silence of an executor after the lead has finished its own share
PATIENCE_FACTOR: Final = 4  # ... plus so many times what that share took; for all executors together
TRACKED_AS_SERIAL: Final = 0.9  # of the CPU that transactions take tracked and side by side, they take alone
PATIENCE_LAST_S: Final = 1.0  # ... but for an answer that may lie there already


OVERLAY_BYTES_MAX: Final = 128 * 1024 * 1024  # of write sets in one share; a frame holds little more than that


class Link(Protocol):
    """The lead's way to another executor."""

    def send(self, share: Record) -> None:
        """Raises ChannelLost."""
        ...

    def offer(self, share: OfferShare) -> bool:
        """Send it if that takes no waiting, whatever the executor is doing. Raises ChannelLost."""
        ...

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        """Raises ChannelLost: nothing usable came."""
        ...

    def close(self) -> None: ...


class _Attached:
    """An executor the lead can use, and the highest height whose writes it was told and that still stands."""

    __slots__ = ("height", "link", "rest")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.height = 0
        self.rest: Overlay | None = None  # the last block's write set without what this executor wrote itself


class _Tools(TypedDict):
    """What running a transaction takes."""

    base: BaseState
    machine: Machine
    context: BlockContext
    progress: Progress


class _Sent(NamedTuple):
    number: int
    executor: int
    link: Link
    positions: Sequence[int]


def _height_of(overlay: Overlay) -> int:
    return overlay.height


class _Clock:
    """Adds up what the lead spends on one block, in pieces."""

    __slots__ = ("_cpu_ns", "_wall_ns", "cpu_ns", "wall_ns")

    def __init__(self) -> None:
        self.cpu_ns = self.wall_ns = self._cpu_ns = self._wall_ns = 0

    def __enter__(self) -> None:
        self._cpu_ns, self._wall_ns = time.process_time_ns(), time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self.cpu_ns += time.process_time_ns() - self._cpu_ns
        self.wall_ns += time.perf_counter_ns() - self._wall_ns


class _Contents(TypedDict):
    positions: bytes
    hashes: bytes
    senders: bytes
    transactions: tuple[bytes, ...]


def _contents(block: ExecutionInput, positions: Sequence[int]) -> _Contents:
    """What an executor must know of the transactions at these positions."""
    return {
        "positions": array("i", positions).tobytes(),
        "hashes": b"".join(map(block.hash_at, positions)),
        "senders": b"".join(map(block.sender_at, positions)),
        "transactions": tuple([block.transactions[position] for position in positions]),
    }


class Job:
    """A block on its way through the lead."""

    def __init__(self, block: ExecutionInput, reason: str | None, plan: Plan | None, executors: list[int]) -> None:
        self.block = block
        self.reason = reason  # why it runs as one unit; None: as planned
        self.plan = plan
        self.executors = executors  # the others, in the order of the plan's shares after the lead's
        self.clock = _Clock()
        self.tail = _Clock()  # of the clock's time: what serial execution must do as well when all have run
        self.offered: dict[int, tuple[Link, int]] = {}  # by executor: whom its share was offered, with its number
        self.sent: list[_Sent] = []
        self.lost = 0
        self.own: ShareOutcome | None = None
        self.shares: list[ShareResult] = []  # every transaction of these holds as it ran; to be merged
        self.common: dict[bytes, bytes | None] = {}  # what the block leaves in keys that several of them wrote
        self.result: Result | None = None
        self.reexecuted = self.conflicts = 0
        self.busy_us: list[int] = []
        self.share_cpu_us = self.plan_us = self.validate_us = 0
        self.imbalance = 0.0  # how much longer the others took than the lead, as a part of running all of it alone


class Lead:
    """Executes blocks strictly by height on top of a base state."""

    def __init__(
        self,
        *,
        base: BaseState,
        machine: Machine,
        chain: ChainContext,
        planner: Planner,
        governor: Governor,
        progress: Progress,
        executors: int,
        lost: Callable[[int, str], None],
    ) -> None:
        """`lost(index, reason)` is told of every executor the lead stops using."""
        self._base = base
        self._machine = machine
        self._chain = chain
        self._planner = planner
        self._governor = governor
        self._progress = progress
        self._executors = executors
        self._lost = lost
        self._attached: dict[int, _Attached] = {}
        self._requests = 0  # shares sent so far
        self._overlays: deque[Overlay] = deque()  # executed heights above the lead's snapshot
        self._roots: dict[int, bytes] = {}  # of these heights, once sealed
        self._unmerged: Job | None = None  # the last block, validated, while the others are given work

    @property
    def height(self) -> int:
        """The height of the state the next block runs on."""
        return self._base.height + (self._unmerged is not None)

    def attach(self, index: int, link: Link) -> None:
        """Use this executor from the next block on, in place of one with the same index."""
        known = self._attached.pop(index, None)
        if known is not None:
            known.link.close()
        self._attached[index] = _Attached(link)

    def report_lost(self, index: int, reason: str) -> None:
        """An executor ended before it could be attached."""
        self._lost(index, reason)

    def catch_up(self, overlays: Sequence[Overlay]) -> None:
        """Take the write sets of heights that a lead before this one executed."""
        self._base.refresh()
        for overlay in overlays:
            if overlay.height > self._base.snapshot_height:
                self._advance(overlay, dict(unpack_writes(overlay.writes)))
                self._roots[overlay.height] = overlay.state_root

    def discard(self, height: int) -> None:
        """Forget executed heights from `height` on; the next block is of that height again.

        Raises:
            InvariantError: it is stored already.
        """
        self._merge()
        self._base.discard(height)
        while self._overlays and self._overlays[-1].height >= height:
            self._roots.pop(self._overlays.pop().height, None)
        for attached in self._attached.values():
            attached.height = min(attached.height, height - 1)
            attached.rest = None

    def execute(self, block: ExecutionInput, *, attempt: int = 1) -> ExecutionOutput:
        """The output of `block`; from then on the state is the one after it.

        Raises:
            InvariantError: not the next height, or a promise broke on validated reads; the node stops.
        """
        job = self.plan(block, attempt=attempt)
        self.dispatch(job)
        self.run(job)
        self.finish(job)
        return self.seal(job)

    # --- the steps of a block ---

    def plan(self, block: ExecutionInput, *, attempt: int = 1) -> Job:
        """Decide how to run it. The block before it may not be finished."""
        self._progress.enter(block.height, POSITION_NONE)
        executors = sorted(self._attached)
        reason = "retry" if attempt > 1 else None
        if reason is None:
            reason = self._governor.before(transactions=len(block.transactions), executors=1 + len(executors))
        job = Job(block, reason, None, executors)
        if reason is None:
            start_ns = time.perf_counter_ns()
            with job.clock:
                self._make_plan(job)
            job.plan_us = (time.perf_counter_ns() - start_ns) // 1000
        return job

    def _make_plan(self, job: Job) -> None:
        try:
            job.plan = self._planner.plan(
                job.block, base=self._base, executors=1 + len(job.executors), head_start=self._governor.head_start
            )
        except Exception:  # noqa: BLE001  a plan is a hint: whatever a contract's text does to it must not stop a node
            job.reason = "unplanned"
        else:
            job.reason = self._governor.planned(job.plan)

    def offer(self, job: Job) -> None:
        """Give the others the transactions of their shares while the block before is not finished."""
        if job.reason is not None or job.plan is None:
            return
        with job.clock:
            for index, positions in zip(job.executors, job.plan.shares[1:], strict=True):
                attached = self._attached.get(index)
                if attached is None or not positions:
                    continue
                self._requests += 1
                share = OfferShare(number=self._requests, **_contents(job.block, positions))
                try:
                    if attached.link.offer(share):
                        job.offered[index] = (attached.link, share.number)
                except ChannelLost as error:
                    self._drop(index, attached.link, str(error))

    def dispatch(self, job: Job) -> None:
        """Send the others' shares; the block before it has been finished.

        Raises:
            InvariantError: not the next height.
        """
        self._base.refresh()
        while self._overlays and self._overlays[0].height <= self._base.snapshot_height:
            self._roots.pop(self._overlays.popleft().height, None)
        if job.block.height != self.height + 1:
            raise InvariantError(f"asked to execute height {job.block.height} on the state after {self.height}")
        if job.reason is None and job.plan is not None:
            with job.clock:
                for index, positions in zip(job.executors, job.plan.shares[1:], strict=True):
                    if positions:
                        self._send(job, index, positions)

    def run(self, job: Job) -> None:
        """Run the lead's own share, or the whole block as one unit."""
        self._merge()
        if job.reason is not None or job.plan is None:
            with job.clock:
                job.result = execute_serially(
                    job.block, base=self._base, machine=self._machine, chain=self._chain, progress=self._progress
                )
            job.busy_us = [job.clock.wall_ns // 1000 - job.plan_us]
            return
        with job.clock:
            own = job.plan.shares[0]
            job.own = run_share([call_at(job.block, position) for position in own], own, **self._tools(job.block))

    def finish(self, job: Job) -> None:
        """Collect and validate; from then on the state is the one after the block.

        Raises:
            InvariantError: a promise broke on validated reads; the node stops.
        """
        self._progress.enter(job.block.height, POSITION_NONE)
        if job.own is not None and job.plan is not None:
            with job.clock:
                self._validate(job, job.plan, job.own)
        self._unmerged = job

    def seal(self, job: Job) -> ExecutionOutput:
        """The output; blocks are sealed in order."""
        self._merge()
        block, result = job.block, job.result
        assert result is not None
        with job.clock, job.tail:
            roots = roots_of(block, result, parent_state_root=self._root(block.height - 1))
        self._roots[block.height] = roots.state
        if job.own is None:
            self._governor.observe_serial(
                transactions=len(block.transactions), gas_used=result.gas_used, wall_ns=job.clock.wall_ns
            )
        elif job.lost:
            self._governor.observe_lost()
        else:
            self._governor.observe(
                transactions=len(block.transactions),
                reexecuted=job.reexecuted,
                gas_used=result.gas_used,
                wall_ns=job.clock.wall_ns,
                serial_ns=1000 * TRACKED_AS_SERIAL * (job.own.cpu_us + job.share_cpu_us) + job.tail.cpu_ns,
                imbalance=job.imbalance,
            )
        return output_of(block, result, roots, self._stats(job))

    # --- parts ---

    def _tools(self, block: ExecutionInput) -> _Tools:
        context = self._chain.block(height=block.height, time_ms=block.time_ms)
        return {"base": self._base, "machine": self._machine, "context": context, "progress": self._progress}

    def _root(self, height: int) -> bytes:
        """The state root after an executed height."""
        return self._base.snapshot_root if height == self._base.snapshot_height else self._roots[height]

    def _advance(self, overlay: Overlay, writes: Writes) -> None:
        self._base.append(overlay.height, writes)
        self._overlays.append(overlay)

    def _merge(self) -> None:
        """Make one result of the last block's shares, which the other executors need not wait for, and stand on it."""
        job, self._unmerged = self._unmerged, None
        if job is None:
            return
        with job.clock, job.tail:
            if job.result is None:
                job.result = merge(len(job.block.transactions), job.shares, job.common)
                job.shares = []
            overlay = Overlay(height=job.block.height, state_root=b"", writes=job.result.packed_writes)
            self._advance(overlay, job.result.writes)

    def _send(self, job: Job, index: int, positions: Sequence[int]) -> None:
        """Send an executor its share, and the write sets it was not told of."""
        block, attached = job.block, self._attached.get(index)
        if attached is None:  # lost since the block was planned
            job.lost += 1
            return
        overlays = self._untold(attached)
        if sum([len(overlay.writes) for overlay in overlays]) > OVERLAY_BYTES_MAX:
            return  # it can be of use again when the store has caught up; the lead runs its share
        link, number = job.offered.get(index, (None, 0))
        is_offered = link is attached.link
        if not is_offered:
            self._requests += 1
            number = self._requests
        request = RunShare(
            number=number,
            told=attached.height,
            height=block.height,
            time_ms=block.time_ms,
            overlays=overlays,
            offered=is_offered,
            **_contents(block, () if is_offered else positions),
        )
        try:
            attached.link.send(request)
        except ChannelLost as error:
            self._drop(index, attached.link, str(error))
            job.lost += 1
            return
        attached.height = block.height - 1
        job.sent.append(_Sent(request.number, index, attached.link, positions))

    def _untold(self, attached: _Attached) -> tuple[Overlay, ...]:
        """The write sets that an executor lacks."""
        rest, attached.rest = attached.rest, None
        last = self._unmerged
        if last is not None and (rest is None or rest.height != last.block.height):
            self._merge()
        untold = [overlay for overlay in self._overlays if overlay.height > attached.height]
        if rest is not None:
            untold = [overlay for overlay in untold if overlay.height != rest.height]
            if rest.height > self._base.snapshot_height:
                untold.append(rest)
        return tuple(sorted(untold, key=_height_of))

    def _validate(self, job: Job, plan: Plan, own: ShareOutcome) -> None:
        ready_ns = time.monotonic_ns()
        results = [ShareResult(plan.shares[0], own)]
        answered: list[_Sent] = []
        job.busy_us = [0] * self._executors
        job.busy_us[0] = own.busy_us
        end_ns = 0
        deadline = time.monotonic() + PATIENCE_S + PATIENCE_FACTOR * own.busy_us / 1e6
        for sent in job.sent:
            answer = self._collect(sent, timeout_s=max(deadline - time.monotonic(), PATIENCE_LAST_S))
            if answer is None:
                job.lost += 1
                continue
            results.append(ShareResult(sent.positions, answer))
            answered.append(sent)
            job.busy_us[sent.executor] = answer.busy_us
            job.share_cpu_us += answer.cpu_us
            end_ns = max(end_ns, answer.end_ns)
        start_ns = time.perf_counter_ns()
        count = len(job.block.transactions)
        common = undisturbed(count, results, self._base)
        if common is not None:
            job.shares, job.common = results, common
            self._keep_rests(job, answered, rests_of(results, common)[1:])
        else:
            job.result, job.reexecuted = validate_exactly(
                lambda position: call_at(job.block, position), count, results, **self._tools(job.block)
            )
        job.validate_us = (time.perf_counter_ns() - start_ns) // 1000
        job.conflicts = job.reexecuted + sum([result.outcome.conflicts for result in results])
        if end_ns:
            job.imbalance = (end_ns - ready_ns) / max(1000 * sum(job.busy_us), 1)
        for result in results:
            self._planner.learn(plan, result.positions, result.outcome.gas)

    def _keep_rests(self, job: Job, answered: Sequence[_Sent], rests: Sequence[bytes]) -> None:
        """Executors whose shares held as they ran need not be told what they wrote."""
        for sent, rest in zip(answered, rests, strict=False):
            attached = self._attached.get(sent.executor)
            if attached is not None and attached.link is sent.link:
                attached.rest = Overlay(height=job.block.height, state_root=b"", writes=rest, own=sent.number)

    def _collect(self, sent: _Sent, *, timeout_s: float) -> ShareOutcome | None:
        """An executor's answer, or None if there is none to use. Who ran a transaction never shows in its result, so
        patience may be a matter of the clock."""
        try:
            answer = sent.link.receive(timeout_s=timeout_s)
            if answer.number == sent.number and is_well_formed(answer, sent.positions):
                return answer
            reason = "its answer does not fit the question"
        except ChannelLost as error:
            reason = str(error)
        self._drop(sent.executor, sent.link, reason)
        return None

    def _drop(self, index: int, link: Link, reason: str) -> None:
        link.close()
        attached = self._attached.get(index)
        if attached is not None and attached.link is link:
            del self._attached[index]
            self._lost(index, reason)

    def _stats(self, job: Job) -> ExecutionStats:
        count, plan = len(job.block.transactions), job.plan
        planned = plan is not None and job.reason is None
        return ExecutionStats(
            mode="parallel" if planned else "serial",
            reason=job.reason or "planned",
            shards=plan.shards if plan is not None else min(count, 1),
            largest_shard=plan.largest_shard if plan is not None else count,
            shard_sizes=plan.shard_sizes if plan is not None else (count,) * min(count, 1),
            conflicts_predicted=plan.conflicts if plan is not None else 0,
            conflicts_actual=job.conflicts,
            reexecuted=job.reexecuted,
            executors_lost=job.lost,
            busy_us=tuple(job.busy_us),
            plan_us=job.plan_us,
            validate_us=job.validate_us,
            wall_us=job.clock.wall_ns // 1000,
            cpu_us=job.clock.cpu_ns // 1000 + job.share_cpu_us,
        )

"""The lead executor: plans a block, shares it out, runs its own part, validates in block order.

It works the same with real processes and with links that answer in this process; every result is that of
`execute_serially`, whoever ran what, whatever the predictor said and whichever executor failed.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypedDict

from chain.errors import InvariantError
from chain.model.merkle import unpack_writes
from contracts.runtime import BlockContext, Machine
from executor.governor import Governor
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats, ShareOutcome
from executor.plan import Plan, make_plan
from executor.predict import Predictor
from executor.protocol import ChannelLost, Overlay, RunShare
from executor.serial import Executed, execute_serially
from executor.share import is_well_formed, run_share
from executor.state import BaseState
from executor.transactions import Call, ChainContext, Progress, decode_call, seal
from executor.validate import ShareResult, validate

PATIENCE_S: Final = 5.0  # silence of an executor after the lead has finished its own share
PATIENCE_FACTOR: Final = 4  # ... plus so many times what that share took
GAS_SAMPLE: Final = 8  # every n-th transaction's gas corrects the estimate for its method
METHODS_MAX: Final = 4_096  # methods with an estimate
GAS_ESTIMATE: Final = 10_000  # of a method not seen yet


class Link(Protocol):
    """The lead's way to another executor."""

    def send(self, share: RunShare) -> None:
        """Raises ChannelLost."""
        ...

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        """Raises ChannelLost: nothing usable came."""
        ...

    def close(self) -> None: ...


class _Attached:
    """An executor the lead can use, and the highest height whose writes it was told."""

    __slots__ = ("height", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.height = 0


class _Tools(TypedDict):
    """What running a transaction takes."""

    base: BaseState
    machine: Machine
    context: BlockContext
    progress: Progress


class _Sent(NamedTuple):
    executor: int
    positions: list[int]


class Lead:
    """Executes blocks strictly by height on top of a base state."""

    def __init__(
        self,
        *,
        base: BaseState,
        machine: Machine,
        chain: ChainContext,
        predictor: Predictor,
        governor: Governor,
        progress: Progress,
        executors: int,
        lost: Callable[[int, str], None],
    ) -> None:
        """`lost(index, reason)` is told of every executor the lead stops using."""
        self._base = base
        self._machine = machine
        self._chain = chain
        self._predictor = predictor
        self._governor = governor
        self._progress = progress
        self._executors = executors
        self._lost = lost
        self._attached: dict[int, _Attached] = {}
        self._overlays: deque[Overlay] = deque()  # executed heights above the lead's snapshot
        self._gas: dict[tuple[bytes, str], int] = {}

    @property
    def height(self) -> int:
        """The height of the state the next block runs on."""
        return self._base.height

    def attach(self, index: int, link: Link) -> None:
        """Use this executor from the next block on, in place of one with the same index."""
        known = self._attached.pop(index, None)
        if known is not None:
            known.link.close()
        self._attached[index] = _Attached(link)

    def catch_up(self, overlays: Sequence[Overlay]) -> None:
        """Take the write sets of heights that a lead before this one executed."""
        self._base.refresh()
        for overlay in overlays:
            self._append(overlay)

    def execute(self, block: ExecutionInput, *, attempt: int = 1) -> ExecutionOutput:
        """The output of `block`; from then on the state is the one after it.

        Raises:
            InvariantError: not the next height, or a promise broke on validated reads; the node stops.
        """
        self._base.refresh()
        while self._overlays and self._overlays[0].height <= self._base.snapshot_height:
            self._overlays.popleft()
        if block.height != self._base.height + 1:
            raise InvariantError(f"asked to execute height {block.height} on the state after {self._base.height}")
        start_ns = time.perf_counter_ns()
        count = len(block.transactions)
        reason = "retry" if attempt > 1 else None
        if reason is None:
            reason = self._governor.before(transactions=count, executors=1 + len(self._attached))
        output, writes = self._serially(block, reason) if reason is not None else self._planned(block)
        self._base.append(block.height, writes)
        self._overlays.append(Overlay(height=block.height, writes=output.writes))
        wall_ns = time.perf_counter_ns() - start_ns
        self._governor.observe(output.stats, transactions=count, gas_used=output.gas_used, wall_ns=wall_ns)
        return output

    def _append(self, overlay: Overlay) -> None:
        if overlay.height > self._base.height:
            self._base.append(overlay.height, unpack_writes(overlay.writes))
        if overlay.height > self._base.snapshot_height:
            self._overlays.append(overlay)

    def _serially(self, block: ExecutionInput, reason: str, calls: Sequence[Call] = ()) -> Executed:
        return execute_serially(
            block,
            base=self._base,
            machine=self._machine,
            chain=self._chain,
            progress=self._progress,
            reason=reason,
            calls=calls,
        )

    # --- the parallel way ---

    def _planned(self, block: ExecutionInput) -> Executed:
        cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
        calls = [decode_call(raw) for raw in block.transactions]
        executors = sorted(self._attached)
        plan = self._plan(block, calls, 1 + len(executors))
        reason = self._governor.planned(plan)
        plan_us = (time.perf_counter_ns() - start_ns) // 1000
        if reason is not None:
            return self._serially(block, reason, calls)
        own, sent, lost = self._dispatch(block, plan, executors)
        context = self._chain.block(height=block.height, time_ms=block.time_ms)
        tools: _Tools = {"base": self._base, "machine": self._machine, "context": context, "progress": self._progress}
        outcome = run_share([calls[position] for position in own], own, **tools)
        results = [ShareResult(own, outcome)]
        busy_us = [0] * self._executors
        busy_us[0] = outcome.busy_us
        share_cpu_us = 0
        for index, positions in sent:
            answer = self._collect(index, positions, own_s=outcome.busy_us / 1e6)
            if answer is None:
                lost += 1
                continue
            results.append(ShareResult(positions, answer))
            busy_us[index] = answer.busy_us
            share_cpu_us += answer.cpu_us
        validate_ns = time.perf_counter_ns()
        validated = validate(calls, results, **tools)
        self._learn(calls, results)
        hashes = [call.hash for call in calls]

        def stats() -> ExecutionStats:
            end_ns = time.perf_counter_ns()
            return ExecutionStats(
                mode="parallel",
                reason="planned",
                shards=plan.shards,
                largest_shard=plan.largest_shard,
                reexecuted=validated.reexecuted,
                executors_lost=lost,
                busy_us=tuple(busy_us),
                plan_us=plan_us,
                validate_us=(end_ns - validate_ns) // 1000,
                cpu_us=(time.process_time_ns() - cpu_ns) // 1000 + share_cpu_us,
            )

        output = seal(
            block,
            hashes=hashes,
            receipts=validated.receipts,
            writes=validated.writes,
            gas_used=validated.gas_used,
            stats=stats,
        )
        return Executed(output, validated.writes)

    def _plan(self, block: ExecutionInput, calls: Sequence[Call], executors: int) -> Plan:
        table = self._predictor.predict(calls, base=self._base, height=block.height, time_ms=block.time_ms)
        gas = self._gas
        return make_plan(table, [gas.get((call.target, call.method), GAS_ESTIMATE) for call in calls], executors)

    def _dispatch(
        self, block: ExecutionInput, plan: Plan, executors: list[int]
    ) -> tuple[list[int], list[_Sent], int]:
        """Send the shares; (the lead's own positions, what was sent, executors lost). The lead takes the lightest."""
        order = sorted(range(len(plan.shares)), key=plan.loads.__getitem__)
        own = plan.shares[order[0]]
        sent: list[_Sent] = []
        lost = 0
        for index, share in zip(executors, order[1:], strict=True):
            positions = plan.shares[share]
            if not positions:
                continue
            attached = self._attached[index]
            request = RunShare(
                height=block.height,
                time_ms=block.time_ms,
                overlays=tuple([overlay for overlay in self._overlays if overlay.height > attached.height]),
                positions=array("i", positions).tobytes(),
                transactions=tuple([block.transactions[position] for position in positions]),
            )
            try:
                attached.link.send(request)
            except ChannelLost as error:
                self._drop(index, str(error))
                lost += 1
                continue
            attached.height = block.height - 1
            sent.append(_Sent(index, positions))
        return own, sent, lost

    def _collect(self, index: int, positions: list[int], *, own_s: float) -> ShareOutcome | None:
        """An executor's answer, or None if there is none to use. Who ran a transaction never shows in its result, so
        patience may be a matter of the clock."""
        try:
            answer = self._attached[index].link.receive(timeout_s=PATIENCE_S + PATIENCE_FACTOR * own_s)
            if is_well_formed(answer, positions):
                return answer
            reason = "the parts of its answer do not fit together"
        except ChannelLost as error:
            reason = str(error)
        self._drop(index, reason)
        return None

    def _drop(self, index: int, reason: str) -> None:
        self._attached.pop(index).link.close()
        self._lost(index, reason)

    def _learn(self, calls: Sequence[Call], results: Sequence[ShareResult]) -> None:
        """Correct the gas estimates from a sample."""
        estimates = self._gas
        if len(estimates) > METHODS_MAX:
            estimates.clear()
        for positions, outcome in results:
            for at in range(0, len(positions), GAS_SAMPLE):
                call = calls[positions[at]]
                name = (call.target, call.method)
                known = estimates.get(name, outcome.gas[at])
                estimates[name] = max(known + (outcome.gas[at] - known) // 4, 1)

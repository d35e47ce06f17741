"""Execute: strictly by height, through the executor processes to an executed header.

Heights are handed to the executors one behind the other, also while they are only prepared. What comes of a height that
is not ordered yet stays in here, and is thrown away with all that ran on top of it if another proposal is ordered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chain.errors import InvariantError
from chain.model.block import Header, Proposal, header_hash
from chain.model.transaction import Transaction
from chain.model.validators import ValidatorSchedule, ValidatorSet
from chain.pipeline.ahead import AheadStats, ExecutionLine, Work
from chain.pipeline.bodies import Bodies
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.types import Digest, Height
from executor import ExecutionInput, ExecutionOutput

STORE_LAG_MAX: Final = 64  # heights executed and not stored
IN_FLIGHT_MAX: Final = 4  # heights with the executors at once: enough that they need not wait for this process


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedBlock:
    """What execution made of an ordered proposal; kept until the block is stored."""

    header: Header
    header_hash: Digest
    proposal: Proposal
    proposal_digest: Digest
    skipped: tuple[int, ...]  # positions of the proposal that were skipped
    hashes: list[Digest]  # executed transactions, in order
    output: ExecutionOutput
    validators: ValidatorSet | None = None  # the set that this block scheduled; None: no change


@dataclass(frozen=True, slots=True)
class _Answer:
    output: ExecutionOutput
    start_us: int
    end_us: int


class ExecutorPool(Protocol):
    def execute(self, block: ExecutionInput) -> asyncio.Future[ExecutionOutput]:
        """Answers come in order; the future of a discarded height is cancelled."""
        ...

    def discard(self, height: int) -> Awaitable[None]: ...


class ExecutedIndex(Protocol):
    """Which transactions are in executed blocks."""

    def executed(self, hashes: Sequence[Digest]) -> list[bool]: ...

    def add(self, height: Height, hashes: Sequence[Digest]) -> None: ...


class SnapshotRoots(Protocol):
    """The Merkle root of the whole state, where a header commits to it."""

    def root_in(self, height: Height) -> bytes | None:
        """What the header at `height` holds: empty bytes where it commits to no state, None while the root is not
        known yet (`ExecuteStage.wake` when it is)."""
        ...


class NoSnapshots:
    """Of rule sets 1 and 2."""

    def root_in(self, height: Height) -> bytes | None:
        return b""


class ExecuteStage:
    """Execution has the last word on duplicates and expiry: what was executed before or expired is skipped without
    effect, the same everywhere, because it depends on the chain alone."""

    name = "execute"

    def __init__(
        self,
        *,
        last: Header,
        bodies: Bodies,
        engine: ExecutorPool,
        index: ExecutedIndex,
        spans: Spans,
        cpu: CpuMeter,
        queue_max: int,
        executed: Callable[[ExecutedBlock], None],
        schedule: ValidatorSchedule | None = None,
        window: int = 0,
        scheduled: Callable[[bytes], ValidatorSet | None] = lambda writes: None,
        snapshots: SnapshotRoots | None = None,
    ) -> None:
        """`scheduled` tells the validator set that a packed write set schedules; without a `schedule` every block names
        its parent's set. What is scheduled at height h is in force from h + `window` + 1 on."""
        self._schedule = schedule
        self._window = window
        self._scheduled = scheduled
        self._snapshots: SnapshotRoots = NoSnapshots() if snapshots is None else snapshots
        self._parent = last
        self._parent_hash = header_hash(last)
        self._bodies = bodies
        self._engine = engine
        self._index = index
        self._spans = spans
        self._cpu = cpu
        self._queue_max = queue_max
        self._executed = executed
        self._line: ExecutionLine[Transaction, _Answer] = ExecutionLine(
            height=Height(last.height), time_ms=last.time_ms
        )
        self._answered_us = 0
        self._stored_height = last.height
        self._error: BaseException | None = None
        self._wake = asyncio.Event()

    @property
    def depth(self) -> int:
        return self._line.waiting

    @property
    def stats(self) -> AheadStats:
        """How often execution ahead of order was worth it."""
        return self._line.stats

    def put(self, proposal: Proposal, digest: Digest) -> None:
        """The proposal is ordered."""
        if len(self._line) >= self._queue_max:
            raise InvariantError(f"stage {self.name}: more than {self._queue_max} heights queued")
        self._line.order(proposal, digest)
        self._wake.set()

    def speculate(self, proposal: Proposal, digest: Digest) -> None:
        """The proposal is prepared: it may be executed ahead."""
        self._line.speculate(proposal, digest)
        self._wake.set()

    def stored(self, height: Height) -> None:
        """Blocks up to `height` are durable."""
        self._stored_height = height
        self._wake.set()

    def wake(self) -> None:
        """Look again: what a header waits for may be there."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            if self._error is not None:
                raise self._error
            self._publish()
            while (void := self._line.take_void()) is not None:
                await self._engine.discard(void)
            self._start()
            await self._wake.wait()

    # --- to the executors ---

    def _start(self) -> None:
        """A slow disk holds back execution, execution the certified height, and that the window: all is bounded."""
        line = self._line
        unanswered = line.unanswered
        while unanswered < IN_FLIGHT_MAX:
            work = line.next()
            if work is None or work.height - self._stored_height > STORE_LAG_MAX:
                return
            with self._cpu.measure("dispatch"):
                answer = self._engine.execute(self._prepare(work))
            start_us = now_us()
            answer.add_done_callback(lambda future, work=work, at=start_us: self._on_answer(work, at, future))  # type: ignore[misc]
            unanswered += 1

    def _prepare(self, work: Work[Transaction, _Answer]) -> ExecutionInput:
        transactions = self._bodies.get(work.digest).transactions if work.proposal.hashes else ()
        hashes = [transaction.hash for transaction in transactions]
        self._line.start(work, transactions, self._index.executed(hashes))
        kept = work.kept
        return ExecutionInput(
            height=work.height,
            time_ms=work.time_ms,
            hashes=b"".join(work.hashes),
            senders=b"".join([transaction.sender for transaction in kept]),
            transactions=tuple([transaction.raw for transaction in kept]),
        )

    def _on_answer(
        self, work: Work[Transaction, _Answer], start_us: int, answer: asyncio.Future[ExecutionOutput]
    ) -> None:
        if answer.cancelled():
            if not work.void:
                self._error = InvariantError(f"execution of height {work.height} was cancelled")
        elif (error := answer.exception()) is not None:
            self._error = error
        else:
            end_us = now_us()
            busy_from_us = max(start_us, self._answered_us)  # before that, the executors had the height below
            self._line.finish(work, _Answer(answer.result(), busy_from_us, end_us))
            self._answered_us = end_us
        self._wake.set()

    # --- to consensus ---

    def _publish(self) -> None:
        while (work := self._line.publishable()) is not None:
            answer = work.output
            if answer is None:
                raise InvariantError(f"height {work.height} is publishable without an answer")
            snapshot_root = self._snapshots.root_in(work.height)
            if snapshot_root is None:
                return
            with self._cpu.measure("dispatch"):
                block = self._block(work, answer.output, snapshot_root)
            self._spans.record(self.name, work.height, answer.start_us, answer.end_us)
            self._spans.count(work.height, block.header.transaction_count)
            self._parent = block.header
            self._parent_hash = block.header_hash
            self._index.add(work.height, block.hashes)
            self._line.publish(work)
            if self._schedule is not None and block.validators is not None:
                self._schedule.add(work.height + self._window + 1, block.validators)
            self._executed(block)

    def _block(
        self, work: Work[Transaction, _Answer], output: ExecutionOutput, snapshot_root: bytes
    ) -> ExecutedBlock:
        parent = self._parent
        if output.height != work.height or parent.height + 1 != work.height:
            raise InvariantError(f"execute: the outcome of height {output.height} after {parent.height}")
        header = Header(
            chain_id=parent.chain_id,
            height=work.height,
            time_ms=work.time_ms,
            parent_hash=self._parent_hash,
            proposal_digest=work.digest,
            rule_set=parent.rule_set,
            validator_set_hash=self._set_hash(work.height),
            transaction_count=len(work.kept),
            transaction_root=output.transaction_root,
            receipt_root=output.receipt_root,
            state_root=output.state_root,
            gas_used=output.gas_used,
            snapshot_root=snapshot_root,
        )
        return ExecutedBlock(
            header=header,
            header_hash=header_hash(header),
            proposal=work.proposal,
            proposal_digest=work.digest,
            skipped=work.skipped,
            hashes=work.hashes,
            output=output,
            validators=self._scheduled(output.writes),
        )

    def _set_hash(self, height: Height) -> bytes:
        return self._parent.validator_set_hash if self._schedule is None else self._schedule.at(height).digest

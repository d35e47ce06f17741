"""Execute: ordered proposals, strictly by height, through the executor processes to an executed header."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chain.errors import InvariantError
from chain.model.block import Header, Proposal, header_hash
from chain.model.transaction import Transaction
from chain.pipeline.bodies import Bodies
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.pipeline.stage import StageQueue
from chain.types import Digest, Height
from executor import ExecutionInput, ExecutionOutput

STORE_LAG_MAX: Final = 64  # heights executed and not stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedBlock:
    """What execution made of a proposal; kept until the block is stored."""

    header: Header
    header_hash: Digest
    proposal: Proposal
    proposal_digest: Digest
    skipped: tuple[int, ...]  # positions of the proposal that were skipped
    hashes: list[Digest]  # executed transactions, in order
    output: ExecutionOutput


class ExecutorPool(Protocol):
    async def execute(self, block: ExecutionInput) -> ExecutionOutput: ...


class ExecutedIndex(Protocol):
    """Which transactions are in executed blocks."""

    def executed(self, hashes: Sequence[Digest]) -> list[bool]: ...

    def add(self, height: Height, hashes: Sequence[Digest]) -> None: ...


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
    ) -> None:
        self._parent = last
        self._parent_hash = header_hash(last)
        self._bodies = bodies
        self._engine = engine
        self._index = index
        self._spans = spans
        self._cpu = cpu
        self._executed = executed
        self._queue: StageQueue[tuple[Proposal, Digest]] = StageQueue(self.name, queue_max)
        self._stored_height = last.height
        self._stored_more = asyncio.Event()

    @property
    def depth(self) -> int:
        return len(self._queue)

    def put(self, proposal: Proposal, digest: Digest) -> None:
        self._queue.put((proposal, digest))

    async def run(self) -> None:
        while True:
            proposal, digest = await self._queue.get()
            await self._room(proposal.height)
            start_us = now_us()
            block = await self._execute(proposal, digest)
            height = Height(proposal.height)
            self._spans.record(self.name, height, start_us, now_us())
            self._spans.count(height, block.header.transaction_count)
            self._parent = block.header
            self._parent_hash = block.header_hash
            self._index.add(height, block.hashes)
            self._executed(block)

    def stored(self, height: Height) -> None:
        """Blocks up to `height` are durable."""
        self._stored_height = height
        self._stored_more.set()

    async def _room(self, height: int) -> None:
        """A slow disk holds back execution, execution the certified height, and that the window: all is bounded."""
        while height - self._stored_height > STORE_LAG_MAX:
            self._stored_more.clear()
            await self._stored_more.wait()

    async def _execute(self, proposal: Proposal, digest: Digest) -> ExecutedBlock:
        parent = self._parent
        if proposal.height != parent.height + 1:
            raise InvariantError(f"execute: height {proposal.height} after {parent.height}")
        with self._cpu.measure("dispatch"):
            transactions = self._bodies.get(digest).transactions if proposal.hashes else ()
            skipped, kept = self._sift(transactions, proposal.height)
            time_ms = max(parent.time_ms, proposal.timestamp_ms)
            work = ExecutionInput(
                height=proposal.height,
                time_ms=time_ms,
                parent_state_root=parent.state_root,
                transactions=tuple([transaction.raw for transaction in kept]),
            )
        output = await self._engine.execute(work)
        with self._cpu.measure("dispatch"):
            header = Header(
                chain_id=parent.chain_id,
                height=proposal.height,
                time_ms=time_ms,
                parent_hash=self._parent_hash,
                proposal_digest=digest,
                rule_set=parent.rule_set,
                validator_set_hash=parent.validator_set_hash,
                transaction_count=len(kept),
                transaction_root=output.transaction_root,
                receipt_root=output.receipt_root,
                state_root=output.state_root,
                gas_used=output.gas_used,
            )
            return ExecutedBlock(
                header=header,
                header_hash=header_hash(header),
                proposal=proposal,
                proposal_digest=digest,
                skipped=tuple(skipped),
                hashes=[transaction.hash for transaction in kept],
                output=output,
            )

    def _sift(self, transactions: Sequence[Transaction], height: int) -> tuple[list[int], list[Transaction]]:
        """(positions to skip, transactions to execute)."""
        done = self._index.executed([transaction.hash for transaction in transactions])
        skipped: list[int] = []
        kept: list[Transaction] = []
        for position, transaction in enumerate(transactions):
            if done[position] or transaction.body.expiry < height:
                skipped.append(position)
            else:
                kept.append(transaction)
        return skipped, kept

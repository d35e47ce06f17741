"""Pack: the leader takes an ordered list of transaction hashes from its pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chain.model.block import Proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.model.transaction import Transaction
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.pipeline.stage import StageQueue
from chain.types import Digest, Height, Instant, ValidatorId, View


@dataclass(frozen=True, slots=True)
class PackRequest:
    view: View
    height: Height


class PackPool(Protocol):
    """What packing needs of the pool."""

    @property
    def waiting_count(self) -> int: ...

    def select(self, *, height: Height, count_max: int, bytes_max: int, gas_max: int) -> list[Transaction]: ...

    def reserve(self, digest: Digest, transactions: Sequence[Transaction], now: Instant) -> None: ...


class PackStage:
    """Answers each request of the core with a proposal as soon as packing now is better than waiting.

    With nothing else in flight a single transaction is packed at once (latency); with proposals in flight the leader
    waits for a full block, at most `block_interval_ms` since the last one (throughput). It also waits while the line
    behind it is full (`backlog_max` ordered heights not stored yet), so that memory stays bounded.
    """

    name = "pack"

    def __init__(
        self,
        *,
        chain_id: Digest,
        proposer: ValidatorId,
        parameters: ChainParameters,
        pool: PackPool,
        bodies: Bodies,
        spans: Spans,
        cpu: CpuMeter,
        block_interval_ms: int,
        in_flight: Callable[[], int],
        backlog: Callable[[], int],
        backlog_max: int,
        wall_ms: Callable[[], Instant],
        packed: Callable[[View, Proposal], None],
    ) -> None:
        self._chain_id = chain_id
        self._proposer = proposer
        self._parameters = parameters
        self._pool = pool
        self._bodies = bodies
        self._spans = spans
        self._cpu = cpu
        self._interval_us = block_interval_ms * 1_000
        self._in_flight = in_flight
        self._backlog = backlog
        self._backlog_max = backlog_max
        self._wall_ms = wall_ms
        self._packed = packed
        self._requests: StageQueue[PackRequest] = StageQueue(self.name, 4)
        self._cancelled_below = View(0)
        self._last_packed_us = 0
        self._wake = asyncio.Event()

    @property
    def depth(self) -> int:
        return len(self._requests)

    def request(self, request: PackRequest) -> None:
        self._requests.put(request)

    def cancel(self, view: View) -> None:
        """Requests of views below `view` are void."""
        self._cancelled_below = view
        self._wake.set()

    def wake(self) -> None:
        """Something changed: new transactions, a height done, a block stored."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            request = await self._requests.get()
            while request.view >= self._cancelled_below:
                self._wake.clear()
                wait_us = self._wait_us()
                if wait_us == 0 and self._pack(request):
                    break
                try:
                    await asyncio.wait_for(self._wake.wait(), wait_us / 1e6 if wait_us else None)
                except TimeoutError:
                    continue

    def _wait_us(self) -> int | None:
        """0: pack now; a number: look again after so many microseconds; None: look when woken."""
        waiting = self._pool.waiting_count
        if waiting == 0 or self._backlog() >= self._backlog_max:
            return None
        if waiting >= self._parameters.block_transactions_max or self._in_flight() == 0:
            return 0
        return max(0, self._last_packed_us + self._interval_us - now_us())

    def _pack(self, request: PackRequest) -> bool:
        start_us = now_us()
        with self._cpu.measure("pack"):
            transactions = self._pool.select(
                height=request.height,
                count_max=self._parameters.block_transactions_max,
                bytes_max=self._parameters.block_bytes_max,
                gas_max=self._parameters.block_gas_max,
            )
            if not transactions:
                return False
            proposal = Proposal(
                chain_id=self._chain_id,
                height=request.height,
                timestamp_ms=self._wall_ms(),
                proposer=self._proposer,
                hashes=b"".join([transaction.hash for transaction in transactions]),
            )
            digest = proposal_digest(proposal)
            self._pool.reserve(digest, transactions, self._wall_ms())
            self._bodies.put(LiveProposal(digest, proposal, transactions))
        self._last_packed_us = now_us()
        self._spans.record(self.name, request.height, start_us, self._last_packed_us)
        self._packed(request.view, proposal)
        return True

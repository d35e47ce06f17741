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
from chain.types import Digest, Height, Instant, ValidatorId, View


@dataclass(frozen=True, slots=True)
class PackRequest:
    view: View
    height: Height
    may_be_empty: bool = False  # a boundary must be reached: an empty proposal is better than waiting


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
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._chain_id = chain_id
        self.proposer = proposer  # another one after this node rotated its key
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
        self._clock_us = clock_us
        self._request: PackRequest | None = None  # the core has one open at a time
        self._last_packed_us = 0
        self._wake = asyncio.Event()

    @property
    def depth(self) -> int:
        return 0 if self._request is None else 1

    def request(self, request: PackRequest) -> None:
        """Takes the place of the one that is open."""
        self._request = request
        self._wake.set()

    def cancel(self) -> None:
        """What was requested before is void. Views begin again in every epoch, so they do not tell."""
        self._request = None
        self._wake.set()

    def wake(self) -> None:
        """Something changed: new transactions, a height done, a block stored."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            wait_us = self._wait_us()
            if wait_us == 0 and self._request is not None and self._pack(self._request):
                continue
            try:
                await asyncio.wait_for(self._wake.wait(), wait_us / 1e6 if wait_us else None)
            except TimeoutError:
                continue

    def _wait_us(self) -> int | None:
        """0: pack now; a number: look again after so many microseconds; None: look when woken."""
        if self._request is None or self._backlog() >= self._backlog_max:
            return None
        waiting = self._pool.waiting_count
        if waiting == 0:
            return 0 if self._request.may_be_empty else None
        if waiting >= self._parameters.block_transactions_max or self._in_flight() == 0:
            return 0
        return max(0, self._last_packed_us + self._interval_us - self._clock_us())

    def _pack(self, request: PackRequest) -> bool:
        start_us = now_us()
        with self._cpu.measure("pack"):
            transactions = self._pool.select(
                height=request.height,
                count_max=self._parameters.block_transactions_max,
                bytes_max=self._parameters.block_bytes_max,
                gas_max=self._parameters.block_gas_max,
            )
            if not transactions and not request.may_be_empty:
                return False
            proposal = Proposal(
                chain_id=self._chain_id,
                height=request.height,
                timestamp_ms=self._wall_ms(),
                proposer=self.proposer,
                hashes=b"".join([transaction.hash for transaction in transactions]),
            )
            digest = proposal_digest(proposal)
            self._pool.reserve(digest, transactions, self._wall_ms())
            self._bodies.put(LiveProposal(digest, proposal, transactions))
        self._last_packed_us = self._clock_us()
        self._spans.record(self.name, request.height, start_us, now_us())
        self._request = None
        self._packed(request.view, proposal)
        return True

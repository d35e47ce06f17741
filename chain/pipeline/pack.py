"""Pack: the leader takes an ordered list of transaction hashes from its pool."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chain.model.block import Proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.model.transaction import Transaction
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.types import Digest, Height, Instant, ValidatorId, View

BUSY_RATE: Final = 1_000  # transactions a second from which on blocks are as far apart as they may be
CALM_INTERVAL_MS: Final = 50  # between blocks of a calm chain, while others are in flight
PATIENCE_PARTS: Final = 4  # a leader waits for a fuller block at most this part of what others wait for a leader
RATE_SPAN_US: Final = 1_000_000
RATE_SAMPLES: Final = 10


def spacing_us(*, rate: int, interval_ms: int, in_flight: int) -> int:
    """How long after the last block the next one may be packed, if it is not full before; microseconds.

    A block costs every node about the same whether it holds 10 transactions or 300: votes, a journal write, a commit.
    On a calm chain there is time for that, and waiting would only delay the client: 0 if nothing is in flight. On a
    busy one it is what delays everybody, so the distance grows with the rate of arrival (transactions a second), to
    `interval_ms` at `BUSY_RATE`.
    """
    busy_us = interval_ms * min(rate, BUSY_RATE) * 1_000 // BUSY_RATE
    return max(busy_us, min(CALM_INTERVAL_MS, interval_ms) * 1_000) if in_flight else busy_us


def bounded_interval_ms(interval_ms: int, *, view_timeout_ms: int, pooled_ms_max: int) -> int:
    """`interval_ms`, or less where the others would take a leader that waits so long for a silent one, or for one that
    leaves transactions out."""
    return min(interval_ms, view_timeout_ms // PATIENCE_PARTS, pooled_ms_max // PATIENCE_PARTS)


class ArrivalRate:
    """Transactions a second, over the last second or so. Costs nothing where nobody looks."""

    def __init__(self, now_us: int) -> None:
        self._samples: deque[tuple[int, int]] = deque([(now_us, 0)])  # when, how many had arrived by then

    def at(self, now_us: int, arrivals: int) -> int:
        """The rate now that `arrivals` have come in all. A look long after the last one sees their mean."""
        samples = self._samples
        if now_us - samples[-1][0] >= RATE_SPAN_US // RATE_SAMPLES:
            samples.append((now_us, arrivals))
        while len(samples) > 2 and now_us - samples[1][0] >= RATE_SPAN_US:
            samples.popleft()
        since_us, before = samples[0]
        return (arrivals - before) * 1_000_000 // max(now_us - since_us, RATE_SPAN_US)


@dataclass(frozen=True, slots=True)
class PackRequest:
    view: View
    height: Height
    may_be_empty: bool = False  # a boundary must be reached: an empty proposal is better than waiting


class PackPool(Protocol):
    """What packing needs of the pool."""

    @property
    def waiting_count(self) -> int: ...

    @property
    def arrivals(self) -> int:
        """How many transactions ever came to wait."""
        ...

    def select(self, *, height: Height, count_max: int, bytes_max: int, gas_max: int) -> list[Transaction]: ...

    def reserve(self, digest: Digest, transactions: Sequence[Transaction], now: Instant) -> None: ...


class PackStage:
    """Answers each request of the core with a proposal as soon as packing now is better than waiting.

    A full block is packed at once, one that is not full at a distance from the last (`spacing_us`). It also waits while
    the line behind it is full (`backlog_max` ordered heights not stored yet), so that memory stays bounded.
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
        self._interval_ms = block_interval_ms
        self._in_flight = in_flight
        self._backlog = backlog
        self._backlog_max = backlog_max
        self._wall_ms = wall_ms
        self._packed = packed
        self._clock_us = clock_us
        self._request: PackRequest | None = None  # the core has one open at a time
        self._last_packed_us = -RATE_SPAN_US
        self._rate = ArrivalRate(clock_us())
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_us = 0

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
        if self._request is not None:
            self._wake.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                wait_us = self._wait_us()
                if wait_us == 0 and self._request is not None and self._pack(self._request):
                    continue
                if wait_us:
                    self._set_alarm(loop, wait_us)
                await self._wake.wait()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, wait_us: int) -> None:
        """One that rings too early does no harm and stays."""
        due_us = self._clock_us() + wait_us
        if self._alarm is not None:
            if self._alarm_us <= due_us:
                return
            self._alarm.cancel()
        self._alarm_us = due_us
        self._alarm = loop.call_later(wait_us / 1e6, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()

    def _wait_us(self) -> int | None:
        """0: pack now; a number: look again after so many microseconds; None: look when woken."""
        if self._request is None or self._backlog() >= self._backlog_max:
            return None
        waiting = self._pool.waiting_count
        if waiting == 0:
            return 0 if self._request.may_be_empty else None
        if waiting >= self._parameters.block_transactions_max:
            return 0
        now_us = self._clock_us()
        rate = self._rate.at(now_us, self._pool.arrivals)
        spacing = spacing_us(rate=rate, interval_ms=self._interval_ms, in_flight=self._in_flight())
        return max(0, self._last_packed_us + spacing - now_us)

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

"""Store: certified blocks become durable, all or nothing, several at once when they pile up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from chain.errors import InvariantError
from chain.model.block import Certificate, header_hash
from chain.pipeline.execute import ExecutedBlock
from chain.pipeline.spans import CpuMeter, Spans, now_us
from chain.pipeline.stage import StageQueue
from chain.types import Height


@dataclass(frozen=True, slots=True)
class CertifiedBlock:
    executed: ExecutedBlock
    certificate: Certificate


class BlockWriter(Protocol):
    def write(self, blocks: Sequence[CertifiedBlock]) -> None:
        """Blocks, indices and state durable on return; called in a worker thread, one call at a time."""
        ...


class StoreStage:
    """`stored` is called on the loop after each durable write, with the blocks in order."""

    name = "store"

    def __init__(
        self,
        *,
        last: Height,
        writer: BlockWriter,
        thread: Executor,
        spans: Spans,
        cpu: CpuMeter,
        queue_max: int,
        stored: Callable[[Sequence[CertifiedBlock]], None],
    ) -> None:
        self._last = last
        self._writer = writer
        self._thread = thread
        self._spans = spans
        self._cpu = cpu
        self._stored = stored
        self._queue: StageQueue[CertifiedBlock] = StageQueue(self.name, queue_max)

    @property
    def depth(self) -> int:
        return len(self._queue)

    def put(self, block: CertifiedBlock) -> None:
        header = block.executed.header
        if header_hash(header) != block.certificate.digest:
            raise InvariantError(f"store: the certificate of height {header.height} is for another header")
        self._queue.put(block)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            blocks = await self._queue.get_all()
            for block in blocks:
                if block.executed.header.height != self._last + 1:
                    raise InvariantError(f"store: height {block.executed.header.height} after {self._last}")
                self._last = Height(self._last + 1)
            start_us = now_us()
            await loop.run_in_executor(self._thread, self._write, blocks)
            end_us = now_us()
            for block in blocks:
                self._spans.record(self.name, Height(block.executed.header.height), start_us, end_us)
            self._stored(blocks)

    def _write(self, blocks: Sequence[CertifiedBlock]) -> None:
        with self._cpu.measure("store"):
            self._writer.write(blocks)

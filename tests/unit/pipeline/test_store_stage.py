"""The store stage: in order, only what its certificate is for, several at once, told when durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from chain.codec import pack
from chain.errors import InvariantError
from chain.model.block import Certificate, gap_proposal, header_hash, proposal_digest
from chain.pipeline.execute import ExecutedBlock
from chain.pipeline.spans import CpuMeter, Spans
from chain.pipeline.store import CertifiedBlock, StoreStage
from chain.types import Height
from executor import ExecutionOutput
from tests.unit.pipeline.test_execute import PARENT, STATS
from tests.unit.pool.transactions import CHAIN_ID


def make_block(height: int) -> CertifiedBlock:
    proposal = gap_proposal(chain_id=CHAIN_ID, height=Height(height))
    header = msgspec.structs.replace(PARENT, height=height)
    output = ExecutionOutput(
        height=height, transaction_root=bytes(32), receipt_root=bytes(32), state_root=bytes(32), gas_used=0,
        receipts=(), writes=pack(()), stats=STATS,
    )  # fmt: skip
    executed = ExecutedBlock(
        header=header, header_hash=header_hash(header), proposal=proposal, proposal_digest=proposal_digest(proposal),
        skipped=(), hashes=[], output=output,
    )  # fmt: skip
    return CertifiedBlock(
        executed, Certificate(kind=4, view=0, height=height, digest=header_hash(header), signatures=())
    )


class World:
    def __init__(self) -> None:
        self.log: list[tuple[str, list[int]]] = []
        self.thread = ThreadPoolExecutor(1)
        self.stage = StoreStage(
            last=Height(6), writer=self, thread=self.thread, spans=Spans(), cpu=CpuMeter(), queue_max=16,
            stored=lambda blocks: self.log.append(("told", heights(blocks))),
        )  # fmt: skip

    def write(self, blocks: Sequence[CertifiedBlock]) -> None:
        self.log.append(("written", heights(blocks)))

    def run(self, steps: int) -> None:
        async def go() -> None:
            task = asyncio.create_task(self.stage.run())
            try:
                async with asyncio.timeout(10):
                    while len(self.log) < steps and not task.done():
                        await asyncio.sleep(0.001)
                if task.done():
                    await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        try:
            asyncio.run(go())
        finally:
            self.thread.shutdown()


def heights(blocks: Sequence[CertifiedBlock]) -> list[int]:
    return [block.executed.header.height for block in blocks]


def test_blocks_that_pile_up_are_written_at_once_and_told_when_durable() -> None:
    world = World()
    for height in (7, 8, 9):
        world.stage.put(make_block(height))
    world.run(2)
    assert world.log == [("written", [7, 8, 9]), ("told", [7, 8, 9])]


def test_another_height_than_the_next_is_our_bug() -> None:
    world = World()
    world.stage.put(make_block(8))
    with pytest.raises(InvariantError):
        world.run(1)
    assert world.log == []


def test_a_certificate_for_another_header_stores_nothing() -> None:
    world = World()
    block, other = make_block(7), make_block(8)
    with pytest.raises(InvariantError):
        world.stage.put(CertifiedBlock(block.executed, other.certificate))
    world.thread.shutdown()

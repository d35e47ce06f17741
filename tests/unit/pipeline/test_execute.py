"""The execute stage: strictly by height, duplicates and expiry by the chain alone, held back by a slow disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from chain.codec import pack
from chain.errors import InvariantError
from chain.model.block import Header, Proposal, gap_proposal, header_hash, proposal_digest
from chain.model.transaction import Transaction
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.execute import STORE_LAG_MAX, ExecutedBlock, ExecuteStage
from chain.pipeline.spans import CpuMeter, Spans
from chain.types import ZERO_DIGEST, Digest, Height, ValidatorId
from executor import ExecutionInput, ExecutionOutput, ExecutionStats
from tests.unit.pool.transactions import CHAIN_ID, make_transaction

LEADER = ValidatorId(b"\x01" * 20)
STATS = ExecutionStats(
    mode="", reason="", shards=0, largest_shard=0, reexecuted=0, executors_lost=0, busy_us=(), plan_us=0, validate_us=0,
    cpu_us=0,
)  # fmt: skip
PARENT = Header(
    chain_id=CHAIN_ID, height=6, time_ms=5_000, parent_hash=ZERO_DIGEST, proposal_digest=ZERO_DIGEST, rule_set=1,
    validator_set_hash=ZERO_DIGEST, transaction_count=0, transaction_root=ZERO_DIGEST, receipt_root=ZERO_DIGEST,
    state_root=ZERO_DIGEST, gas_used=0,
)  # fmt: skip


class NoArchive:
    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        return None


class World:
    """An engine that echoes, and an index of what is executed."""

    def __init__(self) -> None:
        self.inputs: list[ExecutionInput] = []
        self.blocks: list[ExecutedBlock] = []
        self.done: set[Digest] = set()
        self.bodies = Bodies(NoArchive())
        self.stage = ExecuteStage(
            last=PARENT, bodies=self.bodies, engine=self, index=self, spans=Spans(), cpu=CpuMeter(), queue_max=256,
            executed=self.blocks.append,
        )  # fmt: skip

    async def execute(self, block: ExecutionInput) -> ExecutionOutput:
        self.inputs.append(block)
        root = bytes((block.height,)) * 32
        return ExecutionOutput(
            height=block.height, transaction_root=root, receipt_root=root, state_root=root, gas_used=1,
            receipts=tuple(b"r" for _ in block.transactions), writes=pack(()), stats=STATS,
        )  # fmt: skip

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        return [transaction_hash in self.done for transaction_hash in hashes]

    def add(self, height: Height, hashes: Sequence[Digest]) -> None:
        self.done.update(hashes)

    def put(self, height: int, transactions: Sequence[Transaction], timestamp_ms: int = 9_000) -> None:
        proposal = Proposal(
            chain_id=CHAIN_ID, height=height, timestamp_ms=timestamp_ms, proposer=LEADER,
            hashes=b"".join(transaction.hash for transaction in transactions),
        )  # fmt: skip
        digest = proposal_digest(proposal)
        self.bodies.put(LiveProposal(digest, proposal, transactions))
        self.stage.put(proposal, digest)

    def run(self, until: Callable[[], bool]) -> None:
        async def go() -> None:
            task = asyncio.create_task(self.stage.run())
            try:
                async with asyncio.timeout(10):
                    while not until() and not task.done():
                        await asyncio.sleep(0)
                if task.done():
                    await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(go())


def test_a_header_extends_its_parent() -> None:
    world = World()
    world.put(7, [make_transaction(1)])
    world.put(8, [make_transaction(2)])
    world.run(lambda: len(world.blocks) == 2)
    first, second = world.blocks
    assert first.header.parent_hash == header_hash(PARENT)
    assert second.header.parent_hash == first.header_hash == header_hash(first.header)
    assert world.inputs[1].parent_state_root == first.header.state_root
    assert (second.header.height, second.header.transaction_count) == (8, 1)


def test_what_was_executed_before_or_has_expired_is_skipped_without_effect() -> None:
    world = World()
    done, old, last_chance, good = (make_transaction(at, expiry=expiry) for at, expiry in enumerate((99, 6, 7, 99)))
    world.done.add(done.hash)
    world.put(7, [done, old, last_chance, good])
    world.run(lambda: len(world.blocks) == 1)
    [block] = world.blocks
    assert block.skipped == (0, 1)
    assert block.hashes == [last_chance.hash, good.hash]
    assert world.inputs[0].transactions == (last_chance.raw, good.raw)
    assert block.header.transaction_count == 2


def test_a_transaction_ordered_twice_is_executed_once() -> None:
    world = World()
    twice = make_transaction(1)
    world.put(7, [twice])
    world.put(8, [twice])
    world.run(lambda: len(world.blocks) == 2)
    assert [block.skipped for block in world.blocks] == [(), (0,)]


def test_block_time_never_goes_back_and_a_gap_takes_its_parents() -> None:
    world = World()
    world.put(7, [], timestamp_ms=4_000)
    world.put(8, [], timestamp_ms=6_000)
    gap = gap_proposal(chain_id=CHAIN_ID, height=Height(9))
    world.stage.put(gap, proposal_digest(gap))
    world.run(lambda: len(world.blocks) == 3)
    assert [block.header.time_ms for block in world.blocks] == [5_000, 6_000, 6_000]
    assert [work.time_ms for work in world.inputs] == [5_000, 6_000, 6_000]


def test_another_height_than_the_next_is_our_bug() -> None:
    world = World()
    world.put(8, [])
    with pytest.raises(InvariantError):
        world.run(lambda: False)


def test_a_slow_disk_holds_back_execution() -> None:
    world = World()
    for height in range(7, 7 + STORE_LAG_MAX + 10):
        world.put(height, [])
    world.run(lambda: world.stage.depth == 9)
    assert world.blocks[-1].header.height == PARENT.height + STORE_LAG_MAX
    world = World()
    for height in range(7, 7 + STORE_LAG_MAX + 10):
        world.put(height, [])
    world.stage.stored(Height(16))
    world.run(lambda: len(world.blocks) == STORE_LAG_MAX + 10)

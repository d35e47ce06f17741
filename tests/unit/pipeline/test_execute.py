"""The execute stage: strictly by height, duplicates and expiry by the chain alone, held back by a slow disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import pytest

from chain.codec import pack
from chain.errors import InvariantError
from chain.model.block import Header, Proposal, gap_proposal, header_hash, proposal_digest
from chain.model.transaction import Transaction
from chain.model.validators import ValidatorSchedule, ValidatorSet
from chain.pipeline.ahead import AheadStats
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.execute import IN_FLIGHT_MAX, STORE_LAG_MAX, ExecutedBlock, ExecuteStage
from chain.pipeline.spans import CpuMeter, Spans
from chain.types import ZERO_DIGEST, Digest, Height, ValidatorId
from executor import ExecutionInput, ExecutionOutput, ExecutionStats
from tests.unit.pool.transactions import CHAIN_ID, make_transaction
from tests.unit.store.factory import ChainFactory

OLD_SET, NEW_SET = (ChainFactory(name=name).validators for name in ("old", "new"))
LEADER = ValidatorId(b"\x01" * 20)
STATS = ExecutionStats(
    mode="", reason="", shards=0, largest_shard=0, shard_sizes=(), conflicts_predicted=0, conflicts_actual=0,
    reexecuted=0, executors_lost=0, busy_us=(), plan_us=0, validate_us=0, cpu_us=0, wall_us=0,
)  # fmt: skip
PARENT = Header(
    chain_id=CHAIN_ID, height=6, time_ms=5_000, parent_hash=ZERO_DIGEST, proposal_digest=ZERO_DIGEST, rule_set=3,
    validator_set_hash=ZERO_DIGEST, transaction_count=0, transaction_root=ZERO_DIGEST, receipt_root=ZERO_DIGEST,
    state_root=ZERO_DIGEST, gas_used=0,
)  # fmt: skip


class NoArchive:
    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        return None


class World:
    """An engine that echoes, at once or when told to, and an index of what is executed."""

    def __init__(self) -> None:
        self.inputs: list[ExecutionInput] = []
        self.writes: dict[int, bytes] = {}
        self.discards: list[int] = []
        self.blocks: list[ExecutedBlock] = []
        self.done: set[Digest] = set()
        self.held: deque[tuple[ExecutionInput, asyncio.Future[ExecutionOutput]]] | None = None  # set: answers wait here
        self.bodies = Bodies(NoArchive())
        self.schedule = ValidatorSchedule(OLD_SET)
        self.known_at_executed: list[ValidatorSet] = []
        self.scheduled: dict[bytes, ValidatorSet] = {}  # by packed write set
        self.roots: dict[int, bytes | None] = {}  # None: not known yet
        self.stage = ExecuteStage(
            last=PARENT, bodies=self.bodies, engine=self, index=self, spans=Spans(), cpu=CpuMeter(), queue_max=256,
            executed=self.on_executed, schedule=self.schedule, window=2, scheduled=self.scheduled.get, snapshots=self,
        )  # fmt: skip

    def on_executed(self, block: ExecutedBlock) -> None:
        self.blocks.append(block)
        self.known_at_executed.append(self.schedule.last_known)

    def root_in(self, height: Height) -> bytes | None:
        return self.roots.get(height, b"")

    def execute(self, block: ExecutionInput) -> asyncio.Future[ExecutionOutput]:
        self.inputs.append(block)
        answer: asyncio.Future[ExecutionOutput] = asyncio.get_running_loop().create_future()
        if self.held is None:
            answer.set_result(self.echo(block))
        else:
            self.held.append((block, answer))
        return answer

    async def discard(self, height: int) -> None:
        self.discards.append(height)
        for block, answer in self.held or ():
            if block.height >= height:
                answer.cancel()

    def answer(self, count: int = 1) -> None:
        """Of the answers that wait, the first ones come."""
        for _ in range(count):
            assert self.held is not None
            block, answer = self.held.popleft()
            answer.set_result(self.echo(block))

    def echo(self, block: ExecutionInput) -> ExecutionOutput:
        output = echo(block)
        return msgspec.structs.replace(output, writes=self.writes.get(block.height, output.writes))

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        return [transaction_hash in self.done for transaction_hash in hashes]

    def add(self, height: Height, hashes: Sequence[Digest]) -> None:
        self.done.update(hashes)

    def make(self, height: int, transactions: Sequence[Transaction], timestamp_ms: int) -> tuple[Proposal, Digest]:
        proposal = Proposal(
            chain_id=CHAIN_ID, height=height, timestamp_ms=timestamp_ms, proposer=LEADER,
            hashes=b"".join(transaction.hash for transaction in transactions),
        )  # fmt: skip
        digest = proposal_digest(proposal)
        self.bodies.put(LiveProposal(digest, proposal, transactions))
        return proposal, digest

    def put(self, height: int, transactions: Sequence[Transaction], timestamp_ms: int = 9_000) -> None:
        self.stage.put(*self.make(height, transactions, timestamp_ms))

    def speculate(self, height: int, transactions: Sequence[Transaction], timestamp_ms: int = 9_000) -> None:
        self.stage.speculate(*self.make(height, transactions, timestamp_ms))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the stage run until `condition` holds, and then until it has nothing more to do."""
        task = asyncio.create_task(self.stage.run())
        try:
            async with asyncio.timeout(10):
                while not condition() and not task.done():
                    await asyncio.sleep(0)
            for _ in range(8):
                await asyncio.sleep(0)
            if task.done():
                await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def run(self, condition: Callable[[], bool]) -> None:
        asyncio.run(self.until(condition))


def echo(block: ExecutionInput) -> ExecutionOutput:
    root = bytes((block.height,)) * 32
    return ExecutionOutput(
        height=block.height, transaction_root=root, receipt_root=root, state_root=root, gas_used=1,
        receipts=tuple(b"r" for _ in block.transactions), writes=pack(()), stats=STATS,
    )  # fmt: skip


def test_a_header_waits_for_the_root_it_commits_to_and_nothing_else_does() -> None:
    world = World()
    world.roots = {8: None}
    for height in (7, 8, 9):
        world.put(height, [])

    async def scenario() -> None:
        await world.until(lambda: len(world.inputs) == 3 and len(world.blocks) == 1)
        assert [block.header.height for block in world.blocks] == [7], "executed further, published no further"
        world.roots[8] = b"\x05" * 32
        world.stage.wake()
        await world.until(lambda: len(world.blocks) == 3)

    asyncio.run(scenario())
    assert [block.header.snapshot_root for block in world.blocks] == [b"", b"\x05" * 32, b""]


def test_a_header_names_the_set_in_force_at_its_height() -> None:
    """What block 8 schedules is in force from 8 + window + 1 on, and known before anybody hears of the block."""
    world = World()
    world.writes[8] = b"scheduling"
    world.scheduled[b"scheduling"] = NEW_SET
    for height in range(7, 14):
        world.put(height, [])
    world.run(lambda: len(world.blocks) == 7)
    sets = [block.header.validator_set_hash for block in world.blocks]
    assert sets == [OLD_SET.digest] * 4 + [NEW_SET.digest] * 3
    assert [block.validators for block in world.blocks] == [None, NEW_SET, *[None] * 5]
    assert world.known_at_executed == [OLD_SET, *[NEW_SET] * 6]


def test_what_is_executed_ahead_schedules_nothing() -> None:
    world = World()
    world.writes[7] = b"scheduling"
    world.scheduled[b"scheduling"] = NEW_SET
    world.speculate(7, [])
    world.run(lambda: len(world.inputs) == 1)
    assert world.blocks == []
    assert world.schedule.last_known is OLD_SET


def test_a_header_extends_its_parent() -> None:
    world = World()
    world.put(7, [make_transaction(1)])
    world.put(8, [make_transaction(2)])
    world.run(lambda: len(world.blocks) == 2)
    first, second = world.blocks
    assert first.header.parent_hash == header_hash(PARENT)
    assert second.header.parent_hash == first.header_hash == header_hash(first.header)
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
    assert world.inputs[0].hashes == last_chance.hash + good.hash
    assert world.inputs[0].senders == last_chance.sender + good.sender
    assert block.header.transaction_count == 2


def test_a_block_in_which_one_transaction_has_expired_and_nothing_else_is_wrong_is_executed_without_it() -> None:
    world = World()
    old, good = make_transaction(1, expiry=6), make_transaction(2, expiry=99)
    world.put(7, [good, old])
    world.run(lambda: len(world.blocks) == 1)
    [block] = world.blocks
    assert block.skipped == (1,)
    assert block.hashes == [good.hash]


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
    with pytest.raises(InvariantError, match="height 8 after 6"):
        world.put(8, [])
    world.speculate(7, [])
    world.speculate(8, [])
    with pytest.raises(InvariantError, match="height 8 is ordered, height 7 is not"):
        world.put(8, [])
    with pytest.raises(InvariantError, match="height 6 after 8"):
        world.put(6, [])


def test_a_slow_disk_holds_back_execution() -> None:
    world = World()
    for height in range(7, 7 + STORE_LAG_MAX + 10):
        world.put(height, [])
    world.run(lambda: world.stage.depth == 10)
    assert world.blocks[-1].header.height == PARENT.height + STORE_LAG_MAX
    world = World()
    for height in range(7, 7 + STORE_LAG_MAX + 10):
        world.put(height, [])
    world.stage.stored(Height(16))
    world.run(lambda: len(world.blocks) == STORE_LAG_MAX + 10)


def test_a_full_queue_is_our_bug() -> None:
    world = World()
    for height in range(7, 7 + 256):
        world.put(height, [])
    with pytest.raises(InvariantError, match="more than 256 heights"):
        world.put(7 + 256, [])


# --- several heights with the executors ---


def test_the_executors_have_several_heights_at_once_and_a_bounded_number() -> None:
    world = World()
    world.held = deque()
    for height in range(7, 14):
        world.put(height, [make_transaction(height)])

    async def go() -> None:
        await world.until(lambda: len(world.inputs) == IN_FLIGHT_MAX)
        assert len(world.inputs) == IN_FLIGHT_MAX
        assert world.blocks == []
        world.answer(2)
        await world.until(lambda: len(world.blocks) == 2)
        assert len(world.inputs) == IN_FLIGHT_MAX + 2
        assert [block.header.height for block in world.blocks] == [7, 8]
        assert world.blocks[1].header.parent_hash == world.blocks[0].header_hash

    asyncio.run(go())


def test_what_is_still_with_the_executors_counts_as_executed_and_sets_the_block_time() -> None:
    world = World()
    world.held = deque()
    once, again = make_transaction(1), make_transaction(2)
    world.put(7, [once], timestamp_ms=9_000)
    world.put(8, [once, again], timestamp_ms=8_000)
    world.put(9, [again], timestamp_ms=9_500)
    world.run(lambda: len(world.inputs) == 3)
    assert [work.transactions for work in world.inputs] == [(once.raw,), (again.raw,), ()]
    assert [work.time_ms for work in world.inputs] == [9_000, 9_000, 9_500]
    assert world.done == set()


def test_a_failed_execution_ends_the_stage() -> None:
    world = World()
    world.held = deque()
    world.put(7, [])

    async def go() -> None:
        await world.until(lambda: len(world.inputs) == 1)
        assert world.held is not None
        world.held[0][1].set_exception(InvariantError("a promise of ours"))
        with pytest.raises(InvariantError, match="a promise of ours"):
            await world.until(lambda: False)

    asyncio.run(go())


def test_an_execution_cancelled_by_a_stranger_ends_the_stage() -> None:
    world = World()
    world.held = deque()
    world.put(7, [])

    async def go() -> None:
        await world.until(lambda: len(world.inputs) == 1)
        assert world.held is not None
        world.held[0][1].cancel()
        with pytest.raises(InvariantError, match="height 7 was cancelled"):
            await world.until(lambda: False)

    asyncio.run(go())


# --- ahead of order ---


def test_nothing_comes_of_a_prepared_height_before_it_is_ordered() -> None:
    world = World()

    async def go() -> None:
        one, two = make_transaction(1), make_transaction(2)
        world.speculate(7, [one])
        world.speculate(8, [two])
        await world.until(lambda: len(world.inputs) == 2)
        assert world.blocks == []
        assert world.done == set()
        assert world.stage.stats == AheadStats(2, 0, 0)
        world.put(7, [one])
        await world.until(lambda: len(world.blocks) == 1)
        assert world.done == {one.hash}
        world.put(8, [two])
        await world.until(lambda: len(world.blocks) == 2)
        assert len(world.inputs) == 2
        assert world.discards == []
        assert world.stage.stats == AheadStats(2, 2, 0)

    asyncio.run(go())


def test_the_same_proposal_named_again_changes_nothing() -> None:
    world = World()

    async def go() -> None:
        for _ in range(3):
            world.speculate(7, [])
            world.speculate(8, [])
            await world.until(lambda: len(world.inputs) == 2)
        assert (len(world.inputs), world.discards) == (2, [])

    asyncio.run(go())


@pytest.mark.parametrize("answered", [0, 1, 3])
@pytest.mark.parametrize("by_order", [True, False])
def test_another_proposal_discards_its_height_and_all_above(answered: int, by_order: bool) -> None:
    """Whatever the executors have answered by then; the transactions come back and are not taken for duplicates."""
    world = World()
    world.held = deque()
    one, two, three = (make_transaction(at) for at in (1, 2, 3))
    for height, transaction in ((7, one), (8, two), (9, three)):
        world.speculate(height, [transaction], timestamp_ms=9_000)

    async def go() -> None:
        await world.until(lambda: len(world.inputs) == 3)
        world.answer(answered)
        await world.until(lambda: True)
        world.put(7, [one], timestamp_ms=9_000)
        if by_order:
            world.put(8, [three, two], timestamp_ms=8_500)
        else:
            world.speculate(8, [three, two], timestamp_ms=8_500)
        await world.until(lambda: len(world.inputs) == 4)
        assert world.discards == [8]
        assert [work.transactions for work in world.inputs[3:]] == [(three.raw, two.raw)]
        assert [work.time_ms for work in world.inputs[3:]] == [9_000]
        assert world.held is not None
        world.held = deque([(block, answer) for block, answer in world.held if not answer.cancelled()])
        world.answer(len(world.held))
        world.put(8, [three, two], timestamp_ms=8_500)
        world.put(9, [one], timestamp_ms=9_000)
        await world.until(lambda: len(world.blocks) == 2)
        world.answer(1)
        await world.until(lambda: len(world.blocks) == 3)
        assert [block.hashes for block in world.blocks] == [[one.hash], [three.hash, two.hash], []]
        assert [block.skipped for block in world.blocks] == [(), (), (0,)]
        assert world.stage.stats == AheadStats(3 if by_order else 4, 1 if by_order else 2, 2)

    asyncio.run(go())


def test_a_discard_waits_for_nothing_and_comes_before_what_takes_its_place() -> None:
    world = World()

    async def go() -> None:
        world.held = deque()
        order: list[str] = []
        execute, discard = world.execute, world.discard

        def told(block: ExecutionInput) -> asyncio.Future[ExecutionOutput]:
            order.append(f"execute {block.height}")
            return execute(block)

        async def slowly(height: int) -> None:
            order.append(f"discard {height}")
            if len(order) == 2:
                world.speculate(7, [make_transaction(3)])  # replaced again while the executors are told
            await asyncio.sleep(0)
            await discard(height)

        world.execute, world.discard = told, slowly  # type: ignore[method-assign]
        world.speculate(7, [make_transaction(1)])
        await world.until(lambda: len(world.inputs) == 1)
        world.speculate(7, [make_transaction(2)])
        await world.until(lambda: len(world.inputs) == 2)
        assert order == ["execute 7", "discard 7", "execute 7"]

    asyncio.run(go())


def test_what_was_named_and_not_started_is_no_business_of_the_executors() -> None:
    world = World()

    async def go() -> None:
        world.held = deque()
        for height in range(7, 13):
            world.speculate(height, [])
        await world.until(lambda: len(world.inputs) == IN_FLIGHT_MAX)
        world.speculate(11, [], timestamp_ms=1)
        await world.until(lambda: True)
        assert world.discards == []
        assert world.stage.stats == AheadStats(IN_FLIGHT_MAX, 0, 0)

    asyncio.run(go())


def test_an_ordered_height_is_never_replaced() -> None:
    world = World()
    world.put(7, [], timestamp_ms=1)
    with pytest.raises(InvariantError, match="height 7 is ordered"):
        world.speculate(7, [], timestamp_ms=2)

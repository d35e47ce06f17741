"""Several blocks in flight with real processes: dead and hung ones, discarded heights; the bytes are the oracle's."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from chain.errors import InvariantError
from executor import ExecutionOutput
from executor.engine import IN_FLIGHT_MAX
from executor.governor import Mode
from executor.process import NOWHERE
from tests.integration.engine_room import (
    EngineRoom,
    ask,
    expect,
    in_block,
    is_running,
    long_ones,
    make_boards,
    payments,
    run_equal,
    until,
)
from tests.unit.executor.workbench import ARENA, Oracle, block_of, deployment, transaction

pytestmark = pytest.mark.slow  # each starts processes, some start them again


async def answers(room: EngineRoom, blocks: list[list[bytes]]) -> list[ExecutionOutput]:
    return await expect(room, ask(room, room.engine.height + 1, blocks), blocks)


@pytest.mark.parametrize(("executors", "mode"), [(1, "parallel"), (2, "forced"), (3, "parallel")])
def test_several_blocks_in_flight_are_answered_in_order(tmp_path: Path, executors: int, mode: Mode) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors, mode=mode) as room:
            (board,) = await make_boards(room)
            for count in (2, 3, 4):
                blocks = [payments(board, 30) for _ in range(count)]
                first = room.engine.height + 1
                asked = ask(room, first, blocks)
                order: list[int] = []
                for answer in asked:
                    answer.add_done_callback(lambda done: order.append(done.result().height))  # noqa: B023
                await expect(room, asked, blocks)
                assert order == [first + at for at in range(count)]
                if count == 3:
                    room.store_all()
            assert room.engine.stats.blocks == 11
            assert room.engine.stats.discarded == 0

    asyncio.run(scenario())


def test_a_bounded_number_of_blocks_is_in_flight(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            asked = [room.engine.execute(block_of(at, [])) for at in range(1, 1 + IN_FLIGHT_MAX)]
            with pytest.raises(InvariantError, match=f"height 5 with {IN_FLIGHT_MAX} blocks in flight"):
                room.engine.execute(block_of(1 + IN_FLIGHT_MAX, []))
            assert [(await answer).height for answer in asked] == [1, 2, 3, 4]

    asyncio.run(scenario())


@pytest.mark.parametrize("killed_in", [0, 1])
def test_a_lead_killed_with_several_blocks_in_flight_runs_the_unanswered_ones_again(
    tmp_path: Path, killed_in: int
) -> None:
    """Only the block it was at has used up an attempt."""

    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            await run_equal(room, payments(board, 20), store=False)
            first = room.engine.height + 1
            blocks = [payments(board, 20), payments(board, 20), payments(board, 20)]
            blocks[killed_in] = long_ones(board, 4)
            asked = ask(room, first, blocks)
            lead = await in_block(room, first + killed_in)
            os.kill(lead.process.process.pid, signal.SIGKILL)
            outputs = await expect(room, asked, blocks)
            reasons = [output.stats.reason == "retry" for output in outputs]
            assert reasons == [at == killed_in for at in range(3)]
            assert room.engine.stats.lead_restarts == 1
            await run_equal(room, payments(board, 20))

    asyncio.run(scenario())


def test_a_block_in_the_middle_that_ends_the_lead_twice_fails_with_all_after_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            (board,) = await make_boards(room)
            first = room.engine.height + 1
            blocks = [payments(board, 5), long_ones(board, 2), payments(board, 5)]
            asked = ask(room, first, blocks)
            for restarts in (0, 1):
                await until(lambda: room.engine.stats.lead_restarts == restarts, "the lead is replaced")  # noqa: B023
                await until(lambda: room.engine._lead_listens, "the new lead is there")
                lead = await in_block(room, first + 1)
                os.kill(lead.process.process.pid, signal.SIGKILL)
            assert (await asked[0]).height == first
            for answer in asked[1:]:
                with pytest.raises(InvariantError, match=f"block {first + 1} ended the lead executor twice, at trans"):
                    await answer
            with pytest.raises(InvariantError, match="ended the lead executor twice"):
                room.engine.execute(block_of(first, []))

    asyncio.run(scenario())


def test_leads_that_die_one_after_the_other_stop_the_engine(tmp_path: Path) -> None:
    """Whatever they die of: here it is no block's fault."""

    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            (board,) = await make_boards(room)
            killed: set[int] = set()

            def kill_the_next() -> bool:
                lead = room.engine._lead
                if lead is not None and room.engine._lead_listens and lead.process.process.pid not in killed:
                    killed.add(lead.process.process.pid)
                    lead.process.progress.enter(*NOWHERE)
                    os.kill(lead.process.process.pid, signal.SIGKILL)
                    lead.process.process.wait()
                    lead.process.progress.enter(*NOWHERE)
                return answer.done()

            answer = room.engine.execute(room.block(long_ones(board, 20)))
            await until(kill_the_next, "the engine gives up")
            with pytest.raises(InvariantError, match="8 lead executors in a row ended without executing a block"):
                await answer

    asyncio.run(scenario())


# --- hung processes ---


def test_an_executor_stopped_in_the_middle_of_its_share_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            other = room.engine._others[1]
            other.progress.enter(*NOWHERE)
            blocks = [long_ones(board, 4), payments(board, 20)]
            first = room.engine.height + 1
            asked = ask(room, first, blocks)
            await until(lambda: other.progress.place()[0] == first, "the executor is in the block")
            os.kill(other.process.pid, signal.SIGSTOP)
            outputs = await expect(room, asked, blocks)
            assert outputs[0].stats.executors_lost == 1
            assert outputs[0].stats.reexecuted > 0
            assert not is_running(other.process.pid)
            assert room.engine.stats.lead_restarts == 0
            await run_equal(room, payments(board, 20))
            assert (await run_equal(room, payments(board, 20))).stats.executors_lost == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("executors", [1, 2])
def test_a_lead_that_hangs_is_replaced_and_gives_the_same(tmp_path: Path, executors: int) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors, hung_s=1.0) as room:
            (board,) = await make_boards(room)
            await run_equal(room, payments(board, 20), store=False)
            first = room.engine.height + 1
            blocks = [payments(board, 20), long_ones(board, 3), payments(board, 20)]
            asked = ask(room, first, blocks)
            lead = await in_block(room, first + 1)
            pid = lead.process.process.pid
            os.kill(pid, signal.SIGSTOP)
            outputs = await expect(room, asked, blocks)
            assert [output.stats.reason == "retry" for output in outputs] == [False, True, False]
            assert room.engine.stats.lead_restarts == 1
            assert not is_running(pid)
            await run_equal(room, payments(board, 20))

    asyncio.run(scenario())


def test_an_idle_lead_is_not_taken_for_a_hung_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1, hung_s=0.02) as room:
            pids = room.engine.process_ids
            for _ in range(3):
                await room.run([])
                await asyncio.sleep(0.1)  # five times what a lead at work may stand still
            assert room.engine.process_ids == pids

    asyncio.run(scenario())


# --- discarding ---


@pytest.mark.parametrize("executors", [1, 3])
@pytest.mark.parametrize("stored", [0, 1])
def test_other_blocks_take_the_place_of_discarded_ones(tmp_path: Path, executors: int, stored: int) -> None:
    """One height or several, executed and answered: what comes after is what a fresh serial run gives."""

    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors) as room:
            (board,) = await make_boards(room)
            await run_equal(room, payments(board, 10), store=stored == 1)
            last = room.engine.height
            for void in (1, 2, 4):
                for at in range(void):
                    deploy, _ = deployment(9, f"void.{void}.{at}", ARENA, (at,))
                    await room.engine.execute(block_of(last + 1 + at, [deploy, *payments(board, 25)]))
                assert room.engine.height == last + void
                await room.engine.discard(last + 1)
                assert room.engine.height == last
            await answers(room, [payments(board, 15)])  # equal to the oracle, which never saw what was discarded
            fork = Oracle(room.oracle.reader.fork())
            await answers(room, [payments(board, 16)])
            await room.engine.discard(last + 2)
            room.oracle = fork
            room.unstored.pop()
            await answers(room, [payments(board, 17), [transaction(3, board, "count", (4,))]])
            room.store_all()
            await run_equal(room, payments(board, 12))
            assert room.engine.stats.discarded == 8
            assert room.engine.stats.lead_restarts == 0
            assert room.engine.stats.executors_lost == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("executors", [1, 2])
@pytest.mark.parametrize("keep", [0, 1])
def test_blocks_are_discarded_while_they_run(tmp_path: Path, executors: int, keep: int) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors) as room:
            (board,) = await make_boards(room)
            first = room.engine.height + 1
            blocks = [long_ones(board, 2), payments(board, 20), payments(board, 20)]
            asked = ask(room, first, blocks)
            await in_block(room, first)
            await room.engine.discard(first + keep)
            assert [answer.cancelled() for answer in asked] == [at >= keep for at in range(3)]
            others = [payments(board, 21), payments(board, 22)]
            asked = asked[:keep] + [
                room.engine.execute(block_of(first + keep + at, block)) for at, block in enumerate(others)
            ]
            await expect(room, asked, blocks[:keep] + others)
            room.store_all()
            await run_equal(room, payments(board, 20))
            assert room.engine.stats.discarded == 3 - keep
            assert room.engine.stats.lead_restarts == 0

    asyncio.run(scenario())


def test_a_lead_killed_after_a_discard_knows_nothing_of_what_was_discarded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            await run_equal(room, payments(board, 20), store=False)
            first = room.engine.height + 1
            void = [room.engine.execute(block_of(first + at, payments(board, 20))) for at in range(2)]
            await asyncio.gather(*void)
            late = room.engine.execute(block_of(first + 2, long_ones(board, 4)))
            lead = await in_block(room, first + 2)
            await room.engine.discard(first)
            blocks = [payments(board, 23), payments(board, 24)]
            asked = ask(room, first, blocks)
            os.kill(lead.process.process.pid, signal.SIGKILL)
            outputs = await expect(room, asked, blocks)
            assert late.cancelled()
            assert [output.stats.reason for output in outputs].count("retry") == 0  # it died on a discarded block
            assert room.engine.stats.lead_restarts == 1

    asyncio.run(scenario())


def test_discarding_again_and_again_behind_a_long_block_is_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            (board,) = await make_boards(room)
            first = room.engine.height + 1
            room.engine.execute(block_of(first, long_ones(board, 60)))
            await in_block(room, first)
            for _ in range(20):
                await room.engine.discard(first)
                room.engine.execute(block_of(first, payments(board, 2)))
                assert len(room.engine._line) <= 16
            await room.engine.discard(first)
            await run_equal(room, payments(board, 20))
            assert room.engine.stats.lead_restarts == 1  # rather than to wait for all of that

    asyncio.run(scenario())


def test_a_cancelled_block_discards_those_after_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            first = room.engine.height + 1
            blocks = [payments(board, 20), long_ones(board, 2), payments(board, 20)]
            asked = ask(room, first, blocks)
            asked[1].cancel()
            others = [payments(board, 21)]
            again = room.engine.execute(block_of(first + 1, others[0]))
            await expect(room, [asked[0], again], [blocks[0], others[0]])
            assert asked[2].cancelled()

    asyncio.run(scenario())


def test_what_is_stored_is_not_discarded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            await room.run([])
            with pytest.raises(InvariantError, match="discard height 1, stored up to 1"):
                await room.engine.discard(1)
            await room.engine.discard(2)  # nothing there
            assert room.engine.height == 1

    asyncio.run(scenario())

"""The engine with real processes, real LMDB and real contracts: same bytes as the oracle, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chain.codec import pack, unpack
from chain.errors import BadInput, ConfigError, InvariantError
from contracts.runtime import Status
from executor import QueryInput
from executor.engine import Engine
from executor.process import NOWHERE
from executor.protocol import ChannelLost
from tests.integration.engine_room import (
    LONG_GAS,
    LONG_ROUNDS,
    EngineRoom,
    is_running,
    long_ones,
    make_boards,
    payments,
    run_equal,
    until,
)
from tests.unit.executor.workbench import account, hash_of, transaction

pytestmark = pytest.mark.slow  # each starts processes, some start them again


@pytest.mark.parametrize(("executors", "mode"), [(1, "parallel"), (2, "forced"), (4, "forced"), (2, "serial")])
def test_equals_the_oracle_while_the_store_lags(tmp_path: Path, executors: int, mode: str) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors, mode=mode) as room:  # type: ignore[arg-type]
            boards = await make_boards(room, 2)
            for number in range(6):
                output = await run_equal(room, payments(boards[number % 2], 40), store=number % 3 == 2)
                expected = "parallel" if mode == "forced" else "serial"
                assert output.stats.mode == expected
            await run_equal(room, [])
            assert room.engine.stats.blocks == 9
            assert room.engine.stats.executors_lost == 0
            if mode == "forced":
                assert room.engine.stats.last is not None

    asyncio.run(scenario())


def test_independent_transactions_are_shared_out_without_reruns(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            pairs = [transaction(n, board, "send", (account(n + 6).address, 1)) for n in range(6) for _ in range(10)]
            output = await run_equal(room, pairs)
            assert (output.stats.shards, output.stats.largest_shard, output.stats.reexecuted) == (6, 10, 0)
            assert min(output.stats.busy_us) > 0

    asyncio.run(scenario())


def test_an_executor_killed_in_a_block_changes_nothing_and_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            other = room.engine._others[1]
            other.progress.enter(*NOWHERE)
            block = long_ones(board, 6)
            running = asyncio.create_task(run_equal(room, block))
            await until(lambda: other.progress.place()[0] == room.engine.height + 1, "the executor is in the block")
            os.kill(other.process.pid, signal.SIGKILL)
            output = await running
            assert output.stats.executors_lost == 1
            assert output.stats.reexecuted > 0
            assert room.engine.process_ids[1] != other.process.pid
            output = await run_equal(room, payments(board, 20))
            output = await run_equal(room, payments(board, 20))
            assert output.stats.executors_lost == 0
            assert room.engine.executors_alive == 2

    asyncio.run(scenario())


def test_an_executor_that_falls_silent_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            pid = room.engine.process_ids[1]
            os.kill(pid, signal.SIGSTOP)
            output = await run_equal(room, payments(board, 20))
            assert output.stats.executors_lost == 1
            assert not is_running(pid)
            assert (await run_equal(room, payments(board, 20))).stats.executors_lost == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("executors", [1, 2])
def test_a_lead_killed_in_a_block_is_replaced_and_the_block_run_again(tmp_path: Path, executors: int) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors) as room:
            (board,) = await make_boards(room)
            await run_equal(room, payments(board, 20), store=False)  # the new lead gets these writes from the engine
            await run_equal(room, payments(board, 20), store=False)
            lead = room.engine._lead
            assert lead is not None
            running = asyncio.create_task(run_equal(room, long_ones(board, 4)))
            await until(lambda: lead.process.progress.place()[0] == room.engine.height + 1, "the lead is in the block")
            os.kill(lead.process.process.pid, signal.SIGKILL)
            output = await running
            assert (output.stats.mode, output.stats.reason) == ("serial", "retry")
            assert room.engine.stats.lead_restarts == 1
            output = await run_equal(room, payments(board, 20))
            assert output.stats.mode == ("parallel" if executors > 1 else "serial")

    asyncio.run(scenario())


def test_a_lead_killed_between_blocks_does_not_count_as_an_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            await run_equal(room, payments(board, 20), store=False)
            for _ in range(3):
                lead = room.engine._lead
                assert lead is not None
                os.kill(lead.process.process.pid, signal.SIGKILL)
                await until(lambda: not lead.alive, "the lead is gone")  # noqa: B023
                output = await run_equal(room, payments(board, 20), store=False)
                assert output.stats.reason != "retry"
            assert room.engine.stats.lead_restarts == 3

    asyncio.run(scenario())


def test_a_block_that_ends_the_lead_twice_stops_the_engine_and_names_the_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            block = [*payments(board, 3), *long_ones(board, 1)]
            height = room.engine.height + 1
            running = room.engine.execute(room.block(block))
            for attempt in (1, 2):

                def in_the_block() -> bool:
                    lead = room.engine._lead
                    if lead is None or not lead.alive:
                        return False
                    place = lead.process.progress.place()
                    return place == (height, 3) or (attempt == 1 and place[0] == height)  # noqa: B023

                await until(in_the_block, "the lead is in the long transaction")
                assert room.engine._lead is not None
                os.kill(room.engine._lead.process.process.pid, signal.SIGKILL)
                await until(lambda: room.engine.stats.lead_restarts == 1 or running.done(), "the lead is replaced")
            with pytest.raises(InvariantError, match=f"block {height} .* transaction 3 .*{hash_of(block[3]).hex()}"):
                await running
            with pytest.raises(InvariantError, match="ended the lead executor twice"):
                await room.engine.execute(room.block([]))

    asyncio.run(scenario())


def test_a_cancelled_block_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    """Its answer must not be taken for that of another block at the same height."""

    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            running = room.engine.execute(room.block(long_ones(board, 2)))
            lead = room.engine._lead
            assert lead is not None
            await until(lambda: lead.process.progress.place()[0] == room.engine.height + 1, "the lead is in the block")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await run_equal(room, payments(board, 20))

    asyncio.run(scenario())


def test_stopping_ends_a_running_block_and_all_processes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            running = room.engine.execute(room.block(long_ones(board, 40)))
            lead = room.engine._lead
            assert lead is not None
            await until(lambda: lead.process.progress.place()[0] == room.engine.height + 1, "the lead is in the block")
            pids = room.engine.process_ids
            await room.engine.stop()
            with pytest.raises(ChannelLost):
                await running
            assert not any(is_running(pid) for pid in pids)
            assert room.engine.executors_alive == 0

    asyncio.run(scenario())


def test_heights_must_follow_each_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            block = room.block([])
            await room.run([])
            with pytest.raises(InvariantError, match="height 1 after 1"):
                await room.engine.execute(block)

    asyncio.run(scenario())


def test_restarts_on_the_stored_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=2) as room:
            (board,) = await make_boards(room)
            oracle = room.oracle
        async with EngineRoom(tmp_path, executors=2) as room:
            room.oracle = oracle
            assert room.engine.height == 2
            await run_equal(room, payments(board, 20))

    asyncio.run(scenario())


def test_executors_ignore_interrupts_and_end_with_the_engine(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=3) as room:
            (board,) = await make_boards(room)
            pids = room.engine.process_ids
            assert len(pids) == 3
            for pid in pids:
                os.kill(pid, signal.SIGINT)
            output = await run_equal(room, payments(board, 20))
            assert output.stats.executors_lost == 0
            assert room.engine.process_ids == pids
        assert not any(is_running(pid) for pid in pids)

    asyncio.run(scenario())


_NODE = """
import asyncio, sys
from pathlib import Path
from executor.engine import Engine
async def main():
    engine = Engine(state_path=Path(sys.argv[1]), executors=3, chain_id=bytes(31) + b"\\x07", rule_set=1,
                    transaction_gas_max=10**8, deployers=frozenset(), mode="forced")
    await engine.start()
    print(*engine.process_ids, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_killed_node_leaves_no_orphans(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1):
            pass
        with subprocess.Popen(
            [sys.executable, "-c", _NODE, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True
        ) as node:
            assert node.stdout is not None
            pids = [int(text) for text in node.stdout.readline().split()]
            assert len(pids) == 3
            assert all(is_running(pid) for pid in pids)
            node.kill()
        await until(lambda: not any(is_running(pid) for pid in pids), "the executors end")

    asyncio.run(scenario())


def test_configuration_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="executors is 0, must be"):
        Engine(
            state_path=tmp_path, executors=0, chain_id=bytes(32), rule_set=1, transaction_gas_max=1,
            deployers=frozenset(),
        )  # fmt: skip


def test_an_engine_without_a_state_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = Engine(
            state_path=tmp_path / "nothing", executors=2, chain_id=bytes(32), rule_set=1, transaction_gas_max=1,
            deployers=frozenset(),
        )  # fmt: skip
        with pytest.raises(InvariantError, match="the lead executor does not start: StoreError"):
            await engine.start()
        await engine.stop()

    asyncio.run(scenario())


# --- queries ---


def _query(
    board: bytes, method: str, *arguments: object, simulate: bool = False, gas_limit: int = 10_000_000
) -> QueryInput:
    return QueryInput(
        sender=account(0).address,
        target=board,
        method=method,
        arguments=pack(arguments),  # type: ignore[arg-type]
        gas_limit=gas_limit,
        time_ms=1_700_000_000_000,
        simulate=simulate,
    )


def test_queries_read_the_stored_state_beside_a_running_block(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            (board,) = await make_boards(room)
            await room.run([transaction(0, board, "count", (5,))])
            first = await room.engine.query(_query(board, "count", 1, simulate=True))
            assert (first.status, unpack(first.result), first.height) == (0, 6, 3)
            await room.run([transaction(0, board, "count", (10,))], store=False)  # executed, not stored: not shown
            running = asyncio.create_task(room.run(long_ones(board, 3)))
            answers = await asyncio.gather(*[room.engine.query(_query(board, "count", n)) for n in range(50)])
            assert not running.done()
            assert [unpack(answer.result) for answer in answers] == [5 + n for n in range(50)]
            assert all(answer.writes == () for answer in answers)
            await running
            late = await room.engine.query(_query(board, "count", 0))
            assert (unpack(late.result), late.height) == (15, 5)
            refused = await room.engine.query(_query(bytes(20), "count", 0))
            assert refused.status == Status.UNKNOWN_CONTRACT

    asyncio.run(scenario())


def test_a_killed_query_executor_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            (board,) = await make_boards(room)
            await room.engine.query(_query(board, "count", 1))
            connection = room.engine._queries._connection
            assert connection is not None
            slow = _query(board, "burn", LONG_ROUNDS, gas_limit=LONG_GAS)
            running = [asyncio.create_task(room.engine.query(query)) for query in (slow, _query(board, "count", 2))]
            await asyncio.sleep(0)
            os.kill(connection.process.process.pid, signal.SIGKILL)
            answers = await asyncio.gather(*running)
            assert unpack(answers[1].result) == 2
            assert room.engine._queries.restarts == 1

    asyncio.run(scenario())


def test_too_many_queries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.queries.QUERIES_PENDING_MAX", 3)

    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            (board,) = await make_boards(room)
            await room.engine.query(_query(board, "count", 1))
            asked = [asyncio.create_task(room.engine.query(_query(board, "count", 1))) for _ in range(10)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, BadInput)]
            assert {answer.code for answer in refused} == {"busy"}
            assert len(answers) - len(refused) == 3

    asyncio.run(scenario())

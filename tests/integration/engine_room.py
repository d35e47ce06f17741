"""A real engine over a real state environment, and the oracle beside it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from chain.model.merkle import unpack_writes
from chain.store.state import StateStore
from executor import ExecutionInput, ExecutionOutput
from executor.connection import Connection
from executor.engine import HUNG_S, Engine
from executor.governor import Mode
from tests.unit.executor.workbench import (
    ARENA,
    CHAIN,
    CHAIN_ID,
    Oracle,
    account,
    block_of,
    deployment,
    receipts_of,
    results_of,
    transaction,
)

DEADLINE_S = 30.0
LONG_ROUNDS = 100_000  # of `burn`: some hundred milliseconds
LONG_GAS = 90_000_000


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, failing with `what` after a deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.002)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] != "Z"


class EngineRoom:
    """An engine, its store, and an oracle that executes the same blocks serially in this process."""

    def __init__(self, folder: Path, *, executors: int, mode: Mode = "forced", hung_s: float = HUNG_S) -> None:
        self.store = StateStore(folder / "state", chain_id=CHAIN_ID, genesis_state_root=bytes(32))
        self.engine = Engine(
            state_path=self.store.path,
            executors=executors,
            chain_id=CHAIN_ID,
            rule_set=1,
            transaction_gas_max=CHAIN.transaction_gas_max,
            deployers=frozenset(),
            mode=mode,
            hung_s=hung_s,
        )
        self.oracle = Oracle()
        self.unstored: list[ExecutionOutput] = []

    async def __aenter__(self) -> EngineRoom:
        await self.engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.engine.stop()
        self.store.close()

    def block(self, transactions: Sequence[bytes]) -> ExecutionInput:
        return block_of(self.engine.height + 1, transactions)

    async def run(self, transactions: Sequence[bytes], *, store: bool = True) -> ExecutionOutput:
        """Execute a block here and at the oracle's; the engine's output."""
        output = await self.engine.execute(self.block(transactions))
        self.expected = self.oracle.run(transactions)
        self.unstored.append(output)
        if store:
            self.store_all()
        return output

    def store_all(self) -> None:
        self.store.apply([(output.height, output.state_root, unpack_writes(output.writes)) for output in self.unstored])
        self.unstored.clear()
        self.engine.stored(self.store.height())


async def make_boards(room: EngineRoom, count: int = 1) -> list[bytes]:
    """Contracts to play with, and accounts that have something to pay; their addresses."""
    made = [deployment(0, f"board.{number}", ARENA, (0,)) for number in range(count)]
    output = await room.run([raw for raw, _ in made])
    assert {receipt.status for receipt in receipts_of(output)} == {0}, receipts_of(output)
    boards = [address for _, address in made]
    await run_equal(room, [transaction(number, board, "fund", (500,)) for number in range(12) for board in boards])
    return boards


async def run_equal(room: EngineRoom, transactions: list[bytes], *, store: bool = True) -> ExecutionOutput:
    """Execute a block; the output is the oracle's."""
    output = await room.run(transactions, store=store)
    assert results_of(output) == results_of(room.expected)
    return output


def payments(board: bytes, count: int, *, spread: int = 12) -> list[bytes]:
    """Transfers in a circle of `spread` accounts."""
    return [
        transaction(number % spread, board, "send", (account((number + 1) % spread).address, 1))
        for number in range(0, 2 * count, 2)
    ]


def long_ones(board: bytes, count: int) -> list[bytes]:
    """Transactions that keep every executor busy for a while."""
    return [transaction(number, board, "burn", (LONG_ROUNDS,), gas_limit=LONG_GAS) for number in range(count)]


def lead_of(room: EngineRoom) -> Connection:
    """The lead that works now."""
    assert room.engine._lead is not None
    return room.engine._lead


async def in_block(room: EngineRoom, height: int) -> Connection:
    """Wait until the lead runs a transaction of this height; the lead."""
    lead = lead_of(room)

    def there() -> bool:
        at, position = lead.process.progress.place()
        return at == height and position >= 0

    await until(there, f"the lead is in block {height}")
    return lead


def ask(room: EngineRoom, first: int, blocks: Sequence[list[bytes]]) -> list[asyncio.Future[ExecutionOutput]]:
    """Put all blocks in flight at once."""
    return [room.engine.execute(block_of(first + at, block)) for at, block in enumerate(blocks)]


async def expect(
    room: EngineRoom, asked: Sequence[asyncio.Future[ExecutionOutput]], blocks: Sequence[list[bytes]]
) -> list[ExecutionOutput]:
    """The answers in order, each of them equal to the oracle's."""
    outputs = []
    for answer, block in zip(asked, blocks, strict=True):
        async with asyncio.timeout(4 * DEADLINE_S):
            output = await answer
        assert results_of(output) == results_of(room.oracle.run(block))
        room.unstored.append(output)
        outputs.append(output)
    return outputs

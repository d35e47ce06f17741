"""A real engine over a real state environment, and the oracle beside it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from chain.model.merkle import unpack_writes
from chain.store.state import StateReader, StateStore
from executor import ExecutionInput, ExecutionOutput
from executor.engine import Engine
from executor.governor import Mode
from tests.unit.executor.workbench import CHAIN, CHAIN_ID, Oracle, block_of

DEADLINE_S = 30.0


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

    def __init__(self, folder: Path, *, executors: int, mode: Mode = "forced") -> None:
        self.store = StateStore(folder / "state", chain_id=CHAIN_ID, genesis_state_root=bytes(32))
        self.engine = Engine(
            state_path=self.store.path,
            executors=executors,
            chain_id=CHAIN_ID,
            rule_set=1,
            transaction_gas_max=CHAIN.transaction_gas_max,
            deployers=frozenset(),
            mode=mode,
        )
        self.oracle = Oracle()
        self.root = bytes(32)
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
        return block_of(self.engine.height + 1, transactions, self.root)

    async def run(self, transactions: Sequence[bytes], *, store: bool = True) -> ExecutionOutput:
        """Execute a block here and at the oracle's; the engine's output."""
        output = await self.engine.execute(self.block(transactions))
        self.root = output.state_root
        self.expected = self.oracle.run(transactions)
        self.unstored.append(output)
        if store:
            self.store_all()
        return output

    def store_all(self) -> None:
        self.store.apply([(output.height, output.state_root, unpack_writes(output.writes)) for output in self.unstored])
        self.unstored.clear()
        self.engine.stored(self.store.height())


__all__ = ["DEADLINE_S", "EngineRoom", "StateReader", "is_running", "until"]

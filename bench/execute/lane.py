"""One engine over a copy of the state of its own, as a node has it: real processes, real LMDB, blocks back to back."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from bench.execute.world import CHAIN
from chain.model.merkle import unpack_writes
from chain.store.state import StateStore
from executor.engine import Engine
from executor.governor import Mode
from executor.outcome import ExecutionInput, ExecutionOutput

START_S: Final = 60.0
POLL_S: Final = 0.02
IN_FLIGHT: Final = 2  # blocks handed to the engine and not answered yet


@dataclass(frozen=True, slots=True)
class Executed:
    """A block's output and the wall time from the previous block's answer (or the group's start) to its own."""

    output: ExecutionOutput
    wall_ns: int


class Lane:
    """Runs groups of blocks; the state is stored between groups, when no clock runs."""

    def __init__(self, state: Path, folder: Path, *, executors: int, mode: Mode, predictor: str = "summary") -> None:
        """`state` is the folder to copy into `folder`."""
        shutil.copytree(state, folder)
        self._folder = folder
        self._store = StateStore(folder, chain_id=CHAIN.chain_id, genesis_state_root=bytes(32))
        self._engine = Engine(
            state_path=folder,
            executors=executors,
            chain_id=CHAIN.chain_id,
            rule_set=CHAIN.rule_set,
            transaction_gas_max=CHAIN.transaction_gas_max,
            deployers=frozenset(),
            mode=mode,
            predictor=predictor,
        )

    async def start(self) -> None:
        """Start the processes; all of them are ready then.

        Raises:
            BenchError: one of them does not start.
        """
        await self._engine.start()
        deadline = time.monotonic() + START_S
        while self._engine.executors_ready < self._engine.executors:
            if time.monotonic() > deadline:
                ready = self._engine.executors_ready
                raise BenchError(f"{ready} of {self._engine.executors} executors are ready after {START_S:.0f} s")
            await asyncio.sleep(POLL_S)

    async def run(self, blocks: Sequence[ExecutionInput]) -> list[Executed]:
        """Execute consecutive blocks, `IN_FLIGHT` at a time.

        Raises:
            InvariantError: execution broke a promise.
        """
        engine, waiting = self._engine, iter(blocks)
        done: list[Executed] = []
        running: deque[asyncio.Future[ExecutionOutput]] = deque()
        last_ns = time.perf_counter_ns()
        try:
            while len(done) < len(blocks):
                while len(running) < IN_FLIGHT and (block := next(waiting, None)) is not None:
                    running.append(engine.execute(block))
                output = await running[0]
                running.popleft()
                now_ns = time.perf_counter_ns()
                done.append(Executed(output, now_ns - last_ns))
                last_ns = now_ns
        finally:
            for answer in running:
                answer.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return done

    def store(self, outputs: Sequence[ExecutionOutput]) -> None:
        """Make the state of these blocks durable and let the engine forget their write sets."""
        self._store.apply(
            [(output.height, output.state_root, unpack_writes(output.writes)) for output in outputs]
        )
        self._engine.stored(outputs[-1].height)

    async def stop(self) -> None:
        """End the processes and remove the copy."""
        await self._engine.stop()
        self._store.close()
        shutil.rmtree(self._folder)

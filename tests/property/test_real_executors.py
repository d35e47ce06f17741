"""Random blocks on real executor processes that are killed, and on a state that is really stored: serial bytes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from chain.model.block import WriteSet
from chain.model.merkle import unpack_writes
from chain.store.state import StateStore
from executor import ExecutionInput, ExecutionOutput
from executor.engine import Engine
from executor.process import ExecutorProcess
from tests.blocks.checking import Expected, compare, expect
from tests.blocks.generator import Case, case_of
from tests.blocks.worlds import CHAIN_ID, GAS_MAX
from tests.integration.engine_room import until

pytestmark = pytest.mark.slow  # each starts processes, and kills and starts them again
BLOCKS = 24
AHEAD_MAX = 3  # blocks asked for at once


class Ordeal:
    """The blocks of a case through an engine; a seed draws what is killed, discarded and stored, and when."""

    def __init__(self, folder: Path, case: Case, *, executors: int, seed: int) -> None:
        world = case.world
        self.case = case
        self.draw = random.Random(seed)
        self.store = StateStore(folder / "state", chain_id=CHAIN_ID, genesis_state_root=bytes(32))
        writes: WriteSet = sorted(world.values.items())
        self.store.apply([(1, bytes(32), writes)] + [(at, world.root, []) for at in range(2, world.height + 1)])
        self.engine = Engine(
            state_path=self.store.path,
            executors=executors,
            chain_id=CHAIN_ID,
            rule_set=world.rule_set,
            transaction_gas_max=GAS_MAX,
            deployers=frozenset(world.deployers),
            mode="forced",
        )
        self.kills = self.lead_kills = self.discards = 0
        self._killed_leads: set[int] = set()  # heights: a block that ends the lead twice stops the node
        self._unstored: list[ExecutionOutput] = []

    def block(self, index: int) -> ExecutionInput:
        case = self.case
        return ExecutionInput.of(
            height=case.world.height + 1 + index, time_ms=case.time_ms(index), transactions=case.blocks[index]
        )

    async def run(self, expected: Expected) -> None:
        await self.engine.start()
        try:
            index = 0
            while index < len(self.case.blocks):
                index = await self._some(index, expected)
                self._store_some()
        finally:
            await self.engine.stop()
            self.store.close()

    async def _some(self, index: int, expected: Expected) -> int:
        """A few blocks at once; the index that comes next, which may be one that was there before."""
        draw, engine = self.draw, self.engine
        count = min(draw.randint(1, AHEAD_MAX), len(self.case.blocks) - index)
        asked = [engine.execute(self.block(at)) for at in range(index, index + count)]
        if draw.random() < 0.5:
            await self._kill_one(self.case.world.height + 1 + index + draw.randrange(count), asked[-1])
        if draw.random() < 0.25:
            back = draw.randint(0, min(2, len(self._unstored)))
            await engine.discard(self.case.world.height + 1 + index - back)
            del self._unstored[len(self._unstored) - back :]
            self.discards += 1
            assert all(future.cancelled() or future.done() for future in asked)
            return index - back
        for at, future in enumerate(asked, index):
            output = await future
            compare(output, expected.results[at], block=at)
            self._unstored.append(output)
        return index + count

    async def _kill_one(self, height: int, last: asyncio.Future[ExecutionOutput]) -> None:
        """Kill the lead or another executor when it has come to this height."""
        engine = self.engine
        lead = engine._lead
        others = list(engine._others.values())
        process: ExecutorProcess
        if lead is not None and height not in self._killed_leads and (not others or self.draw.random() < 0.3):
            process = lead.process
            self._killed_leads.update(range(height - AHEAD_MAX, height + AHEAD_MAX + 1))
            self.lead_kills += 1
        elif others:
            process = self.draw.choice(others)
            self.kills += 1
        else:
            return
        progress = process.progress
        await until(
            lambda: last.done() or process.process.poll() is not None or progress.place()[0] >= height, "it is there"
        )
        if process.process.poll() is None:
            os.kill(process.process.pid, signal.SIGKILL)

    def _store_some(self) -> None:
        ready = self._unstored[: self.draw.randint(0, len(self._unstored))]
        self.store.apply([(output.height, output.state_root, unpack_writes(output.writes)) for output in ready])
        del self._unstored[: len(ready)]
        if ready:
            self.engine.stored(self.store.height())


@pytest.mark.parametrize(("executors", "seed"), [(1, 5), (2, 2), (2, 3), (4, 4)])
def test_killed_executors_and_leads_change_nothing(tmp_path: Path, executors: int, seed: int) -> None:
    case = case_of(9_000 + seed, kind="arena", blocks=BLOCKS)
    ordeal = Ordeal(tmp_path, case, executors=executors, seed=seed)
    asyncio.run(ordeal.run(expect(case)))
    assert ordeal.discards > 0
    assert ordeal.lead_kills > 0
    assert ordeal.kills > 0 or executors == 1


@pytest.mark.parametrize("kind", ["credit", "income"])
def test_the_suites_on_real_executors(tmp_path: Path, kind: str) -> None:
    case = case_of(9_100, kind=kind, blocks=6)
    asyncio.run(Ordeal(tmp_path, case, executors=2, seed=5).run(expect(case)))

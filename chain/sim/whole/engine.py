"""Execution inside the simulated process: the lead of `executor` without processes, behind the engine's interface."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.errors import BadInput, InvariantError
from chain.sim.whole.loop import SimLoop
from chain.store import StateReader
from contracts.runtime import Machine
from executor import ExecutionInput, ExecutionOutput
from executor.governor import Governor
from executor.outcome import QueryInput, QueryOutput
from executor.parallel import Lead
from executor.planners import planner_of
from executor.protocol import Overlay
from executor.state import BaseState
from executor.transactions import ChainContext

IN_FLIGHT_MAX: Final = 4


class _NoProgress:
    def enter(self, height: int, position: int) -> None:
        """Nobody looks."""


@dataclass(slots=True, eq=False)
class _Asked:
    block: ExecutionInput
    answer: asyncio.Future[ExecutionOutput]


class SimEngine:
    """Takes the place of `executor.engine.Engine`: blocks strictly by height, each after a while; and now and then the
    lead is lost, and a new one starts from the stored state and the write sets that are not stored."""

    def __init__(
        self,
        loop: SimLoop,
        *,
        work_us: Callable[[], int],
        dies: Callable[[], bool],
        state_path: Path,
        chain_id: bytes,
        rule_set: int,
        transaction_gas_max: int,
        deployers: frozenset[bytes],
        **others: Any,
    ) -> None:
        self._loop = loop
        self._work_us = work_us
        self._dies = dies
        self._state_path = state_path
        known = {name: value for name, value in others.items() if name in ChainContext.__struct_fields__}
        self._chain = ChainContext(
            chain_id=chain_id,
            rule_set=rule_set,
            transaction_gas_max=transaction_gas_max,
            deployers=tuple(sorted(deployers)),
            **known,
        )
        self._machine = Machine(rule_set)
        self._line: deque[_Asked] = deque()
        self._unstored: deque[Overlay] = deque()
        self._working: asyncio.TimerHandle | None = None
        self._height = self._asked_height = self._stored_height = -1
        self._lead: Lead | None = None
        self._reader: StateReader | None = None
        self.leads_lost = 0
        self.executors = self.executors_alive = 1
        self.process_ids = (0,)

    async def start(self) -> None:
        self._new_lead()
        self._height = self._asked_height = self._stored_height = self._of_lead().height

    def _of_lead(self) -> Lead:
        if self._lead is None:
            raise InvariantError("the engine is not started")
        return self._lead

    def _new_lead(self) -> None:
        self.close()
        self._reader = StateReader(self._state_path)
        self._lead = Lead(
            base=BaseState(self._reader), machine=self._machine, chain=self._chain, planner=planner_of("empty"),
            governor=Governor("serial"), progress=_NoProgress(), executors=1, lost=lambda index, reason: None,
        )  # fmt: skip
        for overlay in self._unstored:
            self._lead.catch_up((overlay,))

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def height(self) -> int:
        return self._height

    def execute(self, block: ExecutionInput) -> asyncio.Future[ExecutionOutput]:
        if block.height != self._asked_height + 1:
            raise InvariantError(f"asked to execute height {block.height} after {self._asked_height}")
        if len(self._line) >= IN_FLIGHT_MAX:
            raise InvariantError(f"asked to execute height {block.height} with {IN_FLIGHT_MAX} blocks in flight")
        asked = _Asked(block, self._loop.create_future())
        self._asked_height = block.height
        self._line.append(asked)
        self._work()
        return asked.answer

    def _work(self) -> None:
        if self._working is None and self._line:
            self._working = self._loop.at(self._loop.now_us + self._work_us(), self._finish)

    def _finish(self) -> None:
        self._working = None
        if self._dies():
            self.leads_lost += 1
            self._new_lead()
        else:
            asked = self._line.popleft()
            output = self._of_lead().execute(asked.block)
            self._height = output.height
            self._unstored.append(
                Overlay(height=output.height, state_root=output.state_root, writes=output.writes)
            )
            asked.answer.set_result(output)
        self._work()

    async def discard(self, height: int) -> None:
        if height <= self._stored_height:
            raise InvariantError(f"asked to discard height {height}, stored up to {self._stored_height}")
        if height > self._asked_height:
            return
        while self._line and self._line[-1].block.height >= height:
            self._line.pop().answer.cancel()
        while self._unstored and self._unstored[-1].height >= height:
            self._unstored.pop()
        self._asked_height = height - 1
        self._height = min(self._height, height - 1)
        self._of_lead().discard(height)
        if not self._line and self._working is not None:
            self._working.cancel()
            self._working = None

    def stored(self, height: int) -> None:
        self._stored_height = height
        while self._unstored and self._unstored[0].height <= height:
            self._unstored.popleft()

    async def query(self, query: QueryInput) -> QueryOutput:
        raise BadInput("busy", "no reads in the simulator")

    async def stop(self) -> None:
        if self._working is not None:
            self._working.cancel()
        while self._line:
            self._line.pop().answer.cancel()
        self.close()

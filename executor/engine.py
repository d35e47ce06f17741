"""The node's way to execution: starts the processes, feeds the lead, replaces what dies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.errors import ConfigError, InvariantError
from executor.connection import START_S, STOP_S, Connection
from executor.governor import Mode
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats, QueryInput, QueryOutput
from executor.process import ExecutorProcess
from executor.protocol import (
    BlockDone,
    CatchUp,
    ChannelLost,
    ExecuteBlock,
    ExecutorLost,
    Failed,
    Overlay,
    Ready,
    Setup,
    frame_of,
)
from executor.queries import QueryExecutor
from executor.transactions import ChainContext, decode_call

EXECUTORS_MAX: Final = 64
_ATTEMPTS: Final = 2  # of a block; a lead that was already dead when the block came does not count


@dataclass(slots=True)
class EngineStats:
    """Totals since the start, and how the last block went."""

    blocks: int = 0
    blocks_parallel: int = 0
    transactions: int = 0
    reexecuted: int = 0
    executors_lost: int = 0
    lead_restarts: int = 0
    cpu_us: int = 0
    last: ExecutionStats | None = None


class Engine:
    """Executes blocks strictly by height on `executors` processes, and queries on one more, started when needed.

    One process, the lead, is all that the node talks to about blocks. If it dies, a new one gets the write sets that
    may not be stored yet and the block again. `stored` says which heights may be forgotten.
    """

    def __init__(
        self,
        *,
        state_path: Path,
        executors: int,
        chain_id: bytes,
        rule_set: int,
        transaction_gas_max: int,
        deployers: frozenset[bytes],
        mode: Mode = "parallel",
    ) -> None:
        """`state_path` is the state environment's folder; it must have been opened by its `StateStore` before `start`.

        `mode`: "parallel" plans where that pays, "forced" always plans, "serial" never; the results are the same.

        Raises:
            ConfigError: `executors` out of range.
        """
        if not 1 <= executors <= EXECUTORS_MAX:
            raise ConfigError(f"executors is {executors}, must be 1..{EXECUTORS_MAX}")
        self._executors = 1 if mode == "serial" else executors
        self._setup = Setup(
            role="lead",
            index=0,
            executors=self._executors,
            mode=mode,
            state_path=str(state_path),
            chain=ChainContext(
                chain_id=chain_id,
                rule_set=rule_set,
                transaction_gas_max=transaction_gas_max,
                deployers=tuple(sorted(deployers)),
            ),
        )
        self._lead: Connection | None = None
        self._control: socket.socket | None = None
        self._others: dict[int, ExecutorProcess] = {}
        self._turn = asyncio.Lock()
        self._height = -1  # last executed; -1: not started
        self._unstored: deque[Overlay] = deque()
        self._failed = ""
        self._stopped = False
        self._queries = QueryExecutor(self._role("query", 0))
        self.stats = EngineStats()

    async def start(self) -> None:
        """Start the executors; returns when the lead has opened the state.

        Raises:
            InvariantError: the lead does not start; the text says what it said.
        """
        async with self._turn:
            if self._lead is None:
                await self._start_lead()

    @property
    def height(self) -> int:
        """The last executed height; after `start` the stored one."""
        return self._height

    @property
    def executors(self) -> int:
        return self._executors

    @property
    def executors_alive(self) -> int:
        """Running processes among the executors of blocks."""
        lead = self._lead is not None and self._lead.alive
        return int(lead) + sum([process.alive for process in self._others.values()])

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The lead's, then the others' by index."""
        lead = () if self._lead is None else (self._lead.process.process.pid,)
        return lead + tuple([self._others[index].process.pid for index in sorted(self._others)])

    async def execute(self, block: ExecutionInput) -> ExecutionOutput:
        """The output of the next block.

        Raises:
            InvariantError: not the next height, a promise of ours broke, or the block ended the lead twice (the text
                names the transaction); the node stops.
            ChannelLost: `stop` was called.
        """
        async with self._turn:
            if self._failed:
                raise InvariantError(self._failed)
            try:
                output = await self._execute(block)
            except InvariantError as error:
                self._failed = str(error)
                raise
            except BaseException:  # cancelled between question and answer: that lead's next answer would be this one's
                self._end_lead()
                raise
            self._height = block.height
            self._unstored.append(Overlay(height=block.height, writes=output.writes))
            self._count(output, len(block.transactions))
            return output

    def stored(self, height: int) -> None:
        """The state is stored up to `height`; write sets up to it are needed no more."""
        while self._unstored and self._unstored[0].height <= height:
            self._unstored.popleft()

    async def query(self, query: QueryInput) -> QueryOutput:
        """A read or simulation on the stored state, beside the blocks.

        Raises:
            BadInput: `busy`: too many reads wait, or this one took too long or too much memory.
        """
        return await self._queries.query(query)

    async def stop(self) -> None:
        """End all processes; a block that is being executed fails with ChannelLost."""
        self._stopped = True
        await self._queries.stop()
        lead, self._lead = self._lead, None
        if lead is not None:
            await lead.stop()
        if self._control is not None:
            self._control.close()
            self._control = None
        for process in self._others.values():
            await process.wait(STOP_S)
        self._others.clear()

    # --- blocks ---

    async def _execute(self, block: ExecutionInput) -> ExecutionOutput:
        if block.height != self._height + 1:
            raise InvariantError(f"asked to execute height {block.height} after {self._height}")
        place = (0, -1)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                lead = self._lead
                if lead is None or not lead.alive:
                    lead = await self._restart_lead()
                return await self._ask(lead, block, attempt)
            except ChannelLost:
                if self._stopped:
                    raise
                if self._lead is not None:
                    place = self._lead.process.progress.place()
                self._end_lead()
        raise InvariantError(f"block {block.height} ended the lead executor twice, {_name(block, place)}")

    async def _ask(self, lead: Connection, block: ExecutionInput, attempt: int) -> ExecutionOutput:
        await lead.send(ExecuteBlock(block=block, attempt=attempt))
        while True:
            match await lead.receive():
                case BlockDone(output=output) if output.height == block.height:
                    return output
                case ExecutorLost(index=index):
                    self.stats.executors_lost += 1
                    self._start_other(index)
                case Failed(reason=reason):
                    raise InvariantError(reason)
                case reply:
                    raise InvariantError(f"the lead answered height {block.height} with {type(reply).__name__}")

    def _count(self, output: ExecutionOutput, transactions: int) -> None:
        stats = self.stats
        stats.blocks += 1
        stats.blocks_parallel += output.stats.mode == "parallel"
        stats.transactions += transactions
        stats.reexecuted += output.stats.reexecuted
        stats.cpu_us += output.stats.cpu_us
        stats.last = output.stats

    # --- processes ---

    def _role(self, role: str, index: int) -> Setup:
        setup = self._setup
        return Setup(
            role=role, index=index, executors=setup.executors, mode=setup.mode, state_path=setup.state_path,
            chain=setup.chain,
        )  # fmt: skip

    async def _start_lead(self) -> Connection:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            lead = await Connection.start(self._setup, control=theirs)
        self._lead = lead
        for index in range(1, self._executors):
            self._start_other(index)
        try:
            async with asyncio.timeout(START_S):
                ready = await lead.receive()
        except (ChannelLost, TimeoutError) as error:
            self._end_lead()
            raise InvariantError(f"the lead executor does not start: {error or type(error).__name__}") from None
        if not isinstance(ready, Ready):
            self._end_lead()
            raise InvariantError(f"the lead executor does not start: {getattr(ready, 'reason', ready)}")
        if self._height < 0:
            self._height = ready.height
        return lead

    async def _restart_lead(self) -> Connection:
        self._end_lead()
        self.stats.lead_restarts += 1
        lead = await self._start_lead()
        if self._unstored:
            await lead.send(CatchUp(overlays=tuple(self._unstored)))
        return lead

    def _end_lead(self) -> None:
        """End the lead and the others, whose sockets it held."""
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.kill()
        if self._control is not None:
            self._control.close()
            self._control = None
        for process in self._others.values():
            process.end()
        self._others.clear()

    def _start_other(self, index: int) -> None:
        """Start an executor, in place of a lost one, and pass its socket to the lead."""
        lost = self._others.pop(index, None)
        if lost is not None:
            lost.end()
        if self._control is None:
            raise InvariantError("an executor without a lead")
        process = ExecutorProcess()
        with process.socket, contextlib.suppress(OSError):  # if it or the lead is gone already, the lead will say so
            process.socket.sendall(frame_of(self._role("share", index)))
            socket.send_fds(self._control, [bytes((index,))], [process.socket.fileno()])
        self._others[index] = process


def _name(block: ExecutionInput, place: tuple[int, int]) -> str:
    height, position = place
    if height != block.height or not 0 <= position < len(block.transactions):
        return "before its first transaction"
    return f"at transaction {position} ({decode_call(block.transactions[position]).hash.hex()})"

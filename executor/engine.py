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
from executor.process import NOWHERE, ExecutorProcess
from executor.protocol import (
    BlockDone,
    CatchUp,
    ChannelLost,
    Discard,
    ExecuteBlock,
    ExecutorLost,
    Failed,
    Overlay,
    Ready,
    Reply,
    Setup,
    frame_of,
)
from executor.queries import QueryExecutor
from executor.transactions import ChainContext

EXECUTORS_MAX: Final = 64
START_AGAIN_S: Final = 5.0  # until an executor that the system would not start is tried again
IN_FLIGHT_MAX: Final = 4  # blocks asked for and not answered
HUNG_S: Final = 60.0  # without an answer or a move of any progress mark; a transaction takes seconds at most
_HUNG_LOOKS: Final = 6  # a process that was stopped itself looks once, however long that was
_LINE_MAX: Final = 16  # blocks with the lead, discarded ones included; then it is quicker to replace the lead
_DEATHS_PER_BLOCK: Final = 2  # of leads that were at work on it
_DEATHS_IN_A_ROW: Final = 8  # of leads that answered nothing, whatever they were doing


@dataclass(slots=True)
class EngineStats:
    """Totals since the start, and how the last block went."""

    blocks: int = 0
    blocks_parallel: int = 0
    transactions: int = 0
    reexecuted: int = 0
    discarded: int = 0  # blocks whose execution was taken back, also before it began
    executors_lost: int = 0
    lead_restarts: int = 0
    cpu_us: int = 0
    last: ExecutionStats | None = None


@dataclass(slots=True, eq=False)
class _Asked:
    """A block with the lead."""

    block: ExecutionInput
    answer: asyncio.Future[ExecutionOutput]
    deaths: int = 0  # leads that died at work on it
    void: bool = False  # discarded: the lead answers it, and nobody listens


class Engine:
    """Executes blocks strictly by height on `executors` processes, and queries on one more, started when needed.

    One process, the lead, is all that the node talks to about blocks. It is given up to `IN_FLIGHT_MAX` of them and
    works on one after the other. If it dies or hangs, a new one gets the write sets that may not be stored yet and
    all blocks that are not answered. `stored` says which heights may be forgotten.
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
        window: int = 1,
        validators: tuple[tuple[str, bytes, int], ...] = (),
        mode: Mode = "parallel",
        predictor: str = "summary",
        hung_s: float = HUNG_S,
    ) -> None:
        """`state_path` is the state environment's folder; it must have been opened by its `StateStore` before `start`.

        `mode`: "parallel" plans where that pays, "forced" always plans, "serial" never; the results are the same.
        `validators` are those of genesis (name, public key, weight), `window` is the chain's: membership starts there.
        `predictor` is `Setup.predictor`; `hung_s` how long a lead may stand still before it is replaced.

        Raises:
            ConfigError: `executors` out of range.
        """
        if not 1 <= executors <= EXECUTORS_MAX:
            raise ConfigError(f"executors is {executors}, must be 1..{EXECUTORS_MAX}")
        self._executors = 1 if mode == "serial" else executors
        self._hung_s = hung_s
        self._setup = Setup(
            role="lead",
            index=0,
            executors=self._executors,
            mode=mode,
            predictor=predictor,
            state_path=str(state_path),
            chain=ChainContext(
                chain_id=chain_id,
                rule_set=rule_set,
                transaction_gas_max=transaction_gas_max,
                deployers=tuple(sorted(deployers)),
                window=window,
                validators=validators,
            ),
        )
        self._lead: Connection | None = None
        self._lead_listens = False  # it has caught up, so blocks may be posted to it
        self._control: socket.socket | None = None
        self._others: dict[int, ExecutorProcess] = {}
        self._line: deque[_Asked] = deque()  # in the order the lead gets them
        self._line_filled = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None
        self._height = self._asked_height = self._stored_height = -1  # -1: not started
        self._unstored: deque[Overlay] = deque()
        self._deaths_in_a_row = 0
        self._failed: Exception | None = None
        self._stopped = False
        self._queries = QueryExecutor(self._role("query", 0))
        self.stats = EngineStats()

    async def start(self) -> None:
        """Start the executors; returns when the lead has opened the state.

        Raises:
            InvariantError: the lead does not start; the text says what it said.
        """
        if self._tending is None:
            await self._start_lead()
            self._lead_listens = True
            self._tending = asyncio.create_task(self._tend())

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
    def executors_ready(self) -> int:
        """Those of them that the next block can be shared out to."""
        lead = self._lead is not None and self._lead.alive
        others = [process.alive and process.progress.place() != NOWHERE for process in self._others.values()]
        return int(lead) + sum(others)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The lead's, then the others' by index."""
        lead = () if self._lead is None else (self._lead.process.process.pid,)
        return lead + tuple([self._others[index].process.pid for index in sorted(self._others)])

    def execute(self, block: ExecutionInput) -> asyncio.Future[ExecutionOutput]:
        """The output of the next block; the one after it may be asked for at once, answers come in order.

        Cancelling the future discards its height and all above. The future fails with InvariantError if a promise of
        ours broke or the block ended the lead twice (the text names the transaction), and then the node stops; and
        with ChannelLost if `stop` was called.

        Raises:
            InvariantError: not the next height, or more than `IN_FLIGHT_MAX` blocks at once.
            ChannelLost: the engine is stopped.
        """
        if self._failed is not None:
            raise self._failed
        if self._stopped:
            raise ChannelLost("the engine is stopped")
        self._notice_cancelled()
        if block.height != self._asked_height + 1:
            raise InvariantError(f"asked to execute height {block.height} after {self._asked_height}")
        if sum([not asked.void for asked in self._line]) >= IN_FLIGHT_MAX:
            raise InvariantError(f"asked to execute height {block.height} with {IN_FLIGHT_MAX} blocks in flight")
        if len(self._line) >= _LINE_MAX:
            if self._lead_listens:
                self._end_lead()
            self._drop_void()
        asked = _Asked(block, asyncio.get_running_loop().create_future())
        asked.answer.add_done_callback(lambda _: self._notice_cancelled())
        self._asked_height = block.height
        self._line.append(asked)
        self._line_filled.set()
        if self._lead_listens and self._lead is not None:
            self._lead.post(ExecuteBlock(block=block, attempt=1))
        return asked.answer

    async def discard(self, height: int) -> None:
        """Forget what was executed or asked for from `height` on; the next `execute` is of `height` again.

        The futures of blocks in flight are cancelled. The lead finishes the block it is at, and then forgets.

        Raises:
            InvariantError: `height` is stored.
        """
        if height <= self._stored_height:
            raise InvariantError(f"asked to discard height {height}, stored up to {self._stored_height}")
        if height <= self._asked_height:
            self._discard(height)

    def stored(self, height: int) -> None:
        """The state is stored up to `height`; write sets up to it are needed no more."""
        self._stored_height = height
        while self._unstored and self._unstored[0].height <= height:
            self._unstored.popleft()

    async def query(self, query: QueryInput) -> QueryOutput:
        """A read or simulation on the stored state, beside the blocks.

        Raises:
            BadInput: `busy`: too many reads wait, or this one took too long or too much memory.
        """
        return await self._queries.query(query)

    async def stop(self) -> None:
        """End all processes; blocks in flight fail with ChannelLost."""
        self._stopped = True
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)
        self._give_up(ChannelLost("the engine is stopped"))
        await self._queries.stop()
        self._lead_listens = False
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

    def _notice_cancelled(self) -> None:
        for asked in self._line:
            if asked.answer.cancelled() and not asked.void:
                self._discard(asked.block.height)
                return  # everything after it is void now, too

    def _discard(self, height: int) -> None:
        for asked in self._line:
            if asked.block.height >= height and not asked.void:
                asked.void = True
                asked.answer.cancel()
                self.stats.discarded += 1
        while self._unstored and self._unstored[-1].height >= height:
            self._unstored.pop()
            self.stats.discarded += 1
        self._asked_height = height - 1
        self._height = min(self._height, height - 1)
        if self._lead_listens and self._lead is not None:
            self._lead.post(Discard(height=height))

    def _drop_void(self) -> None:
        """There is no lead that would answer them."""
        self._line = deque([asked for asked in self._line if not asked.void])

    async def _tend(self) -> None:
        """While blocks are in flight, listen to the lead and replace it when it is lost."""
        try:
            while True:
                if not self._line:
                    self._line_filled.clear()
                    await self._line_filled.wait()
                lead = self._lead
                if lead is None:
                    await self._replace_lead()
                    continue  # all that was in flight may be void
                try:
                    reply = await self._hear(lead)
                except ChannelLost:
                    self._on_lost(lead)
                    continue
                if self._lead is lead:  # else it was ended meanwhile, and its blocks are asked for again
                    self._take(reply)
        except Exception as error:  # noqa: BLE001  whoever asked is told, now or at the next block
            self._failed = error
            self._end_lead()
            self._give_up(error)

    async def _hear(self, lead: Connection) -> Reply:
        """The lead's next words.

        No result depends on the time-out: whatever a replaced lead was at is executed again from the start.

        Raises:
            ChannelLost: it is gone, or it and all executors have stood still for `hung_s`.
        """
        receiving = asyncio.ensure_future(lead.receive())
        places = self._places(lead)
        looks = 0
        try:
            while True:
                done, _ = await asyncio.wait([receiving], timeout=self._hung_s / _HUNG_LOOKS)
                if done:
                    return receiving.result()
                seen, places = places, self._places(lead)
                looks = looks + 1 if places == seen else 0
                if looks >= _HUNG_LOOKS:
                    raise ChannelLost("the lead executor hangs")
        finally:
            receiving.cancel()

    def _places(self, lead: Connection) -> list[tuple[int, int]]:
        """Where everybody is. A lead that waits for the others stands still while they move."""
        if self._lead is not lead:
            return []  # it was ended, as its socket is about to say
        processes = [lead.process, *self._others.values()]
        return [process.progress.place() for process in processes]

    def _take(self, reply: Reply) -> None:
        self._notice_cancelled()
        match reply:
            case BlockDone(output=output) if self._line and output.height == self._line[0].block.height:
                self._deaths_in_a_row = 0
                asked = self._line.popleft()
                if not asked.void:
                    self._keep(asked, output)
            case ExecutorLost(index=index):
                self.stats.executors_lost += 1
                self._start_other(index)
            case Failed(reason=reason):
                raise InvariantError(reason)
            case _:
                heights = [asked.block.height for asked in self._line]
                raise InvariantError(f"the lead answered heights {heights} with {type(reply).__name__}")

    def _keep(self, asked: _Asked, output: ExecutionOutput) -> None:
        self._height = output.height
        self._unstored.append(Overlay(height=output.height, state_root=output.state_root, writes=output.writes))
        stats = self.stats
        stats.blocks += 1
        stats.blocks_parallel += output.stats.mode == "parallel"
        stats.transactions += len(asked.block.transactions)
        stats.reexecuted += output.stats.reexecuted
        stats.cpu_us += output.stats.cpu_us
        stats.last = output.stats
        asked.answer.set_result(output)

    def _on_lost(self, lead: Connection) -> None:
        """End what is left of the lead and charge the block it was at.

        Raises:
            InvariantError: that block has ended a lead before, or leads end one after the other.
        """
        if self._lead is not lead:
            return  # it was ended on purpose
        place = lead.process.progress.place()
        self._end_lead()
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= _DEATHS_IN_A_ROW:
            raise InvariantError(f"{_DEATHS_IN_A_ROW} lead executors in a row ended without executing a block")
        asked = next((asked for asked in self._line if asked.block.height == place[0]), None)
        if asked is None or asked.void:
            return
        asked.deaths += 1
        if asked.deaths >= _DEATHS_PER_BLOCK:
            height = asked.block.height
            raise InvariantError(f"block {height} ended the lead executor twice, {_name(asked.block, place)}")

    def _give_up(self, error: Exception) -> None:
        while self._line:
            asked = self._line.popleft()
            if not asked.answer.done():
                asked.answer.set_exception(error)

    # --- processes ---

    def _role(self, role: str, index: int) -> Setup:
        setup = self._setup
        return Setup(
            role=role, index=index, executors=setup.executors, mode=setup.mode, predictor=setup.predictor,
            state_path=setup.state_path, chain=setup.chain,
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
            self._height = self._asked_height = self._stored_height = ready.height
        return lead

    async def _replace_lead(self) -> None:
        """Start a lead that knows all that was executed and has all blocks that are not answered."""
        self.stats.lead_restarts += 1
        lead = await self._start_lead()
        for overlay in self._unstored:  # a frame each, since all of them together may be too large for one
            lead.post(CatchUp(overlays=(overlay,)))
        self._drop_void()
        for asked in self._line:
            lead.post(ExecuteBlock(block=asked.block, attempt=1 + asked.deaths))
        self._lead_listens = True

    def _end_lead(self) -> None:
        """End the lead and the others, whose sockets it held."""
        self._lead_listens = False
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
        try:
            process = ExecutorProcess()
        except OSError:  # no more processes for now; the lead goes on without this one
            asyncio.get_running_loop().call_later(START_AGAIN_S, self._start_missing, index)
            return
        with process.socket, contextlib.suppress(OSError):  # if it or the lead is gone already, the lead will say so
            process.socket.sendall(frame_of(self._role("share", index)))
            socket.send_fds(self._control, [bytes((index,))], [process.socket.fileno()])
        self._others[index] = process

    def _start_missing(self, index: int) -> None:
        if self._control is not None and index not in self._others:
            self._start_other(index)


def _name(block: ExecutionInput, place: tuple[int, int]) -> str:
    _, position = place
    if not 0 <= position < len(block.transactions):
        return "before its first transaction"
    return f"at transaction {position} ({block.hash_at(position).hex()})"

"""Reads and simulations: a process of their own, started at the first one, so that no read waits behind a block."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from chain.errors import BadInput, InvariantError
from executor.connection import START_S, Connection
from executor.outcome import QueryInput, QueryOutput
from executor.protocol import ChannelLost, QueryDone, Ready, RunQuery, Setup

QUERIES_PENDING_MAX: Final = 1_024
QUERY_S: Final = 20.0  # one read, whose time its gas bounds far below
_ATTEMPTS: Final = 2


class QueryExecutor:
    """Asks one process, in order, and starts another when it dies. A read is no consensus matter, so a read that takes
    too long or ends its process fails alone."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._connection: Connection | None = None
        self._starting = asyncio.Lock()
        self._listener: asyncio.Task[None] | None = None
        self._pending: deque[asyncio.Future[QueryOutput]] = deque()
        self.queries = 0
        self.restarts = -1  # the first start is none

    async def query(self, query: QueryInput) -> QueryOutput:
        """The answer on the newest stored state.

        Raises:
            BadInput: `busy`: too many reads wait, or this one ended its process twice.
        """
        if len(self._pending) >= QUERIES_PENDING_MAX:
            raise BadInput("busy", f"{QUERIES_PENDING_MAX} reads are waiting; try again")
        self.queries += 1
        for _ in range(_ATTEMPTS):
            try:
                return await self._ask(query)
            except ChannelLost:
                continue
        raise BadInput("busy", "the read took too long or too much memory; ask for less")

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._connection is not None:
            await self._connection.stop()
            self._connection = None
        self._fail_pending()

    async def _ask(self, query: QueryInput) -> QueryOutput:
        connection = await self._connected()
        answer: asyncio.Future[QueryOutput] = asyncio.get_running_loop().create_future()
        self._pending.append(answer)
        await connection.send(RunQuery(query=query))
        return await answer

    async def _connected(self) -> Connection:
        async with self._starting:
            if self._connection is not None:
                return self._connection
            connection = await Connection.start(self._setup)
            try:
                async with asyncio.timeout(START_S):
                    ready = await connection.receive()
                if not isinstance(ready, Ready):
                    raise InvariantError(f"the query executor does not start: {ready}")
            except BaseException:
                connection.kill()
                raise
            self.restarts += 1
            self._connection = connection
            self._listener = asyncio.create_task(self._listen(connection))
            return connection

    async def _listen(self, connection: Connection) -> None:
        """Hand out answers until the process is lost."""
        try:
            while True:
                reply = await self._next_reply(connection)
                if not isinstance(reply, QueryDone):
                    raise ChannelLost(f"the query executor said {type(reply).__name__}")
                answer = self._pending.popleft()
                if not answer.done():
                    answer.set_result(reply.output)
        except (ChannelLost, IndexError):
            self._connection = None
            connection.kill()
            self._fail_pending()

    async def _next_reply(self, connection: Connection) -> object:
        receiving = asyncio.ensure_future(connection.receive())
        try:
            while True:
                waiting = len(self._pending)
                done, _ = await asyncio.wait([receiving], timeout=QUERY_S)
                if done:
                    return receiving.result()
                if waiting and self._pending:
                    raise ChannelLost("a read takes too long")
        finally:
            receiving.cancel()

    def _fail_pending(self) -> None:
        while self._pending:
            answer = self._pending.popleft()
            if not answer.done():
                answer.set_exception(ChannelLost("the query executor is gone"))

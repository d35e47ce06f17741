"""The harness's own processes: each takes one JSON job on standard input, says so in JSON lines, and ends.

Volume never goes through these lines: signed transactions and results lie in files, see `parts` and `records`.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from bench.errors import BenchError

T = TypeVar("T")


class Child:
    """One process, seen from the harness; it ends with the block at the latest. Sessions of their own: a Ctrl-C at the
    terminal reaches only the harness, which then ends them."""

    def __init__(self, module: str, job: msgspec.Struct) -> None:
        self._module = module
        self._job = job
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise BenchError(f"{self._module} was not started")
        return self._process

    async def __aenter__(self) -> Child:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", self._module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        await self.tell(self._job)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._started
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())

    async def tell(self, message: msgspec.Struct) -> None:
        """One line to the process; if it has ended, `hear` says so."""
        assert self._started.stdin is not None
        try:
            self._started.stdin.write(msgspec.json.encode(message) + b"\n")
            await self._started.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return

    async def hear(self, kind: type[T]) -> T:
        """The next line of the process.

        Raises:
            BenchError: it ended instead, or said something else.
        """
        assert self._started.stdout is not None
        line = await self._started.stdout.readline()
        if not line:
            raise BenchError(f"{self._module} ended with exit code {await self._started.wait()}")
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            raise BenchError(f"{self._module} answered {line[:200]!r}: {error}") from None


def read_line(kind: type[T]) -> T | None:
    """In the process: the next line from the harness; None: the harness is gone."""
    line = sys.stdin.buffer.readline()
    return msgspec.json.decode(line, type=kind) if line else None


def say(message: Any) -> None:
    """In the process: one line to the harness."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()

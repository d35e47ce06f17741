"""Faults at set moments of a load: a node killed, stopped or frozen, and brought back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence

from bench.cluster.plan import LEADER, Fault
from bench.cluster.results import Injected
from bench.cluster.target import Target
from bench.errors import BenchError
from chain.client import Client, NodesUnreachable


class Faults:
    """All faults of one load. Times are seconds from its start."""

    def __init__(self, faults: Sequence[Fault], target: Target, *, start_s: float, window_s: float) -> None:
        """`start_s` is on the monotonic clock; faults count from `window_s` after it."""
        if faults and target.processes is None:
            raise BenchError("faults need a network of the harness's own, not one that runs already")
        self._faults = faults
        self._target = target
        self._start_s = start_s
        self._window_s = window_s
        self.injected: list[Injected] = []
        self._frozen: set[int] = set()

    async def run(self) -> None:
        """Until all are over; a node frozen when this is cancelled goes on."""
        try:
            await asyncio.gather(*[self._inject(fault) for fault in self._faults])
        finally:
            for pid in self._frozen:
                _signal_group(pid, signal.SIGCONT)

    def _now(self) -> float:
        return time.monotonic() - self._start_s

    async def _inject(self, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, self._window_s + fault.at_s - self._now()))
        name = await self._name(fault)
        begin = self._now()
        healed = await self._do(fault, name)
        self.injected.append(
            Injected(
                kind=fault.kind,
                node=name,
                start_s=round(begin, 3),
                end_s=round(self._now(), 3) if healed else None,
            )
        )

    async def _do(self, fault: Fault, name: str) -> bool:
        """Whether the node is back."""
        processes = self._target.processes
        assert processes is not None
        if fault.kind == "freeze":
            known = processes.running(name)
            if known is None:
                return False
            self._frozen.add(known.pid)
            _signal_group(known.pid, signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            _signal_group(known.pid, signal.SIGCONT)
            self._frozen.discard(known.pid)
            return True
        self._target.away.add(name)
        if fault.kind == "kill":
            await processes.kill(name)
        else:
            await processes.stop([name])
        if not fault.seconds:
            return False
        await asyncio.sleep(fault.seconds)
        processes.start(name)
        self._target.away.discard(name)
        return True

    async def _name(self, fault: Fault) -> str:
        if fault.node != LEADER:
            return self._target.names[int(fault.node) - 1]
        async with Client(self._target.urls, timeout_ms=5_000) as client:
            with contextlib.suppress(NodesUnreachable):
                return str((await client.status())["consensus"]["leader_name"])
        return self._target.names[0]


def _signal_group(pid: int, number: signal.Signals) -> None:
    """A node leads a group of its own; its executors are in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)

"""The load of one run, seen from the harness: signing processes, then load processes and a watcher, then their records.

prepare()  sign everything into files, in as many processes as there are cores
start()    tell all processes the one moment from which intended times count
sent()     wait for the last answer
finish()   wait for the last certificate, read the records
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from bench.cluster.children import Child
from bench.cluster.records import COUNTERS, Records, load_records
from bench.cluster.send import Ready, SendJob, Sent, Start
from bench.cluster.sign import Signed, SignJob
from bench.cluster.watch import Expect, Seen, WatchJob

LEAD_S: Final = 0.3  # between telling the processes and the start


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, where; `rate` in transactions a second. `watch` is the node whose blocks are read."""

    urls: tuple[str, ...]
    watch: str
    chain_id: bytes
    contract: bytes
    workload: str
    rate: float
    count: int
    expiry: int
    seed: int
    processes: int = 1
    in_flight_max: int = 0
    until_s: float = 0.0
    drain_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCost:
    """CPU seconds of the load's own processes, and how late they ever were."""

    sign_s: float
    send_s: float
    watch_s: float
    behind_ms_max: float


class Load:
    """Use as an async context manager: no process outlives the block. `folder` must be empty and is not removed."""

    def __init__(self, plan: LoadPlan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._stack = contextlib.AsyncExitStack()
        self._senders: list[Child] = []
        self._watcher: Child | None = None
        self._sent: list[Sent] = []
        self._sign_s = 0.0
        self.start_s = 0.0  # on the monotonic clock

    async def __aenter__(self) -> Load:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def prepare(self, from_height: int) -> None:
        """Sign, start the processes and wait until they are ready. Blocks count from `from_height` on.

        Raises:
            BenchError: a process failed.
        """
        shares = await self._sign()
        np.zeros(len(shares), dtype=np.int64).tofile(self._folder / COUNTERS)
        others = (url for url in self._plan.urls if url != self._plan.watch)
        urls = (self._plan.watch, *others)
        watch = WatchJob(folder=str(self._folder), shares=tuple(shares), urls=urls, from_height=from_height)
        self._watcher = await self._stack.enter_async_context(Child("bench.cluster.watch", watch))
        for process, parts in enumerate(shares):
            job = SendJob(
                folder=str(self._folder),
                parts=parts,
                urls=self._plan.urls,
                process=process,
                processes=len(shares),
                rate=self._plan.rate,
                in_flight_max=self._plan.in_flight_max,
                until_s=self._plan.until_s,
            )
            self._senders.append(await self._stack.enter_async_context(Child("bench.cluster.send", job)))
        for child in (self._watcher, *self._senders):
            await child.hear(Ready)

    async def _sign(self) -> list[tuple[str, ...]]:
        """The names of the parts of each share."""
        plan = self._plan
        workers = max(1, (os.cpu_count() or 1) // plan.processes)  # for each share
        shares: list[tuple[str, ...]] = []
        jobs: list[SignJob] = []
        for process in range(plan.processes):
            count = len(range(process, plan.count, plan.processes))
            edges = [count * at // workers for at in range(workers + 1)]
            own = [
                SignJob(
                    path=str(self._folder / f"part-{process}-{at}"),
                    chain_id=plan.chain_id.hex(),
                    contract=plan.contract.hex(),
                    workload=plan.workload,
                    seed=plan.seed,
                    expiry=plan.expiry,
                    first=process + low * plan.processes,
                    step=plan.processes,
                    count=high - low,
                )
                for at, (low, high) in enumerate(pairwise(edges))
            ]
            jobs += own
            shares.append(tuple(job.path for job in own))
        busy = asyncio.Semaphore(os.cpu_count() or 1)

        async def sign(job: SignJob) -> float:
            async with busy, Child("bench.cluster.sign", job) as child:
                return (await child.hear(Signed)).cpu_s

        try:
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(sign(job)) for job in jobs]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        self._sign_s = sum(task.result() for task in working)
        return shares

    async def start(self) -> float:
        """Tell everyone; the moment, on the monotonic clock, from which intended times count."""
        assert self._watcher is not None
        self.start_s = time.monotonic() + LEAD_S
        for child in (self._watcher, *self._senders):
            await child.tell(Start(at=self.start_s))
        return self.start_s

    @property
    def certified(self) -> int:
        """So far, as the watcher sees it."""
        return int(np.fromfile(self._folder / COUNTERS, dtype=np.int64).sum())

    async def sent(self) -> None:
        """When every load process has sent everything and has its answers.

        Raises:
            BenchError: a process failed.
        """
        self._sent = [await child.hear(Sent) for child in self._senders]

    async def finish(self) -> tuple[Records, LoadCost]:
        """After `sent`: when everything accepted is certified, or the time to drain is over.

        Raises:
            BenchError: a process failed.
        """
        assert self._watcher is not None
        expected = sum(one.accepted for one in self._sent)
        await self._watcher.tell(Expect(certified=expected, drain_s=self._plan.drain_s))
        seen = await self._watcher.hear(Seen)
        cost = LoadCost(
            sign_s=self._sign_s,
            send_s=sum(one.cpu_s for one in self._sent),
            watch_s=seen.cpu_s,
            behind_ms_max=max(one.behind_ms_max for one in self._sent),
        )
        return load_records(self._folder, len(self._sent)), cost

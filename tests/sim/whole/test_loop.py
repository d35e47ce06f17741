"""The virtual event loop: time, threads, processes that freeze and die."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from chain.sim.whole.loop import START_US, PowerLost, Process, SimLoop


class Harness:
    def __init__(self) -> None:
        self.lost: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.loop = SimLoop(
            Random(1), job_us=lambda process, lane: 1_000, lost=self._lose,
            failed=lambda process, context: self.failed.append((process.name if process else "", str(context))),
        )  # fmt: skip

    def _lose(self, process: Process) -> None:
        self.lost.append(process.name)
        self.loop.kill(process)

    @property
    def ms(self) -> int:
        return (self.loop.now_us - START_US) // 1_000

    def run(self, work: Any) -> Any:
        try:
            return self.loop.run_until_complete(self.loop.create_task(work))
        finally:
            self.loop.bury([])
            self.loop.close()


def test_time_passes_only_between_timers() -> None:
    sim = Harness()
    seen: list[tuple[str, int]] = []

    async def sleeper(name: str, ms: int) -> None:
        await asyncio.sleep(ms / 1_000)
        seen.append((name, sim.ms))

    async def main() -> None:
        async with asyncio.timeout(3_600):
            await asyncio.gather(sleeper("late", 3_000_000), sleeper("soon", 5))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await asyncio.Event().wait()

    sim.run(main())
    assert seen == [("soon", 5), ("late", 3_000_000)]
    assert sim.ms == 3_000_250


def test_waiting_for_nothing_ends_the_run_instead_of_hanging() -> None:
    sim = Harness()

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="stands still"):
        sim.run(main())


def test_a_wait_shorter_than_a_microsecond_ends() -> None:
    sim = Harness()

    async def main() -> None:
        for _ in range(100):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1e-9):
                    await asyncio.Event().wait()

    sim.run(main())


def test_one_thread_takes_one_job_after_the_other_and_two_take_two() -> None:
    sim = Harness()
    process = Process("n0.1")
    ends: list[int] = []

    async def job(pool: ThreadPoolExecutor) -> None:
        await asyncio.get_running_loop().run_in_executor(pool, lambda: None)
        ends.append(sim.ms)

    async def main() -> None:
        for threads in (1, 2):
            pool = ThreadPoolExecutor(threads, thread_name_prefix="headrace-test")
            await asyncio.wait([sim.loop.spawn(process, job(pool)) for _ in range(4)])
            pool.shutdown()

    sim.run(main())
    assert ends == [1, 2, 3, 4, 5, 5, 6, 6]


def test_the_error_of_a_job_goes_to_whoever_waits() -> None:
    sim = Harness()
    process = Process("n0.1")

    async def job() -> int:
        with pytest.raises(ZeroDivisionError), ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, lambda: 1 // 0)
        return 7

    async def main() -> None:
        assert await sim.loop.spawn(process, job()) == 7

    sim.run(main())


def test_a_frozen_process_goes_on_where_it_stood() -> None:
    sim = Harness()
    process = Process("n0.1")
    ticks: list[int] = []

    async def tick() -> None:
        for _ in range(4):
            await asyncio.sleep(0.010)
            ticks.append(sim.ms)

    async def main() -> None:
        task = sim.loop.spawn(process, tick())
        await asyncio.sleep(0.015)
        sim.loop.freeze(process)
        await asyncio.sleep(0.100)
        sim.loop.thaw(process)
        await task

    sim.run(main())
    assert ticks == [10, 115, 125, 135]


def test_a_killed_process_does_nothing_more_and_is_unwound() -> None:
    sim = Harness()
    process = Process("n0.1")
    did: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(1)
            did.append("went on")
        finally:
            did.append("unwound")

    async def parent() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())
            tasks.create_task(child())

    async def main() -> None:
        task = sim.loop.spawn(process, parent())
        unstarted = []
        sim.loop.at(sim.loop.now_us + 500_000, lambda: unstarted.append(sim.loop.spawn(process, child())))
        sim.loop.at(sim.loop.now_us + 500_000, sim.loop.kill, process)
        await asyncio.wait((task,))
        assert task.cancelled()
        await asyncio.sleep(5)
        assert unstarted[0].done()

    sim.run(main())
    assert did == ["unwound", "unwound"]
    assert not sim.failed


def test_power_lost_in_a_thread_takes_the_process_with_it() -> None:
    sim = Harness()
    process = Process("n0.1")
    did: list[str] = []

    def write() -> None:
        raise PowerLost("at a commit")

    async def work() -> None:
        pool = ThreadPoolExecutor(1)
        try:
            await asyncio.get_running_loop().run_in_executor(pool, write)
        except Exception:
            did.append("caught")
            raise
        finally:
            pool.shutdown()
        did.append("went on")

    async def main() -> None:
        await asyncio.wait((sim.loop.spawn(process, work()),))

    sim.run(main())
    assert sim.lost == ["n0.1"]
    assert did == []


def test_a_broken_promise_ends_the_run_at_once() -> None:
    sim = Harness()

    async def main() -> None:
        sim.loop.broken = ValueError("a promise")
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="a promise"):
        sim.run(main())
    assert sim.ms == 0

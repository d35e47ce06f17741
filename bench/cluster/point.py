"""One point: a load at one rate on a running target, observed."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import aiohttp

from bench.cluster.faults import Faults
from bench.cluster.load import Load, LoadPlan
from bench.cluster.plan import ClusterPlan
from bench.cluster.results import Point
from bench.cluster.sampling import Sampler
from bench.cluster.summary import Aim, Window, point_of
from bench.cluster.target import Target
from chain.client import Client

EXPIRY_SHARE: Final = 0.9  # of the longest lifetime: room for nodes that are a little behind
POLL_S: Final = 0.1
_folders = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The workload, deployed and filled on a target."""

    contract: bytes
    chain_id: bytes
    lifetime: int  # heights


async def measure(
    plan: ClusterPlan, target: Target, prepared: Prepared, aim: Aim, say: Callable[[str], None]
) -> Point:
    """Load the target and wait until it has settled.

    Raises:
        BenchError: the load failed. NodeExited: a node ended by itself.
    """
    watched = _watched(plan)
    height = await _height(target.urls)
    load_plan = _load_plan(plan, target, prepared, aim, url=target.urls[watched], height=height)
    folder = target.folder / f"load-{next(_folders)}"
    folder.mkdir()
    try:
        async with Load(load_plan, folder) as load, aiohttp.ClientSession() as session:
            say(f"signing {load_plan.count:,} transactions")
            await load.prepare(height + 1)
            sampler = Sampler(target, session, watched=watched, first_height=height + 1)
            window, faults = await _observe(plan, target, load, load_plan, sampler, aim, say)
            records, cost = await load.finish()
            await sampler.read_heights(await _height(target.urls))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    point = point_of(plan, aim, window, records, cost, sampler, faults=faults.injected, missing=target.missing)
    latency = f"p50 {point.latency_ms.p50:g} p99 {point.latency_ms.p99:g} ms" if point.latency_ms else "no latency"
    say(f"certified {point.tps:g}/s, {latency}, failed {point.failed}")
    return point


def _load_plan(
    plan: ClusterPlan, target: Target, prepared: Prepared, aim: Aim, *, url: str, height: int
) -> LoadPlan:
    return LoadPlan(
        urls=tuple(target.urls),
        watch=url,
        chain_id=prepared.chain_id,
        contract=prepared.contract,
        workload=plan.workload,
        rate=aim.rate,
        count=plan.transactions or max(1, int(aim.rate * (plan.warmup_s + aim.seconds))),
        expiry=height + int(prepared.lifetime * EXPIRY_SHARE),
        seed=aim.seed,
        processes=plan.load_processes,
        in_flight_max=plan.in_flight_max,
        until_s=plan.warmup_s + aim.seconds if plan.in_flight_max and not plan.transactions else 0.0,
        drain_s=plan.drain_s,
    )


async def _observe(
    plan: ClusterPlan, target: Target, load: Load, load_plan: LoadPlan, sampler: Sampler, aim: Aim,
    say: Callable[[str], None],
) -> tuple[Window, Faults]:  # fmt: skip
    """From the start of the load until everything is sent and answered."""
    most = f", at most {plan.in_flight_max:,} in flight" if plan.in_flight_max else ""
    length = f"until {plan.transactions:,} are sent" if plan.transactions else f"{aim.seconds:g} s measured"
    say(f"{aim.role}: {aim.rate:g} transactions a second{most}; {plan.warmup_s:g} s of warm-up, {length}")
    memory = [await sampler.memory(time.monotonic())]
    start_s = await load.start()
    epoch_us = time.time_ns() // 1_000 - int((time.monotonic() - start_s) * 1e6)
    faults = Faults(plan.faults, target, start_s=start_s, window_s=plan.warmup_s)
    sending = asyncio.create_task(load.sent())
    others = [asyncio.create_task(sampler.run()), asyncio.create_task(faults.run())]
    closed = bool(plan.in_flight_max and plan.transactions)
    first_s, last_s = start_s + plan.warmup_s, start_s + plan.warmup_s + aim.seconds
    try:
        await _until(first_s, sending, others)
        before, disk_before = await sampler.everywhere(), await sampler.disk()
        if closed:
            while not sending.done() and load.certified * 2 < load_plan.count:
                await _until(time.monotonic() + POLL_S, sending, others)
        else:
            await _until((first_s + last_s) / 2, sending, others)
        memory.append(await sampler.memory(start_s))
        if closed:
            while not sending.done():
                await _until(time.monotonic() + POLL_S, sending, others)
            last_s = time.monotonic()
        else:
            await _until(last_s, sending, others)
        after, disk_after = await sampler.everywhere(), await sampler.disk()
        memory.append(await sampler.memory(start_s))
        while not sending.done():
            await _until(time.monotonic() + POLL_S, sending, others)
        await sending
    finally:
        for task in (sending, *others):
            task.cancel()
        await asyncio.gather(sending, *others, return_exceptions=True)
    window = Window(
        start_s=start_s, epoch_us=epoch_us, first=plan.warmup_s, last=last_s - start_s, before=before, after=after,
        memory=memory, disk=None if disk_before is None or disk_after is None else (disk_before, disk_after),
    )  # fmt: skip
    return window, faults


async def _until(moment: float, sending: asyncio.Task[None], others: Sequence[asyncio.Task[None]]) -> None:
    """Sleep until then, on the monotonic clock; what one of the tasks fails with is raised at once."""
    while True:
        for task in (sending, *others):
            if task.done():
                task.result()
        open_tasks = [task for task in (sending, *others) if not task.done()]
        left = moment - time.monotonic()
        if left <= 0:
            return
        if open_tasks:
            await asyncio.wait(open_tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(left)


def _watched(plan: ClusterPlan) -> int:
    """The number of a node that no fault touches, from 0 on; the leader of the first view is the first node. If the
    leader is another by then, the watcher goes on at the next node."""
    touched = {1 if isinstance(fault.node, str) else fault.node for fault in plan.faults}
    return next((at for at in range(plan.nodes) if at + 1 not in touched), 0)


async def _height(urls: Sequence[str]) -> int:
    async with Client(urls, timeout_ms=10_000) as client:
        return int((await client.status())["certified_height"])

"""Runs a plan: for each run and repeat a network of its own, the workload's set-up, one load or a sweep and a soak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Final

from bench.cluster.figures import next_rate, sustained
from bench.cluster.plan import ClusterPlan, PlanFile
from bench.cluster.point import Prepared, measure
from bench.cluster.results import Knee, Point, Result, Role, Run
from bench.cluster.summary import Aim
from bench.cluster.target import Target, own_network, running_network
from bench.machine import machine
from bench.workloads import WORKLOADS
from chain.client import Client
from chain.crypto import PrivateKey
from chain.errors import ConfigError

Say = Callable[[str], None]

DRAIN_POLL_S: Final = 0.2
SWEEP_POINTS_MAX: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A network that runs already, and the account that deploys on it."""

    urls: tuple[str, ...]
    key: PrivateKey


async def run_cluster(
    plan: PlanFile, say: Say, *, remote: Remote | None = None, keep: Callable[[Result], None] = lambda _: None
) -> Result:
    """The result; `keep` is given what there is after each point, so that nothing measured is lost.

    Raises:
        ConfigError: a plan that cannot be run. BenchError, ProcessError, HeadraceError: something failed on the way.
    """
    begin = time.monotonic()
    say("measuring what this machine can do")
    result = Result(
        name=plan.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        machine=await asyncio.to_thread(machine),
        runs=[],
    )
    for run in plan.runs:
        elsewhere = {"nodes": len(remote.urls), "urls": list(remote.urls)} if remote is not None else {}
        entry = Run(name=run.name, question=run.question, plan=run.document() | elsewhere)
        result.runs.append(entry)

        def note(point: Point, entry: Run = entry) -> None:
            entry.points.append(point)
            keep(_timed(result, begin))

        for repeat in range(run.repeats):
            what = f"{run.name}: {run.workload}"
            say(what if run.repeats == 1 else f"{what}, repeat {repeat + 1} of {run.repeats}")
            async with _target(run, remote, say) as target:
                knee = await _repeat(run, target, repeat, note, say)
            if knee is not None:
                entry.knees.append(knee)
    finished = _timed(result, begin)
    keep(finished)
    return finished


def _timed(result: Result, begin: float) -> Result:
    return Result(
        name=result.name, created=result.created, seconds=round(time.monotonic() - begin, 1), machine=result.machine,
        runs=result.runs,
    )  # fmt: skip


@asynccontextmanager
async def _target(plan: ClusterPlan, remote: Remote | None, say: Say) -> AsyncIterator[Target]:
    if remote is None:
        async with own_network(plan, say) as target:
            yield target
        return
    for name in ("parameters", "node", "ablation", "faults", "link_delays", "link_delay_ms"):
        if getattr(plan, name):
            raise ConfigError(f"{name} is set, must be absent with --url: the nodes are not the harness's own")
    async with running_network(remote.urls, remote.key) as target:
        yield target


async def _repeat(
    plan: ClusterPlan, target: Target, repeat: int, note: Callable[[Point], None], say: Say
) -> Knee | None:
    """One load, or a sweep and its soak, on one network."""
    say(f"preparing {plan.workload}")
    async with target.client() as client:
        contract = await WORKLOADS[plan.workload]().prepare(client)
        genesis = await client.genesis()
        prepared = Prepared(
            contract=contract, chain_id=await client.chain_id(), lifetime=genesis.parameters.lifetime_max
        )

    seeds = count(plan.seed + repeat * SWEEP_POINTS_MAX)

    async def at(role: Role, rate: float, seconds: float) -> Point:
        aim = Aim(role=role, repeat=repeat, rate=rate, seconds=seconds, seed=next(seeds))
        point = await measure(plan, target, prepared, aim, say)
        note(point)
        return point

    if plan.sweep is None:
        await at("run", plan.rate, plan.measured_s)
        return None
    best = await _sweep(plan, target, at, say)
    if best is not None and plan.soak_seconds:
        rate = round(best.offered_tps * plan.soak_share, 1)
        await at("soak", rate, plan.soak_seconds)
    return Knee(
        repeat=repeat,
        offered_tps=best.offered_tps if best else None,
        tps=best.tps if best else None,
        certified_share_min=plan.certified_share_min,
        p99_ms_max=plan.p99_ms_max,
    )


async def _sweep(
    plan: ClusterPlan, target: Target, at: Callable[[Role, float, float], Awaitable[Point]], say: Say
) -> Point | None:
    """The highest point that was sustained; None: not even the first was."""
    known: list[tuple[float, bool]] = []
    best: Point | None = None
    while len(known) < SWEEP_POINTS_MAX:
        rate = _next(plan, known)
        if not rate:
            break
        point = await at("sweep", rate, plan.seconds)
        kept = sustained(
            offered_tps=rate,
            tps=point.tps,
            p99_ms=point.latency_ms.p99 if point.latency_ms else None,
            share_min=plan.certified_share_min,
            p99_ms_max=plan.p99_ms_max,
        )
        known.append((rate, kept))
        if kept and (best is None or rate > best.offered_tps):
            best = point
        if not await drained(target, plan.drain_s):
            say(f"not empty {plan.drain_s:g} s after the load; the sweep ends here")
            break
    say(f"knee: {best.offered_tps:g} transactions a second" if best else "knee: below the first rate")
    return best


def _next(plan: ClusterPlan, known: Sequence[tuple[float, bool]]) -> float:
    sweep = plan.sweep
    assert sweep is not None
    if sweep.rates:
        over = len(known) == len(sweep.rates) or (bool(known) and not known[-1][1])
        return 0.0 if over else sweep.rates[len(known)]
    rate = next_rate(known, start=sweep.start, factor=sweep.factor, highest=sweep.highest, refine=sweep.refine)
    return round(rate, 1)


async def drained(target: Target, drain_s: float) -> bool:
    """Wait until no node has a transaction left in its pool; False: the time is over, and the next point would measure
    the rest of this one."""
    deadline = time.monotonic() + max(drain_s, 1.0)
    for url in target.urls:
        async with Client(url) as client:
            while int((await client.rpc("get_pool_status"))["transactions"]) > 0:
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(DRAIN_POLL_S)
    return True

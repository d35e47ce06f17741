"""Runs a plan: for each run and repeat a network of its own, the workload's set-up, one load or a sweep and a soak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Final

from bench.cluster.figures import falls_short, next_rate, not_tried
from bench.cluster.plan import ClusterPlan, PlanFile
from bench.cluster.point import Prepared, measure
from bench.cluster.report import nodes_in_words
from bench.cluster.results import Knee, Point, Result, Role, Run
from bench.cluster.summary import Aim
from bench.cluster.target import Remote, Target, own_network, running_network
from bench.machine import machine
from bench.workloads import WORKLOADS
from chain.client import Client
from chain.errors import ConfigError

Say = Callable[[str], None]

DRAIN_POLL_S: Final = 0.2
SWEEP_POINTS_MAX: Final = 40
SWEEP_SECONDS_MIN: Final = 15.0  # in a shorter window what is under way at its edges decides what is sustained


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
        entry = Run(name=run.name, question=run.question, plan=run.document())
        result.runs.append(entry)
        if warning := short_windows(run):
            say(warning)

        def note(point: Point, entry: Run = entry) -> None:
            entry.points.append(point)
            keep(_timed(result, begin))

        for repeat in range(run.repeats):
            what = f"{run.name}: {run.workload}"
            say(what if run.repeats == 1 else f"{what}, repeat {repeat + 1} of {run.repeats}")
            async with _target(run, remote, say) as target:
                entry.plan.update(target.found)
                knee = await _repeat(run, target, repeat, note, say)
            if knee is not None:
                entry.knees.append(knee)
    finished = _timed(result, begin)
    keep(finished)
    return finished


def short_windows(plan: ClusterPlan) -> str:
    """A warning about a sweep whose windows are short; empty: there is nothing to warn of."""
    if plan.sweep is None or plan.seconds >= SWEEP_SECONDS_MIN:
        return ""
    return (
        f"warning: {plan.name}: a sweep with windows of {plan.seconds:g} s: below {SWEEP_SECONDS_MIN:g} s what is "
        "under way at a window's edges moves the share that is certified, and with it the knee"
    )


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
    async with running_network(remote) as target:
        say(nodes_in_words(target.found))
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
    best = await find_knee(plan, target, at, say)
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


async def find_knee(
    plan: ClusterPlan, target: Target, at: Callable[[Role, float, float], Awaitable[Point]], say: Say
) -> Point | None:
    """The highest point that was sustained; None: not even the first was."""
    known: list[tuple[float, bool]] = []
    best: Point | None = None
    why = ""
    while len(known) < SWEEP_POINTS_MAX:
        rate = _next(plan, known)
        if not rate:
            break
        point = await at("sweep", rate, plan.seconds)
        short = falls_short(
            offered_tps=rate,
            tps=point.tps,
            p99_ms=point.latency_ms.p99 if point.latency_ms else None,
            share_min=plan.certified_share_min,
            p99_ms_max=plan.p99_ms_max,
        )
        known.append((rate, not short))
        if short:
            why = f"{rate:g}/s not sustained: {short}"
            say(why)
        elif best is None or rate > best.offered_tps:
            best = point
        if not await drained(target, plan.drain_s):
            say(f"not empty {plan.drain_s:g} s after the load; the sweep ends here")
            break
    left = not_tried(plan.sweep.rates if plan.sweep else (), [rate for rate, _ in known])
    knee = f"knee: {best.offered_tps:g} transactions a second" if best else f"knee: below the first rate: {why}"
    say(f"{knee}; {left}" if left else knee)
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

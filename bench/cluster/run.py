"""One benchmark run: a network of its own, the workload's set-up, warm-up, the measured window, the report."""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from bench.cluster.load import LoadJob, LoadResult
from bench.cluster.measure import NodeSample, sample
from bench.cluster.report import summarize_run
from bench.errors import BenchError
from bench.machine import machine
from bench.workloads import WORKLOADS
from chain.cli.processes import NetworkProcesses
from chain.client import Client
from chain.client.stages import stage_summary
from chain.errors import ConfigError
from chain.model.genesis import ChainParameters
from chain.node.consortium import NetworkInfo, NodeSpec, create_network, load_account

LIFETIME_HEIGHTS: Final = 1_000_000  # transactions are signed long before they are sent


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """What to run. Rate in transactions a second, times in seconds."""

    workload: str = "send_payment"
    nodes: int = 4
    executors: int = 1
    rate: float = 1_000.0
    seconds: float = 60.0
    warmup_s: float = 10.0
    seed: int = 1
    link_delay_ms: int = 0

    def __post_init__(self) -> None:
        if self.workload not in WORKLOADS:
            raise ConfigError(f"workload is {self.workload!r}, must be one of {', '.join(WORKLOADS)}")
        ranges = {
            "nodes": (4, 32), "executors": (1, 64), "rate": (1, 100_000), "seconds": (1, 3_600), "warmup_s": (0, 600),
            "link_delay_ms": (0, 10_000),
        }  # fmt: skip
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            if not (math.isfinite(value) and low <= value <= high):
                raise ConfigError(f"{field} is {value:g}, must be {low}..{high}")


async def run_cluster(plan: ClusterPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """The report as a JSON document; the network's folder is temporary."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        network = create_network(
            Path(folder) / "network",
            name="bench",
            nodes=[
                NodeSpec(organisation=f"Bank {at}", role="bank", name=f"bank-{at}") for at in range(1, plan.nodes + 1)
            ],
            executors=plan.executors,
            parameters=ChainParameters(lifetime_max=LIFETIME_HEIGHTS),
            link_delay_ms=plan.link_delay_ms,
        )
        processes = NetworkProcesses(network)
        say(f"starting {plan.nodes} nodes")
        try:
            await processes.start_all()
            return await _measure(plan, network, processes, say)
        finally:
            await asyncio.shield(processes.stop())


async def _measure(
    plan: ClusterPlan, network: NetworkInfo, processes: NetworkProcesses, say: Callable[[str], None]
) -> dict[str, Any]:
    urls = [node.rpc_url for node in network.nodes]
    say(f"preparing {plan.workload}")
    async with Client(urls, key=load_account(network.account_path("operator"))) as client:
        contract = await WORKLOADS[plan.workload]().prepare(client)
        expiry = client.height + LIFETIME_HEIGHTS * 9 // 10
    job = LoadJob(
        urls=tuple(urls),
        chain_id=network.chain_id.hex(),
        contract=contract.hex(),
        workload=plan.workload,
        rate=plan.rate,
        count=int(plan.rate * (plan.warmup_s + plan.seconds)),
        expiry=expiry,
        seed=plan.seed,
    )
    say(f"signing {job.count:,} transactions")
    load_process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "bench.cluster.load",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**30,
    )  # fmt: skip
    try:
        await _tell(load_process, msgspec.json.encode(job))
        await _hear(load_process)
        say(f"sending {plan.rate:g} transactions a second: {plan.warmup_s:g} s of warm-up, {plan.seconds:g} s measured")
        await _tell(load_process, b"go")
        pids = [running.pid for node in network.nodes if (running := processes.running(node.name)) is not None]
        async with aiohttp.ClientSession() as session:
            await asyncio.sleep(plan.warmup_s + 0.2)
            first_s = time.monotonic()
            before = await _sample_all(session, urls, pids)
            await asyncio.sleep(max(0.0, plan.seconds - (time.monotonic() - first_s)))
            after = await _sample_all(session, urls, pids)
        answer = await _hear(load_process)
        try:
            load = msgspec.json.decode(answer, type=LoadResult)
        except msgspec.DecodeError as error:
            raise BenchError(f"the load generator answered {len(answer)} bytes that are no result: {error}") from None
        await load_process.wait()
    finally:
        if load_process.returncode is None:
            load_process.kill()
            await load_process.wait()
    async with Client(urls[0]) as client:
        stages = await stage_summary(client, before[0].height + 1, after[0].height)
    figures = summarize_run(
        load=load,
        before=before,
        after=after,
        window=(plan.warmup_s, plan.warmup_s + plan.seconds),
        overlap=stages.overlap,
        stage_mean_ms=stages.mean_ms,
    )
    return {
        "workload": plan.workload,
        "nodes": plan.nodes,
        "executors": plan.executors,
        "offered_tps": plan.rate,
        "seconds": plan.seconds,
        "warmup_s": plan.warmup_s,
        "seed": plan.seed,
        "link_delay_ms": plan.link_delay_ms,
        **figures,
        "machine": machine(),
    }


async def _sample_all(session: aiohttp.ClientSession, urls: list[str], pids: list[int]) -> list[NodeSample]:
    return list(await asyncio.gather(*[sample(session, url, pid) for url, pid in zip(urls, pids, strict=True)]))


async def _tell(process: asyncio.subprocess.Process, line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line + b"\n")
    await process.stdin.drain()


async def _hear(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise BenchError(f"the load generator ended with exit code {await process.wait()}")
    return line

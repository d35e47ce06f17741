"""A short chaos run over real nodes; each fault does what it says; Ctrl-C leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime

import aiohttp
import psutil
import pytest

from bench.chaos.clients import GAS_LIMIT
from bench.chaos.faults import Fault
from bench.chaos.launch import set_offset
from bench.chaos.run import ChaosPlan, Cluster, account, chaos_cluster, deploy, recovered, run_chaos
from chain.client import Client, NodesUnreachable, RpcFailed
from tests.e2e.test_network import until

pytestmark = pytest.mark.slow

DEADLINE_S = 30


def quiet(text: str) -> None:
    pass


def test_nothing_that_clients_were_told_is_lost_under_faults() -> None:
    plan = ChaosPlan(seconds=9, sessions=6, seed=11, faults=("kill", "freeze", "partition"))
    report = asyncio.run(run_chaos(plan, quiet))
    assert report["violations"] == []
    assert (report["lost"], report["undecided"]) == (0, 0)
    assert report["injected"] >= 1
    assert report["certified"] >= 20
    assert len(report["recover_ms"]) == report["injected"]


async def standing(url: str) -> dict[str, object] | None:
    async with Client(url, timeout_ms=500, retry_ms=0) as client:
        try:
            return await client.status()
        except (NodesUnreachable, RpcFailed):
            return None


async def clock_ahead_s(url: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/health/live") as answer:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()


async def send_until(ended: asyncio.Event, cluster: Cluster, contract: bytes) -> None:
    async with Client(cluster.urls[1:], key=account(1, 0)) as client:
        while not ended.is_set():
            await client.send(contract, "bump", 0, gas_limit=GAS_LIMIT, timeout_ms=60_000)


async def during(cluster: Cluster, fault: Fault) -> asyncio.Task[None]:
    return asyncio.create_task(cluster.injector.inject(fault))


def test_each_fault_does_what_it_says_and_heals() -> None:
    async def scenario() -> None:
        async with chaos_cluster(4, quiet) as cluster:
            contract = await deploy(cluster)
            node, first = cluster.network.nodes[0], cluster.urls[0]

            async def unreachable() -> bool:
                return await standing(first) is None

            async def cut_off() -> bool:
                status = await standing(first)
                return status is not None and status["peers_connected"] == 0

            async def gone() -> bool:
                return cluster.processes.running(node.name) is None

            async def back() -> bool:
                return await recovered(cluster, [node.name]) is not None

            fault = await during(cluster, Fault(kind="freeze", node=node.name, seconds=1.5, pause_s=0))
            await until(unreachable, "frozen: it does not answer")
            await fault
            assert await back()

            fault = await during(cluster, Fault(kind="cut", node=node.name, seconds=1.0, pause_s=0))
            await until(cut_off, "cut: no peer is connected")
            await fault
            assert await back()

            set_offset(node.folder / "clock", 3_600_000)
            assert 3_590 < await clock_ahead_s(first) < 3_610
            set_offset(node.folder / "clock", 0)
            assert abs(await clock_ahead_s(first)) < 10

            fault = await during(cluster, Fault(kind="disk_full", node=node.name, seconds=0.5, pause_s=0))
            ended = asyncio.Event()
            sends = [asyncio.create_task(send_until(ended, cluster, contract)) for _ in range(4)]
            await until(gone, "no file may grow: it stops")
            said = cluster.processes.log_tail(node.name, 200)
            ended.set()
            await fault
            await asyncio.gather(*sends)
            assert cluster.injector.ended_by_itself[node.name] == 1
            assert any("node_failed" in line for line in said)
            assert await back()

    asyncio.run(scenario())


def test_ctrl_c_leaves_nothing_running() -> None:
    command = [sys.executable, "-P", "-m", "chain.cli.main", "bench", "chaos", "--seconds", "60"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    process = psutil.Process(child.pid)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while len(started := process.children(recursive=True)) < 4:
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
        os.kill(child.pid, signal.SIGINT)
        _, told = child.communicate(timeout=DEADLINE_S)
    finally:
        child.kill()
    assert child.returncode == 130, told
    assert "stopped" in told
    _, alive = psutil.wait_procs(started, timeout=DEADLINE_S)
    assert alive == []

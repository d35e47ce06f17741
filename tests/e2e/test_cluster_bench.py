"""`headrace bench cluster` on real nodes: one short run of its own network, and one against a network that runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cluster import results
from chain.cli.processes import NetworkProcesses
from chain.node.consortium import create_network, some_nodes

pytestmark = pytest.mark.slow

TIMEOUT_S = 120
BENCH = [sys.executable, "-P", "-m", "chain.cli.main", "bench", "cluster"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BENCH, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_a_short_run_has_all_its_figures(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    done = bench(
        "--workload", "do_nothing", "--rate", "100", "--warmup", "1", "--seconds", "3", "--load-processes", "2",
        "--set", "node.crypto.kernel=never",
        "--output", str(output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = results.load(output)
    [run] = result.runs
    [point] = run.points
    assert point.counts.offered == 300
    assert point.failed == 0
    assert point.counts.certified > 0
    assert point.counts.ordered
    assert sum(point.series.certified) == 400
    assert point.latency_ms is not None
    assert 0 < point.latency_ms.p50 <= point.latency_ms.p99 <= point.latency_ms.max
    assert point.cpu is not None
    assert point.cpu.us_per_tx_per_node > sum(point.cpu.by_work_us.values()) / 2 > 0
    assert point.spans
    assert len(point.memory) == 3
    assert all(0 < (one.pss_without_lmdb or 0) < (one.pss or 0) for one in point.memory)
    assert point.disk is not None
    assert f"{point.tps:g} tx/s" in done.stdout


def test_a_network_that_runs_is_measured_by_its_metrics(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network", name="running", nodes=some_nodes(4))
    processes = NetworkProcesses(network)
    output = tmp_path / "result.json"

    async def run() -> list[subprocess.CompletedProcess[str]]:
        await processes.start_all()
        try:
            return [
                await asyncio.to_thread(
                    bench, "--workload", "do_nothing", "--rate", "100", "--warmup", "0", "--seconds", "2",
                    "--url", network.nodes[0].rpc_url, "--url", network.nodes[2].rpc_url,
                    "--key", str(network.account_path(account)), "--output", str(output),
                )
                for account in ("harbour-bank", "operator")
            ]  # fmt: skip
        finally:
            await processes.stop()

    refused, done = asyncio.run(run())
    assert refused.returncode == 2
    assert "harbour-bank.json" in refused.stderr and "NETWORK/accounts/operator.json" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert "4 validators, 2 of them addressed" in done.stderr and "4 validators, 2 of them addressed" in done.stdout
    [loaded] = results.load(output).runs
    assert (loaded.plan["nodes"], loaded.plan["addressed"], loaded.plan["executors"]) == (4, 2, 1)
    [point] = loaded.points
    assert point.counts.certified > 0
    assert point.cpu is not None
    assert point.disk is None
    assert any("disk" in text for text in point.missing)


def test_ctrl_c_stops_everything_it_started() -> None:
    with subprocess.Popen(
        [*BENCH, "--nodes", "1", "--workload", "do_nothing", "--rate", "50", "--seconds", "60"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "transactions a second" in line:
                os.kill(process.pid, signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130, said
    assert "stopped; every process it started has ended" in said[-1]


def test_what_is_asked_wrongly_is_told_and_has_an_exit_code() -> None:
    done = bench("--set", "node.consensus.block_interval=5")
    assert done.returncode == 2
    assert "block_interval" in done.stderr
    assert "block_interval_ms" in done.stderr

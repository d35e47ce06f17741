"""A node far behind a chain that goes on growing: how fast it catches up by blocks and by snapshot, and what that costs
those who serve it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.cluster.measure import cpu_seconds
from bench.errors import BenchError
from bench.machine import machine
from bench.sync.chain import ChainMaker, SmallBlocks
from chain.cli.processes import NetworkProcesses
from chain.client import Client
from chain.errors import ConfigError, HeadraceError
from chain.model.genesis import ChainParameters
from chain.node.consortium import (
    NetworkInfo,
    NodeInfo,
    create_network,
    load_account,
    load_network_genesis,
    load_validator_key,
)  # fmt: skip

SERVING: Final = 3
LIFETIME: Final = 1_000
ACCOUNTS: Final = 1_000
PAYMENTS: Final = 2  # of a block
GROWTH_SHARE: Final = 0.05  # of the capacity
BURST_S: Final = 4.0
FEEDERS: Final = 8  # who keep transactions waiting while the capacity is measured
BASELINE_S: Final = 4.0
POLL_S: Final = 0.05
CAUGHT_UP: Final = 3  # heights behind, at most
CREATED_MS: Final = 1_700_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPlan:
    """`interval` 0 chooses a tenth of the blocks, at least 50."""

    blocks: int = 10_000
    interval: int = 0
    seconds_max: float = 300.0  # for each way of catching up

    def __post_init__(self) -> None:
        ranges = {"blocks": (300, 1_000_000), "interval": (0, 100_000), "seconds_max": (5, 3_600)}
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            if not (math.isfinite(value) and low <= value <= high):
                raise ConfigError(f"{field} is {value:g}, must be {low}..{high}")

    @property
    def snapshot_interval(self) -> int:
        return self.interval or max(50, self.blocks // 10)


async def run_sync(plan: SyncPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """The report as a JSON document; the network's folder is temporary."""
    with tempfile.TemporaryDirectory(prefix="headrace-sync-") as folder:
        parameters = ChainParameters(snapshot_interval=plan.snapshot_interval, lifetime_max=LIFETIME)
        network = create_network(
            Path(folder) / "network", name="sync", parameters=parameters, created_ms=CREATED_MS, executors=1
        )
        say(f"making a chain of {plan.blocks:,} blocks")
        payments = make_chain(network, plan.blocks)
        processes = NetworkProcesses(network)
        try:
            return await _Bench(plan, network, processes, payments, say).run()
        finally:
            await asyncio.shield(processes.stop())


def make_chain(network: NetworkInfo, blocks: int) -> SmallBlocks:
    """The chain in the data folders of all nodes but the last; more payments for it."""
    keys = [load_validator_key(node.folder / "validator.key") for node in network.nodes]
    serving = network.nodes[:SERVING]
    first = serving[0].folder / "data"
    maker = ChainMaker(first, load_network_genesis(network), keys)
    payments = SmallBlocks(maker, load_account(network.account_path("operator")), accounts=ACCOUNTS, payments=PAYMENTS)
    payments.add(blocks - maker.tip.height)
    maker.close()
    for node in serving[1:]:
        shutil.copytree(first, node.folder / "data", dirs_exist_ok=True)
    return payments


class _Bench:
    def __init__(
        self, plan: SyncPlan, network: NetworkInfo, processes: NetworkProcesses, payments: SmallBlocks,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._plan = plan
        self._network = network
        self._processes = processes
        self._payments = payments
        self._say = say
        self._late: NodeInfo = network.nodes[-1]
        self._serving = network.nodes[:SERVING]

    async def run(self) -> dict[str, Any]:
        await self._processes.start_all([node.name for node in self._serving])
        urls = [node.rpc_url for node in self._serving]
        async with Client(urls, key=load_account(self._network.account_path("operator"))) as client:
            capacity = await self._capacity(client)
            growth = capacity * GROWTH_SHARE
            self._say(f"capacity {capacity:.0f} blocks a second; growing by {growth:.1f}")
            async with self._growing(client, growth):
                baseline = await self._cpu_share(BASELINE_S)
                by_blocks = await self._catch_up(client, "never", baseline)
                await self._processes.stop([self._late.name])
                shutil.rmtree(self._late.folder / "data")
                by_snapshot = await self._catch_up(client, "auto", baseline)
        return {
            **by_blocks,
            "capacity_per_s": round(capacity, 1),
            "interval": self._plan.snapshot_interval,
            "transactions_per_block": PAYMENTS,
            "server_baseline_percent": round(baseline * 100, 1),
            "by_snapshot": by_snapshot,
            "machine": machine(),
        }

    # --- the chain ---

    async def _capacity(self, client: Client) -> float:
        """Blocks a second when the next transactions always wait."""
        first, start = await client.status(), time.monotonic()

        async def feed() -> None:
            while time.monotonic() - start < BURST_S:
                await client.submit([self._payment(client) for _ in range(PAYMENTS)])

        await asyncio.gather(*(feed() for _ in range(FEEDERS)))
        last, end = await client.status(), time.monotonic()
        blocks = int(last["certified_height"]) - int(first["certified_height"])
        return max(1.0, blocks / (end - start))

    def _payment(self, client: Client) -> bytes:
        return self._payments.payment(expiry=client.height + LIFETIME // 2).raw

    @contextlib.asynccontextmanager
    async def _growing(self, client: Client, blocks_per_s: float) -> AsyncIterator[None]:
        async def grow() -> None:
            due = time.monotonic()
            while True:
                await client.submit([self._payment(client) for _ in range(PAYMENTS)])
                due += 1 / blocks_per_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        task = asyncio.create_task(grow())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # --- the late node ---

    async def _catch_up(self, client: Client, snapshot: str, baseline: float) -> dict[str, Any]:
        config = self._late.config_path
        text = config.read_text(encoding="utf-8")
        if "[sync]" not in text:
            raise BenchError(f"{config}: has no [sync]")
        lines = [f'snapshot = "{snapshot}"' if line.startswith("snapshot") else line for line in text.splitlines()]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        first = (await client.status())["certified_height"]
        cpu, start = self._cpu(), time.monotonic()
        self._say(f"the late node starts, {first:,} blocks behind (snapshot = {snapshot!r})")
        running = self._processes.start(self._late.name)
        tip, seen = first, 0
        ready_at = None
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while tip - seen > CAUGHT_UP:
                if time.monotonic() - start > self._plan.seconds_max:
                    raise BenchError(f"not caught up after {self._plan.seconds_max:g} s: at {seen} of {tip}")
                await asyncio.sleep(POLL_S)
                tip = (await client.status())["certified_height"]
                answered = await _height(session, self._late.rpc_url)
                seen = seen if answered is None else answered
                if ready_at is None and answered is not None:
                    ready_at = time.monotonic()
        end = time.monotonic()
        seconds = end - start
        busy = [(after - before) / seconds for before, after in zip(cpu, self._cpu(), strict=True)]
        growth = (tip - first) / seconds
        return {
            "blocks": seen,
            "seconds": round(seconds, 2),
            "start_s": round((ready_at or end) - start, 2),  # of them, until the node answered
            "joined_by_snapshot": '"snapshot_loaded"' in "\n".join(self._processes.log_tail(self._late.name, 1_000)),
            "blocks_per_s": round(seen / seconds, 1),
            "growth_per_s": round(growth, 2),
            "ratio": round(seen / seconds / growth, 1) if growth else None,
            "server_cpu_percent": round(max(busy) * 100, 1),
            "server_extra_percent": round((max(busy) - baseline) * 100, 1),
            "late_cpu_s": round(cpu_seconds(running.pid), 2),
        }

    def _cpu(self) -> list[float]:
        known = [self._processes.running(node.name) for node in self._serving]
        return [0.0 if running is None else cpu_seconds(running.pid) for running in known]

    async def _cpu_share(self, seconds: float) -> float:
        """Of one core, the busiest serving node, while nobody catches up."""
        before, start = self._cpu(), time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - start
        return max((after - earlier) / took for earlier, after in zip(before, self._cpu(), strict=True))


async def _height(session: aiohttp.ClientSession, url: str) -> int | None:
    """The certified height of a node; None while it does not answer."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "status", "params": {}}
    try:
        async with session.post(url, json=body) as answer:
            return int((await answer.json())["result"]["certified_height"])
    except (aiohttp.ClientError, TimeoutError, KeyError, HeadraceError):
        return None


def render(result: dict[str, Any]) -> str:
    """The report for people."""
    snapshot = result["by_snapshot"]
    rows = {
        "capacity": f"{result['capacity_per_s']} blocks/s of {result['transactions_per_block']} transactions, "
        f"of which growth {result['growth_per_s']}",
        "by blocks": f"{result['blocks']:,} blocks in {result['seconds']} s: {result['blocks_per_s']} blocks/s, "
        f"{result['ratio']} x the growth",
        "by snapshot": f"height {snapshot['blocks']:,} in {snapshot['seconds']} s, interval {result['interval']}",
        "serving node": f"{result['server_extra_percent']} % of a core more by blocks, "
        f"{snapshot['server_extra_percent']} % by snapshot; {result['server_baseline_percent']} % without",
        "late node": f"{result['late_cpu_s']} s of CPU by blocks, {snapshot['late_cpu_s']} s by snapshot",
    }
    return "\n".join(f"{name:14} {text}" for name, text in rows.items())

"""Liveness figures: how long transactions stand still when the leader is killed, and what one node that is frozen or
cut off costs the others.

The load is open: transactions are due at a fixed rate whatever the chain does, and go to the nodes that are left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from bench.chaos.clients import GAS_LIMIT
from bench.chaos.faults import Fault
from bench.chaos.history import longest_gap_ms
from bench.chaos.run import Cluster, account, chaos_cluster, deploy, recovered
from bench.errors import BenchError
from chain.client import Client, NodesUnreachable, RpcFailed
from chain.config.node import load_node_config
from chain.errors import ConfigError
from chain.model.signing import sign_transaction
from chain.types import Address

Scenario = Literal["leader-killed", "frozen", "partitioned"]
SCENARIOS: Final = ("leader-killed", "frozen", "partitioned")
RATE: Final = 100.0  # transactions a second
BEFORE_S: Final = 5.0
DURING_S: Final = 10.0
TICK_S: Final = 0.02
DRAIN_S: Final = 15.0
WAIT_MS: Final = 1_000
SHARE_MIN: Final = 0.8
TIMEOUTS_MAX: Final = 2
SIGNERS: Final = 16
WARM_COUNT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessPlan:
    """`repeats` times the fault, each on a network of its own; `rate` in transactions a second."""

    scenario: Scenario
    nodes: int = 4
    seed: int = 1
    repeats: int = 1
    rate: float = RATE

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise ConfigError(f"scenario is {self.scenario!r}, must be one of {', '.join(SCENARIOS)}")
        for field, (low, high) in {"nodes": (4, 16), "repeats": (1, 20), "rate": (1, 2_000)}.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise ConfigError(f"{field} is {value:g}, must be {low}..{high}")


class OpenLoad:
    """Sends `bump`s at a rate to some nodes and notes when each is first seen certified. Times in milliseconds since
    the start of the load."""

    def __init__(self, urls: list[str], *, contract: Address, chain_id: bytes, rate: float, seed: int) -> None:
        self._urls = urls
        self._contract = contract
        self._chain_id = chain_id
        self._rate = rate
        self._keys = [account(seed, at) for at in range(SIGNERS)]
        self._start = 0.0
        self._due: dict[bytes, int] = {}
        self.certified: dict[bytes, int] = {}
        self.refused = 0
        self._sending = True

    def now_ms(self) -> int:
        return int((time.monotonic() - self._start) * 1_000)

    @property
    def sent(self) -> int:
        return len(self._due)

    async def run(self, height: int) -> None:
        """Until `stop`, and then until everything is certified or `DRAIN_S` are over."""
        self._start = time.monotonic()
        watching = asyncio.create_task(self._watch(height + 1))
        try:
            await self._send(height)
            end = time.monotonic() + DRAIN_S
            while len(self.certified) < len(self._due) and time.monotonic() < end:
                await asyncio.sleep(TICK_S)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def stop(self) -> None:
        self._sending = False

    async def _send(self, height: int) -> None:
        count = turn = 0
        clients = [Client(url, timeout_ms=5_000, retry_ms=1_000) for url in self._urls]
        submits: set[asyncio.Task[None]] = set()
        try:
            while self._sending:
                due = int((time.monotonic() - self._start) * self._rate)
                raws = []
                for at in range(count, due):
                    transaction = sign_transaction(
                        self._keys[at % SIGNERS], chain_id=self._chain_id, target=self._contract, method="bump",
                        arguments=(at % SIGNERS,), expiry=height + 900, gas_limit=GAS_LIMIT,
                    )  # fmt: skip
                    self._due[transaction.hash] = int(at / self._rate * 1_000)
                    raws.append(transaction.raw)
                count = due
                if raws:
                    task = asyncio.create_task(self._submit(clients[turn % len(clients)], raws))
                    submits.add(task)
                    task.add_done_callback(submits.discard)
                    turn += 1
                await asyncio.sleep(TICK_S)
            if submits:
                await asyncio.wait(submits)
        finally:
            for client in clients:
                await client.close()

    async def _submit(self, client: Client, raws: list[bytes]) -> None:
        try:
            results = await client.submit(raws)
        except (RpcFailed, NodesUnreachable):
            self.refused += len(raws)
            return
        self.refused += sum(result.code != 0 for result in results)

    async def _watch(self, height: int) -> None:
        async with Client(self._urls[0], timeout_ms=10_000) as client:
            while True:
                try:
                    answer = await client.rpc("wait_blocks", from_height=height, timeout_ms=WAIT_MS)
                except (RpcFailed, NodesUnreachable):
                    continue
                now = self.now_ms()
                for block in answer["blocks"]:
                    blob = bytes.fromhex(block["hashes"][2:])
                    for at in range(0, len(blob), 32):
                        self.certified.setdefault(blob[at : at + 32], now)
                height = answer["next_height"]

    def certified_between(self, first_ms: int, last_ms: int) -> int:
        return sum(first_ms <= at < last_ms for tx_hash, at in self.certified.items() if tx_hash in self._due)

    def gap_ms(self, first_ms: int, last_ms: int) -> int:
        """The longest time between two certified receipts that begins or ends in a span."""
        times = sorted(self.certified[tx_hash] for tx_hash in self._due if tx_hash in self.certified)
        before = [at for at in times if at < first_ms][-1:]
        after = [at for at in times if at > last_ms][:1]
        edges = (before[0] if before else first_ms, after[0] if after else last_ms)
        return longest_gap_ms(times, *edges)


async def run_liveness(plan: LivenessPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """The report as a JSON document: one entry a run. `leader-killed` runs have the leader as victim; the others are
    made with a follower and with the leader."""
    victims = ("leader",) if plan.scenario == "leader-killed" else ("follower", "leader")
    runs = []
    for repeat in range(plan.repeats):
        for victim in victims:
            async with chaos_cluster(plan.nodes, say) as cluster:
                runs.append(await _measure(plan, cluster, victim, repeat, say))
    view_timeout_ms = runs[0]["view_timeout_ms"]
    gaps = sorted(run["gap_ms"] for run in runs)
    return {
        "scenario": plan.scenario,
        "nodes": plan.nodes,
        "rate": plan.rate,
        "view_timeout_ms": view_timeout_ms,
        "gap_ms": gaps[-1],
        "gap_ms_max": TIMEOUTS_MAX * view_timeout_ms,
        "throughput_share": min(run["throughput_share"] for run in runs),
        "throughput_share_min": SHARE_MIN,
        "reached": all(run["reached"] for run in runs),
        "runs": runs,
    }


async def _measure(
    plan: LivenessPlan, cluster: Cluster, victim: str, repeat: int, say: Callable[[str], None]
) -> dict[str, Any]:
    contract = await deploy(cluster)
    async with Client(cluster.urls) as client:
        for _ in range(WARM_COUNT):  # so that no contract is compiled in the measured time
            await client.send(contract, "bump", 0, key=account(plan.seed, 0), gas_limit=GAS_LIMIT)
        status = await client.status()
        chain_id, height = await client.chain_id(), int(client.height)
    leader = str(status["consensus"]["leader_name"])
    names = [node.name for node in cluster.network.nodes]
    followers = [name for name in names if name != leader]
    name = leader if victim == "leader" else followers[(plan.seed + repeat) % len(followers)]
    healthy = [node.rpc_url for node in cluster.network.nodes if node.name != name]
    config = load_node_config(cluster.network.nodes[0].config_path)
    load = OpenLoad(healthy, contract=contract, chain_id=chain_id, rate=plan.rate, seed=plan.seed)
    running = asyncio.create_task(load.run(height))
    try:
        await asyncio.sleep(BEFORE_S)
        say(f"{plan.scenario}: {name}, the {victim}")
        kind = {"leader-killed": "kill", "frozen": "freeze", "partitioned": "partition"}[plan.scenario]
        fault_ms = load.now_ms()
        await cluster.injector.inject(Fault(kind=kind, node=name, seconds=DURING_S, pause_s=0))
        healed_ms = load.now_ms()
        recover_ms = await recovered(cluster, [name])
        load.stop()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if not load.certified:
        raise BenchError("nothing was certified before the fault")
    before = load.certified_between(1_000, fault_ms) / (fault_ms - 1_000)
    during = load.certified_between(fault_ms, healed_ms) / (healed_ms - fault_ms)
    gap_ms = load.gap_ms(fault_ms, healed_ms)
    share = round(during / before, 3) if before else 0.0
    timeout_ms = config.consensus.view_timeout_ms
    undecided = load.sent - load.refused - load.certified_between(0, load.now_ms() + 1)
    return {
        "victim": victim,
        "node": name,
        "view_timeout_ms": timeout_ms,
        "tps_before": round(1_000 * before, 1),
        "tps_during": round(1_000 * during, 1),
        "throughput_share": share,
        "gap_ms": gap_ms,
        "gap_ms_quiet": load.gap_ms(1_000, fault_ms),
        "recover_ms": recover_ms,
        "sent": load.sent,
        "refused": load.refused,
        "undecided": undecided,
        "reached": gap_ms <= TIMEOUTS_MAX * timeout_ms
        if plan.scenario == "leader-killed"
        else share >= SHARE_MIN and undecided == 0,
    }


def render(result: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{result['scenario']}: {result['nodes']} nodes, {result['rate']:g} transactions a second offered"]
    for run in result["runs"]:
        lines.append(
            f"  {run['node']} ({run['victim']}): gap {run['gap_ms']} ms (time-out {run['view_timeout_ms']} ms), "
            f"{run['tps_before']} -> {run['tps_during']} tx/s ({run['throughput_share']:.0%}), back after "
            f"{run['recover_ms']} ms, undecided {run['undecided']}"
        )
    bound = (
        f"gap at most {result['gap_ms_max']} ms"
        if result["scenario"] == "leader-killed"
        else f"at least {result['throughput_share_min']:.0%} of the throughput"
    )
    return "\n".join([*lines, f"  {bound}: {'reached' if result['reached'] else 'MISSED'}"])

"""One chaos run: a network behind proxies, sessions, faults from a seed, healing, and the check of the history."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.chaos.clients import NAME, SOURCE, Clock, Sessions, load_chain
from bench.chaos.faults import KINDS, Fault, Injector, draw_faults
from bench.chaos.history import Chain, Violation, check_history, longest_gap_ms
from bench.chaos.launch import set_offset
from bench.chaos.proxy import Fabric
from bench.errors import BenchError
from chain.cli.processes import NetworkProcesses
from chain.client import Client, NodesUnreachable, RpcFailed
from chain.config.node import load_node_config, save_node_config
from chain.crypto import PrivateKey, Scheme
from chain.errors import ConfigError
from chain.node.consortium import NetworkInfo, NodeInfo, NodeSpec, create_network, load_account
from chain.types import Address

RECOVER_S: Final = 30.0  # for a node to be ready and as far as the others were, after its fault has healed
BACK_HEIGHTS: Final = 2
POLL_S: Final = 0.05
ASK_MS: Final = 1_000
STOP_MS: Final = 5_000
SECONDS: Final = (1, 86_400)
NODES: Final = (4, 16)
SESSIONS: Final = (1, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """What to run: `seconds` of load, `sessions` clients; `faults` are the kinds to draw from."""

    nodes: int = 4
    seconds: float = 60.0
    seed: int = 1
    sessions: int = 12
    faults: tuple[str, ...] = tuple(KINDS)

    def __post_init__(self) -> None:
        for field, (low, high) in {"nodes": NODES, "seconds": SECONDS, "sessions": SESSIONS}.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise ConfigError(f"{field} is {value:g}, must be {low}..{high}")
        for kind in self.faults:
            if kind not in KINDS:
                raise ConfigError(f"fault is {kind!r}, must be one of {', '.join(KINDS)}")


@dataclass(slots=True, kw_only=True)
class Injected:
    """A fault that was injected. Times in milliseconds since the start; `recover_ms` None: it did not come back."""

    fault: Fault
    start_ms: int
    healed_ms: int = 0
    recover_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running network whose nodes reach each other through `fabric`."""

    network: NetworkInfo
    processes: NetworkProcesses
    fabric: Fabric
    injector: Injector

    @property
    def urls(self) -> list[str]:
        return [node.rpc_url for node in self.network.nodes]


async def run_chaos(plan: ChaosPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """The report as a JSON document; the network's folder is temporary, and nothing runs afterwards."""
    async with chaos_cluster(plan.nodes, say) as cluster:
        contract = await deploy(cluster)
        clock = Clock()
        keys = [account(plan.seed, session) for session in range(plan.sessions)]
        sessions = Sessions(cluster.urls, contract=contract, keys=keys, clock=clock, seed=plan.seed)
        say(f"{plan.sessions} sessions for {plan.seconds:g} s, seed {plan.seed}")
        injecting = asyncio.create_task(_inject(plan, cluster, clock, say))
        try:
            await sessions.run(plan.seconds)
            load_ms = clock.now_ms()
            injected, violations = await injecting
        finally:
            injecting.cancel()
            await asyncio.gather(injecting, return_exceptions=True)
        say("healed; deciding what is open")
        await cluster.injector.heal_all()
        await cluster.processes.wait_ready()
        resent = await sessions.settle()
        chains = await collect(cluster, contract, plan.sessions, say)
        violations += check_history(sessions.sends, sessions.reads, chains)
        return _report(
            plan, sessions, injected, violations, chains, load_ms=load_ms, resent=resent,
            ended=cluster.injector.ended_by_itself,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def chaos_cluster(nodes: int, say: Callable[[str], None]) -> AsyncIterator[Cluster]:
    """A network of its own, behind proxies and with clocks that can be moved; it ends with the block, also on SIGTERM.

    Raises:
        ProcessError: a node does not start.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="headrace-chaos-") as folder:
        network = create_network(
            Path(folder) / "network",
            name="chaos",
            nodes=[NodeSpec(organisation=f"Bank {at}", role="bank", name=f"bank-{at}") for at in range(1, nodes + 1)],
        )
        fabric = Fabric((node.name, node.host, node.gateway_port) for node in network.nodes)
        await fabric.open()

        def clock_of(name: str) -> Path:
            return network.node(name).folder / "clock"

        for node in network.nodes:
            _through_proxies(node, fabric)
            set_offset(clock_of(node.name), 0)
        processes = NetworkProcesses(network, command=lambda node: _command(node, clock_of(node.name)))
        injector = Injector(network, processes, fabric, clock_of)
        say(f"starting {nodes} nodes")
        try:
            await processes.start_all()
            yield Cluster(network, processes, fabric, injector)
        finally:
            injector.thaw_all()
            await asyncio.shield(processes.stop(timeout_ms=STOP_MS))
            await asyncio.shield(fabric.close())
            loop.remove_signal_handler(signal.SIGTERM)


def _command(node: NodeInfo, clock: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "bench.chaos.launch", str(clock), str(node.config_path)]


def _through_proxies(node: NodeInfo, fabric: Fabric) -> None:
    config = load_node_config(node.config_path)
    peers = tuple(
        dataclasses.replace(peer, host="127.0.0.1", port=fabric.links[(node.name, peer.name)].port)
        for peer in config.peers
    )
    save_node_config(node.config_path, dataclasses.replace(config, peers=peers))


def account(seed: int, session: int) -> PrivateKey:
    return PrivateKey.from_secret(Scheme.ED25519, (1 + seed * 4_096 + session).to_bytes(32, "big"))


async def deploy(cluster: Cluster) -> Address:
    async with Client(cluster.urls, key=load_account(cluster.network.account_path("operator"))) as client:
        return await client.deploy(NAME, SOURCE)


# --- faults ---


async def _inject(
    plan: ChaosPlan, cluster: Cluster, clock: Clock, say: Callable[[str], None]
) -> tuple[list[Injected], list[Violation]]:
    """One fault after the other while there is load, each with the recovery from it awaited."""
    injected: list[Injected] = []
    violations: list[Violation] = []
    names = [node.name for node in cluster.network.nodes]
    end_ms = int(plan.seconds * 1_000)
    for fault in draw_faults(plan.seed, names, plan.faults):
        if clock.now_ms() + int(1_000 * (fault.pause_s + fault.seconds)) > end_ms:
            break
        await asyncio.sleep(fault.pause_s)
        entry = Injected(fault=fault, start_ms=clock.now_ms())
        injected.append(entry)
        amount = f", {fault.amount} ms" if fault.amount else ""
        say(f"{entry.start_ms / 1_000:7.1f} s  {fault.kind} {fault.node or 'all'} for {fault.seconds} s{amount}")
        before = await highest(cluster)
        await cluster.injector.inject(fault)
        entry.healed_ms = clock.now_ms()
        entry.recover_ms = await recovered(cluster, [fault.node] if fault.node else names, at_least=before)
        if entry.recover_ms is None:
            text = f"{fault.node or 'the network'} after {fault.kind}, not within {RECOVER_S:g} s"
            violations.append(Violation("not_recovered", text))
    return injected, violations


async def highest(cluster: Cluster) -> int:
    """The highest block that any node which answers has."""
    return max([height for height, _ in await asyncio.gather(*(_standing(url) for url in cluster.urls))])


async def recovered(cluster: Cluster, names: Sequence[str], *, at_least: int = 0) -> int | None:
    """Milliseconds until the nodes are ready and as far as the farthest was at the beginning, and `at_least` as far;
    None: too long."""
    start = time.monotonic()
    urls = {node.name: node.rpc_url for node in cluster.network.nodes}
    target = max(at_least, await highest(cluster))
    waiting = set(names)
    while waiting:
        for name in sorted(waiting):
            height, ready = await _standing(urls[name])
            if ready and height >= target - BACK_HEIGHTS:
                waiting.discard(name)
        if time.monotonic() - start > RECOVER_S:
            return None
        await asyncio.sleep(POLL_S)
    return int((time.monotonic() - start) * 1_000)


async def _standing(url: str) -> tuple[int, bool]:
    """(certified height, ready); (0, False) where it does not answer."""
    async with Client(url, timeout_ms=ASK_MS, retry_ms=0) as client:
        try:
            status = await client.status()
        except (NodesUnreachable, RpcFailed):
            return 0, False
        return int(status["certified_height"]), bool(status["ready"])


# --- the end ---


async def collect(cluster: Cluster, contract: Address, sessions: int, say: Callable[[str], None]) -> list[Chain]:
    """Every node's whole chain up to the highest block that any has.

    Raises:
        BenchError: a node does not get there, or does not answer.
    """
    tip = await highest(cluster)
    say(f"reading {tip} blocks from each of {len(cluster.urls)} nodes")
    if await recovered(cluster, [node.name for node in cluster.network.nodes]) is None:
        raise BenchError(f"not every node has block {tip}: the chain does not come to rest")
    chains = []
    for node in cluster.network.nodes:
        try:
            chains.append(await load_chain(node.name, node.rpc_url, up_to=tip, contract=contract, sessions=sessions))
        except (NodesUnreachable, RpcFailed) as error:
            raise BenchError(f"{node.name} does not give its chain: {error}") from None
    return chains


def _report(
    plan: ChaosPlan, sessions: Sessions, injected: Sequence[Injected], violations: Sequence[Violation],
    chains: Sequence[Chain], *, load_ms: int, resent: int, ended: dict[str, int],
) -> dict[str, Any]:  # fmt: skip
    outcomes = Counter(send.outcome for send in sessions.sends)
    during = [send.end_ms for send in sessions.sends if send.outcome == "certified" and not send.resent]
    kinds = Counter(entry.fault.kind for entry in injected)
    by_kind: dict[str, list[int]] = {}
    for entry in injected:
        if entry.recover_ms is not None:
            by_kind.setdefault(entry.fault.kind, []).append(entry.recover_ms)
    return {
        "nodes": plan.nodes,
        "seconds": plan.seconds,
        "seed": plan.seed,
        "sessions": plan.sessions,
        "faults": dict(sorted(kinds.items())),
        "injected": len(injected),
        "sent": len(sessions.sends),
        "reads": len(sessions.reads),
        "certified": outcomes["certified"],
        "expired": outcomes["expired"],
        "undecided": outcomes["pending"] + outcomes["refused"],
        "resent": resent,
        "lost": sum(violation.kind == "lost" for violation in violations),
        "errors": sessions.errors,
        "heights": max((len(chain.headers) - 1 for chain in chains), default=0),
        "longest_stall_ms": longest_gap_ms(during, 0, load_ms),
        "recover_ms": [entry.recover_ms for entry in injected if entry.recover_ms is not None],
        "recover_ms_by_kind": {kind: by_kind[kind] for kind in sorted(by_kind)},
        "stopped_by_full_disk": ended,
        "violations": [{"kind": violation.kind, "text": violation.text} for violation in violations],
        "timeline": [
            {
                "kind": entry.fault.kind, "node": entry.fault.node, "start_ms": entry.start_ms,
                "healed_ms": entry.healed_ms, "recover_ms": entry.recover_ms, "amount": entry.fault.amount,
                "stall_ms": longest_gap_ms(
                    during, entry.start_ms, max(entry.healed_ms + (entry.recover_ms or 0), entry.start_ms)
                ),
            }
            for entry in injected
        ],
    }  # fmt: skip


def render(result: dict[str, Any]) -> str:
    """The report for people."""
    recover = sorted(result["recover_ms"])
    middle = f"median {recover[len(recover) // 2]}, longest {recover[-1]} ms" if recover else "-"
    kinds = ", ".join(f"{count} {kind}" for kind, count in result["faults"].items()) or "none"
    rows = {
        "faults": f"{result['injected']}: {kinds}",
        "sent": f"{result['sent']} in {result['sessions']} sessions, {result['reads']} reads",
        "certified": f"{result['certified']} in {result['heights']} blocks, expired {result['expired']}",
        "open after healing": f"{result['undecided']} (sent again: {result['resent']})",
        "longest stall": f"{result['longest_stall_ms']} ms without a certified receipt",
        "recovery": middle,
        "violations": str(len(result["violations"])),
    }
    title = f"chaos: {result['nodes']} nodes, {result['seconds']:g} s, seed {result['seed']}"
    lines = [title, *(f"  {name:<20} {text}" for name, text in rows.items())]
    return "\n".join([*lines, *(f"  {item['kind']}: {item['text']}" for item in result["violations"])])

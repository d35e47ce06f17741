"""What is loaded: a network made for the run on this machine, or one that runs already, here or elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.chaos.proxy import Fabric
from bench.cluster.plan import ClusterPlan
from chain.cli.processes import NetworkProcesses, NodeExited
from chain.client import Client
from chain.config.node import load_node_config, save_node_config
from chain.crypto import PrivateKey
from chain.node.consortium import NetworkInfo, create_network, load_account, some_nodes
from chain.types import Address

REMOTE_MISSING: Final = (
    "CPU is what the nodes' metrics say of the node process and its executors; other processes are not in it",
    "memory is the resident size of the node process alone, as its metrics say",
    "growth of the disk is not known",
    "when heights were ordered is not known: the nodes' clock may not be this machine's",
)


@dataclass(slots=True, kw_only=True)
class Target:
    """Nodes that answer at `urls`. `processes` None: they run elsewhere, or are somebody else's."""

    urls: list[str]
    names: list[str]
    key: PrivateKey  # may deploy contracts
    folder: Path  # for the run's own files
    processes: NetworkProcesses | None = None
    missing: Sequence[str] = ()
    away: set[str] = field(default_factory=set)  # nodes that a fault has stopped on purpose

    @property
    def is_own(self) -> bool:
        return self.processes is not None

    def pids(self) -> list[int | None]:
        """Of the node processes; None: not running, or not known."""
        if self.processes is None:
            return [None] * len(self.urls)
        running = [self.processes.running(name) for name in self.names]
        return [known.pid if known is not None else None for known in running]

    def data_folders(self) -> list[Path]:
        return [] if self.processes is None else [node.folder / "data" for node in self.processes.network.nodes]

    def check(self) -> None:
        """Raises NodeExited: a node has ended by itself; the text has the end of its log."""
        if self.processes is None:
            return
        for name in self.names:
            if name not in self.away and self.processes.running(name) is None:
                node = self.processes.network.node(name)
                raise NodeExited(node, self.processes.exit_code(name), self.processes.log_tail(name))

    def client(self) -> Client:
        """Deploys under names of its own, because on a network that is not fresh the plain ones may be taken."""
        return Client(self.urls, key=self.key) if self.is_own else _Renaming(self.urls, key=self.key)


class _Renaming(Client):
    """Adds something random to the names of contracts."""

    async def deploy(self, name: str, *arguments: object, **options: object) -> Address:
        return await super().deploy(f"{name}-{secrets.token_hex(4)}", *arguments, **options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def own_network(plan: ClusterPlan, say: Callable[[str], None]) -> AsyncIterator[Target]:
    """A fresh network of real nodes; it ends with the block, and so does its folder.

    Raises:
        ConfigError: a setting of the plan that genesis or node.toml does not take. ProcessError: a node fails.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        network = create_network(
            Path(folder) / "network",
            name="bench",
            nodes=some_nodes(plan.nodes),
            executors=plan.executors,
            parameters=plan.chain_parameters(),
            link_delay_ms=0 if plan.link_delays else plan.link_delay_ms,
            overrides=plan.overrides(),
        )
        processes = NetworkProcesses(network)
        async with _links(plan, network):
            say(f"starting {plan.nodes} node{'s' if plan.nodes > 1 else ''}")
            try:
                await processes.start_all()
                yield Target(
                    urls=[node.rpc_url for node in network.nodes],
                    names=[node.name for node in network.nodes],
                    key=load_account(network.account_path("operator")),
                    folder=Path(folder),
                    processes=processes,
                )
            finally:
                await asyncio.shield(processes.stop())


@contextlib.asynccontextmanager
async def running_network(urls: Sequence[str], key: PrivateKey) -> AsyncIterator[Target]:
    """A network that runs already and goes on running."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        trimmed = [url.rstrip("/") for url in urls]
        yield Target(urls=trimmed, names=trimmed, key=key, folder=Path(folder), missing=REMOTE_MISSING)


@contextlib.asynccontextmanager
async def _links(plan: ClusterPlan, network: NetworkInfo) -> AsyncIterator[None]:
    """Proxies between the nodes, if the plan gives links delays of their own; they run in the harness."""
    if not plan.link_delays:
        yield
        return
    fabric = Fabric((node.name, node.host, node.gateway_port) for node in network.nodes)
    await fabric.open()
    numbers = {node.name: at for at, node in enumerate(network.nodes, 1)}
    for (source, destination), link in fabric.links.items():
        low, high = sorted((numbers[source], numbers[destination]))
        link.slow(plan.link_delays.get((low, high), plan.link_delay_ms))
    for node in network.nodes:
        config = load_node_config(node.config_path)
        peers = tuple(
            dataclasses.replace(peer, host="127.0.0.1", port=fabric.links[node.name, peer.name].port)
            for peer in config.peers
        )
        save_node_config(node.config_path, dataclasses.replace(config, peers=peers))
    try:
        yield
    finally:
        await fabric.close()


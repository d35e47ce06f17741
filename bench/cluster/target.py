"""What is loaded: a network made for the run on this machine, or one that runs already, here or elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.chaos.proxy import Fabric
from bench.cluster.plan import ClusterPlan
from chain.cli.processes import NetworkProcesses, NodeExited
from chain.client import Client
from chain.config.node import load_node_config, save_node_config
from chain.crypto import PrivateKey
from chain.errors import ConfigError
from chain.node.consortium import NetworkInfo, create_network, load_account, some_nodes
from chain.types import Address

REMOTE_MISSING: Final = (
    "CPU is what the nodes' metrics say of the node process and its executors; other processes are not in it",
    "memory is the resident size of the node process alone, as its metrics say",
    "growth of the disk is not known",
    "when heights were ordered is not known: the nodes' clock may not be this machine's",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A network that runs already, and the account that deploys on it, from the file `key_path`."""

    urls: tuple[str, ...]
    key: PrivateKey
    key_path: Path


@dataclass(slots=True, kw_only=True)
class Target:
    """Nodes that answer at `urls`. `processes` None: they run elsewhere, or are somebody else's; `found` is then what
    they said of their network, by keys of a plan."""

    urls: list[str]
    names: list[str]
    key: PrivateKey  # may deploy contracts
    folder: Path  # for the run's own files
    processes: NetworkProcesses | None = None
    missing: Sequence[str] = ()
    found: Mapping[str, Any] = field(default_factory=dict)
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
async def running_network(remote: Remote) -> AsyncIterator[Target]:
    """A network that runs already and goes on running.

    Raises:
        ConfigError: the account may not deploy there. NodesUnreachable: a node that was named does not answer.
    """
    urls = [url.rstrip("/") for url in remote.urls]
    statuses = []
    for url in urls:
        async with Client(url) as client:
            statuses.append(await client.status())
    async with Client(urls) as client:
        check_deployer(remote, (await client.genesis()).deployers)
        found = network_found(urls, (await client.rpc("get_validators"))["validators"], statuses)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        yield Target(
            urls=urls, names=urls, key=remote.key, folder=Path(folder), missing=REMOTE_MISSING, found=found
        )


def check_deployer(remote: Remote, deployers: Sequence[bytes]) -> None:
    """`deployers` as genesis has them; none: everyone may. Raises ConfigError: the account is not among them."""
    if deployers and remote.key.address not in deployers:
        raise ConfigError(
            f"--key is {str(remote.key_path)!r}, of the account 0x{remote.key.address.hex()}, which may not deploy on "
            "this network; must be the file of one that may: NETWORK/accounts/operator.json"
        )


def network_found(
    urls: Sequence[str], validators: Sequence[Mapping[str, Any]], statuses: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the API says of a network, by keys of a plan; `nodes` is how many validators it has, `addressed` how many of
    them answer at `urls`. `executors` only if all that were asked have as many."""
    asked = {status["validator_id"] for status in statuses}
    executors = {int(status["executors"]) for status in statuses}
    found = {
        "urls": list(urls),
        "nodes": len(validators),
        "addressed": sum(validator["id"] in asked for validator in validators),
    }
    return found | ({"executors": executors.pop()} if len(executors) == 1 else {})


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


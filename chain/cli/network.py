"""`headrace network`: make, start, stop and watch a network of nodes on this machine; `headrace node run`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import tomllib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chain.cli.common import (
    JsonOption,
    NetworkOption,
    network_path,
    note,
    open_network,
    report,
    table,
    why,
)
from chain.cli.hints import command_hint
from chain.cli.processes import READY_TIMEOUT_MS, NetworkProcesses, claimed_pid
from chain.client import Client, NodesUnreachable, RpcFailed
from chain.errors import ConfigError
from chain.node.consortium import DEFAULT_NODES, NetworkInfo, NodeSpec, create_network, some_nodes
from chain.node.expansion import CARD_FILE, add_node, renew_certificate

STATUS_TIMEOUT_MS: Final = 2_000
FOLLOW_S: Final = 0.2
WATCH_S: Final = 0.5

app = typer.Typer(no_args_is_help=True, help="Make, start, stop and watch a network of nodes on this machine.")
node_app = typer.Typer(no_args_is_help=True, help="Run a single node (what `network start` does for each).")


@app.command("init")
def init(
    network: NetworkOption = None,
    name: Annotated[str, typer.Option(help="Name of the consortium.")] = "consortium",
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:ORGANISATION:ROLE", help="A node; repeat it. Roles: bank, agency, regulator."),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="So many nodes with made-up names; 1 for development. [default: 4]")
    ] = None,
    executors: Annotated[int, typer.Option(help="Executor processes of each node.")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.FIELD=VALUE", help="A field of every node.toml; repeat it."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address the nodes listen on.")] = "127.0.0.1",
    open_deployment: Annotated[
        bool, typer.Option("--open-deployment", help="Let every account deploy, not only regulators and the operator.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new network: keys, certificates, genesis and a folder for each node.

    \b
    Examples:
      headrace network init
      headrace network init --network ./testnet --executors 2
      headrace network init --nodes 1 --set consensus.block_interval_ms=100
      headrace network init --node a:"Bank A":bank --node b:"Bank B":bank \\
                            --node c:Bureau:agency --node r:Office:regulator
    """
    if node and nodes is not None:
        raise ConfigError("--nodes and --node say the same in two ways, give one of them")
    specs = tuple(_spec(text) for text in node) if node else some_nodes(len(DEFAULT_NODES) if nodes is None else nodes)
    info = create_network(
        network_path(network), name=name, nodes=specs, host=host, executors=executors, open_deployment=open_deployment,
        overrides=dict(_setting(text) for text in settings or ()),
    )  # fmt: skip
    document = {
        "network": str(info.path),
        "chain_id": info.chain_id,
        "nodes": [{"name": item.name, "organisation": item.organisation, "url": item.rpc_url} for item in info.nodes],
    }
    report(
        document,
        as_json=as_json,
        lines=lambda: [
            f"network {name} in {info.path}",
            f"chain id 0x{info.chain_id.hex()}",
            *(f"  {item.name:<16} {item.rpc_url}  {item.organisation} ({item.role})" for item in info.nodes),
            f"start it with: {command_hint('network start', info.path)}",
        ],
    )


@app.command("start")
def start(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...", help="Only these nodes.")] = None,
    network: NetworkOption = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then stop all nodes.")] = False,
    timeout_s: Annotated[float, typer.Option(help="Longest wait for all nodes to be ready, in seconds.")] = (
        READY_TIMEOUT_MS / 1_000
    ),
    as_json: JsonOption = False,
) -> None:
    """Start the nodes and wait until all are ready. They then run in the background.

    \b
    Examples:
      headrace network start
      headrace network start delta-bank
      headrace network start --foreground
    """
    info = open_network(network)
    processes = NetworkProcesses(info)
    if foreground:
        asyncio.run(run_in_foreground(info, processes, names, int(timeout_s * 1_000)))
        return
    states = asyncio.run(_start(info, processes, names, int(timeout_s * 1_000)))
    document = {
        "network": str(info.path),
        "nodes": [
            {
                "name": item.name, "url": item.rpc_url, "pid": running.pid if running else None,
                "state": states.get(item.name),
            }
            for item in info.nodes
            for running in (processes.running(item.name),)
        ],
    }  # fmt: skip
    count = len(processes.running_names())
    running_text = f"{count} nodes run; stop them" if count != 1 else "1 node runs; stop it"
    text = f"{running_text} with: {command_hint('network stop', info.path)}"
    report(document, as_json=as_json, lines=lambda: [text])


@app.command("stop")
def stop(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...", help="Only these nodes.")] = None,
    network: NetworkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop the nodes in order: each ends what it is doing; one that does not is killed after 15 s.

    \b
    Examples:
      headrace network stop
      headrace network stop delta-bank
    """
    processes = NetworkProcesses(open_network(network))
    stopped = sorted(asyncio.run(processes.stop(names or None)))
    text = f"stopped: {', '.join(stopped)}" if stopped else "nothing was running"
    report({"stopped": stopped}, as_json=as_json, lines=lambda: [text])


@app.command("add-node")
def add(
    node: Annotated[str, typer.Argument(metavar="NAME:ORGANISATION:ROLE", help="The node; roles as in `init`.")],
    network: NetworkOption = None,
    host: Annotated[str | None, typer.Option(help="Address it listens on. [default: the first node's]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make keys, a certificate of the consortium's CA and a folder for another node. The chain has to take it in then.

    \b
    Example:
      headrace network add-node new-bank:"New Bank":bank
      headrace members propose-add new-bank --as regulator --as delta-bank --as harbour-bank
      headrace network start new-bank
    """
    info = open_network(network)
    spec = _spec(node)
    made = add_node(info, spec, host=host)
    document = {
        "name": made.name, "organisation": made.organisation, "validator": made.validator, "url": made.rpc_url,
        "endpoint": f"{made.host}:{made.gateway_port}", "folder": str(made.folder),
        "card": str(made.folder / CARD_FILE),
    }  # fmt: skip
    report(
        document, as_json=as_json,
        lines=lambda: [
            f"node {made.name} in {made.folder}",
            "the chain does not know it yet; a validator proposes it with:",
            f"  {command_hint(f'members propose-add {made.name} --as NODE', info.path)}",
        ],
    )  # fmt: skip


@app.command("renew-certificate")
def renew(
    node: Annotated[str, typer.Argument(help="Name of the node.")],
    network: NetworkOption = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make a new TLS key too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """A new TLS certificate for a node. If it runs here it is told (SIGHUP) and loses no connection.

    \b
    Examples:
      headrace network renew-certificate delta-bank
      headrace network renew-certificate delta-bank --new-key
    """
    info = open_network(network)
    expires = renew_certificate(info, node, new_key=new_key)
    told = NetworkProcesses(info).hang_up(node)
    document = {"node": node, "expires": expires, "told": told}
    text = "the node uses it from now on" if told else "the node uses it when it starts"
    report(document, as_json=as_json, lines=lambda: [f"certificate of {node} is valid until {expires}; {text}"])


@app.command("status")
def status(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """Every node at a glance: process, height, view, peers, pool, and what needs attention.

    \b
    Examples:
      headrace network status
      headrace network status --json
    """
    info = open_network(network)
    nodes = asyncio.run(node_statuses(info))
    report({"network": str(info.path), "nodes": nodes}, as_json=as_json, lines=lambda: _status_lines(nodes))


@app.command("logs")
def logs(
    node: Annotated[str, typer.Argument(help="Name of the node.")],
    network: NetworkOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, until Ctrl-C.")] = False,
) -> None:
    """The log of a node (JSON lines).

    \b
    Examples:
      headrace network logs regulator
      headrace network logs regulator -n 10 --follow
    """
    path = open_network(network).node(node).folder / "node.log"
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in deque(file, lines):
                print(line, end="")
            while follow:
                line = file.readline()
                print(line, end="", flush=True)
                if not line:
                    time.sleep(FOLLOW_S)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: node {node} was never started") from None


@node_app.command("run")
def run(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The node's node.toml.")],
) -> None:
    """Run one node in this process until SIGTERM or Ctrl-C.

    \b
    Example:
      headrace node run --config headrace-network/nodes/regulator/node.toml
    """
    from chain.node.run import run_node

    with claimed_pid(config) if config.exists() else contextlib.nullcontext():
        code = run_node(config)
    raise typer.Exit(code)


async def node_statuses(info: NetworkInfo) -> list[dict[str, Any]]:
    """One document a node: its process, and its own status or why it gives none."""
    processes = NetworkProcesses(info)

    async def one(name: str, url: str) -> dict[str, Any]:
        running = processes.running(name)
        document: dict[str, Any] = {"name": name, "url": url, "pid": running.pid if running else None}
        async with Client(url, timeout_ms=STATUS_TIMEOUT_MS, retry_ms=0) as client:
            try:
                return {**document, "status": await client.status(), "problem": None}
            except (NodesUnreachable, RpcFailed) as error:
                problem = why(error) if running else "not running"
                return {**document, "status": None, "problem": problem}

    return list(await asyncio.gather(*(one(item.name, item.rpc_url) for item in info.nodes)))


async def _start(
    info: NetworkInfo, processes: NetworkProcesses, names: Sequence[str] | None, timeout_ms: int
) -> dict[str, str]:
    """The state of each node that was started: "ready", or its role if it is no member."""
    urls = {item.name: item.rpc_url for item in info.nodes}
    states: dict[str, str] = {}

    def tell(name: str, state: str) -> None:
        states[name] = state
        known = "" if state == "ready" else "  (no member: nobody talks to it; see headrace members list)"
        note(f"  {name:<16} {state}  {urls[name]}{known}")

    await processes.start_all(names or None, timeout_ms=timeout_ms, progress=tell)
    return states


async def run_in_foreground(
    info: NetworkInfo, processes: NetworkProcesses, names: Sequence[str] | None, timeout_ms: int
) -> None:
    """Until SIGINT or SIGTERM; a node that ends meanwhile is named, the others go on."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    starting = asyncio.ensure_future(_start(info, processes, names, timeout_ms))
    waiting = asyncio.ensure_future(asked.wait())
    await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    if not asked.is_set():
        note("all nodes run; Ctrl-C stops them")
    gone: set[str] = set()
    while not asked.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_S):
                await asked.wait()
        for item in info.nodes:
            if item.name not in gone and processes.running(item.name) is None:
                gone.add(item.name)
                note(f"node {item.name} ended with exit code {processes.exit_code(item.name)}, see its log")
    note("stopping")
    await processes.stop()


def _spec(text: str) -> NodeSpec:
    parts = text.split(":")
    if len(parts) != 3:
        raise ConfigError(f"node is {text!r}, must be NAME:ORGANISATION:ROLE")
    return NodeSpec(name=parts[0], organisation=parts[1], role=parts[2])


def _setting(text: str) -> tuple[str, object]:
    """TABLE.FIELD=VALUE, the value as in TOML; a word needs no quotes."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set is {text!r}, must be TABLE.FIELD=VALUE")
    try:
        document: dict[str, object] = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
    return name.strip(), document["value"]


def _status_lines(nodes: list[dict[str, Any]]) -> list[str]:
    rows: list[tuple[str, ...]] = [("node", "pid", "height", "view", "peers", "pool", "state")]
    remarks: list[str] = []
    for node in nodes:
        pid = "-" if node["pid"] is None else str(node["pid"])
        status = node["status"]
        if status is None:
            rows.append((node["name"], pid, "-", "-", "-", "-", "down" if node["pid"] is None else "no answer"))
            continue
        consensus = status["consensus"]
        state = "ready" if status["ready"] else "catching up"
        if consensus["role"] != "validator":
            state = consensus["role"]
        if consensus["diverged"]:
            state = "diverged"
        peers = f"{status['peers_connected']}/{status['peers_total']}"
        pool = str(status["pool"]["transactions"])
        height, view = str(status["certified_height"]), str(consensus["view"])
        rows.append((node["name"], pid, height, view, peers, pool, state))
        remarks += [f"{node['name']}: {problem}" for problem in status["problems"]]
    return [*table(rows), *remarks]


__all__ = ["app", "node_app", "node_statuses"]

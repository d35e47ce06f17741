"""What the commands share: options, where the network is, a client for it, output for people and for programs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chain.cli.arguments import plain
from chain.client import Client, NodesUnreachable, RpcFailed
from chain.crypto import PrivateKey
from chain.errors import BadInput, ConfigError
from chain.node.consortium import NetworkInfo, load_account, load_network

NETWORK_VARIABLE: Final = "HEADRACE_NETWORK"
URL_VARIABLE: Final = "HEADRACE_URL"
DEFAULT_NETWORK: Final = Path("headrace-network")
EXIT_FAILED: Final = 1
RETRY_MS: Final = 1_000  # a person who waits wants to know soon that no node answers
_NO_CONNECTION: Final = re.compile(r"\w*Connector\w*: Cannot connect to host \S+ ssl:\S+ \[(.*)\]", re.DOTALL)

NetworkOption = Annotated[
    Path | None,
    typer.Option(
        "--network", metavar="DIR", help=f"Folder of the network. [default: ${NETWORK_VARIABLE} or ./{DEFAULT_NETWORK}]"
    ),
]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", metavar="NAME", help="Ask this node of the network only. [default: any that answers]"),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"Ask the node at this address instead. [default: ${URL_VARIABLE}]"),
]
AccountOption = Annotated[
    str,
    typer.Option("--account", metavar="NAME", help="Account that signs: a name of the network's accounts, or a file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document with stable fields.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Which nodes to ask, and where accounts are found. `network` is None where only a URL was given."""

    urls: tuple[str, ...]
    network: NetworkInfo | None

    def client(self, key: PrivateKey | None = None) -> Client:
        return Client(self.urls, key=key, retry_ms=RETRY_MS)

    def account(self, name: str) -> PrivateKey:
        """The key of an account, by name or by the path of its file.

        Raises:
            ConfigError: there is none.
        """
        if name.endswith(".json") or "/" in name:
            return load_account(Path(name))
        if self.network is None:
            raise ConfigError(f"account is {name!r}, must be the path of an account file where no network is given")
        path = self.network.account_path(name)
        if not path.exists():
            raise ConfigError(f"account is {name!r}, must be one of {', '.join(account_names(self.network))}")
        return load_account(path)

    async def address(self, client: Client, name: str) -> bytes:
        """The address of an account of the network or of a contract on the chain, by name.

        Raises:
            BadInput: neither has that name.
        """
        if self.network is not None and name in account_names(self.network):
            return load_account(self.network.account_path(name)).address
        try:
            return await client.address(name)
        except RpcFailed as error:
            if error.reason != "not_found":
                raise
            raise BadInput("invalid_params", f"{name!r} names no account of the network and no contract") from None


def open_network(path: Path | None) -> NetworkInfo:
    """The network of `--network`, the environment or the default folder.

    Raises:
        ConfigError: there is none; the text says what to do.
    """
    folder = network_path(path)
    if not (folder / "network.json").exists():
        raise ConfigError(f"{folder} holds no network. Make one with `headrace network init`, or give --network DIR")
    return load_network(folder)


def network_path(path: Path | None) -> Path:
    return path or Path(os.environ.get(NETWORK_VARIABLE) or DEFAULT_NETWORK)


def open_place(network: Path | None, node: str | None, url: str | None) -> Place:
    """Where to ask: `--url`, else a node of the network, else all of them.

    Raises:
        ConfigError: no such network or node.
    """
    if url is None and network is None and node is None:
        url = os.environ.get(URL_VARIABLE) or None
    if url is not None:
        folder = network_path(network)
        known = load_network(folder) if (folder / "network.json").exists() else None
        return Place((url,), known)
    info = open_network(network)
    nodes = info.nodes if node is None else (info.node(node),)
    return Place(tuple(item.rpc_url for item in nodes), info)


def account_names(network: NetworkInfo) -> list[str]:
    return sorted(path.stem for path in network.account_path("any").parent.glob("*.json"))


def report(document: Mapping[str, Any], *, as_json: bool, lines: Callable[[], list[str]] | None = None) -> None:
    """Print a result: JSON for programs, `lines` (default: one field a line) for people."""
    if as_json:
        print(json.dumps(plain(document), indent=2))
        return
    for line in field_lines(document) if lines is None else lines():
        print(line)


def field_lines(document: Mapping[str, Any]) -> list[str]:
    """`name  value` lines with the values in one column."""
    width = max((len(name) for name in document), default=0)
    return [f"{name:<{width}}  {text_of(value)}" for name, value in document.items()]


def text_of(value: Any) -> str:
    """A value on one line."""
    value = plain(value)
    if isinstance(value, str):
        return value
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows (the first is the heading) in columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def why(error: Exception) -> str:
    """An error for people. Of nodes that cannot be reached each has a line, without the HTTP library's own words."""
    if not isinstance(error, NodesUnreachable):
        return str(error)
    reasons = {url: _plain_reason(text) for url, text in error.failures.items()}
    if len(reasons) == 1:
        return "no node answers: " + "".join(f"{url}: {reason}" for url, reason in reasons.items())
    return "\n".join(["no node answers", *(f"  {url}: {reason}" for url, reason in reasons.items())])


def _plain_reason(text: str) -> str:
    found = _NO_CONNECTION.match(text)
    if found is None:
        return " ".join(text.split())
    told = found[1].startswith(("Connect call failed", "Multiple exceptions", "None"))  # says the address once more
    return "cannot connect" if told else f"cannot connect: {found[1]}"


def note(text: str) -> None:
    """Progress and remarks: to stderr, so that stdout holds the result only."""
    print(text, file=sys.stderr, flush=True)

"""`headrace account`: keys that sign transactions."""

from __future__ import annotations

from typing import Annotated

import typer

from chain.cli.common import JsonOption, NetworkOption, account_names, open_network, report, table
from chain.crypto import Scheme
from chain.errors import ConfigError
from chain.node.consortium import load_account, new_account

app = typer.Typer(no_args_is_help=True, help="Keys that sign transactions.")


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the new account.")],
    network: NetworkOption = None,
    scheme: Annotated[str, typer.Option(help="Signature scheme: ed25519 or secp256k1.")] = "ed25519",
    as_json: JsonOption = False,
) -> None:
    """Make a new account in the network's folder. Its file holds the secret key: mode 0600, keep it so.

    \b
    Examples:
      headrace account new alice
      headrace account new bob --scheme secp256k1
    """
    info = open_network(network)
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ConfigError(f"account is {name!r}, must be letters, digits, hyphens and underscores")
    known = {item.name.lower(): item for item in Scheme}
    if scheme not in known:
        raise ConfigError(f"scheme is {scheme!r}, must be one of {', '.join(known)}")
    path = info.account_path(name)
    key = new_account(path, name, known[scheme])
    report({"name": name, "address": key.address, "scheme": scheme, "file": str(path)}, as_json=as_json)


@app.command("list")
def list_accounts(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """The accounts in the network's folder with their addresses.

    \b
    Example:
      headrace account list
    """
    info = open_network(network)
    accounts = []
    for name in account_names(info):
        key = load_account(info.account_path(name))
        accounts.append({"name": name, "address": "0x" + key.address.hex(), "scheme": key.scheme.name.lower()})
    rows: list[tuple[str, ...]] = [("name", "address", "scheme")]
    rows += [(item["name"], item["address"], item["scheme"]) for item in accounts]
    report({"accounts": accounts}, as_json=as_json, lines=lambda: table(rows))

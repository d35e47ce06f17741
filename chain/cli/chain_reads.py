"""`headrace status`, `proof`, `verify-proof`: looking at the chain, taking evidence away."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.cli.arguments import convert_arguments
from chain.cli.common import (
    EXIT_FAILED,
    JsonOption,
    NetworkOption,
    NodeOption,
    UrlOption,
    field_lines,
    note,
    open_network,
    open_place,
    report,
)
from chain.cli.contracts import parse_hash
from chain.client.abi import Field, Variable
from chain.errors import BadInput, ConfigError
from chain.offline import ProofError, TrustError, verify_proof
from chain.rpc.state_keys import entry_key, item_key
from contracts.language.types import INT

proof_app = typer.Typer(no_args_is_help=True, help="Fetch proofs that anyone can check without a node.")
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the proof here instead of to the terminal.")
]


def status(
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """One node's own view: heights, leader, pool, peers, executors, stage times, problems.

    For all nodes of a network at a glance: headrace network status.

    \b
    Examples:
      headrace status
      headrace status --node regulator --json
    """
    place = open_place(network, node, url)

    async def run() -> dict[str, Any]:
        async with place.client() as client:
            return await client.status()

    found = asyncio.run(run())
    report(found, as_json=as_json, lines=lambda: _status_lines(found))


@proof_app.command("receipt")
def proof_receipt(
    tx_hash: Annotated[str, typer.Argument(metavar="HASH", help="Transaction hash.")],
    out: OutOption = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
) -> None:
    """Proof that a transaction was executed and gave its receipt.

    \b
    Example:
      headrace proof receipt 0x5a... -o receipt-proof.json
    """
    place = open_place(network, node, url)

    async def run() -> Any:
        async with place.client() as client:
            return (await client.rpc("get_receipt_proof", hash=parse_hash(tx_hash)))["proof"]

    _hand_over(asyncio.run(run()), out)


@proof_app.command("value")
def proof_value(
    target: Annotated[str, typer.Argument(help="Contract: name or address.")],
    variable: Annotated[str, typer.Argument(help="Storage variable of the contract.")],
    key: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Of a Map: the parts of the key. Of a List: the index."),
    ] = None,
    height: Annotated[int | None, typer.Option(help="The value after this block. [default: the highest]")] = None,
    out: OutOption = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
) -> None:
    """Proof of the value that a storage variable of a contract had after a block, or that it had none.

    \b
    Examples:
      headrace proof value demo.counter total
      headrace proof value demo.token balances alice --height 40 -o balance.json
    """
    place = open_place(network, node, url)

    async def run() -> Any:
        async with place.client() as client:
            abi = await client.abi(target)
            declared = abi.storage.get(variable)
            if declared is None:
                raise BadInput("invalid_params", f"{abi.contract} stores {', '.join(abi.storage)}, not {variable!r}")
            parameters = _key_parameters(declared)
            elements = await convert_arguments(
                key or [], parameters, abi=abi, method=variable, address_of=lambda given: place.address(client, given)
            )
            address = await client.address(target)
            if declared.kind == "List":
                state_key = item_key(address, variable, _index(elements[0]))
            else:
                state_key = entry_key(address, variable, elements)
            return (await client.rpc("get_value_proof", state_key=state_key, height=height))["proof"]

    _hand_over(asyncio.run(run()), out)


def verify_proof_command(
    proof: Annotated[Path, typer.Argument(help="File with the proof.")],
    genesis: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The genesis you trust. [default: the network's genesis.json]")
    ] = None,
    network: NetworkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a proof against a genesis you trust. Needs no node. Exit code 1 if the proof does not hold.

    \b
    Examples:
      headrace verify-proof receipt-proof.json
      headrace verify-proof receipt-proof.json --genesis genesis.json --json
    """
    trusted = genesis or open_network(network).genesis_path
    try:
        verdict = verify_proof(_load_json(proof), _load_json(trusted))
    except TrustError as error:
        raise ConfigError(f"{trusted}: {error}") from None
    except ProofError as error:
        reason = str(error)
        report({"valid": False, "reason": reason}, as_json=as_json, lines=lambda: [f"REFUSED: {reason}"])
        raise typer.Exit(EXIT_FAILED) from None
    document = {"valid": True, **asdict(verdict)}
    heading = f"VALID: {verdict.kind} proof at height {verdict.height}, signed by {', '.join(verdict.signers)}"
    report(document, as_json=as_json, lines=lambda: [heading, *field_lines(verdict.claim)])


def _key_parameters(variable: Variable) -> tuple[Field, ...]:
    if variable.kind == "List":
        return (Field("index", INT),)
    return tuple(Field(f"key{at}", kind) for at, kind in enumerate(variable.key))


def _index(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise BadInput("invalid_params", f"index is {value!r}, must be 0..2^63-1")
    return value


def _hand_over(proof: Any, out: Path | None) -> None:
    text = json.dumps(proof, indent=2) + "\n"
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None
    note(f"proof in {out}; check it with: headrace verify-proof {out}")


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _status_lines(found: dict[str, Any]) -> list[str]:
    consensus, pool = found["consensus"], found["pool"]
    stages = ", ".join(f"{stage} {mean / 1_000:.1f} ms" for stage, mean in found["stage_mean_us"].items())
    changing = " (changing)" if consensus["changing"] else ""
    shown = {
        "node": f"{found['name']} (Headrace {found['version']})",
        "chain": f"{found['chain_name']} {found['chain_id']}",
        "ready": "yes" if found["ready"] else "no",
        "height": f"certified {consensus['certified_height']}, ordered {consensus['ordered_height']}",
        "view": f"{consensus['view']}, leader {consensus['leader_name']}{changing}",
        "pool": f"{pool['transactions']} of {pool['transactions_max']} transactions, {pool['bytes']} bytes",
        "peers": f"{found['peers_connected']} of {found['peers_total']} connected",
        "executors": f"{found['executors_alive']} of {found['executors']}",
        "executed": f"{found['transactions_total']} transactions",
        "stages": stages or "-",
        "uptime": f"{found['uptime_ms'] / 1_000:.0f} s",
    }
    return [*field_lines(shown), *(f"problem: {problem}" for problem in found["problems"])]

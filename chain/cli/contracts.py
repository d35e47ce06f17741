"""`headrace deploy`, `send`, `call`, `receipt`, `contract check`, `contract access`: contracts and transactions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chain.cli.access_report import Examined, MethodReport, method_document, method_lines, reports
from chain.cli.arguments import convert_arguments
from chain.cli.common import (
    AccountOption,
    JsonOption,
    NetworkOption,
    NodeOption,
    Place,
    UrlOption,
    note,
    open_place,
    report,
    text_of,
)
from chain.client import Abi, Client, Receipt, TransactionFailed, parse_abi
from chain.client.client import DEFAULT_GAS_LIMIT
from chain.codec import Value
from chain.errors import BadInput, ConfigError
from contracts.language import NEWEST, RULE_SETS, BadSource, check, compile_contract, contract_abi
from executor.access import infer

DEPLOY_ACCOUNT: Final = "operator"
WAIT_S: Final = 30.0

app = typer.Typer(
    no_args_is_help=True,
    help="Look at contract files; no network is needed. Example: headrace contract access token.py",
)

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Contract files, or folders of them."),
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARGUMENT]...",
        help="By the ABI's types: integers, true/false, text, 0x-hex, names of accounts or contracts for addresses, "
        "JSON for tuples and structs, null, @FILE. Put -- before the first that starts with a minus.",
    ),
]
TargetArgument = Annotated[str, typer.Argument(help="Contract: name or address.")]
MethodArgument = Annotated[str, typer.Argument(help="Method of the contract.")]
WaitOption = Annotated[float, typer.Option("--wait-s", help="Longest wait for the certified receipt, in seconds.")]


def deploy(
    name: Annotated[str, typer.Argument(help="Name of the contract on the chain, unique there.")],
    source: Annotated[Path, typer.Argument(help="File with the contract.")],
    arguments: Arguments = None,
    account: AccountOption = DEPLOY_ACCOUNT,
    wait_s: WaitOption = WAIT_S,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deploy a contract under a name; the arguments go to its `init`.

    \b
    Examples:
      headrace deploy demo.counter examples/counter.py
      headrace deploy demo.token token.py 1000000 "Harbour dollar" --account operator
    """
    place = open_place(network, node, url)

    async def run() -> dict[str, Any]:
        text = _source(source)
        abi = _source_abi(text, source)
        async with place.client(place.account(account)) as client:
            values = await convert_arguments(
                arguments or [], abi.init, abi=abi, method="init", address_of=lambda given: place.address(client, given)
            )
            address = await client.deploy(name, text, *values, timeout_ms=int(wait_s * 1_000))
            return {"name": name, "address": address, "certified_height": client.height}

    report(asyncio.run(run()), as_json=as_json)


def send(
    target: TargetArgument,
    method: MethodArgument,
    arguments: Arguments = None,
    account: AccountOption = DEPLOY_ACCOUNT,
    gas_limit: Annotated[int, typer.Option(help="Most gas the transaction may use.")] = DEFAULT_GAS_LIMIT,
    wait_s: WaitOption = WAIT_S,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a transaction and wait for its certified receipt. Exit code 1 if it failed.

    \b
    Examples:
      headrace send demo.counter increase 5 --account harbour-bank
      headrace send demo.token transfer alice 100
      headrace send demo.book add '{"title": "Ledger", "tags": ["a", "b"]}'
    """
    place = open_place(network, node, url)

    async def run() -> tuple[Receipt, Abi]:
        async with place.client(place.account(account)) as client:
            abi, values = await _arguments(place, client, target, method, arguments or [])
            transaction = await client.sign(target, method, *values, gas_limit=gas_limit)
            note(f"transaction 0x{transaction.hash.hex()}")
            receipt = await client.send_signed(transaction, timeout_ms=int(wait_s * 1_000), check=False)
            if not receipt.ok and not as_json:
                raise TransactionFailed(receipt, raw=transaction.raw)
            return receipt, abi

    receipt, abi = asyncio.run(run())
    value = abi.named(abi.method(method).returns, receipt.value)
    report(_receipt_document(receipt, value), as_json=as_json, lines=lambda: _receipt_lines(receipt, value))
    if not receipt.ok:
        raise typer.Exit(1)


def call(
    target: TargetArgument,
    method: MethodArgument,
    arguments: Arguments = None,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="Sign the read, so that the contract knows who asks."),
    ] = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read from a contract: call one of its views. No transaction is sent. With --account the read is signed.

    \b
    Examples:
      headrace call demo.counter value
      headrace call credit.record report 0x8f... --account harbour-bank
    """
    place = open_place(network, node, url)

    async def run() -> dict[str, Any]:
        key = None if account is None else place.account(account)
        async with place.client(key) as client:
            abi, values = await _arguments(place, client, target, method, arguments or [])
            if not abi.method(method).is_view:
                raise BadInput("invalid_params", f"{method} writes: send it as a transaction with `headrace send`")
            read = client.call if key is None else client.signed_call
            value = await read(target, method, *values)
            named = abi.named(abi.method(method).returns, value)
            return {"value": named, "signed": key is not None, "certified_height": client.height}

    document = asyncio.run(run())
    report(document, as_json=as_json, lines=lambda: [text_of(document["value"])])


def receipt(
    tx_hash: Annotated[str, typer.Argument(metavar="HASH", help="Transaction hash.")],
    wait_s: Annotated[float, typer.Option("--wait-s", help="Wait so long for it to be certified, in seconds.")] = 0.0,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """The certified receipt of a transaction: what it returned, emitted and cost, or why it failed.

    \b
    Examples:
      headrace receipt 0x5a...
      headrace receipt 0x5a... --wait-s 10 --json
    """
    place = open_place(network, node, url)

    async def run() -> Receipt:
        async with place.client() as client:
            return await client.receipt(parse_hash(tx_hash), timeout_ms=int(wait_s * 1_000))

    found = asyncio.run(run())
    report(_receipt_document(found, found.value), as_json=as_json, lines=lambda: _receipt_lines(found, found.value))


@app.command("check")
def check_files(
    files: Files,
    rule_set: Annotated[int, typer.Option(help="Rules of the chain that it is for.")] = NEWEST,
    as_json: JsonOption = False,
) -> None:
    """Say what the contract language has against a file, all of it. Exit code 1 if there is anything.

    \b
    Examples:
      headrace contract check token.py
      headrace contract check contracts/ --rule-set 1
    """
    if rule_set not in RULE_SETS:
        raise BadInput("invalid_params", f"rule set is {rule_set}, must be one of {', '.join(map(str, RULE_SETS))}")
    paths = _contract_files(files)
    findings = _findings(paths, rule_set)
    document = {"files": [str(path) for path in paths], "findings": findings}
    report(document, as_json=as_json, lines=lambda: _finding_lines(findings) or [f"{path}: fine" for path in paths])
    if findings:
        raise typer.Exit(1)


@app.command("access")
def access(
    files: Files,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="This method only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which keys each method touches, as far as the code tells, and which of its calls can run in parallel.

    Calls of other contracts are followed into the files given; on the chain they are followed wherever the address is
    known before the block. Nothing of this changes a result: a wrong guess costs time. Exit code 1 if a file does not
    pass `contract check`.

    \b
    Examples:
      headrace contract access token.py
      headrace contract access contracts/credit --method deliver
      headrace contract access order.py consent.py --json
    """
    paths = _contract_files(files)
    findings = _findings(paths, NEWEST)
    if findings:
        report({"findings": findings}, as_json=as_json, lines=lambda: _finding_lines(findings))
        raise typer.Exit(1)
    examined = [_examine(path) for path in paths]
    told = [
        (item, [found for found in reports(item, examined) if method in (None, found.name)]) for item in examined
    ]
    if not any(found for _, found in told):
        names = sorted({name for item in examined for name in item.model.methods if not name.startswith("_")})
        raise BadInput("invalid_params", f"method is {method!r}, must be one of {', '.join(names)}")
    document = {
        "contracts": [
            {"file": item.file, "contract": item.name, "methods": [method_document(entry) for entry in found]}
            for item, found in told
            if found
        ]
    }
    report(document, as_json=as_json, lines=lambda: _access_lines(told))


def _access_lines(told: Sequence[tuple[Examined, list[MethodReport]]]) -> list[str]:
    lines: list[str] = []
    for item, found in told:
        if found:
            lines += [f"{item.file}: {item.name}", ""]
            for entry in found:
                lines += [*method_lines(entry), ""]
    return lines[:-1]


def _contract_files(paths: Sequence[Path]) -> list[Path]:
    """The files given and those of the folders given, by name.

    Raises:
        ConfigError: there is no such file, or a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(entry for entry in path.glob("*.py") if entry.name != "__init__.py")
            if not inside:
                raise ConfigError(f"{path}: has no contract files (*.py)")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ConfigError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def _findings(paths: Sequence[Path], rule_set: int) -> list[dict[str, Any]]:
    return [
        {
            "file": str(path), "line": finding.line, "column": finding.column, "code": finding.code,
            "reason": finding.reason,
        }
        for path in paths
        for finding in check(_source(path), rule_set)
    ]  # fmt: skip


def _finding_lines(findings: Sequence[dict[str, Any]]) -> list[str]:
    return ["{file}:{line}:{column}: {code}: {reason}".format(**finding) for finding in findings]


def _examine(path: Path) -> Examined:
    source = _source(path)
    return Examined(str(path), compile_contract(source).model, infer(source))


def parse_hash(text: str) -> bytes:
    """The 32 bytes of a hash given as hex, with or without 0x. Raises BadInput."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 32:
        raise BadInput("invalid_params", f"hash is {text!r}, must be 64 hex digits")
    return value


async def _arguments(
    place: Place, client: Client, target: str, method: str, texts: Sequence[str]
) -> tuple[Abi, tuple[Value, ...]]:
    abi = await client.abi(target)
    parameters = abi.method(method).parameters
    values = await convert_arguments(
        texts, parameters, abi=abi, method=method, address_of=lambda given: place.address(client, given)
    )
    return abi, values


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _source_abi(text: str, path: Path) -> Abi:
    """The ABI of a source, which is checked here before anything is sent."""
    try:
        return parse_abi(json.loads(contract_abi(text)))
    except BadSource as error:
        raise ConfigError(f"{path} is no contract:\n{error}") from None


def _receipt_document(receipt: Receipt, value: Any) -> dict[str, Any]:
    return {
        "hash": receipt.hash,
        "height": receipt.height,
        "position": receipt.position,
        "status": receipt.status,
        "error": receipt.error,
        "gas_used": receipt.gas_used,
        "value": value,
        "events": [
            {"contract": event.contract, "name": event.name, "values": event.values, "fields": event.fields}
            for event in receipt.events
        ],
    }


def _receipt_lines(receipt: Receipt, value: Any) -> list[str]:
    outcome = "ok" if receipt.ok else f"failed: {receipt.error} (status {receipt.status})"
    lines = [
        f"{outcome}, height {receipt.height}, position {receipt.position}, gas {receipt.gas_used}",
        f"value  {text_of(value)}",
    ]
    for event in receipt.events:
        shown = event.values if event.fields is None else event.fields
        lines.append(f"event  {event.name} {text_of(shown)}")
    return lines

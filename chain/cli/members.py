"""`headrace members`: who belongs to the chain, and how that changes. Validators decide, each with its own key."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from chain.cli.common import (
    JsonOption,
    NetworkOption,
    NodeOption,
    Place,
    UrlOption,
    note,
    open_network,
    open_place,
    report,
    table,
)
from chain.client import SYSTEM_ADDRESS, Client, Receipt
from chain.codec import Value
from chain.crypto import PrivateKey, Scheme
from chain.errors import BadInput, ConfigError
from chain.model.signing import ValidatorKey
from chain.model.validators import validator_id
from chain.node.consortium import NetworkInfo, load_validator_key
from chain.node.expansion import (
    CARD_FILE,
    NodeCard,
    card_document,
    finish_rotation,
    load_card,
    make_card,
    prepare_rotation,
)
from contracts.system.members import possession_digest

WAIT_S: Final = 60.0
POLL_S: Final = 0.1
_ID: Final = re.compile("(?:0x)?([0-9a-f]{40})")

app = typer.Typer(
    no_args_is_help=True,
    help="Validators and observers of the chain: look, propose and approve changes, rotate a key.",
)

AsOption = Annotated[
    list[str],
    typer.Option(
        "--as", metavar="NODE", help="Validator that signs: a node of the network, or the file of its validator key."
    ),
]
WhoArgument = Annotated[str, typer.Argument(metavar="NODE", help="A member: its name on the chain, or its id.")]
CardArgument = Annotated[
    str,
    typer.Argument(
        metavar="CARD", help="The new node: a node of the network, or the file that `members card` wrote for it."
    ),
]
NumberArgument = Annotated[int, typer.Argument(help="Number of the change.")]
WeightOption = Annotated[int, typer.Option("--weight", min=1, help="Weight of its vote.")]
WaitOption = Annotated[float, typer.Option("--wait-s", help="Longest wait, in seconds.")]


# --- looking ---


@app.command("list")
def list_members(
    height: Annotated[int | None, typer.Option(min=0, help="The set in force there. [default: next block]")] = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validators in force, the set that is scheduled, observers and open changes.

    \b
    Examples:
      headrace members list
      headrace members list --height 1200 --json
    """
    place = open_place(network, node, url)
    document = asyncio.run(_ask(place, height))
    report(document, as_json=as_json, lines=lambda: _member_lines(document, height))


@app.command("changes")
def changes(
    network: NetworkOption = None, node: NodeOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """The open changes: what is proposed, who has approved, what is missing.

    \b
    Example:
      headrace members changes
    """
    place = open_place(network, node, url)
    document = asyncio.run(_ask(place, None))
    report({"changes": document["changes"]}, as_json=as_json, lines=lambda: _change_lines(document))


@app.command("card")
def card(
    node: Annotated[str, typer.Argument(help="Name of the node.")],
    network: NetworkOption = None,
) -> None:
    """The card of a node: what a validator needs to propose it. Public key, address, and proof that the key is held.

    \b
    Example:
      headrace members card new-bank > new-bank.card.json
    """
    info = open_network(network)
    document = card_document(_card(info, node))
    report(document, as_json=True)


# --- changing ---


@app.command("propose-add")
def propose_add(
    card: CardArgument, signers: AsOption, weight: WeightOption = 1, network: NetworkOption = None,
    node: NodeOption = None, url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Propose a new validator. The proposer approves by proposing; further --as approve at once.

    \b
    Examples:
      headrace members propose-add new-bank --as regulator
      headrace members propose-add new-bank.card.json --weight 2 --as regulator --as delta-bank
    """
    place = open_place(network, node, url)
    found = _card_of(place, card)
    arguments = (found.name, found.public_key, weight, found.endpoint, found.possession)
    _propose(place, signers, "propose_add", arguments, as_json)


@app.command("propose-observer")
def propose_observer(
    card: CardArgument, signers: AsOption, network: NetworkOption = None, node: NodeOption = None,
    url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Propose a node that follows the chain and does not vote.

    \b
    Example:
      headrace members propose-observer new-bank --as regulator
    """
    place = open_place(network, node, url)
    found = _card_of(place, card)
    arguments = (found.name, found.public_key, found.endpoint, found.possession)
    _propose(place, signers, "propose_observer", arguments, as_json)


@app.command("propose-promotion")
def propose_promotion(
    who: WhoArgument, signers: AsOption, weight: WeightOption = 1, network: NetworkOption = None,
    node: NodeOption = None, url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Propose that an observer becomes a validator.

    \b
    Example:
      headrace members propose-promotion new-bank --weight 1 --as regulator
    """
    place = open_place(network, node, url)
    _propose(place, signers, "propose_promotion", (_id(place, who, "observers"), weight), as_json)


@app.command("propose-remove")
def propose_remove(
    who: WhoArgument, signers: AsOption, network: NetworkOption = None, node: NodeOption = None,
    url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Propose that a validator or an observer leaves.

    \b
    Example:
      headrace members propose-remove delta-bank --as regulator
    """
    place = open_place(network, node, url)
    document = asyncio.run(_ask(place, None))
    validator = _find(document, who, ("validators", "observers"))
    observer = any(item["id"] == validator for item in document["observers"])
    method = "propose_remove_observer" if observer else "propose_remove"
    _propose(place, signers, method, (bytes.fromhex(validator[2:]),), as_json)


@app.command("propose-weight")
def propose_weight(
    who: WhoArgument, weight: Annotated[int, typer.Argument(min=1, help="Its new weight.")], signers: AsOption,
    network: NetworkOption = None, node: NodeOption = None, url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Propose another weight of a validator.

    \b
    Example:
      headrace members propose-weight regulator 2 --as regulator
    """
    place = open_place(network, node, url)
    _propose(place, signers, "propose_weight", (_id(place, who, "validators"), weight), as_json)


@app.command("approve")
def approve(
    number: NumberArgument, signers: AsOption, network: NetworkOption = None, node: NodeOption = None,
    url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Approve a change with the key of a validator. A quorum of weight makes it.

    \b
    Examples:
      headrace members approve 3 --as delta-bank
      headrace members approve 3 --as ./keys/validator.key --url http://127.0.0.1:8545
    """
    place = open_place(network, node, url)
    keys = [_key(place, name) for name in signers]

    async def run(client: Client) -> dict[str, Any]:
        return await _approve(client, number, keys)

    document = asyncio.run(_with_client(place, run))
    report(document, as_json=as_json, lines=lambda: [_verdict(document)])


@app.command("withdraw")
def withdraw(
    number: NumberArgument, signers: AsOption, network: NetworkOption = None, node: NodeOption = None,
    url: UrlOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Take an open change back: its proposer may, or any validator if the proposer has left.

    \b
    Example:
      headrace members withdraw 3 --as regulator
    """
    place = open_place(network, node, url)
    key = _key(place, signers[0])
    receipt = asyncio.run(_with_client(place, lambda client: _send(client, key, "withdraw", number)))
    document = {"number": number, "withdrawn": True, "height": receipt.height}
    report(document, as_json=as_json, lines=lambda: [f"change {number} is withdrawn"])


@app.command("endpoint")
def endpoint(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where its gateway listens.")],
    signers: AsOption, network: NetworkOption = None, node: NodeOption = None, url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Say on the chain where a validator's node listens, for nodes whose node.toml does not name it.

    \b
    Example:
      headrace members endpoint bank.example.org:30300 --as delta-bank
    """
    place = open_place(network, node, url)
    key = _key(place, signers[0])
    receipt = asyncio.run(_with_client(place, lambda client: _send(client, key, "set_endpoint", address)))
    document = {"validator": key.validator_id, "endpoint": address, "height": receipt.height}
    report(document, as_json=as_json)


@app.command("rotate-key")
def rotate_key(
    node: Annotated[str, typer.Argument(help="Node of the network, which must be running.")],
    wait_s: WaitOption = WAIT_S,
    network: NetworkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a validator a new key, with a certificate for it, while it runs. Safe to repeat if it was interrupted.

    \b
    Example:
      headrace members rotate-key delta-bank
    """
    info = open_network(network)
    document = asyncio.run(rotate(info, node, timeout_s=wait_s))
    report(
        document, as_json=as_json,
        lines=lambda: [f"{node} signs as 0x{document['new'].hex()} from height {document['from_height']} on"],
    )  # fmt: skip


async def rotate(info: NetworkInfo, name: str, *, timeout_s: float) -> dict[str, Any]:
    """Rotate the key of a running node of a network, to the end.

    Raises:
        ConfigError: it cannot be prepared, or was not in force in time.
    """
    node = info.node(name)
    old = load_validator_key(node.folder / "validator.key")
    async with Client(node.rpc_url, retry_ms=1_000) as client:
        await client.status()  # before a key is made that nobody could be told of
    new = prepare_rotation(info, name)
    note(f"  next key of {name} is 0x{new.validator_id.hex()}")
    digest = possession_digest(chain_id=info.chain_id, public_key=new.public_key, replaces=old.validator_id)
    async with Client([item.rpc_url for item in info.nodes], retry_ms=1_000) as client:
        members = await client.rpc("get_validators", min_height=client.height)
        from_height = _holds_from(members, "0x" + new.validator_id.hex())
        if from_height is None:
            receipt = await _send(client, old, "rotate_key", new.public_key, new.sign(digest))
            from_height = _number(receipt)
    async with Client(node.rpc_url, retry_ms=1_000) as client:
        await _until_speaks_as(client, name, new.validator_id, from_height, timeout_s)
    finish_rotation(info, name)
    return {"node": name, "old": old.validator_id, "new": new.validator_id, "from_height": from_height}


def _holds_from(members: Mapping[str, Any], validator: str) -> int | None:
    """From when the set in force, or else the scheduled one, has a validator; None: neither has it."""
    for found in (members, members["scheduled"]):
        if found is not None and any(item["id"] == validator for item in found["validators"]):
            return int(found["from_height"])
    return None


async def _until_speaks_as(client: Client, name: str, validator: bytes, from_height: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    wanted = "0x" + validator.hex()
    while (await client.status())["validator_id"] != wanted:
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{name} does not sign with its new key after {timeout_s:g} s; that is from height {from_height} on. "
                "Its old key stays in place: run this again when the chain goes on"
            )
        await asyncio.sleep(POLL_S)


# --- sending ---


def _propose(place: Place, signers: Sequence[str], method: str, arguments: tuple[Value, ...], as_json: bool) -> None:
    keys = [_key(place, name) for name in signers]

    async def run(client: Client) -> dict[str, Any]:
        receipt = await _send(client, keys[0], method, *arguments)
        return await _approve(client, _number(receipt), keys[1:])

    document = asyncio.run(_with_client(place, run))
    report(document, as_json=as_json, lines=lambda: [_verdict(document)])


async def _approve(client: Client, number: int, keys: Sequence[ValidatorKey]) -> dict[str, Any]:
    """Approve with each key, and say how the change stands then."""
    for key in keys:
        await _send(client, key, "approve", number)
    change = await client.call(SYSTEM_ADDRESS, "change", number)
    abi = await client.abi(SYSTEM_ADDRESS)
    shown = dict(abi.named(abi.method("change").returns, change))
    members = await client.rpc("get_validators", min_height=client.height)
    waiting = next((item for item in members["changes"] if item["number"] == number), None)
    return {
        "number": number,
        "kind": shown["kind"],
        "name": shown["name"],
        "validator": validator_id(shown["public_key"]),
        "standing": shown["standing"],
        "from_height": shown["from_height"] or None,
        "approvals": list(shown["approvals"]),
        "approved_weight": None if waiting is None else waiting["approved_weight"],
        "quorum_weight": None if waiting is None else waiting["quorum_weight"],
    }


def _verdict(document: Mapping[str, Any]) -> str:
    what = f"change {document['number']} ({document['kind']} {document['name']})"
    if document["standing"] == "open":
        return f"{what} is open: weight {document['approved_weight']} of the {document['quorum_weight']} it needs"
    if document["standing"] == "effected":
        return f"{what} is approved and holds from height {document['from_height']} on"
    return f"{what} is {document['standing']}"


async def _send(client: Client, key: ValidatorKey, method: str, *arguments: Value) -> Receipt:
    account = PrivateKey.from_secret(Scheme.ED25519, key.secret)
    return await client.send(SYSTEM_ADDRESS, method, *arguments, key=account, timeout_ms=int(WAIT_S * 1_000))


def _number(receipt: Receipt) -> int:
    """What a method returned: the number of a change, or a height."""
    if not isinstance(receipt.value, int):
        raise BadInput("malformed", "the receipt carries no number")
    return receipt.value


async def _with_client(place: Place, run: Callable[[Client], Awaitable[Any]]) -> Any:
    async with place.client() as client:
        return await run(client)


async def _ask(place: Place, height: int | None) -> dict[str, Any]:
    async with place.client() as client:
        return await client.rpc("get_validators", height=height)


# --- names ---


def _key(place: Place, name: str) -> ValidatorKey:
    """A validator's key: of a node of the network, or a file."""
    if "/" in name or name.endswith(".key"):
        return load_validator_key(Path(name))
    if place.network is None:
        raise ConfigError(f"--as is {name!r}, must be the path of a validator key where no network is given")
    return load_validator_key(place.network.node(name).folder / "validator.key")


def _card_of(place: Place, name: str) -> NodeCard:
    if "/" in name or name.endswith(".json"):
        found = load_card(Path(name))
        if place.network is not None and found.chain_id != place.network.chain_id:
            raise ConfigError(f"{name}: a card for chain {found.chain_id.hex()}, not {place.network.chain_id.hex()}")
        return found
    if place.network is None:
        raise ConfigError(f"card is {name!r}, must be the path of a card where no network is given")
    return _card(place.network, name)


def _card(network: NetworkInfo, name: str) -> NodeCard:
    """Of a node of the network: the file that was made with it, or made anew from its key."""
    node = network.node(name)
    key = load_validator_key(node.folder / "validator.key")
    path = node.folder / CARD_FILE
    found = load_card(path) if path.exists() else None
    if found is not None and found.public_key == key.public_key:
        return found
    return make_card(node, key, genesis_chain=network.chain_id)


def _id(place: Place, who: str, group: str) -> bytes:
    return bytes.fromhex(_find(asyncio.run(_ask(place, None)), who, (group,))[2:])


def _find(document: Mapping[str, Any], who: str, groups: Sequence[str]) -> str:
    """The id of a member by its name or id."""
    members = [item for group in groups for item in document[group]]
    match = _ID.fullmatch(who)
    wanted = f"0x{match[1]}" if match else None
    found = [str(item["id"]) for item in members if who == item["name"] or item["id"] == wanted]
    if len(found) != 1:
        known = ", ".join(sorted(item["name"] for item in members)) or "none"
        problem = "names nobody" if not found else "names several, give the id"
        raise BadInput("invalid_params", f"{who!r} {problem}; {' and '.join(groups)}: {known}")
    return found[0]


# --- for people ---


def _member_lines(document: Mapping[str, Any], height: int | None) -> list[str]:
    since = document["from_height"]
    place = f"at height {height}" if height is not None else f"for block {document['height']}, which is next,"
    lines = [f"{place} the set is in force that came with {'the genesis' if not since else f'height {since}'}"]
    lines += _validator_table(document["validators"])
    lines.append(f"weight {document['total_weight']}, a quorum weighs {document['quorum_weight']}")
    if document["scheduled"] is not None:
        lines += ["", f"from height {document['scheduled']['from_height']} on:"]
        lines += _validator_table(document["scheduled"]["validators"])
    if document["observers"]:
        rows: list[tuple[str, ...]] = [("observer", "id", "address")]
        rows += [(item["name"], item["id"], item["endpoint"]) for item in document["observers"]]
        lines += ["", *table(rows)]
    if document["changes"]:
        lines += ["", *_change_lines(document)]
    return lines


def _validator_table(validators: Sequence[Mapping[str, Any]]) -> list[str]:
    rows: list[tuple[str, ...]] = [("validator", "weight", "id", "address")]
    rows += [(item["name"], str(item["weight"]), item["id"], item["endpoint"] or "-") for item in validators]
    return table(rows)


def _change_lines(document: Mapping[str, Any]) -> list[str]:
    if not document["changes"]:
        return ["no change is open"]
    names = {item["id"]: item["name"] for item in document["validators"]}
    rows: list[tuple[str, ...]] = [("change", "kind", "node", "id", "address", "weight", "approved", "needed", "by")]
    members = [*document["validators"], *document["observers"]]
    endpoints = {item["id"]: item["endpoint"] for item in members}
    for item in document["changes"]:
        by = ", ".join(names.get(approval, "(left)") for approval in item["approvals"])
        weight = str(item["weight"]) if item["weight"] else "-"
        approved, needed = str(item["approved_weight"]), str(item["quorum_weight"])
        address = item["endpoint"] or endpoints.get(item["id"]) or "-"
        number, who = str(item["number"]), item["id"]
        rows.append((number, item["kind"], item["name"], who, address, weight, approved, needed, by))
    return table(rows)


__all__ = ["app", "rotate"]

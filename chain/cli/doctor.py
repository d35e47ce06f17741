"""`headrace doctor`: is this node healthy, and where does it part from the others? Exit codes: 0 healthy, 1 problems
found, 2 wrong usage, 3 it could not look."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from chain.cli.common import JsonOption, NetworkOption, NodeOption, network_path, note, open_network, report, table, why
from chain.cli.common import text_of as text_of_json
from chain.cli.hints import command_hint
from chain.errors import HeadraceError

if TYPE_CHECKING:
    from chain.cli.checkup import Check
    from chain.cli.comparison import Comparison, KeyDifference, Signed
    from chain.cli.examination import Examination

EXIT_HEALTHY: Final = 0
EXIT_PROBLEMS: Final = 1
EXIT_USAGE: Final = 2
EXIT_CANNOT_LOOK: Final = 3
EXAMINE: Final = "examine"
HASH_DIGITS: Final = 16
VALUE_CHARS_MAX: Final = 160
MARKS: Final = {"ok": "ok", "problem": "PROBLEM", "unknown": "?"}


class _ExamineByDefault(TyperGroup):
    """`headrace doctor FOLDER` is `headrace doctor examine FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [EXAMINE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ExamineByDefault)


@app.callback()
def doctor() -> None:
    """Examine a node; where it parts from a peer, name the height, the transaction and the key. Without a command:
    examine.

    \b
    Examples:
      headrace doctor --node delta-bank
      headrace doctor ./headrace-network/nodes/delta-bank --json
      headrace doctor rebuild --node delta-bank
    """


FolderArgument = Annotated[
    Path | None, typer.Argument(metavar="NODE_FOLDER", help="Folder of the node: the one that holds node.toml.")
]


@app.command(EXAMINE)
def examine(
    folder: FolderArgument = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask a node over its API only.")] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="URL", help="API of a peer to compare with; repeat it. [default: its network]"),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="With --node: it is stopped, and that is right.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a node's stores, state, certificate, disk, clock and peers, and compare its blocks with its peers'.

    The folder may be looked at while the node runs. Nothing is changed. A node of a network that does not answer is a
    problem, unless --offline says that it is stopped. Exit code: 0 healthy (on disk, if NODE_FOLDER or --offline was
    given and it does not run), 1 problems found, 2 wrong usage, 3 it could not look.

    \b
    Examples:
      headrace doctor --node delta-bank
      headrace doctor --node delta-bank --offline
      headrace doctor ./nodes/delta-bank --peer http://10.0.0.7:20001 --json
      headrace doctor --url http://10.0.0.5:20001 --peer http://10.0.0.7:20001
    """
    from chain.cli.examination import examine_folder, examine_url

    if offline and url is not None:
        raise typer.BadParameter("--offline looks at a folder, --url asks a node that runs")
    if sum(given is not None for given in (folder, node, url)) != 1:
        raise typer.BadParameter(_which_node(network))
    try:
        if url is not None:
            found = asyncio.run(examine_url(url, _peers(peer, network, url)))
        else:
            place = _folder(folder, network, node)
            hint = "" if node is None or offline else command_hint(f"network start {node}", network_path(network))
            found = asyncio.run(examine_folder(place, peer or _network_peers(place), note, start=hint))
    except HeadraceError as error:
        note(f"headrace doctor: cannot look: {why(error)}")
        raise typer.Exit(EXIT_CANNOT_LOOK) from None
    document = {
        "node": found.node,
        "healthy": found.healthy,
        "running": found.running,
        "checks": [
            {"name": check.name, "state": check.state, "detail": check.detail, "advice": check.advice}
            for check in found.checks
        ],
        "divergence": None if found.difference is None else difference_document(found.difference, found.advice),
    }
    report(
        document,
        as_json=as_json,
        lines=lambda: [
            *check_lines(found.checks),
            *([] if found.difference is None else difference_lines(found.difference, found.advice)),
            _verdict(found),
        ],
    )
    raise typer.Exit(EXIT_HEALTHY if found.healthy else EXIT_PROBLEMS)


@app.command("rebuild")
def rebuild(
    folder: FolderArgument = None,
    network: NetworkOption = None,
    node: NodeOption = None,
    take_back_vote: Annotated[
        int | None,
        typer.Option(
            metavar="HEIGHT",
            min=1,
            help="Also forget this node's own checkpoint votes from this height on: only if doctor says that the "
            "header it voted for can get no certificate any more.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the state of a stopped node again from its certified blocks; the old state stays beside it.

    Every block is checked: headers against each other, certificates, write sets against state roots. What is ordered
    above the last block is executed again when the node starts. docs/recovery.md says when to do this.

    \b
    Examples:
      headrace doctor rebuild --node delta-bank
      headrace doctor rebuild ./nodes/delta-bank --take-back-vote 4711
    """
    from chain.cli.examination import rebuild_folder

    if (folder is None) == (node is None):
        raise typer.BadParameter("give one of NODE_FOLDER and --node NAME")
    try:
        done = rebuild_folder(_folder(folder, network, node), take_back_vote, note)
    except HeadraceError as error:
        note(f"headrace doctor: nothing was rebuilt: {error}")
        raise typer.Exit(EXIT_CANNOT_LOOK) from None
    document = {
        "height": done.height,
        "votes_taken_back": done.votes_taken_back,
        "old_state": str(done.old_state),
        "report": None if done.report_kept_as is None else str(done.report_kept_as),
    }
    lines = [
        f"the state stands at height {done.height} again, made from {done.height} certified blocks, each checked",
        f"votes taken back: {done.votes_taken_back}",
        f"the old state is in {done.old_state}; remove it when the node is well",
    ]
    report(document, as_json=as_json, lines=lambda: lines)


def _folder(folder: Path | None, network: Path | None, node: str | None) -> Path:
    return folder if folder is not None else open_network(network).node(str(node)).folder


def _which_node(network: Path | None) -> str:
    """What to type, with the names of the network if there is one here."""
    text = "say which node: NODE_FOLDER, --node NAME or --url URL, one of them"
    try:
        names = [node.name for node in open_network(network).nodes]
    except HeadraceError:
        return text
    commands = [command_hint(f"doctor --node {name}", network_path(network)) for name in names]
    return "\n  ".join([f"{text}. Here:", *commands])


def _peers(given: list[str] | None, network: Path | None, url: str) -> list[str]:
    if given:
        return given
    if not (network_path(network) / "network.json").exists():
        return []
    urls = [node.rpc_url for node in open_network(network).nodes]
    return [other for other in urls if other != url.rstrip("/")] if url.rstrip("/") in urls else []


def _network_peers(folder: Path) -> list[str]:
    """The other nodes of the network that a node's folder lies in, if it does."""
    network = folder.absolute().parent.parent
    if not (network / "network.json").exists():
        return []
    return [node.rpc_url for node in open_network(network).nodes if node.folder != folder.absolute()]


# --- documents and lines ---


def _verdict(found: Examination) -> str:
    if not found.healthy:
        return "problems found"
    return "healthy" if found.running else "healthy on disk; not running"


def difference_document(found: Comparison, advice: Sequence[str]) -> dict[str, Any]:
    """The JSON form of a divergence."""
    where, key = found.transaction, found.key
    return {
        "height": found.height,
        "reason": found.reason,
        "peer": found.peer,
        "headers": {"own": found.own_hash, "peer": found.peer_hash, "peer_certified": found.peer_certified},
        "certificate_problem": found.certificate_problem,
        "header_fields": list(found.fields),
        "transaction": None
        if where is None
        else {
            "position": where.position,
            "hash": where.transaction_hash,
            "contract": where.contract,
            "contract_name": where.contract_name,
            "method": where.method,
            "exact": where.exact,
            "receipt_field": where.field or None,
            "own": where.own,
            "peer": where.peer,
        },
        "key": None if key is None else {**_key_document(key), "peer": key.other},
        "keys_different": found.keys_different,
        "cause": {
            "kind": found.cause,
            "text": found.cause_text,
            "wrong_keys": [{**_key_document(wrong), "certified": wrong.other} for wrong in found.wrong_keys],
        },
        "signed": [_signed_document(entry) for entry in found.signed],
        "own_in_minority": found.own_in_minority,
        "next": list(advice),
    }


def _key_document(key: KeyDifference) -> dict[str, Any]:
    return {"state_key": key.key, "name": key.name, "own": key.own}


def _signed_document(entry: Signed) -> dict[str, Any]:
    return {
        "header_hash": entry.header_hash,
        "validators": list(entry.validators),
        "weight": entry.weight,
        "total_weight": entry.total_weight,
        "quorum": entry.quorum,
        "source": entry.source,
    }


def check_lines(checks: Sequence[Check]) -> list[str]:
    """The checks for people."""
    lines = table([("check", "", ""), *((check.name, MARKS[check.state], check.detail) for check in checks)])[1:]
    return [*lines, *(f"  {check.name}: {check.advice}" for check in checks if check.state == "problem"), ""]


def difference_lines(found: Comparison, advice: Sequence[str]) -> list[str]:
    """A divergence for people."""
    where, key = found.transaction, found.key
    lines = [f"DIVERGED at height {found.height} ({found.reason}), compared with {found.peer}"]
    if found.fields:
        lines.append(f"  header fields that differ: {', '.join(found.fields)}")
    if where is not None:
        name = where.contract_name or ("0x" + where.contract.hex() if where.contract else "")
        what = f"{name}.{where.method}" if where.method else "method not known here"
        first = "transaction" if where.exact else "first possible transaction"
        lines.append(f"  {first}: position {where.position}, 0x{where.transaction_hash.hex()}, {what}")
        if where.field:
            lines.append(f"    receipt, {where.field}: here {_shown(where.own)}, peer {_shown(where.peer)}")
    if key is not None:
        lines.append(f"  key: {key.name} (0x{key.key.hex()}), {found.keys_different} in all")
        lines.append(f"    here {_shown(key.own)}, peer {_shown(key.other)}")
    if found.cause_text:
        lines.append(f"  cause: {found.cause_text}")
    for entry in found.signed:
        quorum = ", a quorum" if entry.quorum else ""
        lines.append(
            f"  header 0x{entry.header_hash.hex()[:HASH_DIGITS]}...: {entry.weight} of {entry.total_weight}{quorum} "
            f"({entry.source}): {', '.join(entry.validators)}"
        )
    if found.certificate_problem:
        lines.append(f"  the peer's certificate does not hold: {found.certificate_problem}")
    lines += ["", "what to do", *(f"  {number}. {text}" for number, text in enumerate(advice, 1)), ""]
    return lines


def _shown(value: Any) -> str:
    text = text_of_json(value)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."

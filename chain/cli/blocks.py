"""`headrace block`: a certified block, how a node executed it, and executing it again to look inside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

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
    table,
)
from chain.cli.contracts import parse_hash
from chain.errors import BadInput
from chain.types import GENESIS_HEIGHT

if TYPE_CHECKING:
    from chain.node.replay import Replayer

LAST_BLOCKS: Final = 20
PROGRESS_S: Final = 1.0  # between lines that say how far it is; what takes less says nothing
POSITION_DIGITS_MAX: Final = 9  # longer numbers are hashes
SIZES_SHOWN: Final = 6
SHOW: Final = "show"


class _ShowByDefault(TyperGroup):
    """`headrace block 12` is `headrace block show 12`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ShowByDefault)


@app.callback()
def block() -> None:
    """A certified block, how it was executed, and executing it again. Without a command: show.

    \b
    Examples:
      headrace block
      headrace block 12 --full --json
      headrace block execution
      headrace block trace 12
    """


@app.command(SHOW)
def show(
    height: Annotated[int | None, typer.Argument(help="Height of the block. [default: the highest]")] = None,
    full: Annotated[bool, typer.Option("--full", help="With all receipts (with --json).")] = False,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """A certified block: its header, who signed it, and its transactions.

    \b
    Examples:
      headrace block
      headrace block 12 --full --json
    """
    place = open_place(network, node, url)

    async def run() -> dict[str, Any]:
        async with place.client() as client:
            return await client.rpc("get_block", height=height, full=full)

    found = asyncio.run(run())
    report(found, as_json=as_json, lines=lambda: _block_lines(found))


@app.command("execution")
def execution(
    height: Annotated[int | None, typer.Argument(help="Height of the block. [default: the last blocks]")] = None,
    last: Annotated[int, typer.Option(min=1, help="Without a height: so many of the last blocks.")] = LAST_BLOCKS,
    network: NetworkOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """How a node executed its recent blocks: in parallel or not and why, shards, conflicts, second runs, busy time.

    It is the node's own affair: other nodes do it differently and come to the same blocks. Ask one with --node.

    \b
    Examples:
      headrace block execution
      headrace block execution 12 --node regulator --json
    """
    place = open_place(network, node, url)

    async def run() -> list[dict[str, Any]]:
        async with place.client() as client:
            found = await client.rpc("get_executions", from_height=height, limit=last if height is None else 1)
            heights: list[dict[str, Any]] = found["heights"]
            if height is not None and (not heights or heights[0]["height"] != height):
                await client.rpc("get_header", height=height)  # says so if there is no such block
                raise BadInput("not_found", _not_executed(height))
            return heights

    found = asyncio.run(run())
    if height is None:
        report({"heights": found}, as_json=as_json, lines=lambda: _execution_table(found))
        return
    report(found[0], as_json=as_json, lines=lambda: _execution_lines(found[0]))


def _not_executed(height: int) -> str:
    if height == GENESIS_HEIGHT:
        return "block 0 is the genesis: nothing is executed in it"
    return (
        f"the node has not executed block {height} since it started, or keeps it no longer. "
        f"`headrace block trace {height}` executes it again"
    )


@app.command("trace")
def trace(
    height: Annotated[int, typer.Argument(help="Height of the block.")],
    transaction: Annotated[
        str | None,
        typer.Option("--transaction", "-t", metavar="HASH|POSITION", help="Trace this transaction of the block."),
    ] = None,
    executors: Annotated[int, typer.Option(min=2, max=64, help="Executors of the parallel execution.")] = 2,
    network: NetworkOption = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Take this node's data. [default: the first node's]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The node.toml of the node whose data to take, instead of a network."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Execute a stored block again, serially and in parallel, and say whether both come to what is stored.

    With --transaction: run one transaction where it stood and print its calls with everything they read, wrote, added
    and emitted, and the gas of each line of contract source.

    Works on the data folder of a node on this machine, running or not, and changes nothing in it. The state before
    the block is made again from the blocks below in a temporary folder, which takes a while on a long chain.
    Exit code 1 if anything differs.

    \b
    Examples:
      headrace block trace 12
      headrace block trace 12 --executors 4 --node regulator --json
      headrace block trace 12 --transaction 0
      headrace block trace 12 --transaction 0x5a...
    """
    from chain.cli import traces

    which = None if transaction is None else _which(transaction)
    with _open_replayer(network, node, config) as replayer:
        if which is None:
            replay = replayer.block(height, executors=executors)
            report(traces.replay_document(replay), as_json=as_json, lines=lambda: traces.replay_lines(replay))
            agrees = replay.agrees
        else:
            traced = replayer.transaction(height, which)
            report(traces.trace_document(traced), as_json=as_json, lines=lambda: traces.trace_lines(traced))
            agrees = traced.agrees
    if not agrees:
        raise typer.Exit(EXIT_FAILED)


def _which(text: str) -> bytes | int:
    """A position, or a hash."""
    if text.isascii() and text.isdigit() and len(text) <= POSITION_DIGITS_MAX:
        return int(text)
    try:
        return parse_hash(text)
    except BadInput:
        raise BadInput(
            "invalid_params", f"transaction is {text!r}, must be a position in the block (0, 1, ...) or 64 hex digits"
        ) from None


def _open_replayer(network: Path | None, node: str | None, config: Path | None) -> Replayer:
    """On the data of `--config`, or of a node of the network."""
    from chain.config import load_node_config
    from chain.model.genesis_json import load_genesis
    from chain.node.replay import Replayer

    if config is None:
        info = open_network(network)
        chosen = info.nodes[0] if node is None else info.node(node)
        config = chosen.config_path
    found = load_node_config(config)
    return Replayer(found.path("data"), load_genesis(found.path("genesis")), progress=_progress())


def _progress() -> Callable[[str, int, int], None]:
    """Tells on stderr how far it is, at most once in `PROGRESS_S`."""
    told = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < PROGRESS_S:
            return
        told = now
        note(f"{what}: {done} of {total}" if total > 1 else what)

    return tell


def _block_lines(found: dict[str, Any]) -> list[str]:
    header, certificate = found["header"], found["certificate"]
    lines = field_lines({name: header[name] for name in ("height", "hash", "time_ms", "state_root", "gas_used")})
    signed = 0 if certificate is None else len(certificate["signatures"])
    lines.append(f"signed by {signed} validators, {len(found['transactions'])} transactions")
    lines += [
        f"  {tx_hash}  {'ok' if code == 0 else f'status {code}'}"
        for tx_hash, code in zip(found["transactions"], found["statuses"], strict=True)
    ]
    return lines


def _execution_table(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["the node has executed no block since it started"]
    rows: list[tuple[str, ...]] = [
        ("height", "transactions", "mode", "reason", "shards", "largest", "predicted", "met", "run twice", "busy ms")
    ]
    for entry in found:
        plan = (entry["shards"], entry["largest_shard"], entry["conflicts_predicted"])
        run = (entry["conflicts_actual"], entry["reexecuted"])
        is_parallel = entry["mode"] == "parallel"
        rows.append(
            (
                str(entry["height"]), str(entry["transactions"]), entry["mode"], entry["reason"],
                *(str(number) if is_parallel or entry["plan_us"] else "-" for number in plan),
                *(str(number) if is_parallel else "-" for number in run),
                busy_text(entry["busy_us"]),
            )
        )  # fmt: skip
    return table(rows)


def _execution_lines(entry: dict[str, Any]) -> list[str]:
    is_parallel = entry["mode"] == "parallel"
    met = f", {entry['conflicts_actual']} met" if is_parallel else ""
    shown = {
        "height": entry["height"],
        "transactions": entry["transactions"],
        "mode": f"{entry['mode']} ({entry['reason']})",
        "shards": shards_text(entry["shards"], entry["shard_sizes"]),
        "conflicts": f"{entry['conflicts_predicted']} predicted{met}",
        "run twice": entry["reexecuted"],
        "executors lost": entry["executors_lost"],
        "busy": f"{busy_text(entry['busy_us'])} ms, executor by executor",
        "plan": f"{entry['plan_us'] / 1_000:.1f} ms",
        "validate": f"{entry['validate_us'] / 1_000:.1f} ms",
        "wall": f"{entry['wall_us'] / 1_000:.1f} ms",
        "CPU": f"{entry['cpu_us'] / 1_000:.1f} ms, all executors",
    }
    unknown: set[str] = set() if is_parallel else {"run twice", "validate"}
    if not is_parallel and not entry["plan_us"]:
        unknown |= {"shards", "conflicts", "plan"}
    return field_lines({name: value for name, value in shown.items() if name not in unknown})


def busy_text(busy_us: list[int] | tuple[int, ...]) -> str:
    """Milliseconds, executor by executor."""
    return " ".join(f"{each / 1_000:.1f}" for each in busy_us)


def shards_text(shards: int, sizes: list[int] | tuple[int, ...]) -> str:
    """How many, and the largest of them."""
    first = sizes[:SIZES_SHOWN]
    more = ", ..." if shards > len(first) else ""
    return f"{shards}, of {', '.join(map(str, first))}{more} transactions" if first else str(shards)

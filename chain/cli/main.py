"""The command `headrace`. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Final

import typer

from chain.cli import accounts, blocks, chain_reads, contracts, doctor, members, network
from chain.cli import sim as simulation
from chain.cli.arguments import TakesNumbers
from chain.cli.common import EXIT_FAILED, JsonOption, note, why
from chain.client import NodesUnreachable
from chain.errors import HeadraceError

DEMO_FOLDER: Final = Path("headrace-demo")
PLUGIN_GROUP: Final = "headrace.commands"

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Headrace, a consortium blockchain node.

    \b
    First steps:
      headrace network init                                keys, certificates, folders of four nodes
      headrace network start                               start them
      headrace deploy demo.counter examples/counter.py     deploy a contract
      headrace send demo.counter increase 5                send a transaction
      headrace call demo.counter value                     read
      headrace network stop
    \b
    `headrace demo` shows all of it at work. Every command explains itself with --help.
    """


def demo(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Folder of its network; it stays.")] = DEMO_FOLDER,
    credit_rows: Annotated[int, typer.Option(min=1, max=1_000, help="Applicants of the credit data to use.")] = 1_000,
    income_rows: Annotated[int, typer.Option(min=1, max=1_000, help="Persons of the income data to use.")] = 300,
    executors: Annotated[int, typer.Option(min=1, max=64, help="Executor processes of each node.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Four organisations, real data, one node killed and back: under three minutes. Exit code 0 if every check held.

    \b
    Examples:
      headrace demo
      headrace demo --folder ./demo-network --json
    """
    from chain.cli.demo.command import DemoOptions, run_demo

    options = DemoOptions(
        folder=folder, credit_rows=credit_rows, income_rows=income_rows, executors=executors, as_json=as_json
    )
    raise typer.Exit(run_demo(options))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if next((word for word in given if not word.startswith("-")), None) not in _own_names():
        _add_plugins()
    try:
        app(given, prog_name="headrace")
    except SystemExit as ending:  # how the library ends every command, also on wrong usage (2) and Ctrl-C (1)
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except HeadraceError as error:
        if "--debug" in given[:1]:
            raise
        note(f"headrace: {why(error)}")
        if isinstance(error, NodesUnreachable):
            note("Is the network running? `headrace network status` tells, `headrace network start` starts it.")
        return EXIT_FAILED
    return 0


def _own_names() -> set[str | None]:
    groups = {group.name for group in app.registered_groups}
    return groups | {command.name for command in app.registered_commands}


def _add_plugins() -> None:
    """The sub-commands of other packages. They may import much, so the commands here do not wait for them."""
    known = _own_names()
    for plugin in sorted(entry_points(group=PLUGIN_GROUP), key=lambda point: point.name):
        if plugin.name in known:
            continue
        try:
            app.add_typer(plugin.load(), name=plugin.name)
        except ImportError as error:
            note(f"headrace: the command {plugin.name!r} of {plugin.value} cannot be loaded: {error}")


app.add_typer(network.app, name="network")
app.add_typer(network.node_app, name="node")
app.add_typer(accounts.app, name="account")
app.command("deploy", cls=TakesNumbers)(contracts.deploy)
app.command("send", cls=TakesNumbers)(contracts.send)
app.command("call", cls=TakesNumbers)(contracts.call)
app.command("receipt")(contracts.receipt)
app.add_typer(contracts.app, name="contract")
app.add_typer(blocks.app, name="block")
app.command("status")(chain_reads.status)
app.add_typer(chain_reads.proof_app, name="proof")
app.command("verify-proof")(chain_reads.verify_proof_command)
app.add_typer(members.app, name="members")
app.add_typer(doctor.app, name="doctor")
app.command("demo")(demo)
app.command("sim", cls=simulation.SimCommand, context_settings=simulation.SETTINGS)(simulation.sim)


if __name__ == "__main__":
    sys.exit(main())

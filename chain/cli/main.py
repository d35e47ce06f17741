"""The command `headrace`. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Final

import click
import typer

from chain.cli import accounts, chain_reads, contracts, network
from chain.cli.common import EXIT_FAILED, EXIT_USAGE, note
from chain.errors import HeadraceError

PLUGIN_GROUP: Final = "headrace.commands"
EXIT_INTERRUPTED: Final = 130

app = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    """Headrace, a consortium blockchain node.

    \b
    First steps:
      headrace network init                     keys, certificates and folders of four nodes
      headrace network start                    start them
      headrace deploy demo.counter counter.py   deploy a contract
      headrace send demo.counter increase 5     send a transaction
      headrace call demo.counter value          read
      headrace network stop
    \b
    `headrace demo` shows all of it at work. Every command explains itself with --help.
    """
    if show_version:
        print(f"headrace {version('headrace')}")
        raise typer.Exit


def demo(
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the network here. [default: a temporary folder]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document with stable fields.")] = False,
) -> None:
    """Four organisations, real data, one node killed and back: under three minutes.

    \b
    Examples:
      headrace demo
      headrace demo --folder ./demo-network --json
    """
    from chain.cli.demo.command import run_demo

    raise typer.Exit(run_demo(folder=folder, as_json=as_json))


def build() -> click.Command:
    """The whole command tree, with the sub-commands that other packages add."""
    for plugin in sorted(entry_points(group=PLUGIN_GROUP), key=lambda point: point.name):
        try:
            app.add_typer(plugin.load(), name=plugin.name)
        except ImportError as error:
            note(f"headrace: the command {plugin.name!r} of {plugin.value} cannot be loaded: {error}")
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given[:1]
    try:
        code = build().main(given, prog_name="headrace", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return EXIT_FAILED
    except (click.Abort, KeyboardInterrupt):
        note("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except HeadraceError as error:
        if debug:
            raise
        note(f"headrace: {error}")
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


app.add_typer(network.app, name="network")
app.add_typer(network.node_app, name="node")
app.add_typer(accounts.app, name="account")
app.command("deploy")(contracts.deploy)
app.command("send")(contracts.send)
app.command("call")(contracts.call)
app.command("receipt")(contracts.receipt)
app.command("block")(chain_reads.block)
app.command("status")(chain_reads.status)
app.add_typer(chain_reads.proof_app, name="proof")
app.command("verify-proof")(chain_reads.verify_proof_command)
app.command("demo")(demo)


if __name__ == "__main__":
    sys.exit(main())

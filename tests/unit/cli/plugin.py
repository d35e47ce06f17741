"""A command of another package, as an entry point would name it."""

import typer

app = typer.Typer(help="A plug-in.")


@app.callback()
def root() -> None:
    """A plug-in."""


@app.command()
def hello() -> None:
    """Says hello."""
    typer.echo("hello from a plug-in")

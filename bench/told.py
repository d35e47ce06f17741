"""How the benchmarks' commands talk to whoever started them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

from bench.errors import NotAResult
from chain.errors import ConfigError, HeadraceError


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors become one line and an exit code: 2 for what was asked wrongly, 1 for what went wrong, 130 for Ctrl-C."""
    try:
        yield
    except HeadraceError as error:
        print(f"headrace bench: {error}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, ConfigError | NotAResult) else 1) from None
    except KeyboardInterrupt:
        print("stopped; every process it started has ended", file=sys.stderr)
        raise typer.Exit(130) from None


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)

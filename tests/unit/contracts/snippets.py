"""Little contracts around a few lines of code."""

from __future__ import annotations

import textwrap
from typing import Any

from contracts.language import check
from contracts.runtime.testing import LocalChain, Result


def contract(body: str, *, returns: str = "int", parameters: str = "", above: str = "", members: str = "") -> str:
    """A contract with one external method `run` of this body."""
    lines = [*([textwrap.dedent(above).strip()] if above else []), "class Snippet(Contract):"]
    if members:
        lines.append(textwrap.indent(textwrap.dedent(members).strip(), "    "))
    head = f"def run(self{', ' if parameters else ''}{parameters})"
    lines.append(f"    @external\n    {head} -> {returns}:")
    lines.append(textwrap.indent(textwrap.dedent(body).strip(), "        "))
    return "\n".join(lines) + "\n"


def run(body: str, *arguments: Any, gas_limit: int | None = None, **parts: str) -> Result:
    """Deploy `contract(body, ...)` and call `run`."""
    chain = LocalChain()
    address = chain.deploy("snippet", contract(body, **parts))
    return chain.call(address, "run", *arguments, gas_limit=gas_limit)


def codes(source: str) -> list[str]:
    """The codes of the findings in a source, by position."""
    return [finding.code for finding in check(source)]


def body_codes(body: str, **parts: str) -> list[str]:
    return codes(contract(body, **parts))

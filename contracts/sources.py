"""The contract sources that ship with the project, as text."""

from __future__ import annotations

from importlib import resources
from typing import Final

SUITES: Final = ("credit", "income", "library")


def available() -> list[str]:
    """Names for `load_source`, such as "credit/consent", sorted."""
    root = resources.files("contracts")
    return sorted(
        f"{suite}/{entry.name.removesuffix('.py')}"
        for suite in SUITES
        if root.joinpath(suite).is_dir()
        for entry in root.joinpath(suite).iterdir()
        if entry.name.endswith(".py") and entry.name != "__init__.py"
    )


def load_source(name: str) -> str:
    """The text of a shipped contract.

    Raises:
        KeyError: no contract has that name; the text lists those there are.
    """
    names = available()
    if name not in names:
        raise KeyError(f"no contract {name!r}; there are: {', '.join(names)}")
    suite, _, stem = name.partition("/")
    return resources.files("contracts").joinpath(suite, f"{stem}.py").read_text("utf-8")

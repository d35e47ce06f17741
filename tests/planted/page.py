"""The tables of `docs/planted-bugs.md`, made from the corpus and from what a run of the mutations found."""

from __future__ import annotations

from tests.planted.corpus import GROUPS


def table() -> str:
    """The planted bugs, a table for each part of the promise."""
    parts = []
    for group, bugs in GROUPS.items():
        rows = [
            f"| {bug.name} | {bug.promise} | `{bug.file}` | `{_short(bug.killer)}` |\n" for bug in bugs
        ]  # fmt: skip
        parts.append(f"### {group[0].upper()}{group[1:]}\n\n")
        parts.append("| planted | promise | in | killed by |\n|---|---|---|---|\n")
        parts.append("".join(rows) + "\n")
    return "".join(parts)


def _short(killer: str) -> str:
    """The test's name without its folder; names are unique enough to be found."""
    if killer.startswith("sim "):
        return f"headrace {killer}"
    path, _, name = killer.partition("::")
    return f"{path.removeprefix('tests/')}::{name}"

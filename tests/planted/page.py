"""The tables of `docs/planted-bugs.md`, made from the corpus and from what a run of the mutations found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tests.planted.corpus import GROUPS
from tests.planted.reasons import REASONS
from tests.planted.row import Row

_VERDICTS: Final = ("killed", "endless", "survived", "unreached")


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


def score_page(counts: Mapping[str, int], rows: Sequence[Row]) -> str:
    """The mutation score by module, and every survivor; `counts` says how many mutations each module has."""
    parts = [f"Of {sum(counts.values()):,} mutations in {len(counts)} modules {len(rows):,} have been tried.\n\n"]
    parts.append("| module | mutations | tried | killed | endless | survived | not reached |\n")
    parts.append("|---|---|---|---|---|---|---|\n")
    for file, count in counts.items():
        found = [row.verdict for row in rows if row.file == file]
        if found:
            numbers = " | ".join(str(found.count(verdict)) for verdict in _VERDICTS)
            parts.append(f"| `{file}` | {count} | {len(found)} | {numbers} |\n")
    left = [row for row in rows if row.verdict in ("survived", "unreached")]
    parts.append(f"\n### Survivors\n\n{len(left)} of those tried. Where no reason stands, nobody has judged it: it ")
    parts.append("may be equivalent, harmless, or want a test.\n\n| in | change | of | reason |\n|---|---|---|---|\n")
    for row in left:
        what, text = (part.replace("|", "\\|") for part in (row.what, row.text))
        reason = REASONS.get((row.file, row.function, row.what, row.text), "")
        parts.append(f"| `{row.file}` `{row.function}` | {what} | `{text}` | {reason} |\n")
    return "".join(parts)


def _short(killer: str) -> str:
    """The test's name without its folder; names are unique enough to be found."""
    if killer.startswith("sim "):
        return f"headrace {killer}"
    path, _, name = killer.partition("::")
    return f"{path.removeprefix('tests/')}::{name}"

"""What the language has against a source: findings, and the error that carries them."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from chain.errors import BadInput


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One refusal. `line` and `column` count from 1; `code` is stable, `reason` says what would be right."""

    line: int
    column: int
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.code}: {self.reason}"


class BadSource(BadInput):
    """A contract source with findings; the text names the first."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__("bad_source", f"{findings[0]}{more}")

    @property
    def receipt_text(self) -> str:
        """The part that is the same under every version of Python: a parser's own position and words are not."""
        first = self.findings[0]
        return "syntax" if first.code == "syntax" else f"{first.code} line {first.line}"


class Findings:
    """Collects findings while a source is examined."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def add(self, node: ast.AST | tuple[int, int], code: str, reason: str) -> None:
        if isinstance(node, tuple):
            line, column = node
        else:
            line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        self._found.append(Finding(line, column, code, reason))

    def sorted(self) -> list[Finding]:
        return sorted(set(self._found))

    def __bool__(self) -> bool:
        return bool(self._found)

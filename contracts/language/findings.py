"""What the language has against a source: findings, and the error that carries them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Final

from chain.errors import BadInput
from contracts.language.limits import REASON_CHARS_MAX

RECEIPT_PREFIX: Final = "bad_source: "


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One refusal. `line` and `column` count from 1; `code` is stable, `reason` says what would be right."""

    line: int
    column: int
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.code}: {self.reason}"


def _receipt_part(finding: Finding) -> str:
    return "syntax" if finding.code == "syntax" else f"{finding.code} line {finding.line}"


class BadSource(BadInput):
    """A contract source with findings; the text names the first."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__("bad_source", f"{findings[0]}{more}")

    def receipt_text(self, *, all_findings: bool) -> str:
        """The part that is the same under every version of Python: a parser's own position and words are not.

        With `all_findings` each code and line stands once, as many as fit `REASON_CHARS_MAX` together with the number
        of those that do not.
        """
        shown = list(dict.fromkeys([_receipt_part(finding) for finding in self.findings]))
        if not all_findings:
            return shown[0]
        text = ", ".join(shown)
        room = REASON_CHARS_MAX - len(RECEIPT_PREFIX)
        kept = len(shown)
        while len(text) > room:
            kept -= 1
            text = f"{', '.join(shown[:kept])}, {len(shown) - kept} more"
        return text


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

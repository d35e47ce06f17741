"""Bounds on a source before Python's parser sees it.

The parser and the compiler recurse in C and give up at a depth that depends on how deep the process's stack already
is. Two nodes must not differ in that, so whatever could nest is counted on tokens first, far below those depths.
"""

from __future__ import annotations

import io
import tokenize
from typing import Final

from contracts.language.findings import Findings
from contracts.language.limits import (
    BLOCK_DEPTH_MAX,
    BRACKET_DEPTH_MAX,
    ELIF_RUN_MAX,
    LINE_NESTING_MAX,
    LINE_OPERATORS_MAX,
    NUMBER_CHARS_MAX,
    SOURCE_BYTES_MAX,
)

_BIDIRECTIONAL: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")
_FLAT: Final = frozenset((",", ":", "=", ";"))
_NESTING_WORDS: Final = frozenset(
    ("not", "and", "or", "if", "else", "in", "is", "for", "lambda", "await", "yield", "async", "from")
)


def prescan(source: str, findings: Findings) -> bool:
    """True if the source is safe to parse; else at least one finding has been added."""
    return _characters(source, findings) and _tokens(source, findings)


def _characters(source: str, findings: Findings) -> bool:
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        findings.add((1, 1), "encoding", "the source has characters that UTF-8 cannot encode")
        return False
    if size > SOURCE_BYTES_MAX:
        findings.add((1, 1), "source_size", f"{size} bytes, at most {SOURCE_BYTES_MAX} are allowed")
        return False
    for number, line in enumerate(source.split("\n"), 1):
        if line.isascii() and line.isprintable():
            continue
        for column, character in enumerate(line, 1):
            if character < " " or character == "\x7f" or character in _BIDIRECTIONAL or character == "\ufeff":
                findings.add(
                    (number, column), "character", f"U+{ord(character):04X} is not allowed; indent with spaces"
                )
                return False
    return True


def _tokens(source: str, findings: Findings) -> bool:
    scan = _Scan(findings)
    try:
        for token in tokenize.generate_tokens(io.StringIO(source, newline="\n").readline):
            if not scan.accept(token):
                return False
    except (tokenize.TokenError, SyntaxError):  # IndentationError is a SyntaxError
        findings.add((1, 1), "syntax", "the source is not Python: brackets, quotes or indentation do not close")
        return False
    return True


class _Scan:
    """Counters over the token stream; every one of them bounds a way to nest."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._brackets: list[int] = []  # nesting count at each open bracket
        self._blocks = 0
        self._operators = 0
        self._nesting = 0
        self._elif_runs: dict[int, int] = {}
        self._row = 1  # where the next token has to stand unless a line break was announced
        self._line_ended = True

    def accept(self, token: tokenize.TokenInfo) -> bool:
        kind, text = token.type, token.string
        if token.start[0] > self._row and not self._line_ended:
            self._findings.add((self._row, 1), "backslash", "no backslash at a line's end; use brackets")
            return False
        self._row = token.end[0]
        self._line_ended = kind in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
        if kind == tokenize.INDENT:
            self._blocks += 1
            return self._within(token, self._blocks, BLOCK_DEPTH_MAX, "block_depth", "nested blocks")
        if kind == tokenize.DEDENT:
            self._blocks -= 1
        elif kind == tokenize.NEWLINE:
            self._operators = self._nesting = 0
            self._brackets.clear()
        elif kind == tokenize.NUMBER:
            return self._within(token, len(text), NUMBER_CHARS_MAX, "number", "characters in a number")
        elif kind == tokenize.OP:
            return self._operator(token, text)
        elif kind == tokenize.NAME:
            return self._word(token, text)
        return True

    def _operator(self, token: tokenize.TokenInfo, text: str) -> bool:
        self._operators += 1
        if not self._within(token, self._operators, LINE_OPERATORS_MAX, "line_length", "operators in one statement"):
            return False
        if text in _OPEN:
            self._brackets.append(self._nesting)
            self._nesting += 1
            if not self._within(token, len(self._brackets), BRACKET_DEPTH_MAX, "bracket_depth", "nested brackets"):
                return False
        elif text in _CLOSE:
            # What was inside cannot nest with what follows, except that `f()()()` chains: keep one level for it.
            self._nesting = self._brackets.pop() + 1 if self._brackets else self._nesting
        elif text == "," and self._brackets:
            self._nesting = self._brackets[-1] + 1
        elif text not in _FLAT:
            self._nesting += 1
        return self._within(token, self._nesting, LINE_NESTING_MAX, "expression_depth", "operators on one expression")

    def _word(self, token: tokenize.TokenInfo, text: str) -> bool:
        if text in ("if", "elif") and not self._brackets and token.line[: token.start[1]].strip() == "":
            run = self._elif_runs.get(self._blocks, 0) + 1 if text == "elif" else 0
            self._elif_runs[self._blocks] = run
            return self._within(token, run, ELIF_RUN_MAX, "elif_run", "elif in a row")
        if text in _NESTING_WORDS:
            self._nesting += 1
            return self._within(
                token, self._nesting, LINE_NESTING_MAX, "expression_depth", "operators on one expression"
            )
        return True

    def _within(self, token: tokenize.TokenInfo, value: int, bound: int, code: str, what: str) -> bool:
        if value <= bound:
            return True
        self._findings.add((token.start[0], token.start[1] + 1), code, f"at most {bound} {what} are allowed")
        return False

"""What access inference knows of a value: the expression it follows from, or why there is none."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from executor.summary import Expression

EXPRESSION_SIZE_MAX: Final = 64  # `k = (k, k)` doubles; a larger expression counts as unknown
WHY_CHARACTERS_MAX: Final = 48  # of source text in a reason


class Why(NamedTuple):
    """Why a value is unknown; `node` is what to quote."""

    text: str
    line: int
    node: ast.expr | None = None

    def at(self, line: int) -> str:
        """In words, for a reader who is at `line`."""
        text = self.text
        if self.node is not None:
            quoted = ast.unparse(self.node)
            if len(quoted) > WHY_CHARACTERS_MAX:
                quoted = quoted[: WHY_CHARACTERS_MAX - 3] + "..."
            text = text.format(quoted)
        return text if self.line == line else f"{text} (line {self.line})"


@dataclass(frozen=True, slots=True)
class Typed:
    """An expression, its declared type, its size in parts, the loops whose item it names, and why it is unknown."""

    expression: Expression
    annotation: ast.expr | None = field(default=None, compare=False)
    size: int = field(default=1, compare=False)
    loops: frozenset[int] = field(default=frozenset(), compare=False)
    why: Why | None = field(default=None, compare=False)


NOTHING: Final = Typed(None)


def unknown(text: str, node: ast.expr | ast.stmt, quote: ast.expr | None = None) -> Typed:
    """A value that is not followed, and why; {} in the text stands for the source of `quote`."""
    return Typed(None, why=Why(text, node.lineno, quote))


def built(
    expression: Expression, parts: Sequence[Typed], node: ast.expr, annotation: ast.expr | None = None
) -> Typed:
    """An expression made of others, all of which must be known."""
    for part in parts:
        if part.expression is None:
            return part
    return joined(expression, parts, node, annotation)


def joined(
    expression: Expression, parts: Sequence[Typed], node: ast.expr, annotation: ast.expr | None = None
) -> Typed:
    """An expression made of others, some of which may be unknown."""
    size = 1 + sum([part.size for part in parts])
    if size > EXPRESSION_SIZE_MAX:
        return unknown(f"an expression of more than {EXPRESSION_SIZE_MAX} parts", node)
    loops = frozenset().union(*[part.loops for part in parts])
    why = next((part.why for part in parts if part.why is not None), None)
    return Typed(expression, annotation, size, loops, why)

"""Constant expressions: what may stand at module level, as a default, and what folds in a method."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from contracts.language.findings import Findings
from contracts.language.limits import INTEGER_MAX, INTEGER_MIN
from contracts.language.model import Literal


class NotConstant(Exception):
    """The expression is not a constant; carries the offending node, code and reason."""

    def __init__(self, node: ast.AST, code: str, reason: str) -> None:
        self.node = node
        self.code = code
        self.reason = reason


def evaluate(node: ast.expr, constants: Mapping[str, Literal]) -> Literal:
    """The value of a constant expression over earlier constants.

    Raises:
        NotConstant: anything else, or a number outside the range of integers.
    """
    match node:
        case ast.Constant():
            return check_constant(node)
        case ast.Tuple(elts=items):
            return tuple(evaluate(item, constants) for item in items)
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _bounded(node, -_integer(operand, constants))
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(node, _binary(node, op, _integer(left, constants), _integer(right, constants)))
    raise NotConstant(node, "constant", "a constant is a literal, or + - * // ** << | of constant integers")


def check_constant(node: ast.Constant) -> Literal:
    """The value of a literal of an allowed kind.

    Raises:
        NotConstant: a float, complex, `...`, or text that cannot be encoded or names internals.
    """
    value = node.value
    if value is None or isinstance(value, bool | bytes):
        return value
    if isinstance(value, int):
        return _bounded(node, value)
    if isinstance(value, str):
        if "__" in value:
            raise NotConstant(node, "double_underscore", "text with two underscores in a row is refused")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise NotConstant(node, "encoding", "the text has characters that UTF-8 cannot encode")
        return value
    if isinstance(value, float | complex):
        raise NotConstant(node, "float", "no floating point: use integers in a small unit")
    raise NotConstant(node, "ellipsis", "`...` stands only in the body of an interface method")


def constant(node: ast.expr, constants: Mapping[str, Literal], findings: Findings) -> Literal:
    """`evaluate`, with a finding (and None) where it raises."""
    try:
        return evaluate(node, constants)
    except NotConstant as problem:
        findings.add(problem.node, problem.code, problem.reason)
        return None


def _integer(node: ast.expr, constants: Mapping[str, Literal]) -> int:
    value = evaluate(node, constants)
    if type(value) is not int:
        raise NotConstant(node, "constant", "constant arithmetic is on integers")
    return value


def _binary(node: ast.expr, op: ast.operator, left: int, right: int) -> int:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.BitOr():
            return left | right
        case ast.FloorDiv() if right != 0:
            return left // right
        case ast.Pow() if 0 <= right <= 256 and abs(left).bit_length() * right <= 512:
            return int(left**right)
        case ast.LShift() if 0 <= right <= 256:
            return left << right
    raise NotConstant(node, "constant", "constant arithmetic knows + - * // ** << | within 256 bits")


def _bounded(node: ast.expr, value: int) -> int:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise NotConstant(node, "integer_range", "integers are -2**255 to 2**256 - 1")
    return value

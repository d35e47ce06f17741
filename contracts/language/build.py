"""Small builders of syntax nodes, and the names of what generated code may call."""

from __future__ import annotations

import ast
from typing import Final

from contracts.language.model import Literal

FRAME: Final = "h__x"  # the hidden first parameter of every function: the call frame


def load(name: str) -> ast.Name:
    return ast.Name(id=name, ctx=ast.Load())


def store(name: str) -> ast.Name:
    return ast.Name(id=name, ctx=ast.Store())


def helper(name: str, *arguments: ast.expr, keywords: list[ast.keyword] | None = None) -> ast.Call:
    """`h__name(h__x, ...)`."""
    return function(f"h__{name}", *arguments, keywords=keywords)


def function(name: str, *arguments: ast.expr, keywords: list[ast.keyword] | None = None) -> ast.Call:
    """`name(h__x, ...)`."""
    return ast.Call(func=load(name), args=[load(FRAME), *arguments], keywords=keywords or [])


def literal(value: Literal) -> ast.Constant:
    """A constant of the language as a node; Python's compiler takes tuples of constants as one."""
    return ast.Constant(value)  # type: ignore[arg-type]


def tuple_of(*items: ast.expr) -> ast.Tuple:
    return ast.Tuple(elts=list(items), ctx=ast.Load())


def charge(items: list[tuple[int, int]], *, itemised: bool) -> list[ast.stmt]:
    """Pay for a basic block before it runs; `items` are (line, cost). Itemised code hands them to `h__pay`."""
    gas = ast.Attribute(value=load(FRAME), attr="gas", ctx=ast.Store())
    spent: ast.stmt = ast.AugAssign(target=gas, op=ast.Sub(), value=ast.Constant(sum([cost for _, cost in items])))
    if itemised:
        spent = ast.Expr(value=helper("pay", literal(tuple(items))))
    left = ast.Attribute(value=load(FRAME), attr="gas", ctx=ast.Load())
    empty = ast.Compare(left=left, ops=[ast.Lt()], comparators=[ast.Constant(0)])
    stop = ast.Expr(value=helper("out_of_gas"))
    return [spent, ast.If(test=empty, body=[stop], orelse=[])]


def is_simple(node: ast.expr) -> bool:
    """True if evaluating the node twice, or later, is the same as once and now."""
    match node:
        case ast.Constant():
            return True
        case ast.Name():
            return True
        case ast.Attribute(value=value):
            return is_simple(value)
        case ast.Tuple(elts=items):
            return all(is_simple(item) for item in items)
        case ast.UnaryOp(operand=operand):
            return is_simple(operand)
    return False


# Where generated functions live in a contract's namespace.
def method_name(name: str) -> str:
    return f"m__{name}"


def variable_name(variable: str, operation: str) -> str:
    return f"v__{variable}__{operation}"


def struct_name(name: str) -> str:
    return f"s__{name}"


def event_name(name: str) -> str:
    return f"e__{name}"


def interface_name(name: str) -> str:
    return f"i__{name}"


def stub_name(interface: str, method: str) -> str:
    return f"i__{interface}__{method}"


def constant_name(name: str) -> str:
    return f"c__{name}"


def field_name(name: str) -> str:
    """Fields carry a prefix that no attribute of a Python object has, so `x.format` can never reach one."""
    return f"f_{name}"

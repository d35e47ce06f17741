"""Small changes of conditions, found in the syntax tree: every guard, comparison and quorum of a module.

Left out is what nothing depends on: `validate_state` and `validate`, which only tests and the simulator call.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

_UNCHECKED: Final = frozenset({"validate_state", "validate"})
_SHIFTS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE,),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE,),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.GtE, ast.LtE),
    ast.NotEq: (ast.Lt, ast.Gt),
}
_SIGNS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_TWINS: Final = {
    "quorum_weight": "tolerated_weight",
    "tolerated_weight": "quorum_weight",
    "is_quorum": "has_honest",
    "has_honest": "is_quorum",
    "min": "max",
    "max": "min",
}
_NUMBERS: Final = ("view", "height", "low", "issued", "executed", "floor", "len(", "count", "size", "weight", "number",
                   "first", "last", "horizon", "end", "target", "behind", "now", "deadline", "at")  # fmt: skip
_EXITS: Final = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_TESTED: Final = (ast.If, ast.While, ast.IfExp)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One changed condition."""

    file: str
    function: str  # qualified name of the outermost function
    line: int
    last_line: int
    what: str  # e.g. "`<` becomes `<=`"
    text: str  # the condition or statement, as it was
    key: str  # stays the same while the function does not change
    source: str
    path: tuple[int, ...]  # where the function stands in the syntax tree
    number: int  # of the change, in the function

    def tree(self) -> ast.Module:
        """The module with the change in it."""
        tree = ast.parse(self.source)
        _Mutator(self.number).visit(_at(tree, self.path))
        ast.fix_missing_locations(tree)
        return tree


def mutations(source: str, file: str) -> list[Mutation]:
    """Every mutation of a module, in the order of its lines."""
    found: list[Mutation] = []
    for path, function, name in _functions(ast.parse(source)):
        if function.name in _UNCHECKED:
            continue
        digest = hashlib.sha256(ast.unparse(function).encode()).hexdigest()[:12]
        mutator = _Mutator(None)
        mutator.visit(function)
        for number, change in enumerate(mutator.changes):
            found.append(
                Mutation(
                    file=file,
                    function=name,
                    line=change.lines[0],
                    last_line=change.lines[1],
                    what=change.what,
                    text=change.text,
                    key=f"{file}:{name}:{digest}:{number}",
                    source=source,
                    path=path,
                    number=number,
                )
            )
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[tuple[int, ...], Function, str]]:
    """(where it stands, the function, its qualified name) of the functions of the module and of its classes."""
    for at, node in enumerate(tree.body):
        if isinstance(node, Function):
            yield (at,), node, node.name
        elif isinstance(node, ast.ClassDef):
            for inner, method in enumerate(node.body):
                if isinstance(method, Function):
                    yield (at, inner), method, f"{node.name}.{method.name}"


def _at(tree: ast.Module, path: tuple[int, ...]) -> Function:
    node: ast.AST = tree
    for at in path:
        assert isinstance(node, ast.Module | ast.ClassDef)
        node = node.body[at]
    assert isinstance(node, Function)
    return node


@dataclass(slots=True)
class _Change:
    what: str
    text: str
    lines: tuple[int, int]


class _Mutator:
    """Walks a function in a fixed order and makes the change whose number it was given; without one it makes none."""

    def __init__(self, number: int | None) -> None:
        self._number = number
        self.changes: list[_Change] = []  # that were offered so far
        self._is_made = False

    def offer(self, node: ast.AST, what: str, text: ast.AST | None = None) -> bool:
        """True if this is the change to be made now."""
        if self._is_made:
            return False
        shown = node if text is None else text
        first = getattr(shown, "lineno", 1)
        self.changes.append(
            _Change(what, ast.unparse(shown)[:160], (first, getattr(shown, "end_lineno", first) or first))
        )
        self._is_made = len(self.changes) - 1 == self._number
        return self._is_made

    def visit(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("returns", "annotation", "decorator_list", "args") and not isinstance(node, ast.Call):
                continue
            if isinstance(value, list):
                for at, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        value[at] = self._changed(node, name, item)
                        if self._is_made:
                            return
            elif isinstance(value, ast.AST):
                setattr(node, name, self._changed(node, name, value))
            if self._is_made:
                return

    def _changed(self, parent: ast.AST, field: str, node: ast.AST) -> ast.AST:
        """`node`, or what stands in its place."""
        if isinstance(node, ast.stmt):
            node = self._statement(node)
        elif isinstance(node, ast.expr):
            node = self._expression(parent, field, node)
        if not self._is_made:
            self.visit(node)
        return node

    def _statement(self, node: ast.stmt) -> ast.stmt:
        if isinstance(node, ast.If) and isinstance(node.body[-1], _EXITS) and not node.orelse:
            shown = node.test
            if self.offer(node.test, "the guard is dropped", shown):
                node.test = _false(node.test)
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "_require"
            and self.offer(node, "the check is dropped")
        ):
            return ast.copy_location(ast.Pass(), node)
        return node

    def _expression(self, parent: ast.AST, field: str, node: ast.expr) -> ast.expr:
        is_condition = (
            (field == "test" and isinstance(parent, _TESTED))
            or (field == "ifs" and isinstance(parent, ast.comprehension))
            or (field == "guard" and isinstance(parent, ast.match_case))
            or (field == "args" and isinstance(parent, ast.Call) and _is_require(parent) and node is parent.args[0])
            or (field in ("value", "values", "elt") and _is_boolean(node) and not isinstance(parent, ast.BoolOp))
        )
        if is_condition and self.offer(node, "negated"):
            return _not(node)
        if isinstance(node, ast.BoolOp):
            word = "and" if isinstance(node.op, ast.And) else "or"
            for at, operand in enumerate(node.values):
                if self.offer(node, f"operand {at + 1} of `{word}` is dropped: `{ast.unparse(operand)[:60]}`", node):
                    rest = [value for index, value in enumerate(node.values) if index != at]
                    return rest[0] if len(rest) == 1 else ast.copy_location(ast.BoolOp(node.op, rest), node)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Attribute) and node.attr in _TWINS:
            if self.offer(node, f"`{node.attr}` becomes `{_TWINS[node.attr]}`", parent if _shows(parent) else node):
                node.attr = _TWINS[node.attr]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TWINS:
            if self.offer(node, f"`{node.func.id}` becomes `{_TWINS[node.func.id]}`"):
                node.func = ast.copy_location(ast.Name(_TWINS[node.func.id], ast.Load()), node.func)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and _is_one(node.right):
            sign = "+" if isinstance(node.op, ast.Add) else "-"
            for value in (0, 2):
                if self.offer(node, f"`{sign} 1` becomes `{sign} {value}`"):
                    node.right = ast.copy_location(ast.Constant(value), node.right)
        return node

    def _comparison(self, node: ast.Compare) -> ast.expr:
        operands = [node.left, *node.comparators]
        for at, operator in enumerate(node.ops):
            is_equality = isinstance(operator, ast.Eq | ast.NotEq)
            text = ast.unparse(operands[at]) + ast.unparse(operands[at + 1])
            if is_equality and not any(word in text for word in _NUMBERS):
                continue
            for other in _SHIFTS.get(type(operator), ()):
                if self.offer(node, f"`{_SIGNS[type(operator)]}` becomes `{_SIGNS[other]}`"):
                    node.ops[at] = other()
                    return node
        if len(node.ops) > 1:
            for at in (0, len(node.ops) - 1):
                kept = "last" if at == 0 else "first"
                if self.offer(node, f"only the {kept} half of the chain is compared"):
                    part = slice(1, None) if at == 0 else slice(0, -1)
                    rest = operands[part]
                    return ast.copy_location(ast.Compare(rest[0], node.ops[part], rest[1:]), node)
        return node


def _is_require(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "_require"


def _is_boolean(node: ast.expr) -> bool:
    return isinstance(node, ast.Compare | ast.BoolOp) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 1


def _shows(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare | ast.Call)


def _not(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    return ast.copy_location(ast.UnaryOp(ast.Not(), node), node)


def _false(node: ast.expr) -> ast.expr:
    """Never true; the condition is still evaluated, as it may have an effect (an assignment in it)."""
    return ast.copy_location(ast.BoolOp(ast.And(), [node, ast.copy_location(ast.Constant(False), node)]), node)

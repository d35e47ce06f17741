"""The declarations of a contract file that matter to its keys: storage, structs, interfaces, constants, methods."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from contracts.language.literals import NotConstant, evaluate

MUTATORS: Final = frozenset(
    ("append", "extend", "insert", "remove", "reverse", "sort", "clear", "pop", "setdefault", "update")
)


class Variable(NamedTuple):
    """A storage variable: "Value", "Map" or "List"; `key_parts` of a map with a tuple key, 0 for a plain one."""

    kind: str
    annotation: ast.expr | None  # of the stored value
    key_parts: int = 0


@dataclass(slots=True)
class Shape:
    """Names of one contract file. Struct fields are (name, annotation, default)."""

    variables: dict[str, Variable] = field(default_factory=dict)
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    structs: dict[str, list[tuple[str, ast.expr, ast.expr | None]]] = field(default_factory=dict)
    interfaces: set[str] = field(default_factory=set)
    constants: dict[str, Any] = field(default_factory=dict)


def read_shape(tree: ast.Module) -> Shape:
    """What a file declares; what cannot be read is left out."""
    shape = Shape()
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                shape.constants[node.targets[0].id] = evaluate(node.value, shape.constants)
            except (NotConstant, RecursionError):
                continue
        elif isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name):
            base = node.bases[0].id
            if base == "Struct":
                shape.structs[node.name] = [
                    (item.target.id, item.annotation, item.value)
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                ]
            elif base == "Interface":
                shape.interfaces.add(node.name)
            elif base == "Contract":
                _read_contract(node, shape)
    return shape


def _read_contract(node: ast.ClassDef, shape: Shape) -> None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            shape.methods[item.name] = item
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = item.annotation
            if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
                shape.variables[item.target.id] = _variable(annotation.value.id, annotation.slice)


def _variable(kind: str, inner: ast.expr) -> Variable:
    if kind != "Map":
        return Variable(kind, inner)
    if not isinstance(inner, ast.Tuple) or len(inner.elts) != 2:
        return Variable(kind, None)
    key, value = inner.elts
    if not isinstance(key, ast.Subscript):
        return Variable(kind, value)
    return Variable(kind, value, len(key.slice.elts) if isinstance(key.slice, ast.Tuple) else 1)


def parameters_of(method: ast.FunctionDef) -> list[ast.arg]:
    """Without self."""
    return method.args.args[1:]


def struct_of(annotation: ast.expr | None, shape: Shape) -> str | None:
    """The struct that an annotation names, also as `T | None`."""
    if isinstance(annotation, ast.BinOp):
        return struct_of(annotation.left, shape) or struct_of(annotation.right, shape)
    if isinstance(annotation, ast.Name) and annotation.id in shape.structs:
        return annotation.id
    return None


def item_annotation(annotation: ast.expr | None, index: int) -> ast.expr | None:
    """The type of one item of `tuple[A, B]` or `tuple[A, ...]`."""
    if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.slice, ast.Tuple):
        return None
    parts = annotation.slice.elts
    if len(parts) == 2 and isinstance(parts[1], ast.Constant) and parts[1].value is ...:
        return parts[0]
    return parts[index] if 0 <= index < len(parts) else None


def sequence_of(*items: ast.expr | None, ends: bool = False) -> ast.expr:
    """The annotation `tuple[items[0], ...]`, or with `ends` the one of a tuple of just these items."""
    unknown = ast.Name(id="None", ctx=ast.Load())
    parts: list[ast.expr] = [unknown if item is None else item for item in items]
    if not ends:
        parts.append(ast.Constant(...))
    elif len(parts) == 1:
        parts.append(unknown)
    return ast.Subscript(
        value=ast.Name(id="tuple", ctx=ast.Load()), slice=ast.Tuple(elts=parts, ctx=ast.Load()), ctx=ast.Load()
    )


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Local names that these statements bind anywhere, or whose list or dict they change."""
    found: set[str] = set()
    for node in nodes:
        for item in ast.walk(node):
            match item:
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                    found.add(name)
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in MUTATORS:
                    found.add(name)
    return found


def leaves(statements: Sequence[ast.stmt]) -> bool:
    """True if these statements never fall through to what follows."""
    last = statements[-1] if statements else None
    if isinstance(last, ast.Return | ast.Raise | ast.Continue | ast.Break):
        return True
    return (
        isinstance(last, ast.Expr)
        and isinstance(last.value, ast.Call)
        and isinstance(last.value.func, ast.Name)
        and last.value.func.id == "revert"
    )

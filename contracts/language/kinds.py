"""What an expression is known to be without running it: enough to leave cheap operations unmetered.

A `WORD` is an integer that came straight from a border (argument, storage, context, constant) and so fits 257 bits;
one operation on two words cannot outgrow the bound on local integers. An `INT` is some local integer. A `SCALAR`
compares in constant time. Everything else is `ANY` and goes through a metered helper.
"""

from __future__ import annotations

import ast
import enum
from typing import Final

from contracts.language.model import ContractModel, MethodDecl, Storage
from contracts.language.types import ADDRESS, BOOL, INT, Type


class Kind(enum.IntEnum):
    ANY = 0
    SCALAR = 1
    INT = 2
    WORD = 3

    @property
    def is_int(self) -> bool:
        return self >= Kind.INT


_CONTEXT_WORDS: Final = frozenset(("height", "time_ms"))
_SCALAR_BYTES_MAX: Final = 64
_INT_BUILTINS: Final = frozenset(("len", "abs", "int", "sum"))


class Kinds:
    """Kinds of expressions inside one method."""

    def __init__(self, model: ContractModel, method: MethodDecl) -> None:
        self._model = model
        self._locals: dict[str, Kind] = {}
        self._method = method
        assigned = _assignments(method.node)
        for name, kind in zip(method.parameters, method.types, strict=False):
            # Only public methods have their arguments checked on entry.
            if method.mutability.is_public and kind is not None and name not in assigned:
                self._locals[name] = _of_type(kind)
        for _ in range(2):  # the second pass sees through one more assignment
            self._locals.update(
                {
                    name: min((self.of(value) if value is not None else Kind.ANY) for value in values)
                    for name, values in assigned.items()
                    if name not in method.parameters
                }
            )

    def of(self, node: ast.expr) -> Kind:
        match node:
            case ast.Constant(value=value):
                return of_literal(value)
            case ast.Name(id=name):
                if name in self._locals:
                    return self._locals[name]
                return of_literal(self._model.constants[name]) if name in self._model.constants else Kind.ANY
            case ast.Attribute(value=ast.Name(id="ctx"), attr=attribute):
                return Kind.WORD if attribute in _CONTEXT_WORDS else Kind.SCALAR
            case ast.BinOp(left=left, right=right):
                return Kind.INT if self.of(left).is_int and self.of(right).is_int else Kind.ANY
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return Kind.SCALAR
            case ast.UnaryOp(operand=operand):
                return Kind.INT if self.of(operand).is_int else Kind.ANY
            case ast.IfExp(body=body, orelse=orelse):
                return min(self.of(body), self.of(orelse))
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="self"), attr=variable)):
                return self._stored(variable)
            case ast.Call():
                return self._call(node)
        return Kind.ANY

    def _call(self, node: ast.Call) -> Kind:
        match node.func:
            case ast.Name(id="len"):
                return Kind.WORD
            case ast.Name(id=name) if name in _INT_BUILTINS:
                return Kind.INT
            case ast.Name(id="Address" | "sha256" | "keccak256" | "bool"):
                return Kind.SCALAR
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), attr="get"):
                declared = self._model.variables.get(variable)
                if declared is None:
                    return Kind.ANY
                default = node.args[1:] if declared.storage is Storage.MAP else node.args
                if not default:
                    return Kind.ANY if declared.storage is Storage.MAP else self._stored(variable)
                return min(self._stored(variable), self.of(default[0]))
        return Kind.ANY

    def _stored(self, variable: str) -> Kind:
        declared = self._model.variables.get(variable)
        return Kind.ANY if declared is None else _of_type(declared.value)


def of_literal(value: object) -> Kind:
    """The kind of a constant; also of `Literal`s."""
    if type(value) is int:
        return Kind.WORD
    if value is None or isinstance(value, bool):
        return Kind.SCALAR
    if isinstance(value, str | bytes) and len(value) <= _SCALAR_BYTES_MAX:
        return Kind.SCALAR
    return Kind.ANY


def _of_type(kind: Type) -> Kind:
    if kind == INT:
        return Kind.WORD
    return Kind.SCALAR if kind in (BOOL, ADDRESS) else Kind.ANY


def _assignments(function: ast.FunctionDef) -> dict[str, list[ast.expr | None]]:
    """Every name the function binds, with the expressions bound to it (None: not a plain assignment)."""
    found: dict[str, list[ast.expr | None]] = {}

    def bind(target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            found.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            for item in target.elts:
                bind(item, None)

    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    bind(target, value)
            case ast.AnnAssign(target=target, value=value):
                bind(target, value)
            case ast.For(target=target, iter=ast.Call(func=ast.Name(id="range"))):
                bind(target, ast.Constant(0))  # a range holds words only
            case ast.AugAssign(target=target) | ast.For(target=target) | ast.comprehension(target=target):
                bind(target, None)
            case ast.ExceptHandler(name=str(name)):
                found.setdefault(name, []).append(None)
    return found


def assigned_names(function: ast.FunctionDef) -> set[str]:
    """The local names a function binds outside comprehensions; parameters not included."""
    names: set[str] = set()

    def bind(target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            names.add(target.id)
        elif isinstance(target, ast.Tuple | ast.List):
            for item in target.elts:
                bind(item)

    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets):
                for target in targets:
                    bind(target)
            case ast.AnnAssign(target=target) | ast.AugAssign(target=target) | ast.For(target=target):
                bind(target)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
    return names



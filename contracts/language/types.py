"""The types of stored values, parameters, results, struct and event fields, and how annotations spell them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from contracts.language.findings import Findings
from contracts.language.limits import TYPE_DEPTH_MAX, TYPE_LEAVES_MAX


@dataclass(frozen=True, slots=True)
class Scalar:
    """`int`, `bool`, `bytes`, `str` or `Address` (bytes of length 20)."""

    name: str


@dataclass(frozen=True, slots=True)
class TupleOf:
    """`tuple[A, B, C]`."""

    items: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """`tuple[A, ...]`; a local list is accepted where one is expected, and becomes a tuple."""

    item: Type


@dataclass(frozen=True, slots=True)
class StructOf:
    """A struct of the same source, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Optional:
    """`A | None`."""

    inner: Type


Type: TypeAlias = Scalar | TupleOf | Sequence | StructOf | Optional

INT: Final = Scalar("int")
BOOL: Final = Scalar("bool")
BYTES: Final = Scalar("bytes")
STR: Final = Scalar("str")
ADDRESS: Final = Scalar("Address")
SCALARS: Final[Mapping[str, Scalar]] = {kind.name: kind for kind in (INT, BOOL, BYTES, STR, ADDRESS)}


def text(kind: Type) -> str:
    """The annotation that spells `kind`."""
    match kind:
        case Scalar(name) | StructOf(name):
            return name
        case TupleOf(items):
            return f"tuple[{', '.join(text(item) for item in items)}]"
        case Sequence(item):
            return f"tuple[{text(item)}, ...]"
        case Optional(inner):
            return f"{text(inner)} | None"


class TypeParser:
    """Reads annotations; knows the structs declared so far, with their weight in leaves."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._struct_leaves: dict[str, int] = {}

    def declare_struct(self, name: str, fields: list[Type]) -> None:
        self._struct_leaves[name] = max(1, sum(self.leaves(field) for field in fields))

    def leaves(self, kind: Type) -> int:
        """How many scalars a value of this type has at least to be looked at, sequences counting once."""
        match kind:
            case Scalar():
                return 1
            case StructOf(name):
                return self._struct_leaves.get(name, 1)
            case TupleOf(items):
                return max(1, sum(self.leaves(item) for item in items))
            case Sequence(item):
                return self.leaves(item)
            case Optional(inner):
                return self.leaves(inner)

    def parse(self, node: ast.expr | None) -> Type | None:
        """The type an annotation spells, or None after a finding."""
        if node is None:
            return None
        kind = self._parse(node, 0)
        if kind is not None and self.leaves(kind) > TYPE_LEAVES_MAX:
            self._findings.add(node, "type_size", f"the type has over {TYPE_LEAVES_MAX} parts")
            return None
        return kind

    def _parse(self, node: ast.expr, depth: int) -> Type | None:
        if depth > TYPE_DEPTH_MAX:
            return self._refuse(node, f"types nest at most {TYPE_DEPTH_MAX} deep")
        if isinstance(node, ast.Name):
            if node.id in SCALARS:
                return SCALARS[node.id]
            if node.id in self._struct_leaves:
                return StructOf(node.id)
            return self._refuse(node, f"{node.id} is no type here; types: int bool bytes str Address tuple[...] Struct")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._optional(node, depth)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "tuple":
            return self._tuple(node, depth)
        return self._refuse(node, "types: int bool bytes str Address tuple[A, B] tuple[A, ...] Struct A | None")

    def _optional(self, node: ast.BinOp, depth: int) -> Type | None:
        if not (isinstance(node.right, ast.Constant) and node.right.value is None):
            return self._refuse(node, "the only union is `A | None`")
        inner = self._parse(node.left, depth + 1)
        if isinstance(inner, Optional):
            return self._refuse(node, "`None` stands twice in the union")
        return None if inner is None else Optional(inner)

    def _tuple(self, node: ast.Subscript, depth: int) -> Type | None:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(parts) == 2 and isinstance(parts[1], ast.Constant) and parts[1].value is Ellipsis:
            item = self._parse(parts[0], depth + 1)
            return None if item is None else Sequence(item)
        items = [self._parse(part, depth + 1) for part in parts]
        if not items:
            return self._refuse(node, "a tuple type names its items")
        found = tuple(item for item in items if item is not None)
        return TupleOf(found) if len(found) == len(items) else None

    def _refuse(self, node: ast.expr, reason: str) -> Type | None:
        self._findings.add(node, "type", reason)
        return None

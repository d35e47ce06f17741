"""A contract source, understood: what it declares, before its methods are translated."""

from __future__ import annotations

import ast
import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from contracts.language.types import Type

Literal: TypeAlias = "bool | int | bytes | str | tuple[Literal, ...] | None"


class Mutability(enum.Enum):
    INIT = "init"
    EXTERNAL = "external"
    VIEW = "view"
    PRIVATE = "private"

    @property
    def is_public(self) -> bool:
        return self in (Mutability.EXTERNAL, Mutability.VIEW)


class Storage(enum.Enum):
    VALUE = "Value"
    MAP = "Map"
    LIST = "List"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: Type
    has_default: bool = False
    default: Literal = None


@dataclass(frozen=True, slots=True)
class RecordDecl:
    """A `Struct` or an `Event`."""

    name: str
    fields: tuple[Field, ...]
    doc: str


@dataclass(frozen=True, slots=True)
class StubDecl:
    """A method of an `Interface`: what the caller believes of the other contract."""

    name: str
    parameters: tuple[Field, ...]
    returns: Type | None
    is_view: bool


@dataclass(frozen=True, slots=True)
class InterfaceDecl:
    name: str
    stubs: dict[str, StubDecl]
    doc: str


@dataclass(frozen=True, slots=True)
class VariableDecl:
    """A storage variable. `key` is the parts of a map's key (one for a plain key); a list or value has none."""

    name: str
    storage: Storage
    key: tuple[Type, ...]
    is_tuple_key: bool
    value: Type


@dataclass(frozen=True, slots=True)
class MethodDecl:
    """A method. Parameters of private helpers may be without type: they are not checked at run time."""

    name: str
    mutability: Mutability
    parameters: tuple[str, ...]
    types: tuple[Type | None, ...]
    defaults: dict[str, Literal]
    returns: Type | None
    doc: str
    node: ast.FunctionDef


@dataclass(slots=True)
class ContractModel:
    """Everything a source declares. Dicts keep the source's order."""

    name: str = ""
    doc: str = ""
    constants: dict[str, Literal] = field(default_factory=dict)
    structs: dict[str, RecordDecl] = field(default_factory=dict)
    events: dict[str, RecordDecl] = field(default_factory=dict)
    interfaces: dict[str, InterfaceDecl] = field(default_factory=dict)
    variables: dict[str, VariableDecl] = field(default_factory=dict)
    methods: dict[str, MethodDecl] = field(default_factory=dict)

    def field_names(self) -> frozenset[str]:
        """Every name that may follow a dot as a field: of structs, of a failure, of an interface reference."""
        names = {field.name for struct in self.structs.values() for field in struct.fields}
        return frozenset(names | {"reason", "status", "address"})

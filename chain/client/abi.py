"""The interface of a contract as a client sees it: methods, events, structs, and the types of their values."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from chain.codec import Value
from chain.errors import BadInput
from contracts.language.types import SCALARS, Optional, Sequence, StructOf, TupleOf, Type

Fields: TypeAlias = "tuple[Field, ...]"


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of an event or struct. `required` is False for a parameter with a default."""

    name: str
    type: Type
    required: bool = True


@dataclass(frozen=True, slots=True)
class Method:
    """`is_view`: it never writes, so it can be read without a transaction."""

    name: str
    is_view: bool
    parameters: Fields
    returns: Type | None
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A storage variable: `kind` is Value, Map or List; `key` the parts of a map's key."""

    name: str
    kind: str
    key: tuple[Type, ...]
    value: Type


@dataclass(frozen=True, slots=True)
class Abi:
    """All of one contract. `init` is what its deployment takes."""

    contract: str
    init: Fields
    methods: Mapping[str, Method]
    events: Mapping[str, Fields]
    structs: Mapping[str, Fields]
    storage: Mapping[str, Variable]

    def method(self, name: str) -> Method:
        """Raises BadInput (`unknown_method`) listing what there is."""
        found = self.methods.get(name)
        if found is None:
            known = ", ".join(sorted(self.methods)) or "none"
            raise BadInput("unknown_method", f"{self.contract} has no method {name!r}; it has {known}")
        return found

    def named(self, kind: Type | None, value: Value) -> Any:
        """`value` with every struct in it as a dict of its fields; a shape that does not fit is left as it is."""
        match kind:
            case StructOf(name) if isinstance(value, tuple) and name in self.structs:
                fields = self.structs[name]
                if len(fields) == len(value):
                    return {field.name: self.named(field.type, item) for field, item in zip(fields, value, strict=True)}
            case TupleOf(items) if isinstance(value, tuple) and len(items) == len(value):
                return tuple(self.named(item, part) for item, part in zip(items, value, strict=True))
            case Sequence(item) if isinstance(value, tuple):
                return tuple(self.named(item, part) for part in value)
            case Optional(inner) if value is not None:
                return self.named(inner, value)
        return value

    def event_fields(self, name: str, values: tuple[Value, ...]) -> dict[str, Any] | None:
        """The fields of an event by name; None if this ABI does not declare such an event."""
        fields = self.events.get(name)
        if fields is None or len(fields) != len(values):
            return None
        return {field.name: self.named(field.type, value) for field, value in zip(fields, values, strict=True)}


def parse_abi(document: Mapping[str, Any]) -> Abi:
    """The ABI in a parsed JSON document (`contracts.language.contract_abi` made it).

    Raises:
        BadInput: `malformed`: it is no ABI.
    """
    try:
        return Abi(
            contract=str(document["contract"]),
            init=_fields(document["init"]),
            methods={str(item["name"]): _method(item) for item in document["methods"]},
            events={str(item["name"]): _fields(item["fields"]) for item in document["events"]},
            structs={str(item["name"]): _fields(item["fields"]) for item in document["structs"]},
            storage={str(item["name"]): _variable(item) for item in document["storage"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput("malformed", f"not a contract's ABI: {error!r}") from None


def parse_type(text: str) -> Type:
    """The type that an ABI spells, for instance `tuple[bytes, Address]`. Names that are no scalar are structs.

    Raises:
        ValueError: not a type.
    """
    try:
        return _type(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"{text!r} is no type") from None


def _method(item: Mapping[str, Any]) -> Method:
    returns = item.get("returns")
    return Method(
        name=str(item["name"]),
        is_view=item["mutability"] == "view",
        parameters=_fields(item["parameters"]),
        returns=None if returns is None else parse_type(returns),
        doc=str(item.get("doc", "")),
    )


def _variable(item: Mapping[str, Any]) -> Variable:
    key = tuple(parse_type(part) for part in item["key"])
    return Variable(name=str(item["name"]), kind=str(item["kind"]), key=key, value=parse_type(item["value"]))


def _fields(items: Any) -> Fields:
    return tuple(
        Field(name=str(item["name"]), type=parse_type(item["type"]), required="default" not in item) for item in items
    )


def _type(node: ast.expr) -> Type:
    match node:
        case ast.Name(id=name):
            return SCALARS.get(name) or StructOf(name)
        case ast.BinOp(left=inner, op=ast.BitOr(), right=ast.Constant(value=None)):
            return Optional(_type(inner))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant(value=end)])) if (
            end is Ellipsis
        ):
            return Sequence(_type(item))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=items)):
            return TupleOf(tuple(_type(item) for item in items))
        case ast.Subscript(value=ast.Name(id="tuple"), slice=item):
            return TupleOf((_type(item),))
    raise ValueError(f"{ast.unparse(node)} is no type")

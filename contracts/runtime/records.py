"""Values at the border: struct classes, type checks, canonical bytes in and out.

What fits 64-bit integers goes through msgspec, which checks types as it decodes; wider integers take the slower way
through `chain.codec`. Both make the same bytes, and both accept the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from chain.codec import pack, unpack_trusted
from contracts.language import gas
from contracts.language.build import field_name
from contracts.language.limits import INTEGER_MAX, INTEGER_MIN, VALUE_BYTES_MAX
from contracts.language.model import ContractModel, RecordDecl
from contracts.language.types import Optional, Scalar, Sequence, StructOf, TupleOf, Type, text
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.runtime.metering import measure, wrong_type

Decoder = Callable[[Frame, bytes], Any]
Checker = Callable[[Frame, Any], Any]  # the value in its stored form, or a ContractError

encode_fast: Final = msgspec.msgpack.Encoder().encode
_NATIVE: Final[dict[str, Any]] = {
    "int": int,
    "bool": bool,
    "bytes": bytes,
    "str": str,
    "Address": Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)],
}
_PYTHON: Final[dict[str, type]] = {"int": int, "bool": bool, "bytes": bytes, "str": str, "Address": bytes}


def plain(value: Any) -> Any:
    """A value with structs and lists as tuples: what `chain.codec` encodes. Measured by the caller before."""
    kind = type(value)
    if kind is tuple or kind is list:
        return tuple([plain(item) for item in value])
    if isinstance(value, msgspec.Struct):
        return tuple([plain(getattr(value, name)) for name in value.__struct_fields__])
    return value


def encode_value(value: Any) -> bytes:
    """Canonical bytes of a checked value.

    Raises:
        ContractError: an integer is out of range, or the bytes exceed `VALUE_BYTES_MAX`.
    """
    try:
        raw = encode_fast(value)
    except OverflowError:
        try:
            raw = pack(plain(value))
        except OverflowError:
            raise ContractError(Status.ARITHMETIC, "integer_range") from None
    if len(raw) > VALUE_BYTES_MAX:
        raise ContractError(Status.LIMIT, "value_size")
    return raw


class Shapes:
    """The types of one source at run time: its struct classes, checkers and decoders by type."""

    def __init__(self, model: ContractModel) -> None:
        self.structs: dict[str, type[msgspec.Struct]] = {}
        self._checkers: dict[Type, Checker] = {}
        self._decoders: dict[Type, Decoder] = {}
        self._declared = model.structs
        for struct in model.structs.values():
            self.structs[struct.name] = self._struct(struct)

    def _struct(self, struct: RecordDecl) -> type[msgspec.Struct]:
        fields: list[Any] = [
            (field_name(field.name), self.native(field.type), field.default)
            if field.has_default
            else (field_name(field.name), self.native(field.type))
            for field in struct.fields
        ]
        return msgspec.defstruct(
            struct.name, fields, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False, module="contract"
        )

    def native(self, kind: Type) -> Any:
        """The type as msgspec knows it."""
        match kind:
            case Scalar(name):
                return _NATIVE[name]
            case StructOf(name):
                return self.structs[name]
            case TupleOf(items):
                return tuple[tuple(self.native(item) for item in items)]  # type: ignore[misc]
            case Sequence(item):
                return tuple[self.native(item), ...]  # type: ignore[misc]
            case Optional(inner):
                return self.native(inner) | None

    # Checking values that contract code made

    def checker(self, kind: Type) -> Checker:
        found = self._checkers.get(kind)
        if found is None:
            found = self._checkers[kind] = self._make_checker(kind)
        return found

    def _make_checker(self, kind: Type) -> Checker:
        inner = self._inner_checker(kind)
        if isinstance(kind, Scalar) or (isinstance(kind, Optional) and isinstance(kind.inner, Scalar)):
            return inner

        def check(x: Frame, value: Any) -> Any:
            measure(x, value)  # shared parts are paid for as often as they will be written
            return inner(x, value)

        return check

    def _inner_checker(self, kind: Type) -> Checker:
        match kind:
            case Scalar(name):
                return _scalar_checker(name)
            case StructOf(name):
                return _instance_checker(self.structs[name])
            case Optional(part):
                return _optional_checker(self._inner_checker(part))
            case TupleOf(items):
                return _tuple_checker(text(kind), tuple(self._inner_checker(item) for item in items))
            case Sequence(item):
                return _sequence_checker(text(kind), self._inner_checker(item))

    # Decoding what is stored or was checked to be canonical

    def decoder(self, kind: Type) -> Decoder:
        """Canonical bytes -> value; raises ContractError if they hold another type (as after an upgrade)."""
        found = self._decoders.get(kind)
        if found is None:
            found = self._decoders[kind] = self._make_decoder(kind)
        return found

    def _make_decoder(self, kind: Type) -> Decoder:
        fast = msgspec.msgpack.Decoder(self.native(kind)).decode

        def decode(x: Frame, raw: bytes) -> Any:
            try:
                return fast(raw)
            except msgspec.ValidationError:
                x.charge(gas.WIDE_BYTE * len(raw))
                return self.revive(kind, unpack_trusted(raw))

        return decode

    def revive(self, kind: Type, value: Any) -> Any:
        """A plain value (tuples for structs) as a value of the type.

        Raises:
            ContractError: it is not of the type; the text says what was expected.
        """
        match kind:
            case Scalar(name):
                return _scalar(name, value)
            case Optional(inner):
                return None if value is None else self.revive(inner, value)
            case Sequence(item):
                if type(value) is not tuple:
                    raise wrong_type(text(kind), value)
                return tuple([self.revive(item, part) for part in value])
            case TupleOf(items):
                if type(value) is not tuple or len(value) != len(items):
                    raise wrong_type(text(kind), value)
                return tuple([self.revive(item, part) for item, part in zip(items, value, strict=True)])
            case StructOf(name):
                return self._revive_struct(name, value)

    def _revive_struct(self, name: str, value: Any) -> Any:
        fields = self._declared[name].fields
        needed = sum(not field.has_default for field in fields)
        if type(value) is not tuple or not needed <= len(value) <= len(fields):
            raise wrong_type(name, value)
        return self.structs[name](
            *[self.revive(field.type, part) for field, part in zip(fields, value, strict=False)]
        )


def _scalar(name: str, value: Any) -> Any:
    expected: Any = _PYTHON[name]
    if type(value) is not expected:
        raise wrong_type(name, value)
    if name == "int" and not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ContractError(Status.ARITHMETIC, "integer_range")
    if name == "Address" and len(value) != 20:
        raise ContractError(Status.TYPE, f"an Address has 20 bytes, not {len(value)}")
    return value


def _scalar_checker(name: str) -> Checker:
    def check(x: Frame, value: Any) -> Any:
        return _scalar(name, value)

    return check


def _instance_checker(kind: type[msgspec.Struct]) -> Checker:
    def check(x: Frame, value: Any) -> Any:
        if type(value) is not kind:
            raise wrong_type(kind.__name__, value)
        return value

    return check


def _optional_checker(inner: Checker) -> Checker:
    def check(x: Frame, value: Any) -> Any:
        return None if value is None else inner(x, value)

    return check


def _tuple_checker(name: str, inners: tuple[Checker, ...]) -> Checker:
    def check(x: Frame, value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(inners):
            raise wrong_type(name, value)
        return tuple([inner(x, part) for inner, part in zip(inners, value, strict=True)])

    return check


def _sequence_checker(name: str, inner: Checker) -> Checker:
    def check(x: Frame, value: Any) -> Any:
        if type(value) is not tuple and type(value) is not list:
            raise wrong_type(name, value)
        return tuple([inner(x, part) for part in value])

    return check

"""Generated accessors: storage variables, struct constructors, events. One small Python function per operation.

They are generated because they are the hot path of every transaction: the type checks of a key and a value are written
out for their types, the storage key's prefix is a constant of the contract's namespace. The gas of a read or write is
in the caller's basic block; what depends on sizes is charged here.
"""

from __future__ import annotations

from types import CodeType
from typing import Any, Final, NoReturn

import msgspec

from chain.codec import pack, unpack_trusted
from chain.model.block import Event
from contracts.language import gas
from contracts.language.build import event_name, field_name, struct_name, variable_name
from contracts.language.limits import EVENTS_MAX, INTEGER_MAX, INTEGER_MIN, KEY_BYTES_MAX, VALUE_BYTES_MAX
from contracts.language.model import ContractModel, RecordDecl, Storage, VariableDecl
from contracts.language.types import BOOL, INT, Scalar, TupleOf, Type
from contracts.runtime.adds import MISSING
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.runtime.metering import wrong_type
from contracts.runtime.records import Shapes, encode_fast, encode_value

# What generated text may name besides its own functions.
_SCALAR_TESTS: Final[dict[str, str]] = {
    "int": "type({0}) is not int",
    "bool": "{0} is not True and {0} is not False",
    "bytes": "type({0}) is not bytes",
    "str": "type({0}) is not str",
    "Address": "type({0}) is not bytes or len({0}) != 20",
}
_SCAN_KEYS: Final = "h__keys_"


def storage_prefix(address: bytes, variable: str) -> bytes:
    """Where a variable's keys begin; a list's length has the suffix 1 instead of 0."""
    return address + variable.encode() + b"\x00"


class Accessors:
    """The generated code of one source, and what its namespace needs; independent of the address."""

    def __init__(self, model: ContractModel, shapes: Shapes, *, has_adds: bool) -> None:
        self._shapes = shapes
        self._has_adds = has_adds
        self._variables = tuple(model.variables)
        self.constants: dict[str, Any] = dict(_RUNTIME)
        text = [
            *(self._variable(variable) for variable in model.variables.values()),
            *(self._struct(struct) for struct in model.structs.values()),
            *(self._event(event) for event in model.events.values()),
        ]
        self.code: CodeType = compile("\n".join(text), "<accessors>", "exec", dont_inherit=True)

    def bind(self, address: bytes) -> dict[str, Any]:
        """The accessors of the contract at `address`: functions `v__...`, `s__...`, `e__...` by name."""
        made = dict(self.constants)
        made["__builtins__"] = {}
        for variable in self._variables:
            prefix = storage_prefix(address, variable)
            made[f"h__p_{variable}"] = prefix
            made[f"h__l_{variable}"] = prefix[:-1] + b"\x01"
        exec(self.code, made)  # noqa: S102
        return {name: value for name, value in made.items() if name[:3] in ("v__", "s__", "e__")}

    # Pieces of text

    def _check(self, kind: Type, name: str, label: str) -> str:
        """Lines (indented by 4) that leave `name` in its stored form or raise."""
        if isinstance(kind, Scalar):
            return f"    if {_SCALAR_TESTS[kind.name].format(name)}:\n        wrong({kind.name!r}, {name}, {label!r})\n"
        checker = f"h__t_{len(self.constants)}"
        self.constants[checker] = self._shapes.checker(kind)
        return f"    {name} = {checker}(h__x, {name})\n"

    def _key(self, variable: VariableDecl) -> str:
        """Lines that turn `key` into the storage key `k`."""
        prefix = f"h__p_{variable.name}"
        if variable.storage is Storage.VALUE:
            return f"    k = {prefix}\n"
        if variable.storage is Storage.LIST:
            return f"    k = {prefix} + position(h__x, h__l_{variable.name}, key)\n"
        if not variable.is_tuple_key:
            lines = self._check(variable.key[0], "key", f"key of {variable.name}")
            parts = "enc(key)"
        else:
            count = len(variable.key)
            lines = f"    if type(key) is not tuple or len(key) != {count}:\n"
            lines += f"        wrong('tuple of {count}', key, 'key of {variable.name}')\n"
            names = [f"k{number}" for number in range(count)]
            lines += f"    {', '.join(names)}, = key\n"
            for name, kind in zip(names, variable.key, strict=True):
                lines += self._check(kind, name, f"key of {variable.name}")
            parts = " + ".join(f"enc({name})" for name in names)
        lines += f"    try:\n        k = {prefix} + {parts}\n"
        lines += f"    except OverflowError:\n        k = {prefix} + wide_key(key)\n"
        if all(part in (INT, BOOL) for part in variable.key) and len(variable.key) < 6:
            return lines
        return lines + f"    if len(k) > {KEY_BYTES_MAX}:\n        key_too_long()\n"

    def _lookup(self) -> str:
        return (
            "    raw = h__x.writes.get(k, MISSING)\n"
            "    if raw is MISSING:\n"
            "        raw = h__x.reads.get(k, MISSING)\n"
            "        if raw is MISSING:\n"
            "            raw = h__x.fetch(k)\n"
        )

    def _variable(self, variable: VariableDecl) -> str:
        name, shapes = variable.name, self._shapes
        key_parameter = "" if variable.storage is Storage.VALUE else ", key"
        key, lookup = self._key(variable), self._lookup()
        decode = f"h__d_{name}"
        self.constants[decode] = shapes.decoder(variable.value)
        found = f"    h__x.gas -= len(raw)\n    return {decode}(h__x, raw)\n"

        def define(operation: str, parameters: str, body: str) -> str:
            return f"def {variable_name(name, operation)}(h__x{parameters}, /):\n{body}"

        text = [
            define("get", key_parameter, f"{key}{lookup}    if raw is None:\n        missing({name!r})\n{found}"),
            define(
                "find",
                f"{key_parameter}, default",
                f"{key}{lookup}    if raw is None:\n        return default\n{found}",
            ),
            define("set", f", value{key_parameter}", self._write(variable, key)),
        ]
        if variable.storage is not Storage.LIST:
            asks = "exists" if variable.storage is Storage.VALUE else "has"
            erases = "delete" if variable.storage is Storage.VALUE else "del"
            text.append(define(asks, key_parameter, f"{key}{lookup}    return raw is not None\n"))
            text.append(define(erases, key_parameter, f"{key}{self._put('None', 0)}"))
            if self._has_adds and variable.value == INT:
                text.append(self._add(variable, key))
        if variable.storage is Storage.MAP:
            text.append(self._scan(variable))
        if variable.storage is Storage.LIST:
            text.append(define("len", "", f"    return length(h__x, h__l_{name})\n"))
            body = f"    key = length(h__x, h__l_{name})\n    k = h__p_{name} + key.to_bytes(8, 'big')\n"
            body += self._encode(variable) + self._put("raw", "len(raw)")
            body += f"    h__x.write(h__l_{name}, enc(key + 1))\n"
            text.append(define("append", ", value", body))
        return "\n".join(text)

    def _encode(self, variable: VariableDecl) -> str:
        lines = self._check(variable.value, "value", f"value of {variable.name}")
        lines += "    try:\n        raw = enc(value)\n"
        lines += "    except OverflowError:\n        raw = wide(value)\n"
        if variable.value in (INT, BOOL):
            return lines
        return lines + f"    if len(raw) > {VALUE_BYTES_MAX}:\n        value_too_large()\n"

    def _write(self, variable: VariableDecl, key: str) -> str:
        return key + self._encode(variable) + self._put("raw", "len(raw)")

    def _put(self, raw: str, size: object) -> str:
        return (
            "    if h__x.readonly:\n        forbidden()\n"
            f"    h__x.gas -= {gas.WRITE_BYTE} * (len(k) + {size})\n"
            "    writes = h__x.writes\n"
            "    h__x.journal.append((k, writes.get(k, MISSING)))\n"
            f"    writes[k] = {raw}\n"
        )

    def _add(self, variable: VariableDecl, key: str) -> str:
        """Adding: the fixed price is in the caller's block, so that it tells nothing of what is stored."""
        parameters = "amount" if variable.storage is Storage.VALUE else "key, amount"
        lines = f"def {variable_name(variable.name, 'add')}(h__x, {parameters}, /, minimum=LOW, maximum=HIGH):\n{key}"
        for name in ("amount", "minimum", "maximum"):
            lines += self._check(INT, name, f"{name} of {variable.name}")
        return f"{lines}    h__x.gas -= {gas.WRITE_BYTE} * len(k)\n    h__x.add(k, amount, minimum, maximum)\n"

    def _scan(self, variable: VariableDecl) -> str:
        name = variable.name
        decoder = msgspec.msgpack.Decoder(self._shapes.native(TupleOf(variable.key)))
        reader = _KeyReader(len(variable.key), variable.is_tuple_key, decoder.decode)
        self.constants[f"{_SCAN_KEYS}{name}"] = reader
        self.constants[f"h__c_{name}"] = tuple(self._shapes.checker(part) for part in variable.key)
        return (
            f"def {variable_name(name, 'scan')}(h__x, parts, /):\n"
            f"    return scan(h__x, h__p_{name}, h__c_{name}, parts, {_SCAN_KEYS}{name}, h__d_{name})\n"
        )

    def _struct(self, struct: RecordDecl) -> str:
        self.constants[f"h__s_{struct.name}"] = self._shapes.structs[struct.name]
        signature, checks = self._fields(struct, f"h__n_{struct.name}_")
        names = ", ".join(field_name(field.name) for field in struct.fields)
        return f"def {struct_name(struct.name)}(h__x, /{signature}):\n{checks}    return h__s_{struct.name}({names})\n"

    def _fields(self, record: RecordDecl, default_prefix: str) -> tuple[str, str]:
        signature, checks = "", ""
        for field in record.fields:
            name = field_name(field.name)
            signature += f", {name}"
            if field.has_default:
                self.constants[default_prefix + field.name] = field.default
                signature += f"={default_prefix}{field.name}"
            checks += self._check(field.type, name, f"{record.name}.{field.name}")
            if field.type == INT:
                checks += f"    if not {INTEGER_MIN} <= {name} <= {INTEGER_MAX}:\n        integer_range()\n"
        return signature, checks

    def _event(self, event: RecordDecl) -> str:
        signature, checks = self._fields(event, "")
        names = "".join(f"{field_name(field.name)}, " for field in event.fields)
        return (
            f"def {event_name(event.name)}(h__x, /{signature}):\n{checks}"
            f"    emit(h__x, {event.name!r}, ({names}))\n"
        )


class _KeyReader:
    """Reads the key of a scanned row back from its bytes."""

    def __init__(self, count: int, is_tuple: bool, decode: Any) -> None:
        self._header = bytes((0x90 + count,))  # a msgpack array of `count` elements
        self._is_tuple = is_tuple
        self._decode = decode
        self._count = count

    def __call__(self, packed: bytes) -> Any:
        try:
            parts = self._decode(self._header + packed)
        except msgspec.ValidationError:
            parts = unpack_trusted(self._header + packed)
        return parts if self._is_tuple else parts[0]


def _wrong(expected: str, value: object, label: str) -> NoReturn:
    error = wrong_type(expected, value)
    raise ContractError(error.status, f"{label}: {error.reason}")


def _missing(variable: str) -> NoReturn:
    raise ContractError(Status.MISSING_KEY, f"missing_key: {variable}")


def _forbidden() -> NoReturn:
    raise ContractError(Status.FORBIDDEN, "write_in_view")


def _key_too_long() -> NoReturn:
    raise ContractError(Status.LIMIT, "key_too_long")


def _value_too_large() -> NoReturn:
    raise ContractError(Status.LIMIT, "value_size")


def _integer_range() -> NoReturn:
    raise ContractError(Status.ARITHMETIC, "integer_range")


def _wide(value: Any) -> bytes:
    """The bytes of a value with an integer beyond 64 bits."""
    if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
        _integer_range()
    return encode_value(value)


def _wide_key(key: Any) -> bytes:
    parts = key if type(key) is tuple else (key,)
    for part in parts:
        if type(part) is int and not INTEGER_MIN <= part <= INTEGER_MAX:
            _integer_range()
    return b"".join([pack(part) for part in parts])


def _length(x: Frame, key: bytes) -> int:
    raw = x.read(key)
    return 0 if raw is None else int.from_bytes(raw[1:], "big") if len(raw) > 1 else raw[0]


def _position(x: Frame, length_key: bytes, index: Any) -> bytes:
    """The last eight bytes of a list item's key; negative indices count from the end."""
    if type(index) is not int:
        raise wrong_type("int as an index", index)
    length = _length(x, length_key)
    if index < 0:
        index += length
    if not 0 <= index < length:
        raise ContractError(Status.MISSING_KEY, "index_out_of_range")
    return int.to_bytes(index, 8, "big")


def _scan(x: Frame, prefix: bytes, checkers: Any, parts: tuple[Any, ...], reader: _KeyReader, decode: Any) -> list[Any]:
    """All (key, value) whose key begins with `parts`, ascending by encoded key."""
    sought = prefix
    for check, part in zip(checkers, parts, strict=False):
        sought += encode_value(check(x, part))
    if len(sought) > KEY_BYTES_MAX:
        _key_too_long()
    skip = len(prefix)
    return [(reader(key[skip:]), decode(x, raw)) for key, raw in x.scan(sought)]


def _emit(x: Frame, name: str, values: tuple[Any, ...]) -> None:
    if x.readonly:
        raise ContractError(Status.FORBIDDEN, "event_in_view")
    raw = encode_value(values)
    x.charge(gas.EVENT_BYTE * len(raw))
    events = x.context.events
    if len(events) >= EVENTS_MAX:
        raise ContractError(Status.LIMIT, "events")
    events.append(Event(contract=x.this, name=name, values=raw))


_RUNTIME: Final[dict[str, Any]] = {
    "type": type,
    "tuple": tuple,
    "len": len,
    "int": int,
    "bytes": bytes,
    "str": str,
    "OverflowError": OverflowError,
    "MISSING": MISSING,
    "LOW": INTEGER_MIN,
    "HIGH": INTEGER_MAX,
    "enc": encode_fast,
    "wide": _wide,
    "wide_key": _wide_key,
    "wrong": _wrong,
    "missing": _missing,
    "forbidden": _forbidden,
    "key_too_long": _key_too_long,
    "value_too_large": _value_too_large,
    "integer_range": _integer_range,
    "length": _length,
    "position": _position,
    "scan": _scan,
    "emit": _emit,
}

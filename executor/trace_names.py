"""From state keys and packed bytes back to the words of a contract's source: variables, key elements, named fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Final, NamedTuple

from chain.codec import unpack_trusted
from chain.model.block import Event
from chain.types import ADDRESS_BYTES
from contracts.language.compiler import CompiledContract, compile_contract
from contracts.language.model import ContractModel, Field, Mutability, Storage, VariableDecl
from contracts.language.types import Optional, Sequence, StructOf, TupleOf, Type
from contracts.system.contract import SYSTEM_ABI, SYSTEM_ADDRESS
from contracts.system.registry import ContractRecord, record_key, source_key
from executor.trace_result import Shown

KEY_ELEMENTS_MAX: Final = 8
SYSTEM_NAME: Final = "system"
_UNPACKING: Final = (ValueError, TypeError, IndexError, UnicodeDecodeError)
_RECORD_FIELDS: Final = ContractRecord.__slots__
_SYSTEM: Final = json.loads(SYSTEM_ABI)


class Named(NamedTuple):
    """A state key in words: `name` for people, `key` the elements by themselves."""

    contract: bytes
    variable: str
    name: str
    key: tuple[Shown, ...]


class Names:
    """Knows the contracts that a transaction met."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str, CompiledContract]] = {}

    def learn(self, address: bytes, name: str, compiled: CompiledContract) -> None:
        """The contract at an address. The last one counts, should it be upgraded on the way."""
        self._known[address] = (name, compiled)

    def look_up(self, state_key: bytes, get: Callable[[bytes], bytes | None], rule_set: int) -> None:
        """Learn the contract that a state key belongs to, from a state that may hold it."""
        address = state_key[:ADDRESS_BYTES]
        raw = get(record_key(address))
        if raw is None:
            return
        record = ContractRecord.of(raw)
        source = get(source_key(record.code_hash))
        if source is not None:
            self.learn(address, record.name, compile_contract(str(unpack_trusted(source)), rule_set))

    def contract(self, address: bytes) -> str:
        """Its name on the chain, empty if nothing is known of it."""
        if address == SYSTEM_ADDRESS:
            return SYSTEM_NAME
        return self._known[address][0] if address in self._known else ""

    def source(self, address: bytes) -> list[str]:
        """The lines of its source."""
        return self._known[address][1].source.splitlines() if address in self._known else []

    def _model(self, address: bytes) -> ContractModel | None:
        return self._known[address][1].model if address in self._known else None

    # Keys and values of the state

    def key(self, state_key: bytes, *, partial: bool = False) -> Named:
        """A state key, or with `partial` the prefix of a scan."""
        address, rest = state_key[:ADDRESS_BYTES], state_key[ADDRESS_BYTES:]
        end = min((at for at in (rest.find(b"\x00"), rest.find(b"\x01")) if at >= 0), default=len(rest))
        variable, tail = rest[:end].decode("ascii", "replace"), rest[end + 1 :]
        declared = self._declared(address, variable)
        if declared is not None and declared.storage is Storage.VALUE:
            return Named(address, variable, variable, ())
        if declared is not None and declared.storage is Storage.LIST:
            if rest[end : end + 1] == b"\x01":
                return Named(address, variable, f"len({variable})", ())
            index = int.from_bytes(tail, "big")
            return Named(address, variable, f"{variable}[{index}]", (index,))
        elements = _elements(tail)
        shown = [text_of(element) for element in elements]
        width = 1 if declared is None else len(declared.key)
        if partial and len(elements) < width:
            shown.append("*")
        return Named(address, variable, f"{variable}[{', '.join(shown)}]", elements)

    def value(self, state_key: bytes, raw: bytes | None) -> Shown:
        """The value stored under a state key, with the fields of structs by name."""
        if raw is None:
            return None
        address, rest = state_key[:ADDRESS_BYTES], state_key[ADDRESS_BYTES:]
        variable = rest.split(b"\x00", 1)[0].split(b"\x01", 1)[0].decode("ascii", "replace")
        value = _unpacked(raw)
        if address == SYSTEM_ADDRESS:
            if variable == "contracts" and isinstance(value, tuple) and len(value) == len(_RECORD_FIELDS):
                return dict(zip(_RECORD_FIELDS, value, strict=True))
            return value
        declared, model = self._declared(address, variable), self._model(address)
        if declared is None or model is None or rest[len(variable) : len(variable) + 1] == b"\x01":
            return value
        return _named(declared.value, value, model)

    def _declared(self, address: bytes, variable: str) -> VariableDecl | None:
        model = self._model(address)
        return None if model is None else model.variables.get(variable)

    # Calls and events

    def arguments(self, address: bytes, method: str, packed: bytes) -> Shown:
        """Arguments by name, as a tuple where no method takes so many, as bytes where they are no values at all."""
        values = _unpacked(packed)
        if not isinstance(values, tuple):
            return packed
        if address == SYSTEM_ADDRESS:
            names = [
                parameter["name"]
                for declared in _SYSTEM["methods"]
                if declared["name"] == method
                for parameter in declared["parameters"]
            ]
            return dict(zip(names, values, strict=True)) if len(names) == len(values) else values
        model = self._model(address)
        declared = None if model is None else model.methods.get(method)
        if model is None or declared is None or len(declared.parameters) != len(values):
            return values
        return {
            name: value if kind is None else _named(kind, value, model)
            for name, kind, value in zip(declared.parameters, declared.types, values, strict=True)
        }

    def result(self, address: bytes, method: str, packed: bytes) -> Shown:
        """What a method returned; None for nothing."""
        value = _unpacked(packed) if packed else None
        model = self._model(address)
        declared = None if model is None else model.methods.get(method)
        if model is None or declared is None or declared.returns is None:
            return value
        return _named(declared.returns, value, model)

    def init_method(self, address: bytes) -> str:
        """The name of the method that runs at deployment."""
        model = self._model(address)
        if model is None:
            return "init"
        return next((name for name, made in model.methods.items() if made.mutability is Mutability.INIT), "init")

    def event(self, event: Event) -> Shown:
        """The fields of an event by name."""
        values = _unpacked(event.values)
        if not isinstance(values, tuple):
            return event.values
        if event.contract == SYSTEM_ADDRESS:
            names = [
                field["name"]
                for declared in _SYSTEM["events"]
                if declared["name"] == event.name
                for field in declared["fields"]
            ]
            return dict(zip(names, values, strict=True)) if len(names) == len(values) else values
        model = self._model(event.contract)
        record = None if model is None else model.events.get(event.name)
        if model is None or record is None or len(record.fields) != len(values):
            return values
        return _fields(record.fields, values, model)


def text_of(value: Shown) -> str:
    """A value on one line, as a person would write it."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple | list):
        return f"[{', '.join(text_of(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {text_of(item)}' for name, item in value.items())}}}"
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _elements(packed: bytes) -> tuple[Shown, ...]:
    """The elements of a map's key, which stand one after the other; all bytes as one where they are none."""
    for count in range(KEY_ELEMENTS_MAX + 1):
        values = _unpacked(bytes((0x90 + count,)) + packed)  # a msgpack array of `count` elements
        if isinstance(values, tuple):
            return values
    return (packed,)


def _unpacked(packed: bytes) -> Shown:
    try:
        return unpack_trusted(packed)
    except _UNPACKING:
        return packed


def _named(kind: Type, value: Shown, model: ContractModel) -> Shown:
    match kind:
        case Optional(inner):
            return None if value is None else _named(inner, value, model)
        case StructOf(name) if isinstance(value, tuple) and len(value) <= len(model.structs[name].fields):
            return _fields(model.structs[name].fields, value, model)
        case TupleOf(items) if isinstance(value, tuple) and len(value) == len(items):
            return tuple([_named(item, part, model) for item, part in zip(items, value, strict=True)])
        case Sequence(item) if isinstance(value, tuple):
            return tuple([_named(item, part, model) for part in value])
    return value


def _fields(fields: Items[Field], values: tuple[Shown, ...], model: ContractModel) -> dict[str, Shown]:
    """By name; a value stored before an upgrade added fields has the first ones only."""
    return {field.name: _named(field.type, value, model) for field, value in zip(fields, values, strict=False)}

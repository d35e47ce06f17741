"""Methods of local values: `value.name(...)` becomes `h__m_name(frame, value, ...)`.

A method is found by the exact type of the value, never by attribute, so nothing but these tables can be reached. Text
methods that would consult Unicode tables take ASCII only: those tables differ between versions of Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from contracts.language import gas
from contracts.language.limits import LOCAL_INTEGER_BITS_MAX, SEQUENCE_ITEMS_MAX
from contracts.language.vocabulary import METHODS as NAMES
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.runtime.functions import b_dict, b_list
from contracts.runtime.functions import sort as sort_list
from contracts.runtime.metering import (
    dict_room,
    items_of,
    key_for,
    new_bytes,
    new_items,
    text_size,
    type_name,
    visit,
    wrong_type,
)
from contracts.runtime.operations import contains, extend, store

_Method = Callable[..., Any]


# list


def _append(x: Frame, value: list[Any], item: Any) -> None:
    x.gas -= gas.ITEM_BYTES
    if len(value) >= SEQUENCE_ITEMS_MAX:
        raise ContractError(Status.LIMIT, "sequence_items")
    value.append(item)


def _insert(x: Frame, value: list[Any], index: Any, item: Any) -> None:
    if type(index) is not int:
        raise wrong_type("int as an index", index)
    visit(x, len(value) // gas.BYTES_SEEN)
    new_items(x, 1)
    if len(value) >= SEQUENCE_ITEMS_MAX:
        raise ContractError(Status.LIMIT, "sequence_items")
    value.insert(max(-len(value), min(index, len(value))), item)


def _remove(x: Frame, value: list[Any], item: Any) -> None:
    if not contains(x, item, value):
        raise ContractError(Status.MISSING_KEY, "missing_item")
    value.remove(item)


def _reverse(x: Frame, value: list[Any]) -> None:
    visit(x, len(value))
    value.reverse()


def _sort(x: Frame, value: list[Any], *, reverse: Any = False) -> None:
    visit(x, len(value))
    sort_list(x, value, reverse)


def _clear(x: Frame, value: Any) -> None:
    value.clear()


def _pop_list(x: Frame, value: list[Any], index: Any = -1) -> Any:
    if type(index) is not int:
        raise wrong_type("int as an index", index)
    visit(x, len(value) // gas.BYTES_SEEN)
    return value.pop(index)


# sequences


def _index(x: Frame, value: Any, item: Any) -> int:
    if not contains(x, item, value):
        raise ContractError(Status.MISSING_KEY, "missing_item")
    return int(value.index(item))


def _count(x: Frame, value: Any, item: Any) -> int:
    contains(x, item, value)
    return int(value.count(item))


# dict


def _get(x: Frame, value: dict[Any, Any], key: Any, default: Any = None) -> Any:
    key_for(x, key, len(value))
    return value.get(key, default)


def _pop_dict(x: Frame, value: dict[Any, Any], *arguments: Any) -> Any:
    if not arguments:
        raise ContractError(Status.TYPE, "pop of a dict takes a key")
    key_for(x, arguments[0], len(value))
    return value.pop(*arguments)


def _keys(x: Frame, value: dict[Any, Any]) -> list[Any]:
    return b_list(x, value)


def _values(x: Frame, value: dict[Any, Any]) -> list[Any]:
    new_items(x, items_of(x, value))
    return list(value.values())


def _items(x: Frame, value: dict[Any, Any]) -> list[Any]:
    new_items(x, items_of(x, value), 10)
    return list(value.items())


def _setdefault(x: Frame, value: dict[Any, Any], key: Any, default: Any) -> Any:
    key_for(x, key, len(value))
    if key not in value:
        dict_room(x, len(value))
    return value.setdefault(key, default)


def _update(x: Frame, value: dict[Any, Any], other: Any) -> None:
    if type(other) is not dict:
        raise wrong_type("dict", other)
    items_of(x, other)
    for key, item in list(other.items()):
        store(x, item, value, key)


# str, bytes


def _same(value: Any, other: Any) -> Any:
    if type(other) is not type(value):
        raise wrong_type(type_name(value), other)
    return other


def _ascii(value: str) -> str:
    if not value.isascii():
        raise ContractError(Status.TYPE, "ascii_only")
    return value


def _startswith(x: Frame, value: Any, prefix: Any) -> bool:
    x.charge(len(_same(value, prefix)) // gas.BYTES_SEEN)
    return bool(value.startswith(prefix))


def _endswith(x: Frame, value: Any, suffix: Any) -> bool:
    x.charge(len(_same(value, suffix)) // gas.BYTES_SEEN)
    return bool(value.endswith(suffix))


def _find(x: Frame, value: Any, part: Any) -> int:
    visit(x, len(value) + len(_same(value, part)))
    return int(value.find(part))


def _join(x: Frame, value: Any, parts: Any) -> Any:
    if type(parts) is not list and type(parts) is not tuple:
        raise wrong_type("list or tuple", parts)
    items_of(x, parts)
    size = sum(text_size(_same(value, part)) for part in parts)
    new_bytes(x, size + text_size(value) * max(0, len(parts) - 1))
    return value.join(parts)


def _split(x: Frame, value: Any, separator: Any = None) -> list[Any]:
    if separator is None:
        if type(value) is str:
            _ascii(value)
        visit(x, len(value))
        pieces = len(value) // 2 + 1
    else:
        if not _same(value, separator):
            raise ContractError(Status.TYPE, "empty_separator")
        visit(x, len(value))
        pieces = value.count(separator) + 1
    new_bytes(x, text_size(value))
    new_items(x, pieces, 7)
    return list(value.split(separator))


def _replace(x: Frame, value: Any, old: Any, new: Any) -> Any:
    if not _same(value, old):
        raise ContractError(Status.TYPE, "empty_text")
    visit(x, len(value))
    new_bytes(x, text_size(value) + value.count(old) * text_size(_same(value, new)))
    return value.replace(old, new)


def _text(name: str, new: bool) -> _Method:
    """A method of text without arguments; `new` if it makes new text."""

    def method(x: Frame, value: Any) -> Any:
        if type(value) is str:
            _ascii(value)
        if new:
            new_bytes(x, len(value))
        else:
            visit(x, len(value) // 8)
        return getattr(value, name)()

    return method


def _zfill(x: Frame, value: str, width: Any) -> str:
    if type(width) is not int:
        raise wrong_type("int", width)
    new_bytes(x, max(text_size(value), 4 * width))
    return value.zfill(width)


def _encode(x: Frame, value: str) -> bytes:
    new_bytes(x, text_size(value))
    return value.encode()


def _decode(x: Frame, value: bytes) -> str:
    visit(x, len(value) // gas.BYTES_SEEN)
    new_bytes(x, len(value) if value.isascii() else 4 * len(value))
    return value.decode()


def _hex(x: Frame, value: bytes) -> str:
    new_bytes(x, 2 * len(value))
    return value.hex()


# int


def _to_bytes(x: Frame, value: int, length: Any, order: Any, *, signed: Any = False) -> bytes:
    if type(length) is not int or order not in ("big", "little") or type(signed) is not bool:
        raise ContractError(Status.TYPE, "to_bytes takes a length and 'big' or 'little'")
    if not 0 <= length <= LOCAL_INTEGER_BITS_MAX // 8:
        raise ContractError(Status.LIMIT, "integer_bytes")
    return value.to_bytes(length, order, signed=signed)


def _bit_length(x: Frame, value: int) -> int:
    return value.bit_length()


def _copy_list(x: Frame, value: list[Any]) -> list[Any]:
    return b_list(x, value)


def _copy_dict(x: Frame, value: dict[Any, Any]) -> dict[Any, Any]:
    return b_dict(x, value)


_TABLES: Final[dict[type, dict[str, _Method]]] = {
    list: {
        "append": _append, "extend": extend, "insert": _insert, "remove": _remove, "reverse": _reverse, "sort": _sort,
        "copy": _copy_list, "clear": _clear, "pop": _pop_list, "index": _index, "count": _count,
    },
    tuple: {"index": _index, "count": _count},
    dict: {
        "get": _get, "keys": _keys, "values": _values, "items": _items, "setdefault": _setdefault, "update": _update,
        "pop": _pop_dict, "copy": _copy_dict, "clear": _clear,
    },
    str: {
        "startswith": _startswith, "endswith": _endswith, "find": _find, "join": _join, "split": _split,
        "replace": _replace, "strip": _text("strip", new=True), "upper": _text("upper", new=True),
        "lower": _text("lower", new=True), "isdigit": _text("isdigit", new=False),
        "isalpha": _text("isalpha", new=False), "isalnum": _text("isalnum", new=False), "zfill": _zfill,
        "encode": _encode, "index": _index, "count": _count,
    },
    bytes: {
        "startswith": _startswith, "endswith": _endswith, "find": _find, "join": _join, "split": _split,
        "replace": _replace, "strip": _text("strip", new=True), "decode": _decode, "hex": _hex, "index": _index,
        "count": _count,
    },
    int: {"to_bytes": _to_bytes, "bit_length": _bit_length},
}  # fmt: skip


def _dispatcher(name: str) -> _Method:
    by_type = {kind: table[name] for kind, table in _TABLES.items() if name in table}

    def method(x: Frame, value: Any, /, *arguments: Any, **keywords: Any) -> Any:
        found = by_type.get(type(value))
        if found is None:
            raise ContractError(Status.TYPE, f"{type_name(value)} has no method {name}")
        return found(x, value, *arguments, **keywords)

    return method


VALUE_METHODS: Final[dict[str, Any]] = {f"h__m_{name}": _dispatcher(name) for name in NAMES}

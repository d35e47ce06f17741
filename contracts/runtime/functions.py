"""Builtins of the language, metered: `name(...)` in a contract becomes `h__b_name(frame, ...)`.

Names with `c_` are class methods (`int.from_bytes`). As in `contracts.runtime.operations`, sizes are paid for first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

import sha3

from chain.codec import pack
from contracts.language import gas
from contracts.language.limits import INTEGER_TEXT_CHARS_MAX, LOCAL_INTEGER_BITS_MAX, VALUE_BYTES_MAX
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.runtime.metering import bounded, items_of, measure, measured, new_bytes, new_items, wrong_type
from contracts.runtime.operations import integers, text_of
from contracts.runtime.records import plain

_WORD: Final = 1 << 62
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)


def b_abs(x: Frame, value: Any) -> int:
    integers(value, 0)
    return abs(int(value))


def _extreme(x: Frame, values: tuple[Any, ...], pick: Callable[[Any], Any]) -> Any:
    items = values if len(values) > 1 else values[0]
    items_of(x, items)
    if not items:
        raise ContractError(Status.TYPE, "empty_sequence")
    if type(items) is list or type(items) is tuple:
        measured(x, items)
    return pick(items)


def b_min(x: Frame, *values: Any) -> Any:
    return _extreme(x, values, min)


def b_max(x: Frame, *values: Any) -> Any:
    return _extreme(x, values, max)


def b_sum(x: Frame, values: Any) -> int:
    items_of(x, values)
    total = 0
    for value in values:
        if not isinstance(value, int):
            raise wrong_type("int", value)
        total += value
    return bounded(total)


def b_range(x: Frame, *bounds: Any) -> range:
    for bound in bounds:
        if type(bound) is not int:
            raise wrong_type("int", bound)
        if not -_WORD < bound < _WORD:
            raise ContractError(Status.ARITHMETIC, "integer_range")
    return range(*bounds)


def sort(x: Frame, values: list[Any], reverse: Any) -> None:
    """Sort in place; pays for n log n comparisons of the largest item."""
    if type(reverse) is not bool:
        raise wrong_type("bool", reverse)
    largest = measured(x, values)
    count = len(values)
    x.charge(count * count.bit_length() * (gas.SORT_STEP + largest // gas.BYTES_SEEN))
    values.sort(reverse=reverse)


def b_sorted(x: Frame, values: Any, *, reverse: Any = False) -> list[Any]:
    made = b_list(x, values)
    sort(x, made, reverse)
    return made


def b_enumerate(x: Frame, values: Any, start: Any = 0) -> list[tuple[int, Any]]:
    integers(start, 0)
    count = items_of(x, values)
    new_items(x, count, 12)
    return list(enumerate(values, start))


def b_zip(x: Frame, *sequences: Any) -> list[tuple[Any, ...]]:
    counts = [items_of(x, sequence) for sequence in sequences]
    new_items(x, min(counts), 8 + len(sequences))
    return list(zip(*sequences, strict=False))


def b_reversed(x: Frame, values: Any) -> list[Any]:
    return b_list(x, values)[::-1]


def b_divmod(x: Frame, a: Any, b: Any) -> tuple[int, int]:
    integers(a, b)
    return divmod(int(a), int(b))


def b_int(x: Frame, value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    if type(value) is not str:
        raise wrong_type("int or str", value)
    if len(value) > INTEGER_TEXT_CHARS_MAX:
        raise ContractError(Status.LIMIT, "integer_text")
    if not _DECIMAL.match(value):
        raise ContractError(Status.TYPE, "not_a_number")
    x.charge(len(value) * gas.ITEM)
    return bounded(int(value))


def b_bytes(x: Frame, value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is int:
        if value < 0:
            raise ContractError(Status.TYPE, "negative_size")
        new_bytes(x, value)
        return bytes(value)
    if type(value) is not list and type(value) is not tuple:
        raise wrong_type("int, or a list of ints 0..255", value)
    new_bytes(x, items_of(x, value))
    return bytes(value)


def b_bool(x: Frame, value: Any) -> bool:
    return bool(value)


def b_tuple(x: Frame, values: Any = ()) -> tuple[Any, ...]:
    new_items(x, items_of(x, values))
    return tuple(values)


def b_list(x: Frame, values: Any = ()) -> list[Any]:
    new_items(x, items_of(x, values))
    return list(values)


def b_dict(x: Frame, value: Any = None) -> dict[Any, Any]:
    if value is None:
        return {}
    if type(value) is not dict:
        raise wrong_type("dict", value)
    x.charge(items_of(x, value) * gas.DICT_ENTRY)
    return dict(value)


def b_any(x: Frame, values: Any) -> bool:
    items_of(x, values)
    return any(values)


def b_all(x: Frame, values: Any) -> bool:
    items_of(x, values)
    return all(values)


def b_address(x: Frame, value: Any) -> bytes:
    """`Address(...)`: bytes of length 20, or the error of a type."""
    if type(value) is not bytes or len(value) != 20:
        raise wrong_type("20 bytes as an address", value)
    return value


def b_sha256(x: Frame, data: Any) -> bytes:
    if type(data) is not bytes:
        raise wrong_type("bytes", data)
    x.charge(len(data) // gas.SHA256_BYTES)
    return hashlib.sha256(data).digest()


def b_keccak256(x: Frame, data: Any) -> bytes:
    if type(data) is not bytes:
        raise wrong_type("bytes", data)
    x.charge(len(data) * gas.KECCAK256_BYTE)
    return bytes(sha3.keccak_256(data).digest())


def encode(x: Frame, values: tuple[Any, ...]) -> bytes:
    """`encode(a, b, ...)`: the canonical bytes of the tuple of the values."""
    new_bytes(x, min(measure(x, values), VALUE_BYTES_MAX))
    raw = pack(plain(values))
    if len(raw) > VALUE_BYTES_MAX:
        raise ContractError(Status.LIMIT, "value_size")
    return raw


def c_int_from_bytes(x: Frame, data: Any, order: Any, *, signed: Any = False) -> int:
    if type(data) is not bytes:
        raise wrong_type("bytes", data)
    if order not in ("big", "little") or type(signed) is not bool:
        raise ContractError(Status.TYPE, "byte_order")
    if len(data) * 8 > LOCAL_INTEGER_BITS_MAX:
        raise ContractError(Status.LIMIT, "integer_bytes")
    return int.from_bytes(data, order, signed=signed)


def c_bytes_fromhex(x: Frame, value: Any) -> bytes:
    if type(value) is not str or not value.isascii() or " " in value:
        raise wrong_type("str of hexadecimal digits", value)
    new_bytes(x, len(value))
    return bytes.fromhex(value)


FUNCTIONS: Final[dict[str, Any]] = {"h__len": len, "h__b_Address": b_address, "h__b_str": text_of} | {
    f"h__{function.__name__}": function
    for function in (
        b_abs, b_min, b_max, b_sum, b_range, b_sorted, b_enumerate, b_zip, b_reversed, b_divmod,
        b_int, b_bytes, b_bool, b_tuple, b_list, b_dict, b_any, b_all, b_sha256, b_keccak256,
        encode, c_int_from_bytes, c_bytes_fromhex,
    )
}  # fmt: skip

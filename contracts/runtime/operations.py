"""Operators and builtins of the language, metered: what the translator calls as `h__name(frame, ...)`.

The first line of each is the common, cheap case. Whatever a size could make expensive is paid before it is done.
Functions whose names start with `b_` are builtins, with `c_` class methods. Python's own TypeError, IndexError and
the like are left to the call boundary, which maps them by class (`contracts.runtime.errors`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

import sha3

from chain.codec import pack
from contracts.language import gas
from contracts.language.limits import INTEGER_TEXT_CHARS_MAX, LOCAL_INTEGER_BITS_MAX, REASON_CHARS_MAX, VALUE_BYTES_MAX
from contracts.runtime.errors import CallFailed, ContractError, Failure, OutOfGas, Status
from contracts.runtime.frame import Frame
from contracts.runtime.metering import (
    INTEGER_LIMIT,
    bounded,
    dict_room,
    items_of,
    key_for,
    measure,
    measured,
    new_bytes,
    new_items,
    text_size,
    visit,
    wrong_type,
)
from contracts.runtime.records import plain

_WORD: Final = 1 << 62
_CONTAINERS: Final = frozenset((list, tuple, dict))
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)


def out_of_gas(x: Frame) -> NoReturn:
    raise OutOfGas


def revert(x: Frame, reason: Any) -> NoReturn:
    """Fail the call with a reason of the contract's own."""
    if type(reason) is not str:
        raise wrong_type("str as a reason", reason)
    raise ContractError(Status.REVERTED, reason[:REASON_CHARS_MAX])


def failure(x: Frame, error: CallFailed) -> Failure:
    return Failure(error)


def recur(x: Frame, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """An internal call that may lead back to itself."""
    x.enter_recursion()
    try:
        return method(x, *arguments)
    finally:
        x.context.recursion -= 1


# Arithmetic


def _integers(a: Any, b: Any) -> None:
    if not isinstance(a, int):
        raise wrong_type("int", a)
    if not isinstance(b, int):
        raise wrong_type("int", b)


def add(x: Frame, a: Any, b: Any) -> Any:
    if isinstance(a, int):
        result = a + b
        return result if -INTEGER_LIMIT < result < INTEGER_LIMIT else bounded(result)
    kind = type(a)
    if kind is not type(b):
        raise wrong_type("two values of one type to add", b)
    if kind is str or kind is bytes:
        new_bytes(x, text_size(a) + text_size(b))
    elif kind is list or kind is tuple:
        new_items(x, len(a) + len(b))
    else:
        raise wrong_type("int, str, bytes, list or tuple to add", a)
    return a + b


def iadd(x: Frame, a: Any, b: Any) -> Any:
    """`a += b`: a list grows in place, as in Python."""
    if type(a) is list:
        extend(x, a, b)
        return a
    return add(x, a, b)


def extend(x: Frame, a: list[Any], b: Any) -> None:
    count = items_of(x, b)
    new_items(x, len(a) + count)
    a.extend(list(b))


def sub(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    return bounded(a - b)


def mul(x: Frame, a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return bounded(a * b)
    if isinstance(a, int):
        a, b = b, a
    if not isinstance(b, int):
        raise wrong_type("int", b)
    kind = type(a)
    if kind is not str and kind is not bytes and kind is not list and kind is not tuple:
        raise wrong_type("int, str, bytes, list or tuple to multiply", a)
    times = max(0, b)
    if kind is str or kind is bytes:
        new_bytes(x, text_size(a) * times)
    else:
        new_items(x, len(a) * times)
    return a * times if a else a


def floordiv(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    return int(a // b)


def mod(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    return int(a % b)


def power(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    if b < 0:
        raise ContractError(Status.ARITHMETIC, "negative_exponent")
    bits = abs(a).bit_length()
    if bits > 1 and (bits - 1) * b > LOCAL_INTEGER_BITS_MAX:
        raise ContractError(Status.ARITHMETIC, "integer_range")
    return bounded(pow(a, b)) if bits > 1 else int(pow(a, b & 1 if b > 1 and a < 0 else min(b, 1)))


def lshift(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    if b < 0:
        raise ContractError(Status.ARITHMETIC, "negative_shift")
    if b > LOCAL_INTEGER_BITS_MAX:
        if a == 0:
            return 0
        raise ContractError(Status.ARITHMETIC, "integer_range")
    return bounded(a << b)


def rshift(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    if b < 0:
        raise ContractError(Status.ARITHMETIC, "negative_shift")
    return int(a >> min(b, 2 * LOCAL_INTEGER_BITS_MAX))


def bitand(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    return int(a & b)


def bitor(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    return int(a | b)


def bitxor(x: Frame, a: Any, b: Any) -> int:
    _integers(a, b)
    return int(a ^ b)


# Comparison


def _prepare(x: Frame, a: Any, b: Any) -> None:
    """Pay for comparing two values that are not plainly small."""
    kind = type(a)
    if kind is str or kind is bytes:
        if kind is type(b):
            x.gas -= min(len(a), len(b)) // gas.BYTES_SEEN
    elif kind is not bool and a is not None:
        measure(x, a)
        measure(x, b)


def eq(x: Frame, a: Any, b: Any) -> bool:
    if type(a) is not int:
        _prepare(x, a, b)
    return bool(a == b)


def ne(x: Frame, a: Any, b: Any) -> bool:
    return not eq(x, a, b)


def lt(x: Frame, a: Any, b: Any) -> bool:
    if type(a) is not int:
        _prepare(x, a, b)
    return bool(a < b)


def le(x: Frame, a: Any, b: Any) -> bool:
    if type(a) is not int:
        _prepare(x, a, b)
    return bool(a <= b)


def gt(x: Frame, a: Any, b: Any) -> bool:
    if type(a) is not int:
        _prepare(x, a, b)
    return bool(a > b)


def ge(x: Frame, a: Any, b: Any) -> bool:
    if type(a) is not int:
        _prepare(x, a, b)
    return bool(a >= b)


def contains(x: Frame, item: Any, container: Any) -> bool:
    kind = type(container)
    if kind is dict:
        key_for(x, item, len(container))
        return item in container
    if kind is range:
        if not isinstance(item, int):
            raise wrong_type("int", item)
        return item in container
    size = items_of(x, container)
    if kind is str or kind is bytes:
        if type(item) is not kind:
            raise wrong_type(kind.__name__, item)
        return item in container
    if type(item) is not int:
        # Comparing with each item costs what the smaller of the two costs.
        x.charge(size * (measure(x, item) // gas.BYTES_SEEN))
        if type(item) in _CONTAINERS or type(item) not in (str, bytes, bool, type(None)):
            measure(x, container)
    return item in container


# Items


def item(x: Frame, container: Any, index: Any) -> Any:
    if type(index) is int and type(container) is not dict:
        return container[index]
    if type(container) is dict:
        key_for(x, index, len(container))
        return container[index]
    raise wrong_type("int as an index", index)


def store(x: Frame, value: Any, container: Any, index: Any) -> None:
    """`container[index] = value` of a local list or dict."""
    if type(container) is dict:
        key_for(x, index, len(container))
        if index not in container:
            dict_room(x, len(container))
        container[index] = value
    elif type(container) is list:
        if type(index) is not int:
            raise wrong_type("int as an index", index)
        container[index] = value
    else:
        raise wrong_type("list or dict to assign an item of", container)


def remove(x: Frame, container: Any, index: Any) -> None:
    """`del container[index]` of a local list or dict."""
    if type(container) is dict:
        key_for(x, index, len(container))
        del container[index]
    elif type(container) is list:
        if type(index) is not int:
            raise wrong_type("int as an index", index)
        visit(x, len(container) // gas.BYTES_SEEN)
        del container[index]
    else:
        raise wrong_type("list or dict to delete an item of", container)


def slice_(x: Frame, value: Any, lower: Any, upper: Any, step: Any) -> Any:
    for bound in (lower, upper, step):
        if bound is not None and type(bound) is not int:
            raise wrong_type("int in a slice", bound)
    kind = type(value)
    if kind not in (str, bytes, list, tuple):
        raise wrong_type("str, bytes, list or tuple to slice", value)
    if step == 0:
        raise ContractError(Status.TYPE, "slice_step")
    count = len(range(*slice(lower, upper, step).indices(len(value))))
    if kind is str or kind is bytes:
        new_bytes(x, count if kind is bytes or value.isascii() else 4 * count)
    else:
        new_items(x, count)
    return value[lower:upper:step]


def dict_of(x: Frame, pairs: Any) -> dict[Any, Any]:
    """A dict display or comprehension: later entries win."""
    made: dict[Any, Any] = {}
    for key, value in pairs:
        store(x, value, made, key)
    return made


def iterate(x: Frame, value: Any) -> Any:
    """What a for loop runs over; each round pays in the loop's body."""
    kind = type(value)
    if kind is list or kind is tuple or kind is range or kind is str or kind is bytes:
        return value
    if kind is dict:
        new_items(x, len(value))
        return list(value)
    raise wrong_type("something to iterate over", value)


def each(x: Frame, value: Any, cost: int) -> Any:
    """What a comprehension runs over; all rounds are paid for here, so nothing in a round may add another."""
    x.charge(items_of(x, value) * cost)
    return tuple(value) if type(value) is list or type(value) is dict else value


def joined(x: Frame, parts: tuple[Any, ...]) -> str:
    """An f-string."""
    texts = [part if type(part) is str else b_str(x, part) for part in parts]
    new_bytes(x, sum(map(text_size, texts)))
    return "".join(texts)


# Builtins


def b_abs(x: Frame, value: Any) -> int:
    _integers(value, 0)
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
    _integers(start, 0)
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
    _integers(a, b)
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


def b_str(x: Frame, value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "True" if value else "False"
    if kind is not int:
        raise wrong_type("int, bool or str", value)
    size = int(value).bit_length() // 3 + 2
    if size > 2 * INTEGER_TEXT_CHARS_MAX:
        raise ContractError(Status.LIMIT, "integer_text")
    new_bytes(x, size * gas.ITEM)
    return str(value)


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


OPERATIONS: Final[dict[str, Any]] = {
    "h__len": len,
    "h__CallFailed": CallFailed,
    "h__pow": power,
    "h__slice": slice_,
    "h__iter": iterate,
    "h__b_Address": b_address,
} | {
    f"h__{function.__name__}": function
    for function in (
        out_of_gas, revert, failure, recur,
        add, iadd, sub, mul, floordiv, mod, lshift, rshift, bitand, bitor, bitxor,
        eq, ne, lt, le, gt, ge, contains,
        item, store, remove, dict_of, each, joined,
        b_abs, b_min, b_max, b_sum, b_range, b_sorted, b_enumerate, b_zip, b_reversed, b_divmod,
        b_int, b_str, b_bytes, b_bool, b_tuple, b_list, b_dict, b_any, b_all, b_sha256, b_keccak256,
        encode, c_int_from_bytes, c_bytes_fromhex,
    )
}  # fmt: skip

"""Sizes of values: looked at before anything is done whose cost depends on them.

Local values can share parts (`t = (t, t)` thirty times is small in memory and huge when walked), so every walk pays
as it goes and stops at a depth and a total far below what the process could not take.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from contracts.language import gas
from contracts.language.limits import (
    DICT_ITEMS_MAX,
    LOCAL_INTEGER_BITS_MAX,
    SEQUENCE_ITEMS_MAX,
    VALUE_BYTES_MAX,
    VALUE_NESTING_MAX,
)
from contracts.runtime.errors import ContractError, OutOfGas, Status
from contracts.runtime.frame import Frame

INTEGER_LIMIT: Final = 1 << LOCAL_INTEGER_BITS_MAX
_SMALL_INTEGER: Final = 1 << 60
_WALK_BYTES_MAX: Final = 4 * VALUE_BYTES_MAX


def wrong_type(expected: str, value: object) -> ContractError:
    """The error for a value of another type; names types as the language does."""
    return ContractError(Status.TYPE, f"expected {expected}, not {type_name(value)}")


def type_name(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value)
    if kind in (bool, int, str, bytes, tuple, list, dict, range):
        return kind.__name__
    return kind.__name__ if isinstance(value, msgspec.Struct) else "a reference"


def measure(x: Frame, value: Any, depth: int = 0) -> int:
    """Bytes a value has when written out, about; charges for every part looked at.

    Raises:
        ContractError: nested deeper than `VALUE_NESTING_MAX`, or larger than four times a stored value may be.
    """
    kind = type(value)
    if kind is int:
        return 9 if -_SMALL_INTEGER < value < _SMALL_INTEGER else 40
    if kind is bytes or kind is str:
        size: int = len(value)
        x.gas -= size // gas.BYTES_SEEN
        return size + 5
    if kind is tuple or kind is list:
        parts = value
    elif kind is dict:
        parts = [part for pair in value.items() for part in pair]
    elif isinstance(value, msgspec.Struct):
        parts = [getattr(value, name) for name in value.__struct_fields__]
    else:
        return 1
    if depth >= VALUE_NESTING_MAX:
        raise ContractError(Status.LIMIT, "value_nesting")
    x.gas -= gas.WALK * (1 + len(parts))
    if x.gas < 0:
        raise OutOfGas
    total = 5
    for part in parts:
        total += measure(x, part, depth + 1)
        if total > _WALK_BYTES_MAX:
            raise ContractError(Status.LIMIT, "value_size")
    return total


def measured(x: Frame, values: list[Any] | tuple[Any, ...]) -> int:
    """The size of the largest of some values that are not plain integers, each paid for."""
    largest = 0
    others = 0
    for value in values:
        if type(value) is not int:
            others += 1
            largest = max(largest, measure(x, value))
    x.gas -= others * gas.WALK
    if x.gas < 0:
        raise OutOfGas
    return largest


def new_bytes(x: Frame, size: int) -> None:
    """Pay for a new string of `size` bytes or characters, before it is made."""
    if size > VALUE_BYTES_MAX:
        raise ContractError(Status.LIMIT, "value_size")
    x.gas -= size * gas.BYTE_NEW
    if x.gas < 0:
        raise OutOfGas


def text_size(value: str | bytes) -> int:
    """Bytes that a string takes: four a character where one of them is not ASCII."""
    return len(value) if type(value) is bytes or value.isascii() else 4 * len(value)


def new_items(x: Frame, count: int, weight: int = 1) -> None:
    """Pay for a new list or tuple of `count` items, each of `weight` references, before it is made."""
    if count > SEQUENCE_ITEMS_MAX:
        raise ContractError(Status.LIMIT, "sequence_items")
    x.gas -= count * weight * gas.ITEM_BYTES
    if x.gas < 0:
        raise OutOfGas


def visit(x: Frame, count: int) -> None:
    """Pay for looking at `count` items."""
    x.gas -= count * gas.ITEM
    if x.gas < 0:
        raise OutOfGas


def items_of(x: Frame, value: Any) -> int:
    """Number of items of something iterable, paid for.

    Raises:
        ContractError: not a list, tuple, range, dict, str or bytes.
    """
    if type(value) not in (list, tuple, range, dict, str, bytes):
        raise wrong_type("something to iterate over", value)
    count = len(value)
    visit(x, count)
    return count


def key_for(x: Frame, key: Any, crowd: int) -> None:
    """Pay for looking a key up in a local dict of `crowd` entries.

    Hashes of strings are keyed by the process; those of big integers and tuples are not, and could be made to collide.
    Whoever uses them pays as if they did.
    """
    kind = type(key)
    if kind is int:
        if -_SMALL_INTEGER < key < _SMALL_INTEGER:
            return
    elif kind is str or kind is bytes:
        x.gas -= len(key) // gas.BYTES_SEEN
        return
    elif kind is bool or key is None:
        return
    elif kind is not tuple and not isinstance(key, msgspec.Struct):
        raise wrong_type("a key", key)
    else:
        measure(x, key)
    x.gas -= crowd * gas.DICT_CROWD
    if x.gas < 0:
        raise OutOfGas


def dict_room(x: Frame, size: int) -> None:
    """Pay for one entry more in a dict of `size` entries."""
    if size >= DICT_ITEMS_MAX:
        raise ContractError(Status.LIMIT, "dict_items")
    x.gas -= gas.DICT_ENTRY


def bounded(value: int) -> int:
    """A computed integer, within the bound of local integers.

    Raises:
        ContractError: it has more than `LOCAL_INTEGER_BITS_MAX` bits.
    """
    if -INTEGER_LIMIT < value < INTEGER_LIMIT:
        return value
    raise ContractError(Status.ARITHMETIC, "integer_range")

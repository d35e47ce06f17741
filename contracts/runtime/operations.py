"""Operators and statements of the language, metered: what the translator calls as `h__name(frame, ...)`.

The first line of each is the common, cheap case. Whatever a size could make expensive is paid before it is done.
Python's own TypeError, IndexError and the like are left to the call boundary, which maps them by class
(`contracts.runtime.errors`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from contracts.language import gas
from contracts.language.limits import INTEGER_TEXT_CHARS_MAX, LOCAL_INTEGER_BITS_MAX, REASON_CHARS_MAX
from contracts.runtime.errors import CallFailed, ContractError, Failure, OutOfGas, Status
from contracts.runtime.frame import Frame
from contracts.runtime.metering import (
    INTEGER_LIMIT,
    bounded,
    dict_room,
    items_of,
    key_for,
    measure,
    new_bytes,
    new_items,
    text_size,
    visit,
    wrong_type,
)

_CONTAINERS: Final = frozenset((list, tuple, dict))


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


def integers(a: Any, b: Any) -> None:
    """Both are integers (or booleans), or the error of a type."""
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
    integers(a, b)
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
    integers(a, b)
    return int(a // b)


def mod(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
    return int(a % b)


def power(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
    if b < 0:
        raise ContractError(Status.ARITHMETIC, "negative_exponent")
    bits = abs(a).bit_length()
    if bits > 1 and (bits - 1) * b > LOCAL_INTEGER_BITS_MAX:
        raise ContractError(Status.ARITHMETIC, "integer_range")
    return bounded(pow(a, b)) if bits > 1 else int(pow(a, b & 1 if b > 1 and a < 0 else min(b, 1)))


def lshift(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
    if b < 0:
        raise ContractError(Status.ARITHMETIC, "negative_shift")
    if b > LOCAL_INTEGER_BITS_MAX:
        if a == 0:
            return 0
        raise ContractError(Status.ARITHMETIC, "integer_range")
    return bounded(a << b)


def rshift(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
    if b < 0:
        raise ContractError(Status.ARITHMETIC, "negative_shift")
    return int(a >> min(b, 2 * LOCAL_INTEGER_BITS_MAX))


def bitand(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
    return int(a & b)


def bitor(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
    return int(a | b)


def bitxor(x: Frame, a: Any, b: Any) -> int:
    integers(a, b)
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


def text_of(x: Frame, value: Any) -> str:
    """`str(value)` of an int, a bool or a str."""
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


def joined(x: Frame, parts: tuple[Any, ...]) -> str:
    """An f-string."""
    texts = [part if type(part) is str else text_of(x, part) for part in parts]
    new_bytes(x, sum(map(text_size, texts)))
    return "".join(texts)


OPERATIONS: Final[dict[str, Any]] = {
    "h__CallFailed": CallFailed,
    "h__pow": power,
    "h__slice": slice_,
    "h__iter": iterate,
} | {
    f"h__{function.__name__}": function
    for function in (
        out_of_gas, revert, failure, recur,
        add, iadd, sub, mul, floordiv, mod, lshift, rshift, bitand, bitor, bitxor,
        eq, ne, lt, le, gt, ge, contains,
        item, store, remove, dict_of, each, joined,
    )
}  # fmt: skip

"""Values of access expressions: what can be computed of a key before the transaction runs, and `UNKNOWN` for the rest.

Everything here takes any values at all: what contract code would refuse is UNKNOWN, and nothing costs more than the
transaction itself would pay gas for.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import sha3

from chain.codec import pack, unpack_trusted
from contracts.language.limits import KEY_BYTES_MAX

ROUNDS_MAX: Final = 256  # of all loops of a transaction; a loop beyond that widens to all its items could be
ITEMS_MAX: Final = 256  # of a sequence that a built-in function makes
INTEGER_BITS_MAX: Final = 512
HASHED_BYTES_MAX: Final = 4_096
UNKNOWN: Final[Any] = object()

_FAILS: Final = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.floordiv,
    "modulo": operator.mod, "or": operator.or_, "and": operator.and_, "xor": operator.xor,
}  # fmt: skip

encode_part: Final = msgspec.msgpack.Encoder().encode


def _extension(code: int, data: memoryview) -> Any:
    """An integer beyond 64 bits."""
    return int.from_bytes(data, "big", signed=True)


decode_arguments: Final = msgspec.msgpack.Decoder(tuple[Any, ...], ext_hook=_extension).decode
"""The arguments of a call; nested tuples come as lists. Raises msgspec.MsgspecError or ValueError."""

_decode_value: Final = msgspec.msgpack.Decoder(ext_hook=_extension).decode


def decode_stored(raw: bytes) -> Any:
    """A stored value; tuples come as lists."""
    try:
        return _decode_value(raw)
    except (msgspec.MsgspecError, ValueError):
        return unpack_trusted(raw)


def part_of(value: Any) -> bytes | None:
    """The bytes of one element of a key; None if it is not known or no key can hold it."""
    if value is UNKNOWN:
        return None
    try:
        return encode_part(value)
    except OverflowError:
        try:
            return pack(value)
        except (OverflowError, TypeError):
            return None
    except (TypeError, ValueError, RecursionError):
        return None


def stored_key(prefix: bytes, parts: Sequence[bytes | None]) -> bytes | None:
    """The state key of an element; None where it is not known, b"", which is never stored, where it is too long."""
    name = prefix
    for part in parts:
        if part is None:
            return None
        name += part
    return name if len(name) <= KEY_BYTES_MAX else b""


def is_sequence(value: Any) -> bool:
    """A tuple of the contract language: stored ones and arguments are lists here."""
    return type(value) is tuple or type(value) is list


def item_of(value: Any, index: int) -> Any:
    """One item of a tuple."""
    return value[index] if is_sequence(value) and -len(value) <= index < len(value) else UNKNOWN


def length_of(raw: bytes | None) -> int:
    """The length of a stored list."""
    value = 0 if raw is None else decode_stored(raw)
    return value if type(value) is int else 0


def index_of(index: Any, length: int) -> bytes | None:
    """The last bytes of the key of a stored list's item; negative indices count from the end."""
    if type(index) is not int:
        return None
    if index < 0:
        index += length
    return index.to_bytes(8, "big") if 0 <= index < 2**63 else None


def operate(name: str, left: Any, right: Any) -> Any:
    """A binary operation on two small integers, or the sum of two texts."""
    kind = type(left)
    if kind is not type(right):
        return UNKNOWN
    if kind is int:
        if left.bit_length() + right.bit_length() > INTEGER_BITS_MAX:
            return UNKNOWN
    elif (kind is not bytes and kind is not str) or name != "add" or len(left) + len(right) > HASHED_BYTES_MAX:
        return UNKNOWN
    try:
        return _OPERATIONS[name](left, right)
    except _FAILS:
        return UNKNOWN


def call_builtin(name: str, arguments: Sequence[Any]) -> Any:
    """The value of a built-in function of the contract language."""
    for argument in arguments:
        if argument is UNKNOWN:
            return UNKNOWN
    try:
        return _BUILTINS[name](*arguments)
    except _FAILS:
        return UNKNOWN


def rounds_of(domain: Any, left: int) -> Sequence[Any] | None:
    """The items that a loop goes over; None if they are not known or more than `left`."""
    if type(domain) is not range and not is_sequence(domain):
        return None
    try:
        return domain if len(domain) <= left else None
    except OverflowError:
        return None


def _short(value: Any) -> Sequence[Any]:
    items = rounds_of(value, ITEMS_MAX)
    if items is None:
        raise ValueError("not a short sequence")
    return items


def _range(*bounds: Any) -> range:
    if not all(type(bound) is int for bound in bounds):
        raise TypeError("bounds are integers")
    return range(*bounds)


def _hashed(data: Any) -> bytes:
    if type(data) is not bytes or len(data) > HASHED_BYTES_MAX:
        raise TypeError("not short bytes")
    return data


def _least(choose: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *values: choose(_short(values[0]) if len(values) == 1 else values)


_BUILTINS: Final[dict[str, Callable[..., Any]]] = {
    "range": _range,
    "enumerate": lambda items, start=0: tuple(enumerate(_short(items), start)),
    "zip": lambda *sequences: tuple(zip(*[_short(items) for items in sequences], strict=False)),
    "reversed": lambda items: tuple(_short(items))[::-1],
    "sorted": lambda items: tuple(sorted(_short(items))),
    "list": lambda items=(): tuple(_short(items)),
    "tuple": lambda items=(): tuple(_short(items)),
    "len": len,
    "min": _least(min),
    "max": _least(max),
    "abs": abs,
    "sha256": lambda data: hashlib.sha256(_hashed(data)).digest(),
    "keccak256": lambda data: bytes(sha3.keccak_256(_hashed(data)).digest()),
    "encode": lambda *values: _hashed(pack(values)),
}

"""Canonical msgpack: one value, one encoding. What does not re-encode to the same bytes is refused.

Records are `msgspec` structs written as arrays. Values (contract arguments, storage, events) are None, bool, int,
bytes, str and tuples of them; integers outside 64 bits travel as extension type 1, the shortest big-endian
two's complement.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, TypeAlias, TypeVar

import msgpack
import msgspec

from chain.errors import DecodeError
from chain.types import MESSAGE_BYTES_MAX, Digest

Value: TypeAlias = "bool | int | bytes | str | tuple[Value, ...] | None"

INTEGER_BITS_MAX: Final = 256
VALUE_DEPTH_MAX: Final = 16
_EXT_INTEGER: Final = 1
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Base of everything that is hashed, signed, stored or sent: an immutable array of typed fields."""


RecordT = TypeVar("RecordT")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(record: Any) -> bytes:
    """Canonical bytes of a `Record` (or of tuples, bytes, strings and 64-bit integers)."""
    return _encoder.encode(record)


def decode(kind: type[RecordT], data: bytes, *, bytes_max: int = MESSAGE_BYTES_MAX) -> RecordT:
    """The `kind` that `data` encodes.

    Raises:
        DecodeError: too long, not msgpack, of another shape, or not the canonical encoding.
    """
    if len(data) > bytes_max:
        raise DecodeError(f"{len(data)} bytes where at most {bytes_max} are allowed")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        record: RecordT = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise DecodeError(f"{getattr(kind, '__name__', kind)}: {error}") from None
    if _encoder.encode(record) != data:
        raise DecodeError(f"{getattr(kind, '__name__', kind)}: not the canonical encoding")
    return record


def _default(value: object) -> msgpack.ExtType:
    if isinstance(value, int):
        if value.bit_length() > INTEGER_BITS_MAX:
            raise OverflowError(f"integer of {value.bit_length()} bits where at most {INTEGER_BITS_MAX} are allowed")
        return msgpack.ExtType(_EXT_INTEGER, value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True))
    raise TypeError(f"a value of type {type(value).__name__} has no encoding")


def _ext_hook(code: int, data: bytes) -> int:
    if code != _EXT_INTEGER or not 8 < len(data) <= INTEGER_BITS_MAX // 8 + 1:
        raise ValueError(f"extension type {code} of {len(data)} bytes")
    return int.from_bytes(data, "big", signed=True)


_packer = msgpack.Packer(use_bin_type=True, default=_default, strict_types=False)


def pack(value: Value) -> bytes:
    """Canonical bytes of a value.

    Raises:
        OverflowError: an integer of more than `INTEGER_BITS_MAX` bits.
        TypeError: a type that has no encoding (float, dict, ...); floats are refused by the caller's type check.
    """
    return _packer.pack(value)  # type: ignore[no-any-return]


def unpack(data: bytes) -> Value:
    """The value that `data` encodes.

    Raises:
        DecodeError: not msgpack, a type outside `Value` (float, map, ...), or not the canonical encoding.
    """
    try:
        value: Value = msgpack.unpackb(data, use_list=False, raw=False, ext_hook=_ext_hook, strict_map_key=True)
        _check(value, 0)
        canonical = _packer.pack(value)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"value: {error or type(error).__name__}") from None
    if canonical != data:
        raise DecodeError("value: not the canonical encoding")
    return value


def unpack_trusted(data: bytes) -> Value:
    """`unpack` without the checks, for bytes this node packed itself."""
    return msgpack.unpackb(data, use_list=False, raw=False, ext_hook=_ext_hook)  # type: ignore[no-any-return]


def _check(value: object, depth: int) -> None:
    kind = type(value)
    if kind is tuple:
        if depth >= VALUE_DEPTH_MAX:
            raise ValueError(f"tuples nested deeper than {VALUE_DEPTH_MAX}")
        for item in value:  # type: ignore[attr-defined]
            _check(item, depth + 1)
    elif value is not None and kind not in (bool, int, bytes, str):
        raise ValueError(f"type {kind.__name__} is not allowed")


def tagged_digest(tag: bytes, data: bytes) -> Digest:
    """SHA-256 over the length-prefixed domain tag and the data: no two kinds of thing share a digest."""
    return Digest(hashlib.sha256(bytes((len(tag),)) + tag + data).digest())

"""How a list of byte strings lies in one stored value: a table of ends, then the strings.

    number of parts, 4 bytes big-endian | end of each part, 4 bytes | the parts, one after the other

One part is read without touching the others, so a header comes out of a block, and a body out of a proposal, for the
price of that part.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from chain.errors import DecodeError

_WORD: Final = struct.Struct(">I")


def pack_parts(parts: Sequence[bytes]) -> bytes:
    """One value of all parts; 4 GiB at most together."""
    return struct.pack(f">{len(parts) + 1}I", len(parts), *accumulate(map(len, parts))) + b"".join(parts)


def count_parts(value: bytes | memoryview) -> int:
    return int(_WORD.unpack_from(value)[0])


def part_view(value: bytes | memoryview, index: int) -> memoryview:
    """Part `index` without copying it; valid as long as `value` is. Raises IndexError."""
    count = count_parts(value)
    if not 0 <= index < count:
        raise IndexError(f"part {index} of {count}")
    base = 4 + 4 * count
    start = _WORD.unpack_from(value, 4 * index)[0] if index else 0
    end = _WORD.unpack_from(value, 4 + 4 * index)[0]
    return memoryview(value)[base + start : base + end]


def part(value: bytes | memoryview, index: int) -> bytes:
    """A copy of part `index`. Raises IndexError."""
    return bytes(part_view(value, index))


def unpack_parts(value: bytes | memoryview) -> list[bytes]:
    """Copies of all parts."""
    count = count_parts(value)
    base = 4 + 4 * count
    ends: tuple[int, ...] = struct.unpack_from(f">{count}I", value, 4)
    blob = bytes(value[base:])
    return [blob[start:end] for start, end in zip((0, *ends), ends, strict=False)]


def decode_parts(value: bytes) -> list[bytes]:
    """`unpack_parts` of bytes from anybody.

    Raises:
        DecodeError: not what `pack_parts` makes.
    """
    try:
        parts = unpack_parts(value)
    except struct.error as error:
        raise DecodeError(f"parts: {error}") from None
    if pack_parts(parts) != value:
        raise DecodeError("parts: not the canonical layout")
    return parts


def decode_integers(value: bytes) -> tuple[int, ...]:
    """`unpack_integers` of bytes from anybody. Raises DecodeError."""
    if len(value) % 4:
        raise DecodeError(f"integers: {len(value)} bytes")
    return unpack_integers(value)


def pack_integers(values: Sequence[int]) -> bytes:
    """Integers 0..2^32-1, 4 bytes each."""
    return struct.pack(f">{len(values)}I", *values)


def unpack_integers(value: bytes | memoryview) -> tuple[int, ...]:
    return struct.unpack(f">{len(value) // 4}I", value)


def height_key(height: int) -> bytes:
    """Eight bytes big-endian, so that heights and sequence numbers sort as numbers."""
    return height.to_bytes(8, "big")

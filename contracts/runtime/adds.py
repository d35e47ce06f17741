"""Adds that commute: what a transaction adds to a stored integer without having read it.

The value beneath is looked at (`State.peek`) to see whether the bounds hold, but the transaction only observes that
they held, so two transactions that add to one key need no order between them. What it did and observed is an `Add`;
whoever commits the transaction turns it into a plain write with `settle`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from chain.codec import pack, unpack_trusted
from chain.errors import InvariantError

if TYPE_CHECKING:
    from contracts.runtime.frame import Outcome


class Missing:
    """The type of `MISSING`: not looked up yet, as opposed to None, which is known to be absent."""

    __slots__ = ()


MISSING: Final = Missing()

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(int).decode
_SHORT_MAX: Final = 0x7F  # msgpack's integers of one byte are their own encoding
_INTEGER_BYTES_MAX: Final = 36  # an extension's header and 257 bits


class Add(NamedTuple):
    """What a transaction added to a key, and what it observed by that.

    `delta` is None if nothing is left of the adds: the call that made them failed, or the key was read or written
    afterwards, so that an ordinary write holds the result. `low` to `high`, both included: where the value beneath the
    transaction must lie (a missing key counts as 0) for all its adds to the key to succeed as they did. A value beneath
    that is no integer lies nowhere.
    """

    delta: int | None
    low: int
    high: int

    def holds(self, beneath: bytes | None) -> bool:
        """Whether the adds would have succeeded on this stored value."""
        value = integer_of(beneath)
        return value is not None and self.low <= value <= self.high


class Pending(NamedTuple):
    """An `Add` in the making: `base` is the integer beneath as last looked at, `raw` the bytes beneath once the key was
    read after all, `MISSING` before that."""

    delta: int | None
    low: int
    high: int
    base: int
    raw: bytes | Missing | None


def integer_of(raw: bytes | None) -> int | None:
    """The integer that stored bytes hold, 0 for a missing key; None if they hold something else."""
    if raw is None:
        return 0
    if len(raw) == 1 and raw[0] <= _SHORT_MAX:
        return raw[0]
    if len(raw) > _INTEGER_BYTES_MAX:
        return None
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        value = unpack_trusted(raw)
        return value if type(value) is int else None


def integer_bytes(value: int) -> bytes:
    """The stored form of an integer. Raises OverflowError beyond 257 bits."""
    try:
        return _encode(value)
    except OverflowError:
        return pack(value)


def settle(outcome: Outcome, peek: Callable[[bytes], bytes | None]) -> dict[bytes, bytes | None]:
    """The writes of a transaction, its adds resolved to plain integers on the values beneath it.

    Raises:
        InvariantError: a value beneath is not where the transaction observed it; such an outcome must not be committed.
    """
    if not outcome.adds:
        return outcome.writes
    writes = dict(outcome.writes)
    for key, (delta, low, high) in outcome.adds.items():
        if delta is None:
            continue
        value = integer_of(peek(key))
        if value is None or not low <= value <= high:
            raise InvariantError(f"an add to {key.hex()} is settled on a value it was not made for")
        writes[key] = integer_bytes(value + delta)
    return writes

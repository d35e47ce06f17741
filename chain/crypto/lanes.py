"""The kernel of `chain.crypto.ed25519_lanes`: eight checks, one in each 64-bit lane of a 512-bit register.

A number modulo p = 2^255 - 19 is five limbs of 51 bits; eight of them, one a lane, are five rows of eight words, 320
bytes, called a *slot* and passed about by its address. The multiplier (AVX-512 IFMA) takes 52 bits of each limb.
Bounds, by which none overflows: an operation's result has limbs below 2^51 + 2^14, a negated one below 2^52.

    products of limbs      5 x 2^52 in each of the low and high sums, the high ones counting double
    folded (2^255 = 19)    20 x 15 x 2^52 < 2^61, so a carry is below 2^10 and 19 of them below 2^14

Compiled by numba on first use (some seconds) and kept beside this file (or where NUMBA_CACHE_DIR says). What is kept is
made anew when this file changes, so all compiled code is in here.

Curve formulas: Hisil, Wong, Carter, Dawson, "Twisted Edwards Curves Revisited", 2008; RFC 8032 for decoding. Lanes:
Faz-Hernandez, Lopez, Dahab, "High-performance implementation of elliptic curve cryptography using vector
instructions", 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from chain.crypto.ed25519 import FIELD_PRIME

Words = NDArray[np.uint64]

LANES: Final = 8
LIMBS: Final = 5
LIMB_BITS: Final = 51
MASK: Final = 2**LIMB_BITS - 1
ROWS: Final = LIMBS * LANES  # words of a slot
SLOT: Final = ROWS * 8  # bytes of a slot
POINT: Final = 4 * SLOT  # X, Y, Z, T
WINDOWS: Final = 64  # of 4 bits, signed, for the scalar that is different in each lane
BASE_WINDOWS: Final = 32  # of 8 bits, signed, for the multiple of the base point

_D: Final = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME
_ROOT: Final = pow(2, (FIELD_PRIME - 1) // 4, FIELD_PRIME)  # of -1
_TWO_P: Final = (2 * (MASK - 18), *(2 * MASK,) * 4)  # limbs of 2p, each above any limb of a result

_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I64, LANES)
_compiled = njit(cache=True, nogil=True)


# --- arithmetic of slots, as vector instructions ---


def _all(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


class _Emitter:
    """Writes vector code; a number here is a list of five vectors of eight lanes."""

    def __init__(self, builder: Any) -> None:
        self._b = builder
        multiply = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        declare: Any = cgutils.get_or_insert_function
        self._low, self._high = (
            declare(builder.module, multiply, f"llvm.x86.avx512.vpmadd52{half}.uq.512") for half in "lh"
        )

    def load(self, address: Any, slot: int = 0) -> list[Any]:
        return [self._b.load(self._row(address, slot, limb), align=64) for limb in range(LIMBS)]

    def store(self, address: Any, number: list[Any], slot: int = 0) -> None:
        for limb in range(LIMBS):
            self._b.store(number[limb], self._row(address, slot, limb), align=64)

    def _row(self, address: Any, slot: int, limb: int) -> Any:
        offset = ir.Constant(_I64, slot * SLOT + limb * LANES * 8)
        return self._b.inttoptr(self._b.add(address, offset), _VECTOR.as_pointer())

    def _times_19(self, vector: Any) -> Any:
        b = self._b
        return b.add(b.add(b.shl(vector, _all(4)), b.shl(vector, _all(1))), vector)

    def _carry(self, limbs: list[Any]) -> list[Any]:
        b = self._b
        carries = [b.lshr(limb, _all(LIMB_BITS)) for limb in limbs]
        kept = [b.and_(limb, _all(MASK)) for limb in limbs]
        return [b.add(kept[0], self._times_19(carries[4]))] + [
            b.add(kept[at], carries[at - 1]) for at in range(1, LIMBS)
        ]

    def add(self, left: list[Any], right: list[Any]) -> list[Any]:
        return self._carry([self._b.add(one, other) for one, other in zip(left, right, strict=True)])

    def subtract(self, left: list[Any], right: list[Any]) -> list[Any]:
        b = self._b
        lifted = [b.add(limb, _all(above)) for limb, above in zip(left, _TWO_P, strict=True)]
        return self._carry([b.sub(one, other) for one, other in zip(lifted, right, strict=True)])

    def multiply(self, left: list[Any], right: list[Any]) -> list[Any]:
        b, low, high = self._b, [_all(0)] * 9, [_all(0)] * 9
        for i in range(LIMBS):
            for j in range(LIMBS):
                low[i + j] = b.call(self._low, [low[i + j], left[i], right[j]])
                high[i + j] = b.call(self._high, [high[i + j], left[i], right[j]])
        return self._fold(low, high)

    def square(self, number: list[Any]) -> list[Any]:
        b, low, high = self._b, [_all(0)] * 9, [_all(0)] * 9
        for i in range(LIMBS):
            for j in range(i + 1, LIMBS):
                low[i + j] = b.call(self._low, [low[i + j], number[i], number[j]])
                high[i + j] = b.call(self._high, [high[i + j], number[i], number[j]])
        for at in range(1, 8):
            low[at], high[at] = b.shl(low[at], _all(1)), b.shl(high[at], _all(1))
        for i in range(LIMBS):
            low[2 * i] = b.call(self._low, [low[2 * i], number[i], number[i]])
            high[2 * i] = b.call(self._high, [high[2 * i], number[i], number[i]])
        return self._fold(low, high)

    def _fold(self, low: list[Any], high: list[Any]) -> list[Any]:
        """Ten columns to five: a high half weighs 2^52, which is two of the next limb; limb 5 weighs 19 of limb 0."""
        b = self._b
        columns = [low[0]]
        columns += [b.add(low[at], b.shl(high[at - 1], _all(1))) for at in range(1, 9)]
        columns.append(b.shl(high[8], _all(1)))
        return self._carry([b.add(columns[at], self._times_19(columns[at + 5])) for at in range(LIMBS)])

    def store_completed(self, target: Any, e: list[Any], f: list[Any], g: list[Any], h: list[Any]) -> None:
        """The point X = EF, Y = GH, Z = FG, T = EH."""
        for slot, (left, right) in enumerate(((e, f), (g, h), (f, g), (e, h))):
            self.store(target, self.multiply(left, right), slot)


def _emit_multiply(x: _Emitter, target: Any, left: Any, right: Any) -> None:
    x.store(target, x.multiply(x.load(left), x.load(right)))


def _emit_add(x: _Emitter, target: Any, left: Any, right: Any) -> None:
    x.store(target, x.add(x.load(left), x.load(right)))


def _emit_subtract(x: _Emitter, target: Any, left: Any, right: Any) -> None:
    x.store(target, x.subtract(x.load(left), x.load(right)))


def _emit_square(x: _Emitter, target: Any, source: Any) -> None:
    x.store(target, x.square(x.load(source)))


def _emit_double(x: _Emitter, target: Any, source: Any) -> None:
    """Twice a point, of which T is not read."""
    first, second, third = (x.load(source, slot) for slot in range(3))
    a, b, z = x.square(first), x.square(second), x.square(third)
    h, g = x.add(a, b), x.subtract(a, b)
    e = x.subtract(h, x.square(x.add(first, second)))
    x.store_completed(target, e, x.add(x.add(z, z), g), g, h)


def _emit_add_point(x: _Emitter, target: Any, source: Any, other: Any) -> None:
    """A point and one in the form (Y + X, Y - X, 2Z, 2dT)."""
    first, second, third, fourth = (x.load(source, slot) for slot in range(4))
    a = x.multiply(x.subtract(second, first), x.load(other, 1))
    b = x.multiply(x.add(second, first), x.load(other, 0))
    c, d = x.multiply(fourth, x.load(other, 3)), x.multiply(third, x.load(other, 2))
    x.store_completed(target, x.subtract(b, a), x.subtract(d, c), x.add(d, c), x.add(b, a))


def _two_slots(emit: Callable[..., None]) -> Any:
    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def operation(typing_context: Any, target: Any, source: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            emit(_Emitter(builder), *arguments)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return operation


def _three_slots(emit: Callable[..., None]) -> Any:
    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def operation(typing_context: Any, target: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            emit(_Emitter(builder), *arguments)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return operation


_multiply_code, _add_code, _subtract_code = map(_three_slots, (_emit_multiply, _emit_add, _emit_subtract))
_square_code, _double_code = _two_slots(_emit_square), _two_slots(_emit_double)
_add_point_code = _three_slots(_emit_add_point)


@_compiled
def multiply(target: int, left: int, right: int) -> None:
    _multiply_code(target, left, right)


@_compiled
def add(target: int, left: int, right: int) -> None:
    _add_code(target, left, right)


@_compiled
def subtract(target: int, left: int, right: int) -> None:
    _subtract_code(target, left, right)


@_compiled
def square(target: int, source: int, times: int) -> None:
    """`source` squared so many times, at least once."""
    _square_code(target, source)
    for _ in range(times - 1):
        _square_code(target, target)


@_compiled
def double(target: int, source: int) -> None:
    _double_code(target, source)


@_compiled
def add_point(target: int, source: int, other: int) -> None:
    _add_point_code(target, source, other)


@_compiled
def _power_250(target: int, source: int, eleventh: int, room: int) -> None:
    """source^(2^250 - 1), and source^11; three slots of room. Each line says which power it makes."""
    a, b, c = room, room + SLOT, room + 2 * SLOT
    square(a, source, 1)  # 2
    square(b, a, 2)  # 8
    multiply(b, source, b)  # 9
    multiply(eleventh, a, b)  # 11
    square(a, eleventh, 1)  # 22
    multiply(a, a, b)  # 2^5 - 1
    square(b, a, 5)
    multiply(a, b, a)  # 2^10 - 1
    square(b, a, 10)
    multiply(b, b, a)  # 2^20 - 1
    square(c, b, 20)
    multiply(b, c, b)  # 2^40 - 1
    square(b, b, 10)
    multiply(a, b, a)  # 2^50 - 1
    square(b, a, 50)
    multiply(b, b, a)  # 2^100 - 1
    square(c, b, 100)
    multiply(b, c, b)  # 2^200 - 1
    square(b, b, 50)
    multiply(target, b, a)  # 2^250 - 1


@_compiled
def _invert(target: int, source: int, room: int) -> None:
    """source^(p - 2); five slots of room."""
    _power_250(room, source, room + SLOT, room + 2 * SLOT)
    square(room, room, 5)
    multiply(target, room, room + SLOT)


@_compiled
def _root_power(target: int, source: int, room: int) -> None:
    """source^((p - 5) / 8); five slots of room."""
    _power_250(room, source, room + SLOT, room + 2 * SLOT)
    square(room, room, 2)
    multiply(target, room, source)


@_compiled
def _canonical(words: Words, at: int) -> None:
    """The slot at word `at` with every number below p."""
    mask, bits, nineteen = np.uint64(MASK), np.uint64(LIMB_BITS), np.uint64(19)
    limbs = np.empty(LIMBS, np.uint64)
    for lane in range(LANES):
        for limb in range(LIMBS):
            limbs[limb] = words[at + LANES * limb + lane]
        for turn in range(4):
            if turn == 3:  # below 2^255 now: 1 if it is p or more
                carry = (limbs[0] + nineteen) >> bits
                for limb in range(1, LIMBS):
                    carry = (limbs[limb] + carry) >> bits
                limbs[0] += nineteen * carry
            for limb in range(LIMBS - 1):
                limbs[limb + 1] += limbs[limb] >> bits
                limbs[limb] &= mask
            if turn < 3:
                limbs[0] += nineteen * (limbs[4] >> bits)
            limbs[4] &= mask
        for limb in range(LIMBS):
            words[at + LANES * limb + lane] = limbs[limb]


# --- tables ---


def limbs_of(number: int) -> list[int]:
    """A number below 2^255, the lowest limb first."""
    return [number >> LIMB_BITS * limb & MASK for limb in range(LIMBS)]


def _recover(y: int, *, odd: bool) -> int:
    """The x of a point of the curve."""
    square_of_x = (y * y - 1) * pow(_D * y * y + 1, -1, FIELD_PRIME) % FIELD_PRIME
    x = pow(square_of_x, (FIELD_PRIME + 3) // 8, FIELD_PRIME)
    if (x * x - square_of_x) % FIELD_PRIME:
        x = x * _ROOT % FIELD_PRIME
    return FIELD_PRIME - x if x % 2 != odd else x


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (x, y), (u, v) = one, other
    product = _D * x * u * y * v
    return (
        (x * v + u * y) * pow(1 + product, -1, FIELD_PRIME) % FIELD_PRIME,
        (y * v + x * u) * pow(1 - product, -1, FIELD_PRIME) % FIELD_PRIME,
    )


def _base_table() -> Words:
    """(129, 20): the multiples 0 to 128 of the base point as (Y + X, Y - X, 2Z, 2dT) with Z = 1."""
    y = 4 * pow(5, -1, FIELD_PRIME) % FIELD_PRIME
    base = point = (_recover(y, odd=False), y)
    rows = [limbs_of(1) + limbs_of(1) + limbs_of(2) + limbs_of(0)]
    for _ in range(128):
        x, y = point
        numbers = ((y + x) % FIELD_PRIME, (y - x) % FIELD_PRIME, 2, 2 * _D * x * y % FIELD_PRIME)
        rows.append([limb for number in numbers for limb in limbs_of(number)])
        point = _sum(point, base)
    return np.array(rows, np.uint64)


def aligned(slots: int) -> Words:
    """Zeros for so many slots, at an address that vectors can be loaded from."""
    room = np.zeros(slots * ROWS + 8, np.uint64)
    first = -room.ctypes.data % 64 // 8
    return room[first : first + slots * ROWS]


def _constants() -> Words:
    """1, d, 2d and the root of -1, each the same in all lanes."""
    words = aligned(4)
    for slot, number in enumerate((1, _D, 2 * _D % FIELD_PRIME, _ROOT)):
        words[slot * ROWS : (slot + 1) * ROWS] = np.repeat(np.array(limbs_of(number), np.uint64), LANES)
    return words


CONSTANTS: Final = _constants()
_BASE: Final = _base_table()
_LIFT: Final = np.array(_TWO_P, np.uint64)

# Slots of the workspace
_SUM: Final = 0  # the point that is summed up
_ADDEND: Final = 4  # the table entry of each lane
_KEY: Final = 8  # -A and its multiples while the table is made
_TABLE: Final = 12  # 1 to 8 times -A, as (Y + X, Y - X, 2Z, 2dT)
_ROOM: Final = 44
SLOTS: Final = 60


# --- the check ---


@_compiled
def _decode(keys: Words, first: int, words: Words, base: int, constants: int, good: NDArray[np.uint8]) -> None:
    """-A of eight keys into `_KEY`; `good` becomes 0 where there is no such point."""
    mask = np.uint64(MASK)
    y, u, v = base + (_KEY + 1) * SLOT, base + _ROOM * SLOT, base + (_ROOM + 1) * SLOT
    x, cube, check = base + _KEY * SLOT, base + (_ROOM + 2) * SLOT, base + (_ROOM + 3) * SLOT
    less, more, turned = base + (_ROOM + 4) * SLOT, base + (_ROOM + 5) * SLOT, base + (_ROOM + 6) * SLOT
    room = base + (_ROOM + 7) * SLOT
    one, d, root = constants, constants + SLOT, constants + 3 * SLOT
    at = (_KEY + 1) * ROWS
    for lane in range(LANES):
        a, b, c, e = keys[first + lane, 0], keys[first + lane, 1], keys[first + lane, 2], keys[first + lane, 3]
        e &= np.uint64(2**63 - 1)
        words[at + lane] = a & mask
        words[at + 8 + lane] = ((a >> np.uint64(51)) | (b << np.uint64(13))) & mask
        words[at + 16 + lane] = ((b >> np.uint64(38)) | (c << np.uint64(26))) & mask
        words[at + 24 + lane] = ((c >> np.uint64(25)) | (e << np.uint64(39))) & mask
        words[at + 32 + lane] = e >> np.uint64(12)
    square(u, y, 1)
    multiply(v, u, d)
    subtract(u, u, one)
    add(v, v, one)
    square(cube, v, 1)
    multiply(cube, cube, v)
    square(x, cube, 1)
    multiply(x, x, v)
    multiply(x, x, u)
    _root_power(x, x, room)
    multiply(x, x, cube)
    multiply(x, x, u)  # u v^3 (u v^7)^((p - 5) / 8)
    square(check, x, 1)
    multiply(check, check, v)
    subtract(less, check, u)
    add(more, check, u)
    multiply(turned, x, root)
    _canonical(words, (_ROOM + 4) * ROWS)
    _canonical(words, (_ROOM + 5) * ROWS)
    for lane in range(LANES):
        is_root, is_turned = True, True
        for limb in range(LIMBS):
            is_root = is_root and words[(_ROOM + 4) * ROWS + LANES * limb + lane] == 0
            is_turned = is_turned and words[(_ROOM + 5) * ROWS + LANES * limb + lane] == 0
        for limb in range(LIMBS):
            place = LANES * limb + lane
            if is_turned and not is_root:
                words[_KEY * ROWS + place] = words[(_ROOM + 6) * ROWS + place]
            elif not is_root:  # no point: the identity, because only points of the curve never come to Z = 0,
                words[_KEY * ROWS + place] = 0  # which would spoil the inversion for the other groups
                words[(_KEY + 1) * ROWS + place] = limb == 0
        if not (is_root or is_turned):
            good[first + lane] = 0
    _canonical(words, _KEY * ROWS)
    for lane in range(LANES):
        sign = keys[first + lane, 3] >> np.uint64(63)
        if words[_KEY * ROWS + lane] & np.uint64(1) == sign:
            for limb in range(LIMBS):
                place = _KEY * ROWS + LANES * limb + lane
                words[place] = _LIFT[limb] - words[place]
    multiply(x, x, one)
    multiply(x + 2 * SLOT, one, one)
    multiply(x + 3 * SLOT, x, y)


@_compiled
def _make_table(base: int, constants: int) -> None:
    """1 to 8 times the point in `_KEY`."""
    point, table = base + _KEY * SLOT, base + _TABLE * SLOT
    for entry in range(8):
        at = table + entry * POINT
        add(at, point + SLOT, point)
        subtract(at + SLOT, point + SLOT, point)
        add(at + 2 * SLOT, point + 2 * SLOT, point + 2 * SLOT)
        multiply(at + 3 * SLOT, point + 3 * SLOT, constants + 2 * SLOT)
        if entry < 7:
            add_point(point, point, table)


@_compiled
def _take(words: Words, lane: int, digit: int) -> None:
    """The table's multiple by a digit from -8 to 8 becomes the lane's addend."""
    addend = _ADDEND * ROWS + lane
    if digit == 0:
        for row in range(4 * LIMBS):
            words[addend + LANES * row] = 0
        words[addend] = words[addend + ROWS] = 1
        words[addend + 2 * ROWS] = 2
        return
    entry = (_TABLE + 4 * (abs(digit) - 1)) * ROWS + lane
    for row in range(4 * LIMBS):
        words[addend + LANES * row] = words[entry + LANES * row]
    if digit < 0:
        _negate(words, addend)


@_compiled
def _take_base(words: Words, lane: int, digit: int) -> None:
    """The base point's multiple by a digit from -128 to 128 becomes the lane's addend."""
    addend = _ADDEND * ROWS + lane
    for row in range(4 * LIMBS):
        words[addend + LANES * row] = _BASE[abs(digit), row]
    if digit < 0:
        _negate(words, addend)


@_compiled
def _negate(words: Words, at: int) -> None:
    """-P: Y + X and Y - X change places, 2dT its sign."""
    for limb in range(LIMBS):
        place = at + LANES * limb
        words[place], words[place + ROWS] = words[place + ROWS], words[place]
        words[place + 3 * ROWS] = _LIFT[limb] - words[place + 3 * ROWS]


@_compiled
def _sum_up(
    words: Words, base: int, first: int, multiples: NDArray[np.int16], of_base: NDArray[np.int16]
) -> None:
    """[k](-A) + [S]B of eight lanes, by their digits."""
    for place in range(4 * ROWS):
        words[_SUM * ROWS + place] = 0
    for lane in range(LANES):
        words[(_SUM + 1) * ROWS + lane] = words[(_SUM + 2) * ROWS + lane] = 1
    point, addend = base + _SUM * SLOT, base + _ADDEND * SLOT
    for window in range(WINDOWS - 1, -1, -1):
        if window < WINDOWS - 1:
            for _ in range(4):
                double(point, point)
        for lane in range(LANES):
            _take(words, lane, int(multiples[first + lane, window]))
        add_point(point, point, addend)
        if window % 2 == 0:
            for lane in range(LANES):
                _take_base(words, lane, int(of_base[first + lane, window // 2]))
            add_point(point, point, addend)


@_compiled
def check(
    keys: Words,
    commitments: Words,
    multiples: NDArray[np.int16],
    of_base: NDArray[np.int16],
    constants: int,
    words: Words,
    base: int,
    sums: Words,
    sums_at: int,
    good: NDArray[np.uint8],
) -> None:
    """good[i] = 0 where encode([S]B - [k]A) is not R.

    `words` is the workspace and `base` its address; `sums` has a point for eight checks: all are brought to Z = 1 by
    one inversion, with T as the running products.
    """
    groups = len(keys) // LANES
    for group in range(groups):
        _decode(keys, LANES * group, words, base, constants, good)
        _make_table(base, constants)
        _sum_up(words, base, LANES * group, multiples, of_base)
        at = sums_at + group * POINT
        for slot in range(3):
            multiply(at + slot * SLOT, base + (_SUM + slot) * SLOT, constants)
        if group == 0:
            multiply(at + 3 * SLOT, at + 2 * SLOT, constants)
        else:
            multiply(at + 3 * SLOT, at + 2 * SLOT, at - SLOT)
    inverse, own = base + _ROOM * SLOT, base + (_ROOM + 1) * SLOT
    x, y = base + (_ROOM + 2) * SLOT, base + (_ROOM + 3) * SLOT
    _invert(inverse, sums_at + (groups - 1) * POINT + 3 * SLOT, base + (_ROOM + 4) * SLOT)
    for group in range(groups - 1, -1, -1):
        at = sums_at + group * POINT
        if group > 0:
            multiply(own, inverse, at - SLOT)
            multiply(inverse, inverse, at + 2 * SLOT)
        else:
            multiply(own, inverse, constants)
        multiply(x, at, own)
        multiply(y, at + SLOT, own)
        _compare(words, commitments, LANES * group, good)


@_compiled
def _compare(words: Words, commitments: Words, first: int, good: NDArray[np.uint8]) -> None:
    """The encodings of eight points (x and y in the room) with R."""
    _canonical(words, (_ROOM + 2) * ROWS)
    _canonical(words, (_ROOM + 3) * ROWS)
    for lane in range(LANES):
        at = (_ROOM + 3) * ROWS + lane
        a, b, c, d, e = words[at], words[at + 8], words[at + 16], words[at + 24], words[at + 32]
        sign = words[(_ROOM + 2) * ROWS + lane] & np.uint64(1)
        expected = commitments[first + lane]
        if (
            expected[0] != a | (b << np.uint64(51))
            or expected[1] != (b >> np.uint64(13)) | (c << np.uint64(38))
            or expected[2] != (c >> np.uint64(26)) | (d << np.uint64(25))
            or expected[3] != (d >> np.uint64(39)) | (e << np.uint64(12)) | (sign << np.uint64(63))
        ):
            good[first + lane] = 0

"""The kernel of `chain.crypto.secp256k1_lanes`: eight checks of the ECDSA equation, one in each lane.

[u1]G + [u2]Q is summed up in one run of 125 doublings: u2 is split in two by the curve's endomorphism (Gallant,
Lambert, Vanstone, "Faster point multiplication on elliptic curves with efficient endomorphisms", 2001), u1 at its 128th
bit, with multiples of G and of [2^128]G made once. The formulas are complete (`chain.crypto.lane_field`), so no lane
needs to be treated otherwise than its neighbours: a table's entry 0 is the point at infinity.

Compiled by numba on first use (some seconds) and kept beside this file (or where NUMBA_CACHE_DIR says). What is kept is
made anew when this file changes, so all compiled code is in here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from chain.crypto.lane_field import (
    LANES,
    LIMBS,
    MASK,
    ROWS,
    SLOT,
    Field,
    Words,
    aligned,
    limbs_of,
    slot_operation,
)

Bytes = NDArray[np.uint8]

FIELD_CODE: Final = "32e425ca252cf070"  # the digest of lane_field.py, whose code is in what is kept
FIELD_PRIME: Final = 2**256 - 2**32 - 977
THREE_B: Final = 21
BETA: Final = 0x7AE96A2B657C07106E64479EAC3434E99CF0497512F58995C1396C28719501EE  # (x, y) times lambda: (beta x, y)
BASE_POINT: Final = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
WINDOW: Final = 5  # bits, signed
WINDOWS: Final = 26  # of a half of u2
BASE_WINDOW: Final = 10
BASE_WINDOWS: Final = 13  # of a half of u1
_ENTRIES: Final = 2 ** (WINDOW - 1)

_compiled = njit(cache=True, nogil=True)


# --- operations on slots ---


def _emit_multiply(builder: Any, target: Any, left: Any, right: Any) -> None:
    x = Field(builder, FIELD_PRIME)
    x.store(target, x.multiply(x.load(left), x.load(right)))


def _emit_square(builder: Any, target: Any, source: Any) -> None:
    x = Field(builder, FIELD_PRIME)
    x.store(target, x.square(x.load(source)))


def _emit_difference(builder: Any, target: Any, left: Any, right: Any) -> None:
    """Below 2^257: 0 or p where the two are equal."""
    x = Field(builder, FIELD_PRIME)
    x.store(target, x.combine((1, x.load(left)), (-1, x.load(right)), small=True))


def _emit_sum(builder: Any, target: Any, left: Any, right: Any) -> None:
    x = Field(builder, FIELD_PRIME)
    x.store(target, x.combine((1, x.load(left)), (1, x.load(right)), small=True))


def _emit_double(builder: Any, target: Any, source: Any) -> None:
    x = Field(builder, FIELD_PRIME)
    x.store_point(target, x.double_point(x.load_point(source), THREE_B))


def _emit_add(builder: Any, target: Any, source: Any, other: Any) -> None:
    """`other` is a point and a row of masks: in which lanes it is to be subtracted."""
    x = Field(builder, FIELD_PRIME)
    u, v, w = x.load_point(other)
    v = x.negate_where(v, x.load_row(other, 3 * LIMBS))
    x.store_point(target, x.add_points(x.load_point(source), (u, v, w), THREE_B))


_multiply_code = slot_operation(_emit_multiply, ("target", "left", "right"))
_difference_code = slot_operation(_emit_difference, ("target", "left", "right"))
_sum_code = slot_operation(_emit_sum, ("target", "left", "right"))
_add_code = slot_operation(_emit_add, ("target", "source", "other"))
_square_code = slot_operation(_emit_square, ("target", "source"))
_double_code = slot_operation(_emit_double, ("target", "source"))


@_compiled
def multiply(target: int, left: int, right: int) -> None:
    _multiply_code(target, left, right)


@_compiled
def difference(target: int, left: int, right: int) -> None:
    _difference_code(target, left, right)


@_compiled
def sum_of(target: int, left: int, right: int) -> None:
    _sum_code(target, left, right)


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
def add(target: int, source: int, other: int) -> None:
    _add_code(target, source, other)


# --- tables and constants ---


def sum_of_points(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Of two points of which neither is the other's opposite."""
    (x, y), (u, v) = one, other
    if one == other:
        slope = 3 * x * x * pow(2 * y, -1, FIELD_PRIME) % FIELD_PRIME
    else:
        slope = (v - y) * pow(u - x, -1, FIELD_PRIME) % FIELD_PRIME
    third = (slope * slope - x - u) % FIELD_PRIME
    return third, (slope * (x - third) - y) % FIELD_PRIME


def _base_table() -> Words:
    """(2, 513, 10): the multiples of G and of [2^128]G, x and y; 0 times is (0, 1), whose Z is 0."""
    table = np.zeros((2, 2 ** (BASE_WINDOW - 1) + 1, 2 * LIMBS), np.uint64)
    base = BASE_POINT
    for half in range(2):
        table[half, 0] = limbs_of(0) + limbs_of(1)
        point = base
        for entry in range(1, len(table[half])):
            table[half, entry] = limbs_of(point[0]) + limbs_of(point[1])
            point = sum_of_points(point, base)
        for _ in range(128):
            base = sum_of_points(base, base)
    return table


def _constants() -> Words:
    """1, beta and 7, each the same in all lanes."""
    words = aligned(3)
    for slot, number in enumerate((1, BETA, 7)):
        words[slot * ROWS : (slot + 1) * ROWS] = np.repeat(np.array(limbs_of(number), np.uint64), LANES)
    return words


CONSTANTS: Final = _constants()
BASE_TABLE: Final = _base_table()
_PRIME: Final = np.array(limbs_of(FIELD_PRIME), np.uint64)

# Slots of the workspace
_SUM: Final = 0  # the point that is summed up
_ADDEND: Final = 3  # the table entry of each lane, and a slot whose first row says where it is to be subtracted
_KEY: Final = 7  # Q, y of either sign
_TABLE: Final = 10  # 0 to 16 times Q, as (X, Y, Z, beta X)
_ROOM: Final = _TABLE + 4 * (_ENTRIES + 1)
SLOTS: Final = _ROOM + 10


# --- the check ---


@_compiled
def _root(target: int, source: int, room: int) -> None:
    """source^((p + 1) / 4), a root if there is one; six slots of room. Each line says which power it makes."""
    two, three, a, b = room, room + SLOT, room + 2 * SLOT, room + 3 * SLOT
    eleven, long = room + 4 * SLOT, room + 5 * SLOT
    square(two, source, 1)
    multiply(two, two, source)  # 2^2 - 1
    square(three, two, 1)
    multiply(three, three, source)  # 2^3 - 1
    square(a, three, 3)
    multiply(a, a, three)  # 2^6 - 1
    square(a, a, 3)
    multiply(a, a, three)  # 2^9 - 1
    square(a, a, 2)
    multiply(a, a, two)  # 2^11 - 1
    square(eleven, a, 11)
    multiply(eleven, eleven, a)  # 2^22 - 1
    square(a, eleven, 22)
    multiply(a, a, eleven)  # 2^44 - 1
    square(b, a, 44)
    multiply(b, b, a)  # 2^88 - 1
    square(long, b, 88)
    multiply(long, long, b)  # 2^176 - 1
    square(long, long, 44)
    multiply(long, long, a)  # 2^220 - 1
    square(long, long, 3)
    multiply(long, long, three)  # 2^223 - 1
    square(long, long, 23)
    multiply(long, long, eleven)  # (2^223 - 1) 2^23 + 2^22 - 1
    square(long, long, 6)
    multiply(long, long, two)
    square(target, long, 2)


@_compiled
def _canonical(words: Words, at: int) -> None:
    """The slot at word `at`, of numbers below 2^257, with every number below p."""
    mask, bits, top = np.uint64(MASK), np.uint64(52), np.uint64(48)
    less = np.uint64(2**32 + 977)
    for lane in range(at, at + LANES):
        for _ in range(2):
            carry = (words[lane] + less) >> bits
            for limb in range(1, LIMBS - 1):
                carry = (words[lane + LANES * limb] + carry) >> bits
            carry = (words[lane + LANES * (LIMBS - 1)] + carry) >> top  # 0 if the number is below p
            if carry == np.uint64(0):
                break
            carry *= less
            for limb in range(LIMBS):
                carry += words[lane + LANES * limb]
                words[lane + LANES * limb] = carry & mask
                carry >>= bits
            words[lane + LANES * (LIMBS - 1)] &= np.uint64(2**48 - 1)


@_compiled
def _is_zero(words: Words, at: int) -> bool:
    """Whether the number of which `at` is the lowest limb, canonical, is 0."""
    found = np.uint64(0)
    for limb in range(LIMBS):
        found |= words[at + LANES * limb]
    return bool(found == np.uint64(0))


@_compiled
def _spread(words: Words, at: int, number: Words) -> None:
    """Four words into the limbs of which `at` is the lowest."""
    mask = np.uint64(MASK)
    a, b, c, d = number[0], number[1], number[2], number[3]
    words[at] = a & mask
    words[at + 8] = ((a >> np.uint64(52)) | (b << np.uint64(12))) & mask
    words[at + 16] = ((b >> np.uint64(40)) | (c << np.uint64(24))) & mask
    words[at + 24] = ((c >> np.uint64(28)) | (d << np.uint64(36))) & mask
    words[at + 32] = d >> np.uint64(16)


@_compiled
def _decode(
    abscissas: Words, odd: Bytes, first: int, words: Words, base: int, constants: int, good: Bytes
) -> None:
    """Q of eight keys into entry 1 of the table; `good` becomes 0 where there is no such point."""
    x, y, check = base + _KEY * SLOT, base + (_KEY + 1) * SLOT, base + (_KEY + 2) * SLOT
    right, room = base + _ROOM * SLOT, base + (_ROOM + 1) * SLOT
    entry = base + (_TABLE + 4) * SLOT
    for lane in range(LANES):
        _spread(words, _KEY * ROWS + lane, abscissas[first + lane])
    square(right, x, 1)
    multiply(right, right, x)
    sum_of(right, right, constants + 2 * SLOT)
    _root(y, right, room)
    square(check, y, 1)
    difference(check, check, right)
    _canonical(words, (_KEY + 1) * ROWS)
    _canonical(words, (_KEY + 2) * ROWS)
    for lane in range(LANES):
        at = (_KEY + 1) * ROWS + lane
        if not _is_zero(words, (_KEY + 2) * ROWS + lane):
            good[first + lane] = 0
        if words[at] & np.uint64(1) != np.uint64(odd[first + lane]):
            borrow = np.uint64(0)
            for limb in range(LIMBS):
                taken = _PRIME[limb] - words[at + LANES * limb] - borrow
                borrow = taken >> np.uint64(63)
                words[at + LANES * limb] = taken & np.uint64(MASK)
    multiply(entry, x, constants)
    multiply(entry + SLOT, y, constants)
    multiply(entry + 2 * SLOT, constants, constants)


@_compiled
def _make_table(words: Words, base: int, constants: int) -> None:
    """0 to 16 times the point that is entry 1; the addend's masks must be 0."""
    table, addend = base + _TABLE * SLOT, base + _ADDEND * SLOT
    for place in range(4 * ROWS):
        words[_TABLE * ROWS + place] = 0
    for lane in range(LANES):
        words[(_TABLE + 1) * ROWS + lane] = 1
        words[(_ADDEND + 3) * ROWS + lane] = 0
    first = table + 4 * SLOT
    for slot in range(3):
        multiply(addend + slot * SLOT, first + slot * SLOT, constants)
    multiply(first + 3 * SLOT, first, constants + SLOT)
    for number in range(2, _ENTRIES + 1):
        entry = table + 4 * number * SLOT
        if number % 2:
            add(entry, entry - 4 * SLOT, addend)
        else:
            double(entry, table + 2 * number * SLOT)
        multiply(entry + 3 * SLOT, entry, constants + SLOT)


@_compiled
def _take(words: Words, lane: int, digit: int, half: int) -> None:
    """The table's multiple by a digit from -16 to 16 becomes the lane's addend; half 1: lambda times it."""
    entry, addend = (_TABLE + 4 * abs(digit)) * ROWS + lane, _ADDEND * ROWS + lane
    first = entry + half * 3 * ROWS
    for row in range(LIMBS):
        words[addend + LANES * row] = words[first + LANES * row]
    for row in range(LIMBS, 3 * LIMBS):
        words[addend + LANES * row] = words[entry + LANES * row]
    words[addend + 3 * ROWS] = np.uint64(0) - np.uint64(digit < 0)


@_compiled
def _take_base(words: Words, lane: int, digit: int, table: Words) -> None:
    """The base point's multiple by a digit from -512 to 512 becomes the lane's addend."""
    addend, entry = _ADDEND * ROWS + lane, table[abs(digit)]
    for row in range(2 * LIMBS):
        words[addend + LANES * row] = entry[row]
    for row in range(2 * LIMBS, 3 * LIMBS):
        words[addend + LANES * row] = 0
    words[addend + LANES * 2 * LIMBS] = np.uint64(digit != 0)
    words[addend + 3 * ROWS] = np.uint64(0) - np.uint64(digit < 0)


@_compiled
def _sum_up(
    words: Words, base: int, first: int, of_key: NDArray[np.int16], of_base: NDArray[np.int16], table: Words
) -> None:
    """[u1]G + [u2]Q of eight lanes, by their digits."""
    for place in range(3 * ROWS):
        words[_SUM * ROWS + place] = 0
    for lane in range(LANES):
        words[(_SUM + 1) * ROWS + lane] = 1
    point, addend = base + _SUM * SLOT, base + _ADDEND * SLOT
    for window in range(WINDOWS - 1, -1, -1):
        if window < WINDOWS - 1:
            for _ in range(WINDOW):
                double(point, point)
        for half in range(2):
            for lane in range(LANES):
                _take(words, lane, int(of_key[first + lane, half, window]), half)
            add(point, point, addend)
        if window % 2 == 0:
            for half in range(2):
                for lane in range(LANES):
                    _take_base(words, lane, int(of_base[first + lane, half, window // 2]), table[half])
                add(point, point, addend)


@_compiled
def _compare(words: Words, base: int, first: int, expected: Words, good: Bytes) -> None:
    """good[i] = 0 unless the sum is finite and its x one of the two numbers expected: one times Z is X."""
    z = base + (_SUM + 2) * SLOT
    for choice in range(2):
        for lane in range(LANES):
            _spread(words, (_ROOM + choice) * ROWS + lane, expected[first + lane, choice])
        number = base + (_ROOM + choice) * SLOT
        multiply(number, number, z)
        difference(number, number, base + _SUM * SLOT)
        _canonical(words, (_ROOM + choice) * ROWS)
    difference(base + (_ROOM + 2) * SLOT, z, base + (_TABLE + 2) * SLOT)  # entry 0 of the table has a Z of 0
    _canonical(words, (_ROOM + 2) * ROWS)
    for lane in range(LANES):
        place = _ROOM * ROWS + lane
        is_expected = _is_zero(words, place) or _is_zero(words, place + ROWS)
        if not is_expected or _is_zero(words, place + 2 * ROWS):
            good[first + lane] = 0


@_compiled
def check(
    abscissas: Words,
    odd: Bytes,
    of_key: NDArray[np.int16],
    of_base: NDArray[np.int16],
    expected: Words,
    table: Words,
    constants: int,
    words: Words,
    base: int,
    good: Bytes,
) -> None:
    """good[i] = 0 where the key is no point, or x([u1]G + [u2]Q) is neither of the two numbers expected.

    For n checks, n a multiple of eight: x of the keys (n, 4), whether y is odd (n), digits (n, 2, 26) and (n, 2, 13) as
    `chain.crypto.ecdsa_input` makes them, numbers expected (n, 2, 4). `words` is the workspace and `base` its address.
    """
    for group in range(len(abscissas) // LANES):
        first = LANES * group
        _decode(abscissas, odd, first, words, base, constants, good)
        _make_table(words, base, constants)
        _sum_up(words, base, first, of_key, of_base, table)
        _compare(words, base, first, expected, good)

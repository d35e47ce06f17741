"""What `chain.crypto.secp256k1_kernel.check` wants, made from keys, digests and signatures in one compiled pass.

For each signature: rules 1 and 3 of `chain.crypto.secp256k1` but for the curve, u1 = z / s and u2 = r / s modulo the
group order n with one inversion for all (Montgomery), and their signed digits: u1 = low + 2^128 high, u2 = one + lambda
other with both below 2^128 in size, by the constants of the curve's lattice of such pairs.

Numbers are four words of 64 bits, the lowest first. Products modulo n are Montgomery's (R = 2^256), so another curve
needs other constants only. Compiled by numba on first use and kept beside this file; no compiled code of another file
is used in here, because a change there would not be noticed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from chain.crypto.secp256k1 import GROUP_ORDER, S_MAX

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Digits = NDArray[np.int16]

FIELD_PRIME: Final = 2**256 - 2**32 - 977
LAMBDA: Final = 0x5363AD4CC05C30E0A5261C028812645A122E22EA20816678DF02967C1B23BD72
# Two short vectors (a, b) with a + b lambda = 0 modulo n: (A_1, -B_1) and (A_2, A_1), as Euclid's algorithm finds them
_A_1: Final = 0x3086D221A7D46BCDE86C90E49284EB15
_B_1: Final = 0xE4437ED6010E88286F547FA90ABFE4C3
_A_2: Final = 0x114CA50F7A8E2F3F657C1108D9D44CFD8
_numba_types: Any = types
_PAIR: Final = _numba_types.UniTuple(types.uint64, 2)
_compiled = njit(cache=True, nogil=True)


def words_of(number: int) -> list[int]:
    return [number >> 64 * word & (2**64 - 1) for word in range(4)]


def _words(number: int) -> Words:
    return np.array(words_of(number), np.uint64)


_PRIME: Final = _words(FIELD_PRIME)
_ORDER: Final = _words(GROUP_ORDER)
_S_END: Final = _words(S_MAX + 1)
_SECOND_END: Final = _words(FIELD_PRIME - GROUP_ORDER)  # an r below it may be that of an x above n
_SQUARE: Final = _words(2**512 % GROUP_ORDER)
_ONE: Final = _words(1)
_ORDER_LESS_2: Final = _words(GROUP_ORDER - 2)
_INVERSE: Final = np.uint64(-pow(GROUP_ORDER, -1, 2**64) % 2**64)
# Rounded quotients: k times the first is the share of the first vector times 2^384
_SHARE_1: Final = _words((2**384 * _A_1 + GROUP_ORDER // 2) // GROUP_ORDER)
_SHARE_2: Final = _words((2**384 * _B_1 + GROUP_ORDER // 2) // GROUP_ORDER)
_A_1_WORDS: Final = _words(_A_1)
_B_1_WORDS: Final = _words(_B_1)
_A_2_WORDS: Final = _words(_A_2)


def _wide_code(typing_context: Any, left: Any, right: Any, one: Any, other: Any) -> Any:
    """left * right + one + other, which 128 bits hold, as (low, high)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, word = ir.IntType(128), ir.IntType(64)
        a, b, c, d = (builder.zext(value, wide) for value in arguments)
        total = builder.add(builder.add(builder.mul(a, b), c), d)
        halves = builder.trunc(total, word), builder.trunc(builder.lshr(total, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, signature.return_type, halves)

    return _PAIR(types.uint64, types.uint64, types.uint64, types.uint64), generate


_wide: Any = intrinsic(_wide_code)


@_compiled
def _is_below(words: Words, bound: Words) -> bool:
    for word in range(3, -1, -1):
        if words[word] != bound[word]:
            return bool(words[word] < bound[word])
    return False


@_compiled
def _is_zero(words: Words) -> bool:
    return bool((words[0] | words[1] | words[2] | words[3]) == np.uint64(0))


@_compiled
def _read(data: Bytes, words: Words) -> None:
    """32 big-endian bytes."""
    for word in range(4):
        value = np.uint64(0)
        for byte in range(8):
            value = (value << np.uint64(8)) | np.uint64(data[24 - 8 * word + byte])
        words[word] = value


@_compiled
def _subtract_order(words: Words) -> None:
    borrow = np.uint64(0)
    for word in range(4):
        taken = words[word] - _ORDER[word]
        less = words[word] < _ORDER[word] or taken < borrow
        words[word] = taken - borrow
        borrow = np.uint64(less)


@_compiled
def multiply(target: Words, left: Words, right: Words, room: Words) -> None:
    """left * right / 2^256 modulo n, below n if one of them is; five words of room."""
    zero = np.uint64(0)
    room[:] = 0
    for i in range(4):
        carry = zero
        for j in range(4):
            room[j], carry = _wide(left[i], right[j], room[j], carry)
        top, more = _wide(room[4], np.uint64(1), carry, zero)
        factor = room[0] * _INVERSE
        _, carry = _wide(factor, _ORDER[0], room[0], zero)
        for j in range(1, 4):
            room[j - 1], carry = _wide(factor, _ORDER[j], room[j], carry)
        room[3], carry = _wide(top, np.uint64(1), carry, zero)
        room[4] = more + carry
    target[:] = room[:4]
    if room[4] != zero or not _is_below(target, _ORDER):
        _subtract_order(target)


@_compiled
def _invert(target: Words, source: Words, room: Words) -> None:
    """source^(n - 2), both times 2^256."""
    powers = np.empty((16, 4), np.uint64)
    multiply(powers[0], _SQUARE, _ONE, room)
    for power in range(1, 16):
        multiply(powers[power], powers[power - 1], source, room)
    target[:] = powers[0]
    for window in range(63, -1, -1):
        for _ in range(4):
            multiply(target, target, target, room)
        digit = (_ORDER_LESS_2[window // 16] >> np.uint64(4 * (window % 16))) & np.uint64(15)
        multiply(target, target, powers[np.int64(digit)], room)


@_compiled
def _share(number: Words, share: Words, rounded: Words) -> None:
    """number * share / 2^384, rounded, as two words."""
    product = np.zeros(8, np.uint64)
    for i in range(4):
        carry = np.uint64(0)
        for j in range(4):
            product[i + j], carry = _wide(number[i], share[j], product[i + j], carry)
        product[i + 4] = carry
    rounded[0], carry = _wide(product[6], np.uint64(1), product[5] >> np.uint64(63), np.uint64(0))
    rounded[1] = product[7] + carry


@_compiled
def _take_off(number: Words, times: Words, vector: Words) -> None:
    """number - times * vector, modulo 2^192."""
    product = np.zeros(3, np.uint64)
    for i in range(2):
        carry = np.uint64(0)
        for j in range(3 - i):
            product[i + j], carry = _wide(times[i], vector[j], product[i + j], carry)
    borrow = np.uint64(0)
    for word in range(3):
        taken = number[word] - product[word]
        less = number[word] < product[word] or taken < borrow
        number[word] = taken - borrow
        borrow = np.uint64(less)


@_compiled
def split(number: Words, one: Words, other: Words, room: Words) -> None:
    """one + lambda other = number modulo n, in two's complement of three words; four words of room."""
    first, second = room[:2], room[2:4]
    _share(number, _SHARE_1, first)
    _share(number, _SHARE_2, second)
    one[:3] = number[:3]
    _take_off(one, first, _A_1_WORDS)
    _take_off(one, second, _A_2_WORDS)
    # other = first * B_1 - second * A_1: taken off the wrong way round, then turned
    other[:3] = 0
    _take_off(other, first, _B_1_WORDS)
    carry = np.uint64(1)
    for word in range(3):
        other[word], carry = _wide(~other[word], np.uint64(1), carry, np.uint64(0))
    _take_off(other, second, _A_1_WORDS)


@_compiled
def digits_of(number: Words, signed: Digits, bits: int) -> None:
    """Three words of two's complement, below 2^128 in size, as signed digits, the lowest first."""
    size, carry = np.int64(1) << bits, np.int64(0)
    for at in range(len(signed)):
        word, shift = at * bits // 64, np.uint64(at * bits % 64)
        value = number[word] >> shift
        if shift != np.uint64(0) and word < 2:
            value |= number[word + 1] << (np.uint64(64) - shift)
        digit = np.int64(value & np.uint64(size - 1)) + carry
        if at + 1 < len(signed):
            carry = np.int64(digit >= size // 2)
            digit -= carry * size
        elif digit >= size // 2:  # the sign
            digit -= size
        signed[at] = digit


@_compiled
def prepare(
    keys: Bytes,
    digests: Bytes,
    signatures: Bytes,
    abscissas: Words,
    odd: Bytes,
    of_key: Digits,
    of_base: Digits,
    expected: Words,
    good: Bytes,
) -> None:
    """(n, 33), (n, 32) and (n, 64) bytes; fills the rest, for n or more rows.

    good[i] = 0 where rules 1 and 3 refuse; r and s count as 1 there. Rows from n on are refused.
    """
    count = len(keys)
    rs, inverses = np.empty((count, 4), np.uint64), np.empty((count, 4), np.uint64)
    running = np.empty((count + 1, 4), np.uint64)
    s, rest, room = np.empty(4, np.uint64), np.empty(4, np.uint64), np.empty(5, np.uint64)
    one, other = np.zeros(4, np.uint64), np.zeros(4, np.uint64)
    multiply(running[0], _SQUARE, _ONE, room)
    for index in range(count):
        _read(keys[index, 1:], abscissas[index])
        _read(signatures[index, :32], rs[index])
        _read(signatures[index, 32:], s)
        is_good = (
            (keys[index, 0] == 2 or keys[index, 0] == 3)
            and _is_below(abscissas[index], _PRIME)
            and not _is_zero(rs[index])
            and _is_below(rs[index], _ORDER)
            and not _is_zero(s)
            and _is_below(s, _S_END)
        )
        good[index], odd[index] = is_good, keys[index, 0] & 1
        if not is_good:
            rs[index] = _ONE
            s[:] = _ONE
        multiply(inverses[index], s, _SQUARE, room)
        multiply(running[index + 1], running[index], inverses[index], room)
    _invert(s, running[count], room)
    for index in range(count - 1, -1, -1):
        multiply(rest, s, running[index], room)  # 1 / s of this one
        multiply(s, s, inverses[index], room)
        inverses[index] = rest
    for index in range(count):
        multiply(rest, rs[index], inverses[index], room)
        split(rest, one, other, room)
        digits_of(one, of_key[index, 0], 5)
        digits_of(other, of_key[index, 1], 5)
        _read(digests[index], s)
        multiply(rest, s, inverses[index], room)
        one[:2], other[:2] = rest[:2], rest[2:]
        one[2] = other[2] = 0
        digits_of(one, of_base[index, 0], 10)
        digits_of(other, of_base[index, 1], 10)
        expected[index, 0] = rs[index]
        expected[index, 1] = rs[index]
        if _is_below(rs[index], _SECOND_END):
            carry = np.uint64(0)
            for word in range(4):
                expected[index, 1, word], carry = _wide(rs[index, word], np.uint64(1), _ORDER[word], carry)
    for index in range(count, len(good)):
        good[index] = odd[index] = 0
        abscissas[index] = _ONE
        expected[index] = 0
        of_key[index] = 0
        of_base[index] = 0

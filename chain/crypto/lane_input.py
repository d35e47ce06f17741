"""What `chain.crypto.lanes.check` wants, made from keys, messages and signatures in one compiled pass.

For each signature R || S by A over M: rules 2 to 4 of `chain.crypto.ed25519`, k = SHA-512(R || A || M) mod L (FIPS
180-4; reduction as in the public-domain `ref10`, limbs of 21 bits), and the signed digits of k and S. In the
interpreter this costs half of what the check does, and more than it where a batch comes only now and then.

Compiled by numba on first use and kept beside this file; no compiled code of another file is used in here, because a
change there would not be noticed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from chain.crypto.ed25519 import FIELD_PRIME, GROUP_ORDER, SMALL_ORDER_Y

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Longs = NDArray[np.int64]

BLOCK: Final = 128  # bytes of SHA-512
ROUNDS: Final = 80
_LIMB: Final = 21  # bits
_LIMBS: Final = 24
_compiled = njit(cache=True, nogil=True)


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _root_bits(number: int, degree: int) -> int:
    """The first 64 bits behind the point of a root of `number`: how FIPS 180-4 chose its constants."""
    scaled, low, high = number << 64 * degree, 0, 1 << 72
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= scaled else (low, middle)
    return low & (2**64 - 1)


def _words_of(number: int) -> list[int]:
    return [number >> 64 * word & (2**64 - 1) for word in range(4)]


_ROUND: Final = np.array([_root_bits(prime, 3) for prime in _primes(ROUNDS)], np.uint64)
_START: Final = np.array([_root_bits(prime, 2) for prime in _primes(8)], np.uint64)
_SMALL_ORDER: Final = np.array([_words_of(y) for y in sorted(SMALL_ORDER_Y)], np.uint64)
_PRIME: Final = np.array(_words_of(FIELD_PRIME), np.uint64)
_ORDER: Final = np.array(_words_of(GROUP_ORDER), np.uint64)
# 2^252 mod L in signed limbs of 21 bits: what a limb that stands 12 places higher adds to these six
_FOLD: Final = np.array([666643, 470296, 654183, -997805, 136657, -683901], np.int64)


@_compiled
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@_compiled
def _absorb(state: Words, data: Bytes, first: int, schedule: Words) -> None:
    """One block of SHA-512."""
    for at in range(16):
        word = np.uint64(0)
        for byte in range(8):
            word = (word << np.uint64(8)) | np.uint64(data[first + 8 * at + byte])
        schedule[at] = word
    for at in range(16, ROUNDS):
        old, late = schedule[at - 15], schedule[at - 2]
        small = _rotated(old, 1) ^ _rotated(old, 8) ^ (old >> np.uint64(7))
        large = _rotated(late, 19) ^ _rotated(late, 61) ^ (late >> np.uint64(6))
        schedule[at] = schedule[at - 16] + small + schedule[at - 7] + large
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for at in range(ROUNDS):
        mixed = h + (_rotated(e, 14) ^ _rotated(e, 18) ^ _rotated(e, 41)) + ((e & f) ^ (~e & g))
        mixed = mixed + _ROUND[at] + schedule[at]
        other = (_rotated(a, 28) ^ _rotated(a, 34) ^ _rotated(a, 39)) + ((a & b) ^ (a & c) ^ (b & c))
        h, g, f, e, d, c, b, a = g, f, e, d + mixed, c, b, a, mixed + other
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e
    state[5] += f
    state[6] += g
    state[7] += h


@_compiled
def _hash(head: Bytes, key: Bytes, message: Bytes, data: Bytes, state: Words, schedule: Words, digest: Bytes) -> None:
    """SHA-512(head || key || message), 32 bytes each of the first two; `data` has room for all, padded."""
    length = 64 + len(message)
    blocks = (length + 17 + BLOCK - 1) // BLOCK
    data[:32] = head
    data[32:64] = key
    data[64:length] = message
    data[length : blocks * BLOCK] = 0
    data[length] = 0x80
    for byte in range(8):
        data[blocks * BLOCK - 1 - byte] = (8 * length >> 8 * byte) & 0xFF
    state[:] = _START
    for block in range(blocks):
        _absorb(state, data, block * BLOCK, schedule)
    for word in range(8):
        for byte in range(8):
            digest[8 * word + byte] = (state[word] >> np.uint64(56 - 8 * byte)) & np.uint64(0xFF)


@_compiled
def _fold(limbs: Longs, top: int) -> None:
    for at in range(6):
        limbs[top - 12 + at] += limbs[top] * _FOLD[at]
    limbs[top] = 0


@_compiled
def _round_carries(limbs: Longs, first: int, last: int) -> None:
    """Carry from every second limb, so that each comes between -2^20 and 2^20."""
    for at in range(first, last + 1, 2):
        carry = (limbs[at] + (1 << (_LIMB - 1))) >> _LIMB
        limbs[at + 1] += carry
        limbs[at] -= carry << _LIMB


@_compiled
def _carries(limbs: Longs, last: int) -> None:
    for at in range(last + 1):
        carry = limbs[at] >> _LIMB
        limbs[at + 1] += carry
        limbs[at] -= carry << _LIMB


@_compiled
def reduce(digest: Bytes, limbs: Longs, scalar: Bytes) -> None:
    """64 little-endian bytes modulo L, as 32: the one number below L."""
    for at in range(_LIMBS):
        bit = at * _LIMB
        value = np.int64(0)
        for byte in range(4):
            if bit // 8 + byte < 64:
                value |= np.int64(digest[bit // 8 + byte]) << (8 * byte)
        value >>= bit % 8
        limbs[at] = value & ((1 << _LIMB) - 1) if at + 1 < _LIMBS else value
    for top in range(23, 17, -1):
        _fold(limbs, top)
    _round_carries(limbs, 6, 16)
    _round_carries(limbs, 7, 15)
    for top in range(17, 11, -1):
        _fold(limbs, top)
    _round_carries(limbs, 0, 10)
    _round_carries(limbs, 1, 11)
    _fold(limbs, 12)
    _carries(limbs, 11)
    _fold(limbs, 12)
    _carries(limbs, 10)
    held = bits = at = 0
    for byte in range(32):
        while bits < 8 and at < 12:
            held |= limbs[at] << bits
            bits += _LIMB
            at += 1
        scalar[byte] = held & 0xFF
        held >>= 8
        bits -= 8


@_compiled
def _is_below(words: Words, bound: Words) -> bool:
    for word in range(3, -1, -1):
        if words[word] != bound[word]:
            return bool(words[word] < bound[word])
    return False


@_compiled
def _is_acceptable(point: Words, room: Words) -> bool:
    """Rules 2 and 3: canonical, and not of small order."""
    room[:] = point
    room[3] &= np.uint64(2**63 - 1)
    if not _is_below(room, _PRIME):
        return False
    for small in range(len(_SMALL_ORDER)):
        same = True
        for word in range(4):
            same = same and room[word] == _SMALL_ORDER[small, word]
        if same:
            return False
    return True


@_compiled
def _digits(scalar: Bytes, signed: NDArray[np.int16], bits: int) -> None:
    """A little-endian scalar below 2^253 as signed digits of 4 or 8 bits, the lowest first."""
    half, steps, carry = 1 << (bits - 1), 8 // bits, 0
    for at in range(len(signed)):
        digit = ((np.int64(scalar[at // steps]) >> (bits * (at % steps))) & ((1 << bits) - 1)) + carry
        carry = 0
        if digit >= half and at + 1 < len(signed):
            digit -= 1 << bits
            carry = 1
        signed[at] = digit


@_compiled
def prepare(
    keys: Bytes,
    signatures: Bytes,
    messages: Bytes,
    ends: Longs,
    commitments: Words,
    multiples: NDArray[np.int16],
    of_base: NDArray[np.int16],
    good: Bytes,
) -> None:
    """(n, 32), (n, 64) bytes, the messages one after the other and where each ends; fills the rest, for n or more rows.

    good[i] = 0 where rules 2 to 4 refuse; S counts as 0 there. Rows from n on are refused.
    """
    key_words, halves = keys.view(np.uint64), signatures.view(np.uint64)
    longest = start = 0
    for index in range(len(ends)):
        longest = max(longest, ends[index] - start)
        start = ends[index]
    data, digest = np.empty(longest + 64 + 2 * BLOCK, np.uint8), np.empty(64, np.uint8)
    state, schedule, room = np.empty(8, np.uint64), np.empty(ROUNDS, np.uint64), np.empty(4, np.uint64)
    limbs, scalar, nothing = np.empty(_LIMBS, np.int64), np.empty(32, np.uint8), np.zeros(32, np.uint8)
    start = 0
    for index in range(len(ends)):
        commitments[index] = halves[index, :4]
        is_good = (
            _is_below(halves[index, 4:], _ORDER)
            and _is_acceptable(key_words[index], room)
            and _is_acceptable(halves[index, :4], room)
        )
        good[index] = is_good
        message = messages[start : ends[index]]
        _hash(signatures[index, :32], keys[index], message, data, state, schedule, digest)
        reduce(digest, limbs, scalar)
        _digits(scalar, multiples[index], 4)
        _digits(signatures[index, 32:] if is_good else nothing, of_base[index], 8)
        start = ends[index]
    for index in range(len(ends), len(good)):
        good[index] = 0
        commitments[index] = 0
        multiples[index] = 0
        of_base[index] = 0

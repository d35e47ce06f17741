"""Writes the vector code of eight field elements at a time, one in each 64-bit lane, and of points made of three.

A number is five limbs of 52 bits, the lowest first, the width of the multiplier (AVX-512 IFMA); eight of them, one a
lane, are five rows of eight words, 320 bytes, called a *slot* and passed about by its address. The multiplier takes no
more than 52 bits, so every number here has exact limbs (each below 2^52) while its value may be some multiples of the
prime. What that value can be at most is known when the code is written and kept beside it: an operation whose operands
could overflow fails then, before there is any code.

`Field` is for primes just below 2^256, like that of secp256k1; a prime of another shape (SM2, P-256) needs another
`_fold`, nothing else. Points are homogeneous, (X : Y : Z) with x = X / Z, y = Y / Z, the point at infinity (0 : 1 : 0),
and the formulas of Renes, Costello and Batina, "Complete addition formulas for prime order elliptic curves", 2016
(algorithms 7 and 9, for a = 0), hold for all of them: equal, opposite, infinite.

There is no compiled code here. A module that compiles it names the SHA-256 of this text (a test says when it is
another), because numba makes anew what it keeps of a module only when that module itself changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from chain.errors import InvariantError

Words = NDArray[np.uint64]

LANES: Final = 8
LIMBS: Final = 5
LIMB_BITS: Final = 52
MASK: Final = 2**LIMB_BITS - 1
ROWS: Final = LIMBS * LANES  # words of a slot
SLOT: Final = ROWS * 8  # bytes of a slot
POINT: Final = 3 * SLOT
STORED: Final = 2**258  # no number in a slot is larger

_TOP: Final = 256 - LIMB_BITS * (LIMBS - 1)  # bits of the top limb below 2^256
_ROOM: Final = 2**260  # five exact limbs
_COLUMN: Final = 2**63
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I64, LANES)


class Number(NamedTuple):
    """Five vectors of exact limbs, and the largest value that a lane can have."""

    limbs: list[Any]
    largest: int


Triple = tuple[Number, Number, Number]


def _all(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantError(f"vector code would overflow: {what}")


def limbs_of(number: int) -> list[int]:
    """A number below 2^260, the lowest limb first."""
    return [number >> LIMB_BITS * limb & MASK for limb in range(LIMBS)]


def aligned(slots: int) -> Words:
    """Zeros for so many slots, at an address that vectors can be loaded from."""
    room = np.zeros(slots * ROWS + 8, np.uint64)
    first = -room.ctypes.data % 64 // 8
    return room[first : first + slots * ROWS]


class Field:
    """Arithmetic modulo 2^256 - c, c below 2^48, at one place of a program."""

    def __init__(self, builder: Any, prime: int) -> None:
        self._b = builder
        self.prime = prime
        self._c = 2**256 - prime
        _require(0 < self._c < 2**48, "the prime is not just below 2^256")
        multiply = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        declare: Any = cgutils.get_or_insert_function
        self._low, self._high = (
            declare(builder.module, multiply, f"llvm.x86.avx512.vpmadd52{half}.uq.512") for half in "lh"
        )

    # --- slots ---

    def load(self, address: Any, slot: int = 0) -> Number:
        limbs = [self._b.load(self._row(address, slot * LIMBS + limb), align=64) for limb in range(LIMBS)]
        return Number(limbs, STORED)

    def load_point(self, address: Any) -> Triple:
        return self.load(address), self.load(address, 1), self.load(address, 2)

    def load_row(self, address: Any, row: int) -> Any:
        return self._b.load(self._row(address, row), align=64)

    def store(self, address: Any, number: Number, slot: int = 0) -> None:
        _require(number.largest <= STORED, "a number to store")
        for limb in range(LIMBS):
            self._b.store(number.limbs[limb], self._row(address, slot * LIMBS + limb), align=64)

    def store_point(self, address: Any, point: Triple) -> None:
        for slot, number in enumerate(point):
            self.store(address, number, slot)

    def _row(self, address: Any, row: int) -> Any:
        return self._b.inttoptr(self._b.add(address, ir.Constant(_I64, row * LANES * 8)), _VECTOR.as_pointer())

    # --- numbers ---

    def combine(self, *terms: tuple[int, Number], small: bool = False) -> Number:
        """The sum of multiples, plus a multiple of the prime that keeps it above 0; `small`: below 2^257."""
        b = self._b
        taken = -sum(times for times, _ in terms if times < 0)
        under = sum(-times * number.largest for times, number in terms if times < 0)
        lift, constant = self._lift(taken, under)
        largest = lift + sum(times * number.largest for times, number in terms if times > 0)
        _require(largest < 2**268 and sum(abs(times) for times, _ in terms) < 2**8, "a sum")
        sums = []
        for limb in range(LIMBS):
            total = _all(constant[limb])
            for times, number in terms:
                part = number.limbs[limb]
                if abs(times) > 1:
                    part = b.mul(part, _all(abs(times)))
                total = b.add(total, part) if times > 0 else b.sub(total, part)
            sums.append(total)
        return self._reduce(sums, _all(0), 0, largest) if small else self._carry(sums, largest)

    def negate_where(self, number: Number, mask: Any) -> Number:
        """The negative in the lanes where the mask is all ones; the number in those where it is 0."""
        b = self._b
        lift, constant = self._lift(1, number.largest)
        taken = [b.sub(_all(above), limb) for above, limb in zip(constant, number.limbs, strict=True)]
        rest = b.xor(mask, _all(-1))
        limbs = [b.or_(b.and_(one, rest), b.and_(two, mask)) for one, two in zip(number.limbs, taken, strict=True)]
        return self._carry(limbs, max(lift, number.largest))

    def multiply(self, left: Number, right: Number) -> Number:
        return self.sum_of_products((left, right))

    def sum_of_products(self, *pairs: tuple[Number, Number]) -> Number:
        b, low, high = self._b, [_all(0)] * 9, [_all(0)] * 9
        for left, right in pairs:
            for i in range(LIMBS):
                for j in range(LIMBS):
                    low[i + j] = b.call(self._low, [low[i + j], left.limbs[i], right.limbs[j]])
                    high[i + j] = b.call(self._high, [high[i + j], left.limbs[i], right.limbs[j]])
        _require(2 * LIMBS * len(pairs) * 2**LIMB_BITS < _COLUMN, "columns of products")
        return self._fold(low, high, sum(left.largest * right.largest for left, right in pairs))

    def square(self, number: Number) -> Number:
        b, low, high, limbs = self._b, [_all(0)] * 9, [_all(0)] * 9, number.limbs
        for i in range(LIMBS):
            for j in range(i + 1, LIMBS):
                low[i + j] = b.call(self._low, [low[i + j], limbs[i], limbs[j]])
                high[i + j] = b.call(self._high, [high[i + j], limbs[i], limbs[j]])
        for at in range(1, 8):
            low[at], high[at] = b.shl(low[at], _all(1)), b.shl(high[at], _all(1))
        for i in range(LIMBS):
            low[2 * i] = b.call(self._low, [low[2 * i], limbs[i], limbs[i]])
            high[2 * i] = b.call(self._high, [high[2 * i], limbs[i], limbs[i]])
        return self._fold(low, high, number.largest**2)

    def _lift(self, taken: int, under: int) -> tuple[int, list[int]]:
        """A multiple of the prime, at least `under`, in limbs none of which is below `taken` numbers' limbs."""
        if not taken:
            return 0, [0] * LIMBS
        lift = -(-(under + (taken << LIMB_BITS * 4)) // self.prime) * self.prime
        parts, lent = limbs_of(lift), taken << LIMB_BITS
        return lift, [parts[0] + lent, *(part + lent - taken for part in parts[1:4]), (lift >> LIMB_BITS * 4) - taken]

    def _carry(self, sums: list[Any], largest: int) -> Number:
        """Exact limbs of the same value."""
        _require(largest < _ROOM, "five limbs")
        b, limbs = self._b, list(sums)
        for at in range(LIMBS - 1):
            limbs[at + 1] = b.add(limbs[at + 1], b.lshr(limbs[at], _all(LIMB_BITS)))
            limbs[at] = b.and_(limbs[at], _all(MASK))
        return Number(limbs, largest)

    def _reduce(self, sums: list[Any], above: Any, above_max: int, largest: int) -> Number:
        """What stands at 2^256 and above comes back times c; `above` weighs 2^260.

        One round of carries leaves the top limb right or one too small, so that it cannot come below 0.
        """
        b = self._b
        carries = [b.lshr(limb, _all(LIMB_BITS)) for limb in sums[:4]]
        limbs = [b.and_(limb, _all(MASK)) for limb in sums[:4]]
        limbs = [limbs[0], *(b.add(limbs[at], carries[at - 1]) for at in range(1, 4)), b.add(sums[4], carries[3])]
        over = b.add(b.lshr(limbs[4], _all(_TOP)), b.shl(above, _all(LIMB_BITS * LIMBS - 256)))
        limbs[4] = b.and_(limbs[4], _all(2**_TOP - 1))
        over_max = max(largest >> 256, (above_max << LIMB_BITS * LIMBS - 256) + 2 ** (64 - _TOP))
        _require(over_max < 2**LIMB_BITS, "what stands above 2^256")
        limbs[0] = b.call(self._low, [limbs[0], over, _all(self._c)])
        limbs[1] = b.call(self._high, [limbs[1], over, _all(self._c)])
        return self._carry(limbs, 2**256 + 2**209 + over_max * self._c)

    def _fold(self, low: list[Any], high: list[Any], largest: int) -> Number:
        """Ten columns to five limbs: limb 5 weighs 2^260, which is 16 c."""
        b, weight = self._b, _all(self._c << LIMB_BITS * LIMBS - 256)
        columns = [low[0], *(b.add(low[at], high[at - 1]) for at in range(1, 9)), high[8]]
        for at in range(LIMBS, 2 * LIMBS - 1):  # the multiplier itself drops what stands above the 52 bits
            columns[at + 1] = b.add(columns[at + 1], b.lshr(columns[at], _all(LIMB_BITS)))
        top_max = largest >> LIMB_BITS * (2 * LIMBS - 1)
        _require(top_max < 2**LIMB_BITS, "the top limb of a product")
        sums, above = columns[:LIMBS], _all(0)
        for at in range(LIMBS):
            sums[at] = b.call(self._low, [sums[at], columns[at + LIMBS], weight])
        for at in range(LIMBS - 1):
            sums[at + 1] = b.call(self._high, [sums[at + 1], columns[at + LIMBS], weight])
        above = b.call(self._high, [above, columns[2 * LIMBS - 1], weight])
        above_max = top_max * (self._c << LIMB_BITS * LIMBS - 256) >> LIMB_BITS
        return self._reduce(sums, above, above_max, _ROOM)

    # --- points of y^2 = x^3 + b, three_b = 3 b ---

    def double_point(self, point: Triple, three_b: int) -> Triple:
        x, y, z = point
        yy, yz = self.square(y), self.multiply(y, z)
        b_zz = self.combine((three_b, self.square(z)), small=True)
        eight_yy = self.combine((8, yy))
        rest = self.combine((1, yy), (-3, b_zz))
        return (
            self.combine((2, self.multiply(rest, self.multiply(x, y)))),
            self.sum_of_products((b_zz, eight_yy), (rest, self.combine((1, yy), (1, b_zz)))),
            self.multiply(yz, eight_yy),
        )

    def add_points(self, one: Triple, other: Triple, three_b: int) -> Triple:
        (x, y, z), (u, v, w) = one, other
        xu, yv, zw = self.multiply(x, u), self.multiply(y, v), self.multiply(z, w)

        def crossed(a: Number, b: Number, c: Number, d: Number) -> Number:
            return self.multiply(self.combine((1, a), (1, b)), self.combine((1, c), (1, d)))

        xv = self.combine((1, crossed(x, y, u, v)), (-1, xu), (-1, yv))
        yw = self.combine((1, crossed(y, z, v, w)), (-1, yv), (-1, zw))
        b_xw = self.combine((three_b, crossed(x, z, u, w)), (-three_b, xu), (-three_b, zw), small=True)
        b_zw = self.combine((three_b, zw), small=True)
        more, less = self.combine((1, yv), (1, b_zw)), self.combine((1, yv), (-1, b_zw))
        triple = self.combine((3, xu))
        return (
            self.sum_of_products((xv, less), (yw, self.combine((-1, b_xw)))),
            self.sum_of_products((b_xw, triple), (less, more)),
            self.sum_of_products((more, yw), (triple, xv)),
        )


def slot_operation(emit: Any, arguments: Sequence[str]) -> Any:
    """A numba intrinsic of so many addresses (named for the reader), whose code `emit(builder, *addresses)` writes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit(builder, *values)
        return context.get_dummy_value()

    signature = types.void(*(types.int64,) * len(arguments))
    if len(arguments) == 2:

        def two(typing_context: Any, first: Any, second: Any) -> Any:
            return signature, generate

        return intrinsic(two)

    def three(typing_context: Any, first: Any, second: Any, third: Any) -> Any:
        return signature, generate

    return intrinsic(three)

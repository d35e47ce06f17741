"""secp256k1 in lanes: verdicts, the arithmetic of eight numbers and points against Python's, published vectors."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from chain.crypto import lane_field, secp256k1, secp256k1_kernel
from chain.crypto.ed25519_lanes import is_supported
from chain.crypto.lane_field import LANES, POINT, ROWS, SLOT, STORED
from chain.crypto.secp256k1_kernel import BASE_POINT, BETA, FIELD_PRIME, sum_of_points
from chain.errors import InvariantError
from tests.signatures.__main__ import TRIALS, lanes_of
from tests.signatures.cases import Case
from tests.signatures.ecdsa_cases import EcdsaCases
from tests.signatures.published import wycheproof

HAS_LANES = is_supported()
EDGES = (
    0, 1, 2, FIELD_PRIME - 1, FIELD_PRIME, FIELD_PRIME + 1, 2 * FIELD_PRIME, 3 * FIELD_PRIME, 2**256 - 1, 2**256,
    2**257 - 1, STORED, STORED - 1, 2**52 - 1, 2**52, 2**208 - 1, 2**208, 2**256 - 2**52, 2**256 - 2**208,
    2**257 - 2**52, 2**32 + 977, 2**33 - 1, (2**260 - 1) // 15 % STORED, STORED - 2**104, FIELD_PRIME + 2**32,
)  # fmt: skip
# What must become of each kind: True, False, or both
VERDICTS = {
    "sound": {True}, "a bit flipped": {False}, "r at the edges": {False}, "s at the edges": {False}, "high s": {False},
    "r and s given": {True, False}, "x above n": {True}, "r + n beyond p": {False}, "sum at infinity": {False},
    "sums that meet": {True}, "key at the edges": {True, False}, "no point": {False}, "random": {False},
    "other forms of a key": {False}, "of another": {False}, "misshapen": {True, False},
}  # fmt: skip

Point = tuple[int, int] | None  # None: at infinity


def judge(cases: Sequence[Case], scheme: str = "secp256k1") -> list[bool]:
    """By the lanes themselves: `checker_of` would give way to the library if they were wrong.

    Where the processor lacks the instructions these tests are about the library, which stands in then.
    """
    if not cases:
        return []
    keys, messages, signatures = zip(*(case[1:] for case in cases), strict=True)
    if HAS_LANES:
        return lanes_of(scheme)(keys, messages, signatures)
    return [TRIALS[scheme].by_library(*one) for one in zip(keys, messages, signatures, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 8, 9, 64, 300])
def test_every_kind_of_signature_is_judged_as_by_two_libraries(size: int) -> None:
    supply, trial = EcdsaCases(size), TRIALS["secp256k1"]
    found: dict[str, set[bool]] = defaultdict(set)
    for _ in range(-(-600 // size)):
        cases = [supply.next() for _ in range(size)]
        for case, verdict in zip(cases, judge(cases), strict=True):
            assert verdict == trial.by_library(*case[1:]) == trial.by_openssl(case), case
            found[case.kind].add(verdict)
    assert found.keys() == VERDICTS.keys()
    for kind, verdicts in found.items():
        assert verdicts <= VERDICTS[kind], kind


def test_signatures_that_are_refused_spoil_no_other() -> None:
    """Each kind of bad one beside seven good ones, in each place: no point, s = 0, the sum at infinity."""
    supply = EcdsaCases(7)
    drawn = [supply.next() for _ in range(400)]
    good = [case for case in drawn if case.kind == "sound"][:7]
    bad = {case.kind: case for case in drawn if not secp256k1.verify(*case[1:])}
    bad["zeros"] = Case("zeros", bytes(33), bytes(32), bytes(64))
    bad["ones"] = Case("ones", b"\x02" + b"\xff" * 32, b"\xff" * 32, b"\xff" * 64)
    assert len(bad) >= 13
    for place, case in enumerate(bad.values()):
        cases = [*good[: place % 8], case, *good[place % 8 :]]
        assert judge(cases) == [one is not case for one in cases], case.kind
        cases = good + [case] * 9 + good
        assert judge(cases) == [one is not case for one in cases], case.kind


@pytest.mark.parametrize(("scheme", "count", "accepted"), [("ed25519", 210, 138), ("secp256k1", 574, 224)])
def test_wycheproof(scheme: str, count: int, accepted: int) -> None:
    vectors = wycheproof(scheme)
    assert (len(vectors), sum(vector.accepted for vector in vectors)) == (count, accepted)
    for vector, verdict in zip(vectors, judge([vector.case for vector in vectors], scheme), strict=True):
        assert verdict == TRIALS[scheme].by_library(*vector.case[1:]) == vector.accepted, vector.case.kind


def test_what_is_kept_of_the_kernel_is_made_anew_when_the_field_code_changes() -> None:
    """numba looks at the kernel's own file only. Changed lane_field.py? Then write its new digest into the kernel."""
    text = Path(lane_field.__file__).read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == secp256k1_kernel.FIELD_CODE


# --- arithmetic ---


def put(words: np.ndarray, slot: int, numbers: Sequence[int]) -> None:
    """Eight numbers, one a lane, each in limbs of 52 bits."""
    for lane, number in enumerate(numbers):
        for limb in range(5):
            words[slot * ROWS + limb * LANES + lane] = number >> 52 * limb & (2**52 - 1)


def get(words: np.ndarray, slot: int) -> list[int]:
    rows = [[int(word) for word in words[slot * ROWS + limb * LANES :][:LANES]] for limb in range(5)]
    assert all(word < 2**52 for row in rows for word in row)
    numbers = [sum(row[lane] << 52 * limb for limb, row in enumerate(rows)) for lane in range(LANES)]
    assert max(numbers) <= STORED
    return numbers


def eights(numbers: list[int]) -> list[list[int]]:
    numbers = numbers + numbers[: -len(numbers) % LANES]
    return [numbers[at : at + LANES] for at in range(0, len(numbers), LANES)]


@pytest.mark.parametrize("name", ["multiply", "difference", "sum_of"])
def test_numbers_at_the_edges(name: str) -> None:
    operation: Callable[[int, int, int], None] = getattr(secp256k1_kernel, name)
    expected: Callable[[int, int], int] = {
        "multiply": lambda a, b: a * b, "difference": lambda a, b: a - b, "sum_of": lambda a, b: a + b
    }[name]
    draw = Random(name)
    values = [*EDGES, *(draw.getrandbits(draw.choice((52, 104, 208, 256, 258))) for _ in range(40))]
    limbs = (0, 1, 2**52 - 2, 2**52 - 1)
    values += [sum(draw.choice(limbs) << 52 * limb for limb in range(5)) % STORED for _ in range(40)]
    pairs = [(a, b) for a in values for b in values]
    words = lane_field.aligned(3)
    base = words.ctypes.data
    for at in range(0, len(pairs) // 8 * 8 if HAS_LANES else 0, LANES):
        lefts, rights = zip(*pairs[at : at + LANES], strict=True)
        put(words, 0, lefts)
        put(words, 1, rights)
        operation(base + 2 * SLOT, base, base + SLOT)
        for a, b, result in zip(lefts, rights, get(words, 2), strict=True):
            assert (result - expected(a, b)) % FIELD_PRIME == 0, (a, b)
            assert result < 2**257


def test_squares_at_the_edges() -> None:
    words = lane_field.aligned(2)
    base = words.ctypes.data
    for numbers in eights([*EDGES, *(Random(1).getrandbits(258) for _ in range(400))]) if HAS_LANES else []:
        put(words, 0, numbers)
        for times in (1, 3):
            secp256k1_kernel.square(base + SLOT, base, times)
            for number, result in zip(numbers, get(words, 1), strict=True):
                assert (result - pow(number, 2**times, FIELD_PRIME)) % FIELD_PRIME == 0, number


def negative(point: Point) -> Point:
    return None if point is None else (point[0], FIELD_PRIME - point[1])


def added(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return other if one is None else one
    return None if one == negative(other) else sum_of_points(one, other)


def spread(point: Point, draw: Random) -> tuple[int, int, int]:
    """Homogeneous, with any Z, and each number any of those that stand for it."""
    z = draw.randrange(1, FIELD_PRIME)
    whole = (0, z, 0) if point is None else (point[0] * z % FIELD_PRIME, point[1] * z % FIELD_PRIME, z)
    return tuple(number + FIELD_PRIME * draw.randrange(4) for number in whole)  # type: ignore[return-value]


def is_at(point: Point, x: int, y: int, z: int) -> bool:
    if point is None:
        return x % FIELD_PRIME == z % FIELD_PRIME == 0 and y % FIELD_PRIME != 0
    return z % FIELD_PRIME != 0 and (x - point[0] * z) % FIELD_PRIME == 0 and (y - point[1] * z) % FIELD_PRIME == 0


def test_points_equal_opposite_and_infinite_are_added_like_any() -> None:
    draw, points = Random("points"), [None, BASE_POINT]
    for _ in range(5):
        points.append(sum_of_points(points[-1] or BASE_POINT, BASE_POINT))
    points += [(BASE_POINT[0] * BETA % FIELD_PRIME, BASE_POINT[1])]
    points += [negative(point) for point in points[1:]]
    pairs = [(one, other, sign) for one in points for other in points for sign in (0, 1)]
    words = lane_field.aligned(14)
    base = words.ctypes.data
    for at in range(0, len(pairs) if HAS_LANES else 0, LANES):
        eight = (pairs[at : at + LANES] + pairs[:LANES])[:LANES]
        for first, points_of in ((0, [one for one, _, _ in eight]), (3, [other for _, other, _ in eight])):
            for slot, numbers in enumerate(zip(*(spread(point, draw) for point in points_of), strict=True)):
                put(words, first + slot, numbers)
        words[6 * ROWS : 6 * ROWS + LANES] = [sign * (2**64 - 1) for _, _, sign in eight]
        secp256k1_kernel.add(base + 7 * SLOT, base, base + POINT)
        secp256k1_kernel.double(base + 10 * SLOT, base)
        sums, doubles = (list(zip(*(get(words, slot + at) for at in range(3)), strict=True)) for slot in (7, 10))
        for (one, other, sign), total, twice in zip(eight, sums, doubles, strict=True):
            assert is_at(added(one, negative(other) if sign else other), *total), (one, other, sign)
            assert is_at(added(one, one), *twice), one


def test_code_that_could_overflow_is_not_written() -> None:
    class Nothing:
        """A builder that writes nothing: bounds are known before there is code."""

        module = None

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *arguments, **options: None

    field = lane_field.Field.__new__(lane_field.Field)
    field._b, field.prime, field._c, field._low, field._high = Nothing(), FIELD_PRIME, 2**32 + 977, None, None
    number = lane_field.Number([None] * 5, STORED)
    assert field.combine((2, number), (-1, number)).largest < 2**260
    assert field.combine((21, number), (-42, number), small=True).largest < 2**257
    assert field.sum_of_products((number, number), (number, number)).largest < 2**257
    for write in (
        lambda: field.combine((4, number)),
        lambda: field.combine((-4, number)),
        lambda: field.combine((300, number), small=True),
        lambda: field.store(None, field.combine((2, number))),
        lambda: field.sum_of_products(*((number, number),) * 300),
    ):
        with pytest.raises(InvariantError, match="vector code would overflow"):
            write()


def test_a_batch_of_any_size_is_judged_one_by_one() -> None:
    supply = EcdsaCases(3)
    cases = [supply.next() for _ in range(40)]
    expected = [secp256k1.verify(*case[1:]) for case in cases]
    for count in range(41):
        assert judge(cases[:count]) == expected[:count]

"""Unit tests of chain.crypto.ecdsa_input: products, the split and the digits, against Python's own arithmetic."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from chain.crypto import ecdsa_input
from chain.crypto.ecdsa_input import FIELD_PRIME, LAMBDA, words_of
from chain.crypto.secp256k1 import GROUP_ORDER, S_MAX

RANDOM_CASES = 500
EDGES = (
    0, 1, 2, 2**64 - 1, 2**64, 2**128 - 1, 2**128, 2**192 - 1, 2**255, GROUP_ORDER - 2, GROUP_ORDER - 1,
    GROUP_ORDER // 2, GROUP_ORDER // 2 + 1, LAMBDA, GROUP_ORDER - LAMBDA, LAMBDA**2 % GROUP_ORDER, 2**256 - 2**64,
    2**256 - GROUP_ORDER,
)  # fmt: skip


def as_words(number: int) -> ecdsa_input.Words:
    return np.array(words_of(number), np.uint64)


def as_number(words: np.ndarray) -> int:
    return sum(int(word) << 64 * at for at, word in enumerate(words))


def value(digits: np.ndarray, bits: int) -> int:
    assert np.abs(digits).max() <= 2 ** (bits - 1)
    return sum(int(digit) << bits * at for at, digit in enumerate(digits))


def numbers(seed: int) -> list[int]:
    draw = Random(seed)
    return [number % GROUP_ORDER for number in EDGES] + [draw.randrange(GROUP_ORDER) for _ in range(RANDOM_CASES)]


def test_lambda_is_a_root_of_one() -> None:
    assert (LAMBDA**2 + LAMBDA + 1) % GROUP_ORDER == 0


@pytest.mark.parametrize("other", [1, 2**256 - 1, GROUP_ORDER, GROUP_ORDER + 1, 2**256 % GROUP_ORDER, 2**255 + 1])
def test_products_are_below_the_order_if_one_factor_is(other: int) -> None:
    target, room, inverse = np.empty(4, np.uint64), np.empty(5, np.uint64), pow(2**256, -1, GROUP_ORDER)
    for number in numbers(1):
        ecdsa_input.multiply(target, as_words(number), as_words(other), room)
        assert as_number(target) == number * other * inverse % GROUP_ORDER, number
        ecdsa_input.multiply(target, as_words(other), as_words(number), room)
        assert as_number(target) == number * other * inverse % GROUP_ORDER, number


def test_the_two_halves_of_a_number_are_small_and_make_it_up() -> None:
    one, other, room = (np.empty(words, np.uint64) for words in (4, 4, 5))
    near = [
        (share * GROUP_ORDER // 2 * pow(vector, -1, GROUP_ORDER) + step) % GROUP_ORDER  # where a quotient is rounded
        for share in (1, 3) for vector in (ecdsa_input._A_1, ecdsa_input._B_1) for step in range(-5, 6)
    ]  # fmt: skip
    first, second = np.empty(26, np.int16), np.empty(26, np.int16)
    for number in numbers(2) + near:
        ecdsa_input.split(as_words(number), one, other, room)
        halves = [as_number(half[:3]) - (int(half[2] >> np.uint64(63)) << 192) for half in (one, other)]
        assert max(map(abs, halves)) < 2**128, number
        assert (halves[0] + LAMBDA * halves[1] - number) % GROUP_ORDER == 0, number
        ecdsa_input.digits_of(one, first, 5)
        ecdsa_input.digits_of(other, second, 5)
        assert [value(first, 5), value(second, 5)] == halves, number


@pytest.mark.parametrize(("bits", "count"), [(5, 26), (10, 13)])
def test_digits_make_up_the_number(bits: int, count: int) -> None:
    digits, draw = np.empty(count, np.int16), Random(3)
    whole = [0, 1, 2**128 - 1, 2**127, 2**64 - 1, int("10000" * 25, 2), int("01111" * 25, 2), int("1000000000" * 12, 2)]
    whole += [draw.getrandbits(draw.randrange(1, 129)) for _ in range(RANDOM_CASES)]
    for number in [*whole, *(-number for number in whole)]:
        ecdsa_input.digits_of(as_words(number % 2**192), digits, bits)
        assert value(digits, bits) == number


def test_a_batch_is_prepared_as_the_standard_says() -> None:
    """u1 = z / s, u2 = r / s; rules 1 and 3; one row refused does not change the others' inverses."""
    draw, rows = Random(4), []
    edges = (0, 1, S_MAX, S_MAX + 1, GROUP_ORDER - 1, GROUP_ORDER, 2**256 - 1, FIELD_PRIME - GROUP_ORDER,
             FIELD_PRIME - GROUP_ORDER - 1)  # fmt: skip
    for _ in range(200):
        r, s = (draw.choice((draw.randrange(1, GROUP_ORDER), *edges)) for _ in range(2))
        x = draw.choice((draw.randrange(FIELD_PRIME), 0, FIELD_PRIME - 1, FIELD_PRIME, 2**256 - 1))
        rows.append((draw.choice((2, 3, 2, 3, 0, 4, 255)), x, draw.choice((draw.getrandbits(256), *edges)), r, s))
    big = [[number.to_bytes(32, "big") for number in row[1:]] for row in rows]
    keys = np.array([[row[0], *row_bytes[0]] for row, row_bytes in zip(rows, big, strict=True)], np.uint8)
    digests = np.array([list(row_bytes[1]) for row_bytes in big], np.uint8)
    signatures = np.array([list(row_bytes[2] + row_bytes[3]) for row_bytes in big], np.uint8)
    for given in (keys, digests, signatures):
        given.setflags(write=False)  # as bytes are, for which the code is compiled already
    total = 208
    xs, expected = np.full((total, 4), 7, np.uint64), np.full((total, 2, 4), 7, np.uint64)
    of_key, of_base = np.full((total, 2, 26), 7, np.int16), np.full((total, 2, 13), 7, np.int16)
    odd, good = np.full(total, 7, np.uint8), np.full(total, 7, np.uint8)
    ecdsa_input.prepare(keys, digests, signatures, xs, odd, of_key, of_base, expected, good)
    assert 20 < good.sum() < 100
    for at, (first, x, z, r, s) in enumerate(rows):
        allowed = first in (2, 3) and x < FIELD_PRIME and 0 < r < GROUP_ORDER and 0 < s <= S_MAX
        assert good[at] == allowed
        assert (as_number(xs[at]), odd[at]) == (x, first % 2)
        r, s = (r, s) if allowed else (1, 1)
        inverse = pow(s, -1, GROUP_ORDER)
        u1, u2 = (value(digits[0], bits) + turn * value(digits[1], bits)
                  for digits, bits, turn in ((of_base[at], 10, 2**128), (of_key[at], 5, LAMBDA)))  # fmt: skip
        assert (u1 - z * inverse) % GROUP_ORDER == (u2 - r * inverse) % GROUP_ORDER == 0
        assert as_number(expected[at, 0]) == r
        assert as_number(expected[at, 1]) == (r + GROUP_ORDER if r + GROUP_ORDER < FIELD_PRIME else r)
    assert not good[200:].any() and not of_key[200:].any() and not of_base[200:].any()

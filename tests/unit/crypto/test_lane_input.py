"""Unit tests of chain.crypto.lane_input: the hash, the reduction and the digits, against Python's own arithmetic."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import pytest

from chain.crypto import lane_input
from chain.crypto.ed25519 import FIELD_PRIME, GROUP_ORDER, SMALL_ORDER_Y

RANDOM_CASES = 2_000


def as_bytes(data: bytes) -> lane_input.Bytes:
    return np.frombuffer(data, np.uint8)


def prepared(
    parts: list[tuple[bytes, bytes, bytes]], rows: int
) -> tuple[lane_input.Words, np.ndarray, np.ndarray, lane_input.Bytes]:
    keys, messages, signatures = zip(*parts, strict=True)
    filler = bytes(32 * (rows - len(parts)))
    out = (
        np.full((rows, 4), 7, np.uint64), np.full((rows, 64), 7, np.int16), np.full((rows, 32), 7, np.int16),
        np.full(rows, 7, np.uint8),
    )  # fmt: skip
    lane_input.prepare(
        as_bytes(b"".join(keys) + filler).reshape(rows, 32),
        as_bytes(b"".join(signatures)).reshape(len(parts), 64),
        as_bytes(b"".join(messages)),
        np.cumsum([len(message) for message in messages]),
        *out,
    )
    return out


def value(digits: np.ndarray, bits: int) -> int:
    return sum(int(digit) << bits * at for at, digit in enumerate(digits))


def reduced(number: int) -> int:
    limbs, scalar = np.empty(24, np.int64), np.empty(32, np.uint8)
    lane_input.reduce(as_bytes(number.to_bytes(64, "little")), limbs, scalar)
    return int.from_bytes(scalar.tobytes(), "little")


def test_numbers_are_reduced_to_the_one_below_the_order() -> None:
    random = Random(1)
    top = 2**512 // GROUP_ORDER
    numbers = [0, 1, 2**252 - 1, 2**252, 2**253 - 1, 2**511, 2**512 - 1]
    numbers += [random.getrandbits(random.randrange(1, 513)) for _ in range(RANDOM_CASES)]
    for _ in range(RANDOM_CASES):
        multiple = GROUP_ORDER * random.randrange(1, min(top, 2 ** random.randrange(1, 261)) + 1)
        numbers += [multiple - 1, multiple, multiple + 1]
    for number in numbers:
        if number < 2**512:
            assert reduced(number) == number % GROUP_ORDER, number


@pytest.mark.parametrize("size", [0, 1, 32, 46, 47, 48, 63, 64, 65, 111, 128, 174, 175, 176, 1_000])
def test_digits_are_those_of_the_hash_and_of_the_signature(size: int) -> None:
    random = Random(size)
    parts = []
    for _ in range(5):
        response = random.randrange(GROUP_ORDER).to_bytes(32, "little")
        commitment = random.randrange(2**254).to_bytes(32, "little")
        parts.append((random.randrange(2**254).to_bytes(32, "little"), random.randbytes(size), commitment + response))
    commitments, multiples, of_base, good = prepared(parts, 8)
    for row, (key, message, signature) in enumerate(parts):
        digest = hashlib.sha512(signature[:32] + key + message).digest()
        assert value(multiples[row], 4) == int.from_bytes(digest, "little") % GROUP_ORDER
        assert value(of_base[row], 8) == int.from_bytes(signature[32:], "little")
        assert commitments[row].tobytes() == signature[:32]
    assert good.tolist() == [1] * 5 + [0] * 3
    assert not multiples[5:].any()
    assert not of_base[5:].any()
    assert abs(multiples).max() <= 8
    assert abs(of_base).max() <= 128


def test_rules_two_to_four_refuse_and_leave_nothing_of_the_response() -> None:
    sound = (5).to_bytes(32, "little")
    high = 1 << 255
    points = [y | sign for y in (*SMALL_ORDER_Y, FIELD_PRIME, FIELD_PRIME + 1, 2**255 - 1) for sign in (0, high)]
    bad = [point.to_bytes(32, "little") for point in points]
    fine = [(y | sign).to_bytes(32, "little") for y in (2, FIELD_PRIME - 2, 2**64, 2**192) for sign in (0, high)]
    responses = {GROUP_ORDER - 1: 1, GROUP_ORDER: 0, GROUP_ORDER + 1: 0, 2**256 - 1: 0, 2**252: 1, 0: 1}
    parts = [(point, b"m", sound + sound) for point in bad + fine]
    parts += [(sound, b"m", point + sound) for point in bad + fine]
    parts += [(sound, b"m", sound + response.to_bytes(32, "little")) for response in responses]
    expected = 2 * ([0] * len(bad) + [1] * len(fine)) + list(responses.values())
    _, _, of_base, good = prepared(parts, len(parts))
    assert good.tolist() == expected
    for row, verdict in enumerate(expected):
        assert verdict or not of_base[row].any()

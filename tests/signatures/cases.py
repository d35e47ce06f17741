"""Ed25519 signatures of every kind: sound, spoilt, with points of small and mixed order, and encodings at the edges.

Points and keys are made once, with integers; a case then costs one hash and a little arithmetic.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from chain.crypto.ed25519 import FIELD_PRIME, GROUP_ORDER, SMALL_ORDER_Y

Point = tuple[int, int]

_D: Final = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME
_ROOT: Final = pow(2, (FIELD_PRIME - 1) // 4, FIELD_PRIME)
_IDENTITY: Final = (0, 1)
KEYS: Final = 8  # secrets of which there are points with each small-order part


class Case(NamedTuple):
    kind: str
    public_key: bytes
    message: bytes
    signature: bytes


def add(one: Point, other: Point) -> Point:
    (x, y), (u, v) = one, other
    product = _D * x * u * y * v
    return (
        (x * v + u * y) * pow(1 + product, -1, FIELD_PRIME) % FIELD_PRIME,
        (y * v + x * u) * pow(1 - product, -1, FIELD_PRIME) % FIELD_PRIME,
    )


def times(number: int, point: Point) -> Point:
    total = _IDENTITY
    while number:
        if number & 1:
            total = add(total, point)
        point = add(point, point)
        number >>= 1
    return total


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def with_y(y: int) -> Point | None:
    """The point with this y and an even x."""
    u, v = (y * y - 1) % FIELD_PRIME, (_D * y * y + 1) % FIELD_PRIME
    x = u * pow(v, 3, FIELD_PRIME) * pow(u * pow(v, 7, FIELD_PRIME), (FIELD_PRIME - 5) // 8, FIELD_PRIME) % FIELD_PRIME
    if (v * x * x + u) % FIELD_PRIME == 0:
        x = x * _ROOT % FIELD_PRIME
    if (v * x * x - u) % FIELD_PRIME:
        return None
    return (FIELD_PRIME - x if x & 1 else x, y)


_base = with_y(4 * pow(5, -1, FIELD_PRIME) % FIELD_PRIME)
assert _base is not None
BASE: Final = _base


def _order_8() -> Point:
    for y in sorted(SMALL_ORDER_Y):
        point = with_y(y)
        if point is not None and times(4, point) != _IDENTITY:
            return point
    raise AssertionError("no point of order 8")


@functools.cache
def _pool() -> tuple[list[Point], list[int], list[list[bytes]], list[bytes]]:
    """The points of small order; secrets; their points with each of these added; encodings of no point."""
    draw, torsion = Random("points"), [times(number, _order_8()) for number in range(8)]
    secrets = [draw.randrange(1, GROUP_ORDER) for _ in range(KEYS)]
    plain = [times(secret, BASE) for secret in secrets]
    points = [[encode(add(point, small)) for small in torsion] for point in plain]
    return torsion, secrets, points, [y.to_bytes(32, "little") for y in range(2, 60) if with_y(y) is None]


class Cases:
    """An endless supply of cases, the same for one seed."""

    def __init__(self, seed: int) -> None:
        self._draw = Random(f"signatures/{seed}")
        self._torsion, self._secrets, self._points, self._not_on_curve = _pool()
        self._kinds: list[Callable[[], Case]] = [
            self._sound, self._sound, self._sound, self._mixed, self._mixed, self._flipped, self._flipped,
            self._response_beyond, self._no_point, self._small, self._edge_of_field, self._random, self._swapped,
            self._misshapen,
        ]  # fmt: skip

    def next(self) -> Case:
        return self._draw.choice(self._kinds)()

    def _message(self) -> bytes:
        return self._draw.randbytes(self._draw.choice((0, 1, 32, 63, 64, 100, 300)))

    def _sign(self, kind: str, key_part: int, commitment_part: int) -> Case:
        """By a key and with an R that have these small-order parts; sound as far as the rest goes."""
        signer, nonce = self._draw.randrange(KEYS), self._draw.randrange(KEYS)
        key, commitment = self._points[signer][key_part], self._points[nonce][commitment_part]
        message = self._message()
        k = int.from_bytes(hashlib.sha512(commitment + key + message).digest(), "little") % GROUP_ORDER
        response = (self._secrets[nonce] + k * self._secrets[signer]) % GROUP_ORDER
        return Case(kind, key, message, commitment + response.to_bytes(32, "little"))

    def _sound(self) -> Case:
        return self._sign("sound", 0, 0)

    def _mixed(self) -> Case:
        """Accepted if k times the key's small-order part is just the one in R; by a cofactored rule always."""
        return self._sign("mixed order", self._draw.randrange(8), self._draw.choice((0, 0, 4, self._draw.randrange(8))))

    def _flipped(self) -> Case:
        _, key, message, signature = self._sound()
        parts = [bytearray(key), bytearray(message or b"m"), bytearray(signature)]
        part = self._draw.choice(parts)
        part[self._draw.randrange(len(part))] ^= 1 << self._draw.randrange(8)
        return Case("a bit flipped", *map(bytes, parts))

    def _response_beyond(self) -> Case:
        _, key, message, signature = self._sound()
        response = int.from_bytes(signature[32:], "little")
        wrong = self._draw.choice((
            response + GROUP_ORDER, response + 2 * GROUP_ORDER, GROUP_ORDER, GROUP_ORDER - 1, GROUP_ORDER + 1, 0,
            2**252, 2**253, 2**255, 2**256 - 1, response | 2**255,
        ))  # fmt: skip
        return Case("S at the edges", key, message, signature[:32] + wrong.to_bytes(32, "little"))

    def _no_point(self) -> Case:
        _, key, message, signature = self._sound()
        stray = self._draw.choice(self._not_on_curve)
        if self._draw.random() < 0.5:
            return Case("no point", stray, message, signature)
        return Case("no point", key, message, stray + signature[32:])

    def _small(self) -> Case:
        """A or R of small order, with either sign; a verifier without a rule for these accepts some of them."""
        _, key, message, signature = self._sound()
        small = bytearray(self._draw.choice([encode(point) for point in self._torsion]))
        small[31] ^= self._draw.choice((0, 128))
        response = signature[32:] if self._draw.random() < 0.5 else bytes(32)
        first = bytes(small) if self._draw.random() < 0.7 else key
        second = bytes(small) if first is key or self._draw.random() < 0.5 else signature[:32]
        return Case("small order", first, message, second + response)

    def _edge_of_field(self) -> Case:
        """y from p - 3 to p + 18 and at the powers of two: what lies above p has a second, smaller encoding."""
        _, key, message, signature = self._sound()
        y = self._draw.choice((*range(FIELD_PRIME - 3, FIELD_PRIME + 19), 2**254, 2**204, 2**153, 2**102, 2**51))
        edge = (y | self._draw.choice((0, 2**255))).to_bytes(32, "little")
        if self._draw.random() < 0.5:
            return Case("y at the edges", edge, message, signature)
        return Case("y at the edges", key, message, edge + signature[32:])

    def _random(self) -> Case:
        return Case("random", self._draw.randbytes(32), self._message(), self._draw.randbytes(64))

    def _swapped(self) -> Case:
        one, other = self._sound(), self._sound()
        return Case("of another", one.public_key, other.message, other.signature)

    def _misshapen(self) -> Case:
        _, key, message, signature = self._sound()
        cut = self._draw.choice((0, 1, 31, 33, 63, 65))
        if self._draw.random() < 0.5:
            return Case("misshapen", (key + key)[:cut], message, signature)
        return Case("misshapen", key, message, (signature + signature)[:cut])

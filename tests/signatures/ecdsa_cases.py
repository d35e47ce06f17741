"""secp256k1 signatures of every kind: sound, spoilt, numbers and encodings at the edges, sums that meet each other.

For any key and any u1, u2 there is a signature for which [u1]G + [u2]Q is what is summed up: with r its x, s = r / u2
and the digest u1 s. So there are keys of unknown secrets, points that meet in the middle of the sum, sums at infinity.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random
from typing import Final

import coincurve

from chain.crypto.ecdsa_input import FIELD_PRIME, LAMBDA
from chain.crypto.secp256k1 import GROUP_ORDER, S_MAX, sign
from tests.signatures.cases import Case

KEYS: Final = 64
ABOVE: Final = FIELD_PRIME - GROUP_ORDER  # an r below it stands for two x
_SMALL: Final = (1, 2, 3, 15, 16, 17, 31, 32, 33, 511, 512, 513, 1024)
_HALVES: Final = (2**124, 2**125, 2**127, 2**128 - 1, 2**128, 2**128 + 1, 2**129)
_PLAIN: Final = (*_SMALL, *_HALVES, GROUP_ORDER // 2)
SPECIAL: Final = tuple(
    sign_of * number * turn % GROUP_ORDER
    for number in _PLAIN
    for turn in (1, LAMBDA, LAMBDA**2)
    for sign_of in (1, -1)
)
EDGES: Final = (
    0, 1, 2, ABOVE - 1, ABOVE, ABOVE + 1, S_MAX - 1, S_MAX, S_MAX + 1, GROUP_ORDER - 1, GROUP_ORDER, GROUP_ORDER + 1,
    FIELD_PRIME - 1, FIELD_PRIME, FIELD_PRIME + 1, 2**256 - 1, 2**255, 2**208, 2**52 - 1,
)  # fmt: skip


def encode(number: int) -> bytes:
    return number.to_bytes(32, "big")


def pair(r: int, s: int) -> bytes:
    return encode(r) + encode(s)


def point_of(secret: int) -> coincurve.PublicKey:
    return coincurve.PrivateKey(encode(secret)).public_key


def x_of(point: coincurve.PublicKey) -> int:
    return int.from_bytes(point.format()[1:], "big")


def recovered(r: int, s: int, which: int, digest: bytes) -> bytes | None:
    """The key by which r, s is sound for the digest; bit 1 of `which`: r stands for r + n."""
    try:
        return coincurve.PublicKey.from_signature_and_message(pair(r, s) + bytes((which,)), digest, None).format()
    except ValueError:
        return None


def for_sum(kind: str, key: coincurve.PublicKey, u1: int, u2: int, *, high: bool = False) -> Case | None:
    """Sound (unless s is to be high), because the sum is [u1]G + [u2]Q; None if that is the point at infinity."""
    other = key.multiply(encode(u2))
    try:
        point = coincurve.PublicKey.combine_keys([point_of(u1), other]) if u1 else other
    except ValueError:
        return None
    r = x_of(point) % GROUP_ORDER
    s = r * pow(u2, -1, GROUP_ORDER) % GROUP_ORDER
    digest = u1 * s % GROUP_ORDER
    if (s > S_MAX) != high:
        s = GROUP_ORDER - s
    return Case(kind, key.format(), encode(digest), pair(r, s))


@functools.cache
def _pool() -> tuple[list[coincurve.PrivateKey], list[int], list[int]]:
    """Keys; small numbers that are the x of a point, and such as are not."""
    draw = Random("ecdsa keys")
    keys = [coincurve.PrivateKey(encode(draw.randrange(1, GROUP_ORDER))) for _ in range(KEYS)]
    xs: tuple[list[int], list[int]] = ([], [])
    for x in range(200):
        try:
            coincurve.PublicKey(b"\x02" + encode(x))
            xs[0].append(x)
        except ValueError:
            xs[1].append(x)
    return keys, *xs


class EcdsaCases:
    """An endless supply of cases, the same for one seed."""

    def __init__(self, seed: int) -> None:
        self._draw = Random(f"ecdsa/{seed}")
        self._keys, self._on_curve, self._off_curve = _pool()
        self._kinds: list[Callable[[], Case]] = [
            self._sound, self._sound, self._sound, self._flipped, self._flipped, self._edges, self._high, self._given,
            self._given, self._above, self._wrapped, self._infinite, self._meeting, self._meeting, self._meeting,
            self._key_at_edge, self._no_point, self._form, self._random, self._swapped, self._misshapen,
        ]  # fmt: skip

    def next(self) -> Case:
        return self._draw.choice(self._kinds)()

    def _digest(self) -> bytes:
        if self._draw.random() < 0.9:
            return self._draw.randbytes(32)
        return encode(self._draw.choice(EDGES))

    def _number(self) -> int:
        return self._draw.randrange(1, GROUP_ORDER)

    def _sound(self) -> Case:
        key, digest = self._draw.choice(self._keys), self._digest()
        if self._draw.random() < 0.2:
            key = coincurve.PrivateKey(encode(self._number()))
        return Case("sound", key.public_key.format(), digest, sign(key, digest))

    def _flipped(self) -> Case:
        _, *whole = self._sound()
        parts = [bytearray(part) for part in whole]
        part = self._draw.choice(parts)
        part[self._draw.randrange(len(part))] ^= 1 << self._draw.randrange(8)
        return Case("a bit flipped", *map(bytes, parts))

    def _edges(self) -> Case:
        _, key, digest, signature = self._sound()
        edge = encode(self._draw.choice(EDGES))
        if self._draw.random() < 0.5:
            return Case("r at the edges", key, digest, edge + signature[32:])
        return Case("s at the edges", key, digest, signature[:32] + edge)

    def _high(self) -> Case:
        _, key, digest, signature = self._sound()
        s = GROUP_ORDER - int.from_bytes(signature[32:], "big")
        return Case("high s", key, digest, signature[:32] + encode(s))

    def _given(self) -> Case:
        """Sound with r and s of our choice, unless s is high."""
        digest, key = self._digest(), None
        while key is None:
            r = self._draw.choice((self._number(), self._draw.choice(EDGES) - self._draw.randrange(40), 1, 2, 3))
            s = self._draw.choice((self._number(), *(edge for edge in EDGES if 0 < edge < GROUP_ORDER)))
            if 0 < r < GROUP_ORDER:
                key = recovered(r, s, self._draw.randrange(2), digest)
        return Case("r and s given", key, digest, pair(r, s))

    def _above(self) -> Case:
        """Sound: r is less than the x of the sum, which is r + n."""
        digest, key = self._digest(), None
        while key is None:
            r = self._draw.choice((self._draw.randrange(1, ABOVE), 1 + self._draw.randrange(40)))
            r = self._draw.choice((r, ABOVE - r))
            s = self._draw.randrange(1, S_MAX + 1)
            key = recovered(r, s, 2 + self._draw.randrange(2), digest)
        return Case("x above n", key, digest, pair(r, s))

    def _wrapped(self) -> Case:
        """The sum's x is r + n modulo the field's prime, but not modulo n."""
        x = self._draw.choice(self._on_curve)
        point = coincurve.PublicKey(b"\x02" + encode(x))
        r, s, z = x + ABOVE, self._draw.randrange(1, S_MAX + 1), self._number()
        inverse = pow(r, -1, GROUP_ORDER)
        key = coincurve.PublicKey.combine_keys([
            point.multiply(encode(s * inverse % GROUP_ORDER)), point_of(-z * inverse % GROUP_ORDER)
        ])
        return Case("r + n beyond p", key.format(), encode(z), pair(r, s))

    def _infinite(self) -> Case:
        secret = self._draw.choice((self._number(), self._draw.choice(SPECIAL)))
        r, s = self._number(), self._draw.randrange(1, S_MAX + 1)
        if self._draw.random() < 0.3:
            r = s  # u2 = 1
        return Case("sum at infinity", point_of(secret).format(), encode(-r * secret % GROUP_ORDER), pair(r, s))

    def _meeting(self) -> Case:
        """Keys that are small multiples of G, halves of u1 and u2 that make the sum meet what is added to it."""
        secret, u2 = (self._draw.choice((*SPECIAL, self._number())) for _ in range(2))
        u1 = self._draw.choice((0, u2 * secret, self._draw.choice(SPECIAL), -LAMBDA * u2 * secret)) % GROUP_ORDER
        case = for_sum("sums that meet", point_of(secret), u1, u2)
        return self._infinite() if case is None else case

    def _key_at_edge(self) -> Case:
        """Sound for a key with a small x, of which x + p is a second encoding."""
        x = self._draw.choice(self._on_curve)
        key = coincurve.PublicKey(bytes((self._draw.choice((2, 3)),)) + encode(x))
        case = for_sum("key at the edges", key, self._number(), self._number(), high=self._draw.random() < 0.1)
        assert case is not None
        if self._draw.random() < 0.5:
            return case
        return case._replace(public_key=case.public_key[:1] + encode(x + FIELD_PRIME))

    def _no_point(self) -> Case:
        _, _, digest, signature = self._sound()
        if self._draw.random() < 0.5:  # the sum is the key itself, so only that this is no point can refuse it
            x = self._draw.choice([x for x in self._off_curve if x])
            return Case("no point", bytes((self._draw.choice((2, 3)),)) + encode(x), bytes(32), pair(x, x))
        x = self._draw.choice((*self._off_curve, *range(FIELD_PRIME, FIELD_PRIME + 40), 2**256 - 1))
        return Case("no point", bytes((self._draw.choice((2, 3)),)) + encode(x), digest, signature)

    def _form(self) -> Case:
        """Other encodings of the right key, and wrong first bytes."""
        key, digest = self._draw.choice(self._keys), self._digest()
        short, full = (key.public_key.format(compressed=compressed) for compressed in (True, False))
        hybrid = bytes((6 | full[-1] & 1,)) + full[1:]
        forms = (full, hybrid, full[1:], *(bytes((first,)) + short[1:] for first in (0, 1, 4, 5, 6, 7, 0x82, 255)))
        return Case("other forms of a key", self._draw.choice(forms), digest, sign(key, digest))

    def _random(self) -> Case:
        return Case("random", self._draw.randbytes(33), self._digest(), self._draw.randbytes(64))

    def _swapped(self) -> Case:
        one, other = self._sound(), self._sound()
        while one.public_key == other.public_key:
            other = self._sound()
        return Case("of another", one.public_key, other.message, other.signature)

    def _misshapen(self) -> Case:
        _, *whole = self._sound()
        place = self._draw.randrange(3)
        cut = self._draw.choice((0, 1, 31, 32, 33, 34, 63, 64, 65))
        whole[place] = (whole[place] * 3)[:cut]
        return Case("misshapen", *whole)

"""Ed25519 from the formulas, slow and plain: the accept rule of `chain.crypto.ed25519` written a second time."""

from __future__ import annotations

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)  # of -1

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def multiply(scalar: int, point: Point) -> Point:
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def negate(point: Point) -> Point:
    return -point[0] % P, point[1]


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(encoded: bytes) -> Point | None:
    """The point, or None: y >= p, not on the curve, or x = 0 with the sign bit set."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return (x if x & 1 == sign else P - x), y


def base() -> Point:
    point = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert point is not None
    return point


BASE = base()


def torsion() -> list[Point]:
    """The 8 points of small order, by their order: 1, 2, 4, 4, 8, 8, 8, 8."""
    y = 0
    while True:  # the L-multiple of any point with full torsion generates them
        y += 1
        point = decode(y.to_bytes(32, "little"))
        if point is not None:
            generator = multiply(L, point)
            if multiply(4, generator) != IDENTITY:
                return sorted((multiply(k, generator) for k in range(8)), key=order_of)


def order_of(point: Point) -> int:
    return next(k for k in (1, 2, 4, 8) if multiply(k, point) == IDENTITY)


def challenge(r_encoded: bytes, a_encoded: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r_encoded + a_encoded + message).digest(), "little") % L


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    if len(public_key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    a, r = decode(public_key), decode(signature[:32])
    if s >= L or a is None or r is None or multiply(8, a) == IDENTITY or multiply(8, r) == IDENTITY:
        return False
    k = challenge(signature[:32], public_key, message)
    return encode(add(multiply(s, BASE), negate(multiply(k, a)))) == signature[:32]

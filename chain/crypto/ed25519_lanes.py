"""Ed25519 signatures checked eight at a time, on processors with AVX-512 IFMA.

The eight checks go through the same steps and share nothing: there is no random combination, so each verdict is that of
`chain.crypto.ed25519.verify` on its own. Only public data passes through here, so nothing needs constant time.
`python -m chain.crypto.ed25519_lanes` compiles the kernel ahead of time.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numpy.typing import NDArray

from chain.crypto import lanes
from chain.crypto.ed25519 import FIELD_PRIME, GROUP_ORDER, SMALL_ORDER_Y
from chain.crypto.lanes import Words


def _words_of(number: int) -> list[int]:
    return [number >> 64 * word & (2**64 - 1) for word in range(4)]


def _below(numbers: Words, limit: int) -> NDArray[np.bool_]:
    """Which of these 256-bit numbers, four little-endian words each, are below `limit`."""
    below: NDArray[np.bool_] = np.zeros(len(numbers), np.bool_)
    for word, bound in enumerate(_words_of(limit)):
        at, edge = numbers[:, word], np.uint64(bound)
        below = (at < edge) | ((at == edge) & below)
    return below


_SMALL_ORDER: Final = np.array([_words_of(y) for y in sorted(SMALL_ORDER_Y)], np.uint64)


def _acceptable(points: Words) -> NDArray[np.bool_]:
    """Rules 2 and 3 of `chain.crypto.ed25519`: canonical, and not of small order."""
    y = points.copy()
    y[:, 3] &= np.uint64(2**63 - 1)
    small = (y[:, None, :] == _SMALL_ORDER[None, :, :]).all(axis=2).any(axis=1)
    found: NDArray[np.bool_] = _below(y, FIELD_PRIME) & ~small
    return found


def verify_many(public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    """`chain.crypto.ed25519.verify` of each, in order. Safe for threads; the GIL is free while the kernel runs."""
    count = len(signatures)
    shaped = [len(key) == 32 and len(sign) == 64 for key, sign in zip(public_keys, signatures, strict=True)]
    if not all(shaped):
        return _with_misshapen(shaped, public_keys, messages, signatures)
    if not count:
        return []
    sha512, order = hashlib.sha512, GROUP_ORDER
    filler = -count % lanes.LANES
    keys = b"".join(public_keys) + bytes(32) * filler
    joined = b"".join(signatures) + bytes(64) * filler
    scalars = b"".join(
        [
            (int.from_bytes(sha512(sign[:32] + key + message).digest(), "little") % order).to_bytes(32, "little")
            for key, message, sign in zip(public_keys, messages, signatures, strict=True)
        ]
    ) + bytes(32) * filler
    total = count + filler
    key_words = np.frombuffer(keys, np.uint64).reshape(total, 4)
    halves = np.frombuffer(joined, np.uint64).reshape(total, 8)
    commitments, responses = np.ascontiguousarray(halves[:, :4]), np.ascontiguousarray(halves[:, 4:])
    good = (_below(responses, order) & _acceptable(key_words) & _acceptable(commitments)).astype(np.uint8)
    responses[good == 0] = 0  # a refused one may have digits that the base point's table has not
    multiples, of_base = np.empty((total, lanes.WINDOWS), np.int16), np.empty((total, lanes.BASE_WINDOWS), np.int16)
    lanes.digits(np.frombuffer(scalars, np.uint8).reshape(total, 32), multiples, 4)
    lanes.digits(responses.view(np.uint8).reshape(total, 32), of_base, 8)
    words, sums = lanes.aligned(lanes.SLOTS), lanes.aligned(4 * total // lanes.LANES)
    lanes.check(
        key_words, commitments, multiples, of_base, lanes.CONSTANTS.ctypes.data,
        words, words.ctypes.data, sums, sums.ctypes.data, good,
    )  # fmt: skip
    return [bool(verdict) for verdict in good[:count].tolist()]


def _with_misshapen(
    shaped: Sequence[bool], public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    rest = [at for at, is_shaped in enumerate(shaped) if is_shaped]
    verdicts = [False] * len(shaped)
    parts = ([part[at] for at in rest] for part in (public_keys, messages, signatures))
    found = verify_many(*parts)
    for at, verdict in zip(rest, found, strict=True):
        verdicts[at] = verdict
    return verdicts


def is_supported() -> bool:
    """Whether this processor has the instructions."""
    features = get_host_cpu_features()
    return bool(features.get("avx512f") and features.get("avx512ifma"))


def warm_up() -> None:
    """Compile the kernel, or load it from the cache."""
    verify_many([bytes(32)], [b""], [bytes(64)])


if __name__ == "__main__":
    if is_supported():
        warm_up()
    sys.exit(0)

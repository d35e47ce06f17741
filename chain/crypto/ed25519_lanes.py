"""Ed25519 signatures checked eight at a time, on processors with AVX-512 IFMA.

The eight checks go through the same steps and share nothing: there is no random combination, so each verdict is that of
`chain.crypto.ed25519.verify` on its own. Only public data passes through here, so nothing needs constant time.
`python -m chain.crypto.ed25519_lanes` compiles the kernel ahead of time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from llvmlite.binding import get_host_cpu_features

from chain.crypto import lane_input, lanes


def verify_many(public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    """`chain.crypto.ed25519.verify` of each, in order. Safe for threads; the GIL is free while the kernel runs."""
    count = len(signatures)
    if not count:
        return []
    if set(map(len, public_keys)) != {32} or set(map(len, signatures)) != {64} or len(public_keys) != count:
        return _with_misshapen(public_keys, messages, signatures)
    filler = -count % lanes.LANES
    total = count + filler
    keys = np.frombuffer(b"".join(public_keys) + bytes(32) * filler, np.uint8).reshape(total, 32)
    joined = np.frombuffer(b"".join(signatures), np.uint8).reshape(count, 64)
    ends = np.fromiter(accumulate(map(len, messages)), np.int64, count)
    commitments, good = np.empty((total, 4), np.uint64), np.empty(total, np.uint8)
    multiples, of_base = np.empty((total, lanes.WINDOWS), np.int16), np.empty((total, lanes.BASE_WINDOWS), np.int16)
    message_bytes = np.frombuffer(b"".join(messages), np.uint8)
    lane_input.prepare(keys, joined, message_bytes, ends, commitments, multiples, of_base, good)
    words, sums = lanes.aligned(lanes.SLOTS), lanes.aligned(4 * total // lanes.LANES)
    lanes.check(
        keys.view(np.uint64), commitments, multiples, of_base, lanes.CONSTANTS.ctypes.data,
        words, words.ctypes.data, sums, sums.ctypes.data, good,
    )  # fmt: skip
    return [verdict == 1 for verdict in good[:count].tolist()]


def _with_misshapen(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    shaped = [len(key) == 32 and len(sign) == 64 for key, sign in zip(public_keys, signatures, strict=True)]
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

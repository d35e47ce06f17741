"""secp256k1 signatures checked eight at a time, on processors with AVX-512 IFMA.

The eight checks go through the same steps and share nothing but one inversion modulo the group order, which is exact:
no random combination, so each verdict is that of `chain.crypto.secp256k1.verify` on its own. Only public data passes
through here, so nothing needs constant time. `python -m chain.crypto.secp256k1_lanes` compiles the kernel ahead of
time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from chain.crypto import ecdsa_input
from chain.crypto import secp256k1_kernel as kernel
from chain.crypto.ed25519_lanes import is_supported
from chain.crypto.lane_field import LANES, aligned
from chain.crypto.secp256k1 import DIGEST_BYTES, PUBLIC_KEY_BYTES


def verify_many(public_keys: Sequence[bytes], digests: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    """`chain.crypto.secp256k1.verify` of each, in order. Safe for threads; the GIL is free while the kernel runs."""
    count = len(signatures)
    if not count:
        return []
    parts = (public_keys, PUBLIC_KEY_BYTES), (digests, DIGEST_BYTES), (signatures, 64)
    if any(set(map(len, given)) != {length} or len(given) != count for given, length in parts):
        return _with_misshapen(public_keys, digests, signatures)
    total = count + -count % LANES
    keys, hashes, pairs = (np.frombuffer(b"".join(given), np.uint8).reshape(count, length) for given, length in parts)
    abscissas, expected = np.empty((total, 4), np.uint64), np.empty((total, 2, 4), np.uint64)
    of_key = np.empty((total, 2, kernel.WINDOWS), np.int16)
    of_base = np.empty((total, 2, kernel.BASE_WINDOWS), np.int16)
    odd, good = np.empty(total, np.uint8), np.empty(total, np.uint8)
    ecdsa_input.prepare(keys, hashes, pairs, abscissas, odd, of_key, of_base, expected, good)
    words = aligned(kernel.SLOTS)
    kernel.check(
        abscissas, odd, of_key, of_base, expected, kernel.BASE_TABLE, kernel.CONSTANTS.ctypes.data,
        words, words.ctypes.data, good,
    )  # fmt: skip
    return [verdict == 1 for verdict in good[:count].tolist()]


def _with_misshapen(public_keys: Sequence[bytes], digests: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    shaped = [
        (len(key), len(digest), len(signature)) == (PUBLIC_KEY_BYTES, DIGEST_BYTES, 64)
        for key, digest, signature in zip(public_keys, digests, signatures, strict=True)
    ]
    rest = [at for at, is_shaped in enumerate(shaped) if is_shaped]
    verdicts = [False] * len(shaped)
    found = verify_many(*([part[at] for at in rest] for part in (public_keys, digests, signatures)))
    for at, verdict in zip(rest, found, strict=True):
        verdicts[at] = verdict
    return verdicts


def warm_up() -> None:
    """Compile the kernel, or load it from the cache."""
    verify_many([bytes(PUBLIC_KEY_BYTES)], [bytes(DIGEST_BYTES)], [bytes(64)])


if __name__ == "__main__":
    if is_supported():
        warm_up()
    sys.exit(0)

"""Who checks batches of signatures: `chain.crypto.ed25519_lanes` and `chain.crypto.secp256k1_lanes` where the processor
has what it takes, else the libraries. Both accept exactly the same signatures; that is tried out before a kernel is
used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import coincurve

from chain.crypto import ed25519, secp256k1
from chain.crypto.schemes import Item, PrivateKey, Scheme, verify, verify_batch
from chain.crypto.verifier import PLAIN, Batching
from chain.errors import ConfigError

LANES_MIN: Final = 4  # below so many the library is quicker: the kernel's time is that of eight
KERNELS: Final = ("auto", "never")
# public keys, messages, signatures -> verdicts
Many: TypeAlias = Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]]
# A batch costs 50 microseconds and its way to a thread and back as much, so 64 items bring an item from 11 microseconds
# (16 of them: 10) to 8, and 128 no further than 7.5. Ten milliseconds are a fiftieth of what a transaction takes under
# the loads at which they are spent, and by the library a vote or two are checked in the time of the way to a thread.
LANE_BATCHING: Final = Batching(full=64, wait_s=0.010, inline=2)


class Checker(NamedTuple):
    """What `Verifier` calls and how it should gather items for it, and its name for people."""

    name: str
    check: Callable[[Sequence[Item]], list[bool]]
    batching: Batching = PLAIN


LIBRARIES: Final = Checker("libraries", verify_batch)


def checker_of(kernel: str) -> Checker:
    """The quickest checker of this machine; "never": the libraries whatever the machine is. Takes a second at first.

    Raises:
        ConfigError: `kernel` is neither "auto" nor "never".
    """
    if kernel not in KERNELS:
        raise ConfigError(f"crypto.kernel is {kernel!r}, must be one of {', '.join(KERNELS)}")
    if kernel == "never":
        return LIBRARIES
    from chain.crypto import ed25519_lanes, secp256k1_lanes  # numba takes half a second and 120 MB

    if not ed25519_lanes.is_supported():
        return LIBRARIES
    tried: dict[int, Many] = {
        Scheme.ED25519: ed25519_lanes.verify_many,
        Scheme.SECP256K1: secp256k1_lanes.verify_many,
    }
    kernels = {scheme: verify_many for scheme, verify_many in tried.items() if _agrees(scheme, verify_many)}
    return Checker("lanes", _with_lanes(kernels), LANE_BATCHING) if kernels else LIBRARIES


def _with_lanes(kernels: Mapping[int, Many]) -> Callable[[Sequence[Item]], list[bool]]:
    def check(items: Sequence[Item]) -> list[bool]:
        if len(items) < LANES_MIN:
            return verify_batch(items)
        schemes, keys, messages, signatures = zip(*items, strict=True)
        verify_many = kernels.get(schemes[0])
        if verify_many is not None and schemes.count(schemes[0]) == len(items):
            return verify_many(keys, messages, signatures)
        verdicts: dict[int, bool] = {}
        for scheme, verify_many in kernels.items():
            own = [at for at, its in enumerate(schemes) if its == scheme]
            if len(own) >= LANES_MIN:
                parts = ([part[at] for at in own] for part in (keys, messages, signatures))
                verdicts |= zip(own, verify_many(*parts), strict=True)
        others = [at for at in range(len(items)) if at not in verdicts]
        verdicts |= zip(others, verify_batch([items[at] for at in others]), strict=True)
        return [verdicts[at] for at in range(len(items))]

    return check


def _agrees(scheme: int, verify_many: Many) -> bool:
    """Good and spoilt signatures of every kind in one batch, judged as the library does."""
    keys, messages, signatures = map(list, zip(*_TRIALS[scheme](), strict=True))
    expected = [verify(scheme, *one) for one in zip(keys, messages, signatures, strict=True)]
    return expected.count(True) > 0 and verify_many(keys, messages, signatures) == expected


def _trial_ed25519() -> list[tuple[bytes, bytes, bytes]]:
    """(public key, message, signature): sound ones, each spoilt in each part, and encodings that no rule accepts."""
    trial: list[tuple[bytes, bytes, bytes]] = []
    for number in range(1, 12):
        key = PrivateKey.from_secret(Scheme.ED25519, bytes((number,)) * 32)
        message = bytes(range(number * 7))
        signature = key.sign(message)
        trial.append((key.public_key, message, signature))
        for at in (0, 31, 32, 62):
            spoilt = bytearray(signature)
            spoilt[at] ^= 1 << number % 8
            trial.append((key.public_key, message, bytes(spoilt)))
        trial.append((key.public_key, message + b"!", signature))
        trial.append((signature[:32], message, signature))
        beyond = int.from_bytes(signature[32:], "little") + ed25519.GROUP_ORDER
        trial.append((key.public_key, message, signature[:32] + beyond.to_bytes(32, "little")))
        trial.append((number.to_bytes(32, "little"), message, signature))  # half of these are no points
    return trial


def _trial_secp256k1() -> list[tuple[bytes, bytes, bytes]]:
    """The same; also keys for which a given r and s are sound, among them an r that stands for an x above n."""
    trial: list[tuple[bytes, bytes, bytes]] = []
    for number in range(1, 12):
        key = PrivateKey.from_secret(Scheme.SECP256K1, number.to_bytes(32, "big"))  # multiples of G that meet its table
        digest = bytes((number,)) * 32
        signature = key.sign(digest)
        trial.append((key.public_key, digest, signature))
        for at in (0, 31, 32, 63):
            spoilt = bytearray(signature)
            spoilt[at] ^= 1 << number % 8
            trial.append((key.public_key, digest, bytes(spoilt)))
        trial.append((key.public_key, bytes(32), signature))
        trial.append((bytes((key.public_key[0] ^ 1,)) + key.public_key[1:], digest, signature))
        s = int.from_bytes(signature[32:], "big")
        trial.append((key.public_key, digest, signature[:32] + (secp256k1.GROUP_ORDER - s).to_bytes(32, "big")))
        trial.append((b"\x02" + number.to_bytes(32, "big"), digest, signature))  # half of these are no points
        opposite = -int.from_bytes(signature[:32], "big") * number % secp256k1.GROUP_ORDER
        trial.append((key.public_key, opposite.to_bytes(32, "big"), signature))  # the sum is the point at infinity
        low = number.to_bytes(32, "big")
        trial.append((b"\x02" + low, bytes(32), low + low))  # the sum is the key itself: sound if that is a point
        for high in (0, 2):  # x is number, or n + number
            try:
                found = coincurve.PublicKey.from_signature_and_message(low + low + bytes((high,)), digest, None)
            except ValueError:  # no point has this x
                continue
            trial.append((found.format(), digest, low + low))
    return trial


_TRIALS: Final[dict[int, Callable[[], list[tuple[bytes, bytes, bytes]]]]] = {
    Scheme.ED25519: _trial_ed25519,
    Scheme.SECP256K1: _trial_secp256k1,
}

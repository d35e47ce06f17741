"""Who checks batches of signatures: `chain.crypto.ed25519_lanes` where the processor has what it takes, else the
libraries. Both accept exactly the same signatures; that is tried out before the kernel is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from chain.crypto import ed25519
from chain.crypto.schemes import Item, PrivateKey, Scheme, verify_batch
from chain.crypto.verifier import PLAIN, Batching
from chain.errors import ConfigError

LANES_MIN: Final = 4  # below so many the library is quicker: the kernel's time is that of eight
KERNELS: Final = ("auto", "never")
_ED25519: Final = int(Scheme.ED25519)
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
    from chain.crypto import ed25519_lanes  # numba takes half a second and 120 MB: only where it is used

    if not ed25519_lanes.is_supported() or not _agrees(ed25519_lanes.verify_many):
        return LIBRARIES
    return Checker("lanes", _with_lanes(ed25519_lanes.verify_many), LANE_BATCHING)


def _with_lanes(
    verify_many: Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]],
) -> Callable[[Sequence[Item]], list[bool]]:
    def check(items: Sequence[Item]) -> list[bool]:
        if len(items) < LANES_MIN:
            return verify_batch(items)
        schemes, keys, messages, signatures = zip(*items, strict=True)
        if schemes.count(_ED25519) == len(items):
            return verify_many(keys, messages, signatures)
        own = [at for at, scheme in enumerate(schemes) if scheme == _ED25519]
        if len(own) < LANES_MIN:
            return verify_batch(items)
        found = verify_many([items[at][1] for at in own], [items[at][2] for at in own], [items[at][3] for at in own])
        verdicts = dict(zip(own, found, strict=True))
        others = [at for at in range(len(items)) if at not in verdicts]
        verdicts |= zip(others, verify_batch([items[at] for at in others]), strict=True)
        return [verdicts[at] for at in range(len(items))]

    return check


def _agrees(verify_many: Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]]) -> bool:
    """Good and spoilt signatures of every kind in one batch, judged as the library does."""
    keys, messages, signatures = map(list, zip(*_trial(), strict=True))
    expected = [ed25519.verify(*one) for one in zip(keys, messages, signatures, strict=True)]
    return expected.count(True) > 0 and verify_many(keys, messages, signatures) == expected


def _trial() -> list[tuple[bytes, bytes, bytes]]:
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

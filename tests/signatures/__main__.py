"""`python -m tests.signatures --count N --seed A`: the lanes against two libraries, case by case, batches of any size.

Needs a processor that has the lanes. Exit code 1 if a verdict differs; the case is printed in hex.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from chain.crypto import ed25519, secp256k1
from tests.signatures.cases import Case, Cases
from tests.signatures.ecdsa_cases import EcdsaCases


class Supply(Protocol):
    def next(self) -> Case: ...


class Trial(NamedTuple):
    """Who judges the signatures of a scheme besides the lanes, and where the signatures come from."""

    library: str
    by_library: Callable[[bytes, bytes, bytes], bool]
    by_openssl: Callable[[Case], bool]
    supply: Callable[[int], Supply]


def by_openssl(case: Case) -> bool:
    """Ed25519's accept rule with OpenSSL instead of libsodium behind it."""
    key, message, signature = case.public_key, case.message, case.signature
    if len(key) != 32 or len(signature) != 64 or int.from_bytes(signature[32:], "little") >= ed25519.GROUP_ORDER:
        return False
    for encoded in (key, signature[:32]):
        y = int.from_bytes(encoded, "little") % 2**255
        if y >= ed25519.FIELD_PRIME or y in ed25519.SMALL_ORDER_Y:
            return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def ecdsa_by_openssl(case: Case) -> bool:
    """secp256k1's accept rule with OpenSSL instead of libsecp256k1 behind it."""
    key, digest, signature = case.public_key, case.message, case.signature
    if len(key) != 33 or key[0] not in (2, 3) or len(digest) != 32 or len(signature) != 64:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    if s > secp256k1.GROUP_ORDER // 2:
        return False
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key)
        point.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return True


TRIALS: Final = {
    "ed25519": Trial("libsodium", ed25519.verify, by_openssl, Cases),
    "secp256k1": Trial("libsecp256k1", secp256k1.verify, ecdsa_by_openssl, EcdsaCases),
}


def lanes_of(scheme: str) -> Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], list[bool]]:
    from chain.crypto import ed25519_lanes, secp256k1_lanes  # only where the processor has them

    return {"ed25519": ed25519_lanes.verify_many, "secp256k1": secp256k1_lanes.verify_many}[scheme]


def compare(cases: list[Case], scheme: str = "ed25519") -> list[Case]:
    """The cases that are not judged alike by all three."""
    trial = TRIALS[scheme]
    found = lanes_of(scheme)(
        [case.public_key for case in cases], [case.message for case in cases], [case.signature for case in cases]
    )
    return [
        case
        for case, verdict in zip(cases, found, strict=True)
        if not verdict == trial.by_library(*case[1:]) == trial.by_openssl(case)
    ]


def main() -> int:
    from chain.crypto import ed25519_lanes

    parser = argparse.ArgumentParser(prog="python -m tests.signatures", description=__doc__)
    parser.add_argument("--scheme", choices=tuple(TRIALS), default="ed25519")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not ed25519_lanes.is_supported():
        sys.stderr.write("this processor has no AVX-512 IFMA: there are no lanes to compare\n")
        return 2
    trial = TRIALS[options.scheme]
    supply, draw, kinds = trial.supply(options.seed), Random(options.seed), Counter[str]()
    done, shown = 0, time.monotonic()
    while done < options.count:
        cases = [supply.next() for _ in range(draw.choice((1, 3, 8, 9, 64, 128, 200)))]
        differ = compare(cases, options.scheme)
        for case in differ:
            parts = " ".join(part.hex() or "-" for part in case[1:])
            sys.stderr.write(f"{case.kind}: judged differently: {parts}\n")
        if differ:
            return 1
        kinds.update(case.kind for case in cases)
        done += len(cases)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            sys.stderr.write(f"{done} of {options.count}\n")
    sys.stdout.write(
        f"{done} signatures judged alike by lanes, {trial.library} and OpenSSL: {dict(sorted(kinds.items()))}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

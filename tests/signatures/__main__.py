"""`python -m tests.signatures --count N --seed A`: the lanes against two libraries, case by case, batches of any size.

Needs a processor that has the lanes. Exit code 1 if a verdict differs; the case is printed in hex.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from random import Random

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chain.crypto import ed25519
from tests.signatures.cases import Case, Cases


def by_openssl(case: Case) -> bool:
    """The accept rule with OpenSSL instead of libsodium behind it."""
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


def compare(cases: list[Case]) -> list[Case]:
    """The cases that are not judged alike by all three."""
    from chain.crypto import ed25519_lanes  # only where the processor has them

    found = ed25519_lanes.verify_many(
        [case.public_key for case in cases], [case.message for case in cases], [case.signature for case in cases]
    )
    return [
        case
        for case, verdict in zip(cases, found, strict=True)
        if not verdict == ed25519.verify(case.public_key, case.message, case.signature) == by_openssl(case)
    ]


def main() -> int:
    from chain.crypto import ed25519_lanes

    parser = argparse.ArgumentParser(prog="python -m tests.signatures", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not ed25519_lanes.is_supported():
        sys.stderr.write("this processor has no AVX-512 IFMA: there are no lanes to compare\n")
        return 2
    supply, draw, kinds = Cases(options.seed), Random(options.seed), Counter[str]()
    done, shown = 0, time.monotonic()
    while done < options.count:
        cases = [supply.next() for _ in range(draw.choice((1, 3, 8, 9, 64, 128, 200)))]
        differ = compare(cases)
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
    sys.stdout.write(f"{done} signatures judged alike by lanes, libsodium and OpenSSL: {dict(sorted(kinds.items()))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

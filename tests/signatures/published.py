"""The published vectors in `vectors/`, with the verdict that the chain's rules give."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from chain.crypto.secp256k1 import S_MAX
from tests.signatures.cases import Case

_FOLDER: Final = Path(__file__).parent / "vectors"
_MIXED_ORDER: Final = "prime-order point"  # how the comments on keys of mixed order begin


class Vector(NamedTuple):
    case: Case
    accepted: bool


def wycheproof(scheme: str) -> list[Vector]:
    """The tests for "ed25519" or "secp256k1".

    "acceptable" is left to the verifier's rules: the chain takes keys of mixed order and refuses those of small order.
    A high s, valid by Wycheproof, is refused.
    """
    vectors = []
    for line in (_FOLDER / f"wycheproof_{scheme}.txt").read_text().splitlines():
        number, verdict, *parts, comment = line.split(" ", 5)
        key, message, signature = (b"" if part == "-" else bytes.fromhex(part) for part in parts)
        is_high = scheme == "secp256k1" and int.from_bytes(signature[32:], "big") > S_MAX
        sound = verdict == "valid" or (verdict == "acceptable" and comment.startswith(_MIXED_ORDER))
        vectors.append(Vector(Case(f"{number}: {comment}", key, message, signature), sound and not is_high))
    return vectors

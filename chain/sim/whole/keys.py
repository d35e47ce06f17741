"""Real keys and real signatures, checked once each: what nodes of one process check again costs a look-up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from chain.crypto import PrivateKey, Scheme, verify
from chain.model.signing import ValidatorKey

Item = tuple[int, bytes, bytes, bytes]  # scheme, public key, message, signature
_KNOWN_MAX: Final = 200_000


def secret(name: str) -> bytes:
    return hashlib.sha256(b"headrace/simulation/" + name.encode()).digest()


def validator_key(name: str) -> ValidatorKey:
    return ValidatorKey(secret(name))


def account(name: str) -> PrivateKey:
    return PrivateKey.from_secret(Scheme.ED25519, secret(name))


class Signatures:
    """Verdicts of the real check, remembered."""

    def __init__(self) -> None:
        self._verdicts: dict[Item, bool] = {}
        self.checked = 0

    def verify(self, scheme: int, public_key: bytes, message: bytes, signature: bytes) -> bool:
        item = (scheme, public_key, message, signature)
        verdict = self._verdicts.get(item)
        if verdict is None:
            if len(self._verdicts) >= _KNOWN_MAX:
                self._verdicts.clear()
            self.checked += 1
            verdict = self._verdicts[item] = verify(scheme, public_key, message, signature)
        return verdict

    def verify_batch(self, items: Sequence[Item]) -> list[bool]:
        return [self.verify(*item) for item in items]

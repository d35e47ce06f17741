"""Signed transactions for tests, cheap to make in numbers."""

from __future__ import annotations

from functools import cache

from chain.crypto import PrivateKey, Scheme
from chain.model.signing import sign_transaction
from chain.model.transaction import Transaction
from chain.types import Digest

CHAIN_ID = Digest(b"\xc0" * 32)


@cache
def key(index: int = 0, scheme: Scheme = Scheme.ED25519) -> PrivateKey:
    return PrivateKey.from_secret(scheme, bytes((index + 1,)) * 32)


@cache
def make_transaction(
    number: int,
    *,
    expiry: int = 100,
    gas_limit: int = 1_000,
    chain_id: Digest = CHAIN_ID,
    scheme: Scheme = Scheme.ED25519,
) -> Transaction:
    """The same number gives the same transaction."""
    return sign_transaction(
        key(scheme=scheme),
        chain_id=chain_id,
        target=bytes(19) + b"\x07",
        method="transfer",
        arguments=(number,),
        expiry=expiry,
        gas_limit=gas_limit,
        nonce=number.to_bytes(16, "big"),
    )

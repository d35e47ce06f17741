"""State keys as the contract runtime makes them, for proofs: which key holds an entry of a storage variable."""

from __future__ import annotations

from collections.abc import Sequence

from chain.codec import Value, pack
from contracts.runtime.accessors import storage_prefix


def entry_key(address: bytes, variable: str, parts: Sequence[Value] = ()) -> bytes:
    """The key of a Value (no parts) or of a Map's entry (the parts of its key; one for a key that is no tuple)."""
    return storage_prefix(address, variable) + b"".join([pack(part) for part in parts])


def item_key(address: bytes, variable: str, index: int) -> bytes:
    """The key of a List's item; `index` is 0..2^63-1."""
    return storage_prefix(address, variable) + index.to_bytes(8, "big")

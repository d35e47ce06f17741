"""A block store that holds many transactions, for benchmarks of what is done on top of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chain.codec import encode
from chain.model.block import Certificate, Header, Receipt, encode_header, header_hash
from chain.model.merkle import pack_writes
from chain.store import BlockStore, StoredBlock

GENESIS: Final = Header(
    chain_id=bytes(32), height=0, time_ms=0, parent_hash=bytes(32), proposal_digest=bytes(32), rule_set=1,
    validator_set_hash=bytes(32), transaction_count=0, transaction_root=bytes(32), receipt_root=bytes(32),
    state_root=bytes(32), gas_used=0,
)  # fmt: skip
TRANSACTIONS: Final = 2_000  # of each block of `fill`


def next_block(
    parent: Header, hashes: Sequence[bytes], receipts: tuple[bytes, ...], writes: bytes
) -> tuple[Header, StoredBlock]:
    """The block that follows `parent`; its roots and its certificate are empty, and the store does not look at them."""
    header = Header(
        chain_id=bytes(32), height=parent.height + 1, time_ms=parent.height + 1, parent_hash=header_hash(parent),
        proposal_digest=bytes(32), rule_set=1, validator_set_hash=bytes(32), transaction_count=len(hashes),
        transaction_root=bytes(32), receipt_root=bytes(32), state_root=bytes(32), gas_used=0,
    )  # fmt: skip
    certificate = Certificate(kind=4, view=0, height=header.height, digest=header_hash(header), signatures=())
    return header, StoredBlock(
        header=encode_header(header), certificate=encode(certificate), proposal_digest=header.proposal_digest,
        skipped=(), hashes=b"".join(hashes), receipts=receipts, writes=writes,
    )  # fmt: skip


def fill(folder: Path, blocks: int) -> BlockStore:
    """A new store of so many blocks of 2,000 transactions, each of which wrote two keys."""
    store = BlockStore(folder, GENESIS)
    draw = random.Random(7)
    receipt = encode(Receipt(transaction_hash=bytes(32), status=0, gas_used=1, result=b"", error="", events=()))
    for _ in range(blocks):
        hashes = [draw.randbytes(32) for _ in range(TRANSACTIONS)]
        writes = pack_writes(sorted((draw.randbytes(32), b"\xc4\x03abc") for _ in range(2 * TRANSACTIONS)))
        store.append([next_block(store.tip(), hashes, (receipt,) * TRANSACTIONS, writes)[1]])
    return store

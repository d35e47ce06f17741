"""Durable writes and reads of the store, blocks of 1,000 transactions with 2,000 writes each, every commit synced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.codec import encode, pack
from chain.model.block import Certificate, Event, Header, Receipt, WriteSet, encode_header, header_hash
from chain.model.merkle import pack_writes
from chain.store import StateReader, Store, StoredBlock, open_store

TRANSACTIONS = 1_000
WRITES = 2_000
KEYS = 100_000
GENESIS = Header(
    chain_id=bytes(32), height=0, time_ms=0, parent_hash=bytes(32), proposal_digest=bytes(32), rule_set=1,
    validator_set_hash=bytes(32), transaction_count=0, transaction_root=bytes(32), receipt_root=bytes(32),
    state_root=bytes(32), gas_used=0,
)  # fmt: skip


def _key(number: int) -> bytes:
    return bytes(20) + b"balances\x00" + hashlib.sha256(b"%d" % number).digest()[:20]


def _writes(height: int) -> WriteSet:
    return sorted((_key((height * WRITES + number) * 7919 % KEYS), b"%020d" % height) for number in range(WRITES))


def _block(parent: Header) -> tuple[Header, StoredBlock]:
    height = parent.height + 1
    hashes = [hashlib.sha256(b"%d/%d" % (height, number)).digest() for number in range(TRANSACTIONS)]
    event = Event(contract=bytes(20), name="Paid", values=pack((bytes(20), bytes(20), 5)))
    receipts = tuple(
        encode(Receipt(transaction_hash=item, status=0, gas_used=900, result=b"", error="", events=(event,)))
        for item in hashes
    )
    header = Header(
        chain_id=bytes(32), height=height, time_ms=height, parent_hash=header_hash(parent),
        proposal_digest=bytes(32), rule_set=1, validator_set_hash=bytes(32), transaction_count=TRANSACTIONS,
        transaction_root=bytes(32), receipt_root=bytes(32), state_root=bytes(32), gas_used=0,
    )  # fmt: skip
    certificate = Certificate(kind=4, view=0, height=height, digest=header_hash(header), signatures=())
    return header, StoredBlock(
        header=encode_header(header), certificate=encode(certificate), proposal_digest=header.proposal_digest,
        skipped=(),
        hashes=b"".join(hashes), receipts=receipts, writes=pack_writes(_writes(height)),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, GENESIS)
    yield opened
    opened.close()


def test_append_a_block(benchmark: Any, store: Store) -> None:
    def next_block() -> tuple[tuple[list[StoredBlock]], dict[str, Any]]:
        return ([_block(store.blocks.tip())[1]],), {}

    benchmark.pedantic(store.blocks.append, setup=next_block, rounds=20)


def test_apply_a_write_set(benchmark: Any, store: Store) -> None:
    def next_writes() -> tuple[tuple[list[tuple[int, bytes, WriteSet]]], dict[str, Any]]:
        height = store.state.height() + 1
        return ([(height, bytes(32), _writes(height))],), {}

    benchmark.pedantic(store.state.apply, setup=next_writes, rounds=20)


def test_journal_a_vote(benchmark: Any, store: Store) -> None:
    heights = iter(range(1, 10**9))

    def vote() -> None:
        height = next(heights)
        store.journal.write([(height, bytes(100))], prune_below=height - 8)

    benchmark(vote)


def test_journal_a_proposal_with_bodies(benchmark: Any, store: Store) -> None:
    bodies = [bytes(300)] * TRANSACTIONS
    heights = iter(range(1, 10**9))

    def proposal() -> None:
        height = next(heights)
        store.journal.write([], [(height, height.to_bytes(32, "big"), bytes(32 * TRANSACTIONS), bodies)])

    benchmark.pedantic(proposal, rounds=20)


def test_read_state(benchmark: Any, store: Store) -> None:
    """1,000 gets of a snapshot."""
    store.state.apply([(height, bytes(32), _writes(height)) for height in range(1, 21)])
    reader = StateReader(store.state.path)
    keys = [_key(number * 31 % KEYS) for number in range(1_000)]
    benchmark(lambda: [reader.get(key) for key in keys])
    reader.close()


def test_read_one_receipt_of_a_block(benchmark: Any, store: Store) -> None:
    store.blocks.append([_block(store.blocks.tip())[1]])
    digest = hashlib.sha256(b"1/500").digest()
    assert benchmark(store.blocks.receipt, digest) is not None

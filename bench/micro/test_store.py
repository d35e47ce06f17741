"""Durable writes and reads of the store, blocks of 1,000 transactions with 2,000 writes each, every commit synced.

The last ones are what a node under load does: blocks of 200 payments on top of 100,000 accounts and 500,000 indexed
transactions, microseconds of CPU a transaction in `extra_info`.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from bench.execute.workloads import WORKLOADS, blocks_of
from bench.execute.world import CHAIN, World, block_of
from bench.micro.stored import GENESIS, fill, next_block
from chain.codec import encode, pack
from chain.model.block import Event, Header, Receipt, WriteSet
from chain.model.merkle import chain_state_root, pack_writes, root_of_hashes
from chain.store import BlockStore, JournalStore, StateReader, StateStore, Store, StoredBlock, open_store
from contracts.runtime import Machine
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState

BASE_BLOCKS = 250
PAYMENTS = 200  # a block
PAYMENT_BLOCKS = 60

TRANSACTIONS = 1_000
WRITES = 2_000
KEYS = 100_000


def _key(number: int) -> bytes:
    return bytes(20) + b"balances\x00" + hashlib.sha256(b"%d" % number).digest()[:20]


def _writes(height: int) -> WriteSet:
    return sorted((_key((height * WRITES + number) * 7919 % KEYS), b"%020d" % height) for number in range(WRITES))


def _block(parent: Header) -> StoredBlock:
    height = parent.height + 1
    hashes = [hashlib.sha256(b"%d/%d" % (height, number)).digest() for number in range(TRANSACTIONS)]
    event = Event(contract=bytes(20), name="Paid", values=pack((bytes(20), bytes(20), 5)))
    receipts = tuple(
        encode(Receipt(transaction_hash=item, status=0, gas_used=900, result=b"", error="", events=(event,)))
        for item in hashes
    )
    return next_block(parent, hashes, receipts, pack_writes(_writes(height)))[1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, GENESIS)
    yield opened
    opened.close()


def test_append_a_block(benchmark: Any, store: Store) -> None:
    def given() -> tuple[tuple[list[StoredBlock]], dict[str, Any]]:
        return ([_block(store.blocks.tip())],), {}

    benchmark.pedantic(store.blocks.append, setup=given, rounds=20)


def test_apply_a_write_set(benchmark: Any, store: Store) -> None:
    def next_writes() -> tuple[tuple[list[tuple[int, bytes, WriteSet]]], dict[str, Any]]:
        height = store.state.height() + 1
        return ([(height, bytes(32), _writes(height))],), {}

    benchmark.pedantic(store.state.apply, setup=next_writes, rounds=20)


def test_journal_a_vote(benchmark: Any, store: Store) -> None:
    """The record of one vote alone: nearly all of its wall time is the sync."""
    heights = iter(range(1, 10**9))

    def vote() -> None:
        height = next(heights)
        store.journal.write([(height, bytes(100))], prune_below=height - 8)

    _timed(benchmark, vote, rounds=200, counts={"record": 1})


@pytest.mark.parametrize("transactions", [PAYMENTS, TRANSACTIONS])
def test_journal_a_proposal_with_bodies(benchmark: Any, store: Store, transactions: int) -> None:
    bodies = [bytes(300)] * transactions
    heights = iter(range(1, 10**9))

    def proposal() -> None:
        height = next(heights)
        store.journal.write([], [(height, height.to_bytes(32, "big"), bytes(32 * transactions), bodies)])

    _timed(benchmark, proposal, rounds=20, counts={"proposal": 1, "transaction": transactions})


def _timed(benchmark: Any, action: Callable[[], None], *, rounds: int, counts: dict[str, int]) -> None:
    """Wall time by the benchmark; beside it the CPU of this thread, in which a sync does not show."""
    spent_us: list[float] = []

    def timed() -> None:
        start_ns = time.thread_time_ns()
        action()
        spent_us.append((time.thread_time_ns() - start_ns) / 1e3)

    benchmark.pedantic(timed, rounds=rounds, warmup_rounds=3)
    for unit, count in counts.items():
        benchmark.extra_info[f"cpu_us_per_{unit}"] = round(median(spent_us) / count, 2)


def test_read_state(benchmark: Any, store: Store) -> None:
    """1,000 gets of a snapshot."""
    store.state.apply([(height, bytes(32), _writes(height)) for height in range(1, 21)])
    reader = StateReader(store.state.path)
    keys = [_key(number * 31 % KEYS) for number in range(1_000)]
    benchmark(lambda: [reader.get(key) for key in keys])
    reader.close()


def test_read_one_receipt_of_a_block(benchmark: Any, store: Store) -> None:
    store.blocks.append([_block(store.blocks.tip())])
    digest = hashlib.sha256(b"1/500").digest()
    assert benchmark(store.blocks.receipt, digest) is not None


# --- a node under load ---


class Payments(NamedTuple):
    """A block of payments, executed."""

    height: int  # of the state
    hashes: list[bytes]
    bodies: list[bytes]
    receipts: tuple[bytes, ...]
    writes: WriteSet
    state_root: bytes


class Load(NamedTuple):
    state: Path  # to copy, before the first of them
    blocks: list[Payments]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = tmp_path_factory.mktemp("load") / "state"
    world = World(folder)
    made = blocks_of(
        WORKLOADS["smallbank_uniform"], world, seed=1, blocks=PAYMENT_BLOCKS, transactions=PAYMENTS
    )
    first = world.height + 1
    world.close()
    base, machine = BaseState(StateReader(folder)), Machine(CHAIN.rule_set)
    root, blocks = base.snapshot_root, []
    for height, transactions in enumerate(made, first):
        result = execute_serially(
            block_of(height, transactions), base=base, machine=machine, chain=CHAIN, progress=NoProgress()
        )
        base.append(height, result.writes)
        root = chain_state_root(root, root_of_hashes(result.leaf_hashes))
        blocks.append(
            Payments(
                height, [item.hash for item in transactions], [item.raw for item in transactions],
                tuple(result.receipts), sorted(result.writes.items()), root,
            )
        )  # fmt: skip
    base.close()
    return Load(folder, blocks)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockStore]:
    """500,000 transactions."""
    blocks = fill(tmp_path_factory.mktemp("filled") / "blocks", BASE_BLOCKS)
    yield blocks
    blocks.close()


def _each(benchmark: Any, given: Sequence[Any], action: Callable[[Any], object]) -> None:
    spent_us: list[float] = []

    def timed(item: Any) -> None:
        start_ns = time.thread_time_ns()
        action(item)
        spent_us.append((time.thread_time_ns() - start_ns) / 1e3 / PAYMENTS)

    items = iter(given)
    benchmark.pedantic(timed, setup=lambda: ((next(items),), {}), rounds=len(given))
    benchmark.extra_info["cpu_us_per_transaction"] = round(sum(spent_us) / len(spent_us), 2)


def test_look_for_unknown_transactions(benchmark: Any, load: Load, filled: BlockStore) -> None:
    """Before they are appended below: afterwards they would be known."""
    _each(benchmark, [made.hashes for made in load.blocks], filled.transaction_locations)


def test_append_payments(benchmark: Any, load: Load, filled: BlockStore) -> None:
    blocks: list[StoredBlock] = []
    parent = filled.tip()
    for made in load.blocks:
        parent, block = next_block(parent, made.hashes, made.receipts, pack_writes(made.writes))
        blocks.append(block)
    _each(benchmark, blocks, lambda block: filled.append([block]))


def test_apply_payments(benchmark: Any, load: Load, tmp_path: Path) -> None:
    shutil.copytree(load.state, tmp_path / "state")
    state = StateStore(tmp_path / "state", chain_id=CHAIN.chain_id, genesis_state_root=bytes(32))
    _each(benchmark, load.blocks, lambda made: state.apply([(made.height, made.state_root, made.writes)]))
    state.close()


def test_journal_payments(benchmark: Any, load: Load, tmp_path: Path) -> None:
    """A proposal with its bodies and three more records in two more writes: what a block takes."""
    journal = JournalStore(tmp_path / "journal", chain_id=CHAIN.chain_id)

    def write(made: Payments) -> None:
        height, proposal = made.height, b"".join(made.hashes)
        journal.write(
            [(height, proposal), (height, bytes(120))],
            [(height, hashlib.sha256(proposal).digest(), proposal, made.bodies)],
            prune_below=height - 8,
        )
        journal.write([(height, bytes(400)), (height, bytes(120))])
        journal.write([(height, bytes(120))])

    _each(benchmark, load.blocks, write)
    journal.close()

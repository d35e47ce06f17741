"""What the index of the blocks keeps in memory is bounded in every direction, and threads may read while it grows."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from chain.codec import encode
from chain.model.block import Event, Receipt
from chain.model.merkle import pack_writes
from chain.store import BlockStore, IndexLimits, StoredBlock, find_events
from chain.store.environment import META, open_environment
from chain.store.indexing import EVENTS, HISTORY, TRANSACTIONS, ChainIndex, key_digest
from chain.store.layout import height_key
from chain.store.runs import Runs
from tests.unit.store.factory import CONTRACT, ChainFactory, key_of

MAP = 64 * 1024 * 1024
HEIGHTS = 40


def eventful(chain: ChainFactory, *, transactions: int, events: int) -> StoredBlock:
    """The next block; its transactions write nothing and emit a lot."""
    made = chain.block([], transactions=transactions)
    emitted = tuple(Event(contract=CONTRACT, name="Paid", values=b"\x90") for _ in range(events))
    receipts = tuple(
        encode(Receipt(transaction_hash=item, status=0, gas_used=1, result=b"", error="", events=emitted))
        for item in made.hashes
    )
    return msgspec.structs.replace(made.block, receipts=receipts)


def test_transactions_that_emit_a_lot_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A transaction may emit 1,024 events: as many entries as 1,024 transactions, in a block of one."""
    chain = ChainFactory()
    with closing(
        BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP, index_limits=IndexLimits(events=3_000))
    ) as blocks:
        indexed = []
        for _ in range(6):
            blocks.append([eventful(chain, transactions=1, events=1_024)])
            indexed.append(blocks.indexed_height)
        assert indexed == [0, 0, 3, 3, 3, 6]
        assert len(find_events(blocks, contract=CONTRACT, limit=10_000)) == 6 * 1_024
    assert IndexLimits().events <= 128 * 1_024  # some 60 bytes each


@pytest.mark.parametrize("heights", [1, 3])
def test_who_reads_while_the_index_grows_and_goes_to_disk_misses_nothing(tmp_path: Path, heights: int) -> None:
    chain = ChainFactory()
    alike = [bytes(8) + hashlib.sha256(b"%d" % at).digest()[8:] for at in range(HEIGHTS)]
    run = []
    for at, shared in enumerate(alike):
        made = chain.block([(key_of(at % 5), b"\x01")], transactions=2)
        run.append(msgspec.structs.replace(made.block, hashes=shared + made.hashes[1]))
    limits, missed, done = IndexLimits(heights=heights), list[str](), threading.Event()

    def read(blocks: BlockStore) -> None:
        while not (finished := done.is_set()) or blocks.height() < HEIGHTS:
            tip = blocks.height()
            for height in range(max(1, tip - 4), tip + 1):
                hashes = [run[height - 1].hashes[:32], run[height - 1].hashes[32:]]
                if blocks.transaction_locations(hashes) != [(height, 0), (height, 1)]:
                    missed.append(f"transactions of {height} at {tip}")
                if height not in blocks.write_heights(key_of((height - 1) % 5), last=tip):
                    missed.append(f"write of {height} at {tip}")
                places = [item.place for item in find_events(blocks, contract=CONTRACT, first=height, last=height)]
                if places != [(height, 0, 0), (height, 1, 0)]:
                    missed.append(f"events of {height} at {tip}")
            if finished:
                return

    with closing(BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP, index_limits=limits)) as blocks:
        readers = [threading.Thread(target=read, args=(blocks,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for block in run:
                blocks.append([block])
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert missed == []
        assert blocks.indexed_height == HEIGHTS // heights * heights


class OneKey:
    """Blocks of which each wrote the same key."""

    def __init__(self, key: bytes) -> None:
        self.asked: list[int] = []
        self._writes = pack_writes([(key, b"\x01")])

    def hashes(self, height: int) -> bytes | None:
        return b""

    def receipts(self, height: int) -> list[bytes] | None:
        return []

    def writes(self, height: int) -> bytes | None:
        self.asked.append(height)
        return self._writes


def test_the_last_write_of_a_key_that_every_block_writes_does_not_take_memory_for_all_of_them(tmp_path: Path) -> None:
    key, last = key_of(1), 200_000
    blocks = OneKey(key)
    environment = open_environment(
        tmp_path / "blocks", kind="blocks", databases=(EVENTS, HISTORY, TRANSACTIONS), map_bytes=MAP
    )
    with closing(environment):
        with environment.write() as txn:
            txn.put(b"indexed", height_key(last), db=environment.database(META))
            Runs(environment, HISTORY).add(txn, [key_digest(key)] * last, range(1, last + 1), height=last)
        index = ChainIndex(environment, blocks, history=True, limits=IndexLimits(), base=1, tip=last)
        for at in (last, last - 7, 1):
            assert next(index.write_heights(key, 1, at)) == at
        tracemalloc.start()
        try:
            assert next(index.write_heights(key, 1, last)) == last
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * 1024 * 1024
        assert len(blocks.asked) == 4
        assert list(index.write_heights(key, 7, 12_345)) == list(range(12_345, 6, -1))
        assert list(index.write_heights(key, 9, 8)) == []

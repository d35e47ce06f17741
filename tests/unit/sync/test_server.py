"""Serving: bounded answers, and a peer that catches up gets a small share of a core, few requests at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from chain.codec import decode, encode
from chain.errors import BadInput
from chain.store.layout import pack_parts
from chain.sync import RequestKind, ServingBudget, SyncServer
from chain.sync.server import BULK_AT_ONCE_MAX, BURST_US
from chain.sync.wire import (
    BLOCKS_BYTES_WANTED,
    BLOCKS_PER_ANSWER_MAX,
    CHUNKS_BYTES_WANTED,
    CHUNKS_PER_ANSWER_MAX,
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    FetchedBlock,
    ProposalBodies,
    SnapshotAnswer,
    TipAnswer,
)
from chain.types import MESSAGE_BYTES_MAX, Digest, Height, ValidatorId

PEER, OTHER = ValidatorId(b"\x01" * 20), ValidatorId(b"\x02" * 20)


class Disk:
    """Blocks and chunks of one size; counts reads."""

    def __init__(self, *, block_bytes: int = 500, chunk_bytes: int = 500, chunks: int = 1_000) -> None:
        self.block_bytes = block_bytes
        self.chunk_bytes = chunk_bytes
        self.chunks = chunks
        self.reads = 0

    def tip(self) -> TipAnswer:
        return TipAnswer(height=500, base=1, snapshots=(100,))

    def load_block(self, height: Height) -> FetchedBlock | None:
        self.reads += 1
        if not 0 < height <= 500:
            return None
        return FetchedBlock(
            bodies=pack_parts((bytes(self.block_bytes),)), header=b"h%d" % height, certificate=b"", skipped=b""
        )

    def load_bodies(self, digest: Digest) -> ProposalBodies | None:
        return None

    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        return None

    def load_snapshot(self, height: int) -> SnapshotAnswer | None:
        return None

    def load_chunk_hashes(self, height: int, first: int, count: int) -> bytes | None:
        return bytes(32 * min(count, max(0, self.chunks - first))) if height == 100 else None

    def load_chunk(self, height: int, index: int, offset: int, bytes_max: int) -> tuple[bytes, int] | None:
        self.reads += 1
        if height != 100 or not 0 <= index < self.chunks:
            return None
        size = max(0, min(bytes_max, self.chunk_bytes - offset))
        return bytes(size), max(0, self.chunk_bytes - offset - size)


def ask_blocks(disk: Disk, first: int, last: int) -> list[bytes]:
    answer = SyncServer(disk).answer(RequestKind.BLOCKS, encode(BlocksRequest(first=first, last=last)))
    assert len(answer) <= MESSAGE_BYTES_MAX
    return [block.header for block in decode(BlocksAnswer, answer).blocks]


def ask_chunks(disk: Disk, first: int, last: int, offset: int = 0, height: int = 100) -> ChunksAnswer:
    request = encode(ChunksRequest(height=height, first=first, last=last, offset=offset))
    answer = SyncServer(disk).answer(RequestKind.CHUNKS, request)
    assert len(answer) <= MESSAGE_BYTES_MAX
    return decode(ChunksAnswer, answer)


def test_blocks_are_those_asked_for_as_far_as_they_are_there() -> None:
    assert ask_blocks(Disk(), 7, 9) == [b"h7", b"h8", b"h9"]
    assert ask_blocks(Disk(), 499, 600) == [b"h499", b"h500"]
    assert ask_blocks(Disk(), 501, 600) == []
    assert len(ask_blocks(Disk(), 1, 10**9)) == BLOCKS_PER_ANSWER_MAX


def test_large_blocks_come_fewer_at_a_time_and_at_least_one() -> None:
    size = BLOCKS_BYTES_WANTED // 4
    assert 1 < len(ask_blocks(Disk(block_bytes=size), 1, 64)) <= 5
    assert ask_blocks(Disk(block_bytes=MESSAGE_BYTES_MAX - 200_000), 1, 64) == [b"h1"]


def test_chunks_come_together_up_to_a_size_and_large_ones_in_parts() -> None:
    assert len(ask_chunks(Disk(), 0, 5).chunks) == 6
    assert len(ask_chunks(Disk(), 0, 10**6).chunks) == CHUNKS_PER_ANSWER_MAX
    assert 1 < len(ask_chunks(Disk(chunk_bytes=CHUNKS_BYTES_WANTED // 3), 0, 99).chunks) <= 5
    disk = Disk(chunk_bytes=3 * MESSAGE_BYTES_MAX)
    have, rest = 0, 1
    while rest:
        part = ask_chunks(disk, 4, 99, offset=have)
        assert len(part.chunks) == 1
        have, rest = have + len(part.chunks[0]), part.rest
    assert have == disk.chunk_bytes


@pytest.mark.parametrize(
    ("first", "last", "offset"), [(5, 4, 0), (2**50, 2**50, 0), (0, 2**63, 0), (0, 1, 2**63), (1_000, 1_001, 0)]
)
def test_what_cannot_be_is_refused(first: int, last: int, offset: int) -> None:
    with pytest.raises(BadInput):
        ask_chunks(Disk(), first, last, offset)


def test_unknown_heights_and_kinds_are_refused() -> None:
    for height in (0, 99, 2**63):
        with pytest.raises(BadInput, match="no such chunk"):
            ask_chunks(Disk(), 0, 1, height=height)
    for kind in (0, 99, 255):
        with pytest.raises(BadInput, match="not known"):
            SyncServer(Disk()).answer(kind, b"")
    with pytest.raises(BadInput, match=r"blocks 5\.\.4"):
        ask_blocks(Disk(), 5, 4)


# --- a peer's share ---


class Meter:
    """CPU time that moves by a fixed amount with every look."""

    def __init__(self, step_us: int) -> None:
        self.step_us = step_us
        self.now = 0

    def __call__(self) -> int:
        self.now += self.step_us * 1_000
        return self.now


def test_a_peer_has_its_share_and_no_more() -> None:
    share, cost_us = 0.1, 10_000

    async def go() -> None:
        with ThreadPoolExecutor(1) as thread:
            loop = asyncio.get_running_loop()
            budget = ServingBudget(SyncServer(Disk()), thread, share=share, cpu_ns=Meter(cost_us))
            start, had = loop.time(), 0
            while had < 8 * cost_us:
                await budget.serve(PEER, RequestKind.BLOCKS, encode(BlocksRequest(first=1, last=1)))
                had += cost_us
            assert had <= BURST_US + share * (loop.time() - start) * 1e6 + 2 * cost_us
            assert budget.spent_us >= had

    asyncio.run(go())


def test_a_peer_that_asks_much_costs_another_one_nothing() -> None:
    async def go() -> None:
        with ThreadPoolExecutor(1) as thread:
            budget = ServingBudget(SyncServer(Disk()), thread, share=1e-9, cpu_ns=Meter(10 * BURST_US))
            request = encode(BlocksRequest(first=1, last=1))
            await budget.serve(PEER, RequestKind.BLOCKS, request)
            waiting = asyncio.ensure_future(budget.serve(PEER, RequestKind.BLOCKS, request))
            async with asyncio.timeout(10):
                await budget.serve(OTHER, RequestKind.BLOCKS, request)
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(go())


def test_what_votes_need_is_never_held_back() -> None:
    async def go() -> None:
        with ThreadPoolExecutor(1) as thread:
            budget = ServingBudget(SyncServer(Disk()), thread, share=1e-9, cpu_ns=Meter(10_000_000))
            request = encode(BlocksRequest(first=1, last=1))
            await budget.serve(PEER, RequestKind.BLOCKS, request)
            waiting = asyncio.ensure_future(budget.serve(PEER, RequestKind.BLOCKS, request))
            async with asyncio.timeout(10):
                await budget.serve(PEER, RequestKind.TIP, b"")
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(go())


def test_bulk_requests_at_once_are_few() -> None:
    async def go() -> None:
        with ThreadPoolExecutor(1) as thread:
            budget = ServingBudget(SyncServer(Disk()), thread)
            request = encode(BlocksRequest(first=1, last=64))
            asked = [budget.serve(PEER, RequestKind.BLOCKS, request) for _ in range(BULK_AT_ONCE_MAX + 3)]
            results = await asyncio.gather(*asked, return_exceptions=True)
            refused = [result for result in results if isinstance(result, BadInput)]
            assert [error.code for error in refused] == ["busy"] * 3
            await budget.serve(PEER, RequestKind.BLOCKS, request)

    asyncio.run(go())

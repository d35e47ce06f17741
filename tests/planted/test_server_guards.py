"""What the mutations of serving blocks, bodies and chunks found to be tested nowhere else."""

from __future__ import annotations

from typing import cast

import pytest

from chain.codec import decode, encode
from chain.errors import BadInput
from chain.model.merkle import InclusionProof
from chain.model.trust import TrustLink
from chain.sync import RequestKind, SyncServer
from chain.sync.server import NUMBER_MAX, Archive
from chain.sync.wire import (
    ANSWER_BYTES_MAX,
    BLOCKS_BYTES_WANTED,
    CHUNK_HASHES_PER_ANSWER_MAX,
    CHUNKS_BYTES_WANTED,
    TRUST_BYTES_WANTED,
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    FetchedBlock,
    ProposalBodies,
    ProposalRequest,
    SnapshotAnswer,
    SnapshotRequest,
    TransactionsAnswer,
    TransactionsRequest,
    TrustAnswer,
    TrustRequest,
)
from chain.types import DIGEST_BYTES, Digest, Height

BLOCK_FRAME = 64  # what an answer is taken to need for a block, or for a chunk or a body, beside its bytes
PART_FRAME = 8


class Shelf:
    """An archive with things of given sizes; notes what it was asked for."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.asked: list[tuple[int, ...]] = []

    def load_block(self, height: Height) -> FetchedBlock | None:
        self.asked.append((height,))
        if not 1 <= height <= len(self.sizes):
            return None
        return FetchedBlock(bodies=bytes(self.sizes[height - 1] - 3), header=b"h", certificate=b"c", skipped=b"s")

    def load_bodies(self, digest: Digest) -> ProposalBodies | None:
        return ProposalBodies(proposal=b"here", transactions=(b"body",)) if digest == bytes(DIGEST_BYTES) else None

    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        number = transaction_hash[-1]
        return bytes(self.sizes[number]) if number < len(self.sizes) else None

    def load_snapshot(self, height: int) -> SnapshotAnswer | None:
        self.asked.append((height,))
        return SnapshotAnswer(head=b"%d" % height, headers=(), certificate=b"")

    def load_chunk_hashes(self, height: int, first: int, count: int) -> bytes | None:
        self.asked.append((height, first, count))
        return bytes(DIGEST_BYTES) if height == 100 else None

    def load_chunk(self, height: int, index: int, offset: int, bytes_max: int) -> tuple[bytes, int] | None:
        self.asked.append((index, offset))
        if index >= len(self.sizes):
            return None
        left = self.sizes[index] - offset
        return bytes(min(left, bytes_max)), max(0, left - bytes_max)


def server(shelf: Shelf) -> SyncServer:
    return SyncServer(cast("Archive", shelf))


# --- blocks ---


def blocks(shelf: Shelf, first: int = 1, last: int = 64) -> int:
    request = encode(BlocksRequest(first=first, last=last))
    return len(decode(BlocksAnswer, server(shelf).answer(RequestKind.BLOCKS, request)).blocks)


def test_an_answer_of_blocks_is_closed_once_it_has_more_than_is_wanted() -> None:
    exact = BLOCKS_BYTES_WANTED - 2 * BLOCK_FRAME - 100
    assert blocks(Shelf(100, exact, 5, 5)) == 3
    assert blocks(Shelf(100, exact + 1, 5, 5)) == 2


def test_an_answer_of_blocks_is_no_longer_than_it_may_be_but_has_one() -> None:
    exact = ANSWER_BYTES_MAX - 2 * BLOCK_FRAME - 100
    assert blocks(Shelf(100, exact)) == 2
    assert blocks(Shelf(100, exact + 1)) == 1
    assert blocks(Shelf(ANSWER_BYTES_MAX, 5)) == 1


@pytest.mark.parametrize(("first", "last", "is_good"), [(0, 1, False), (-1, 1, False), (1, 1, True), (2, 1, False)])
def test_blocks_are_asked_for_from_1_on(first: int, last: int, is_good: bool) -> None:
    if is_good:
        assert blocks(Shelf(100), first, last) == 1
    else:
        with pytest.raises(BadInput):
            blocks(Shelf(100), first, last)


# --- bodies ---


def bodies(shelf: Shelf, *numbers: int) -> list[int]:
    hashes = b"".join(number.to_bytes(DIGEST_BYTES, "big") for number in numbers)
    answer = server(shelf).answer(RequestKind.TRANSACTIONS, encode(TransactionsRequest(hashes=hashes)))
    return list(map(len, decode(TransactionsAnswer, answer).transactions))


def test_bodies_come_in_the_order_asked_for_without_those_that_are_not_here() -> None:
    assert bodies(Shelf(5, 6, 7), 2, 9, 0, 1) == [7, 5, 6]


def test_an_answer_of_bodies_is_no_longer_than_it_may_be() -> None:
    exact = ANSWER_BYTES_MAX - 2 * PART_FRAME - 100
    assert bodies(Shelf(100, exact, 5), 0, 1) == [100, exact]
    assert bodies(Shelf(100, exact + 1, 5), 0, 1, 2) == [100]


@pytest.mark.parametrize("size", [1, DIGEST_BYTES - 1, DIGEST_BYTES + 1])
def test_hashes_are_whole(size: int) -> None:
    with pytest.raises(BadInput):
        server(Shelf(5)).answer(RequestKind.TRANSACTIONS, encode(TransactionsRequest(hashes=bytes(size))))


def test_a_proposal_that_is_not_here_is_an_empty_answer() -> None:
    for digest, found in ((bytes(DIGEST_BYTES), (b"here", (b"body",))), (b"\x01" * DIGEST_BYTES, (b"", ()))):
        answer = server(Shelf()).answer(RequestKind.PROPOSAL, encode(ProposalRequest(digest=digest)))
        bodies = decode(ProposalBodies, answer)
        assert (bodies.proposal, bodies.transactions) == found


# --- snapshots ---


def test_only_heights_that_can_be_are_looked_for() -> None:
    for height, is_good in ((-1, False), (0, False), (1, True), (NUMBER_MAX - 1, True), (NUMBER_MAX, False)):
        shelf, request = Shelf(), encode(SnapshotRequest(height=height))
        if is_good:
            answer = decode(SnapshotAnswer, server(shelf).answer(RequestKind.SNAPSHOT, request))
            assert answer.head == b"%d" % height
        else:
            with pytest.raises(BadInput, match="no snapshot"):
                server(shelf).answer(RequestKind.SNAPSHOT, request)
            assert shelf.asked == []


def test_a_snapshot_that_is_not_here_is_refused() -> None:
    shelf = Shelf()
    shelf.load_snapshot = lambda height: None  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="no snapshot"):
        server(shelf).answer(RequestKind.SNAPSHOT, encode(SnapshotRequest(height=5)))
    for height, is_good in ((100, True), (101, False)):
        request = encode(ChunksRequest(height=height, first=0, last=0, offset=0))
        if is_good:
            assert server(shelf).answer(RequestKind.CHUNK_HASHES, request) == bytes(DIGEST_BYTES)
        else:
            with pytest.raises(BadInput, match="no snapshot"):
                server(shelf).answer(RequestKind.CHUNK_HASHES, request)


@pytest.mark.parametrize(
    ("first", "last", "offset", "count"),
    [
        (0, 0, 0, 1), (3, 5, 0, 3), (0, CHUNK_HASHES_PER_ANSWER_MAX, 0, CHUNK_HASHES_PER_ANSWER_MAX),
        (NUMBER_MAX - 1, NUMBER_MAX - 1, NUMBER_MAX - 1, 1), (-1, 0, 0, None), (1, 0, 0, None),
        (0, NUMBER_MAX, 0, None), (NUMBER_MAX, NUMBER_MAX, 0, None), (0, 0, -1, None), (0, 0, NUMBER_MAX, None),
    ],
)  # fmt: skip
def test_chunks_and_offsets_reach_their_bounds_and_no_further(
    first: int, last: int, offset: int, count: int | None
) -> None:
    shelf = Shelf()
    request = encode(ChunksRequest(height=100, first=first, last=last, offset=offset))
    if count is None:
        with pytest.raises(BadInput) as caught:
            server(shelf).answer(RequestKind.CHUNK_HASHES, request)
        assert (caught.value.code, shelf.asked) == ("bad_range", [])
    else:
        server(shelf).answer(RequestKind.CHUNK_HASHES, request)
        assert shelf.asked == [(100, first, count)]


def chunks(shelf: Shelf, *, first: int = 0, last: int = 9, offset: int = 0) -> tuple[list[int], int]:
    request = encode(ChunksRequest(height=100, first=first, last=last, offset=offset))
    answer = decode(ChunksAnswer, server(shelf).answer(RequestKind.CHUNKS, request))
    return list(map(len, answer.chunks)), answer.rest


def test_chunks_end_where_the_snapshot_does() -> None:
    assert chunks(Shelf(5, 6, 7), first=1) == ([6, 7], 0)
    with pytest.raises(BadInput, match="no such chunk"):
        chunks(Shelf(5, 6, 7), first=3)


def test_an_answer_of_chunks_is_closed_once_it_has_more_than_is_wanted() -> None:
    exact = CHUNKS_BYTES_WANTED - 2 * PART_FRAME - 100
    assert chunks(Shelf(100, exact, 5, 5)) == ([100, exact, 5], 0)
    assert chunks(Shelf(100, exact + 1, 5, 5)) == ([100, exact + 1], 0)


def test_an_answer_of_chunks_is_no_longer_than_it_may_be() -> None:
    exact = ANSWER_BYTES_MAX - 2 * PART_FRAME - 100
    assert chunks(Shelf(100, exact)) == ([100, exact], 0)
    assert chunks(Shelf(100, exact + 1)) == ([100], 0)


def test_a_chunk_that_comes_in_parts_comes_alone() -> None:
    large = Shelf(5, ANSWER_BYTES_MAX + 7, 5)
    assert chunks(large) == ([5], 0), "the large one is left for the next request"
    assert chunks(large, first=1) == ([ANSWER_BYTES_MAX], 7)
    assert chunks(large, first=1, offset=ANSWER_BYTES_MAX) == ([7], 0), "and its rest is followed by nothing"
    assert chunks(Shelf(30, 5), offset=20) == ([10], 0)


def test_what_a_chunk_lacks_is_told_however_small_a_message_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.sync.server.ANSWER_BYTES_MAX", 700)
    assert chunks(Shelf(1_000, 5)) == ([700], 300)


# --- the chain of trust ---


def link(size: int) -> TrustLink:
    proof = InclusionProof(index=0, count=1, siblings=())
    return TrustLink(header=b"", certificate=bytes(size), parent_state_root=bytes(32), leaf=b"", proof=proof)


def links(every: list[TrustLink], first: int = 0) -> tuple[int, int]:
    trusted = SyncServer(cast("Archive", Shelf()), trust=lambda: every)
    answer = decode(TrustAnswer, trusted.answer(RequestKind.TRUST, encode(TrustRequest(first=first))))
    return len(answer.links), answer.rest


def test_links_come_from_the_first_one_asked_for_and_what_follows_is_counted() -> None:
    every = [link(9)] * 5
    assert [links(every, first) for first in (0, 1, 4, 5, 6, NUMBER_MAX - 1)] == [
        (5, 0), (4, 0), (1, 0), (0, 0), (0, 0), (0, 0)
    ]  # fmt: skip
    for first in (-1, NUMBER_MAX):
        with pytest.raises(BadInput):
            links(every, first)


def test_an_answer_of_links_is_no_longer_than_is_wanted_but_has_one() -> None:
    small = link(100)
    frame = len(encode(link(TRUST_BYTES_WANTED))) - TRUST_BYTES_WANTED  # of a large one
    exact = TRUST_BYTES_WANTED - len(encode(small)) - frame
    assert len(encode(link(exact))) + len(encode(small)) == TRUST_BYTES_WANTED
    assert links([small, link(exact)]) == (2, 0)
    assert links([small, link(exact + 1), small]) == (1, 2)
    assert links([link(TRUST_BYTES_WANTED + 1), small]) == (1, 1)

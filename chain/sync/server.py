"""Answers other nodes' requests from the store, the live proposals and the pool, each answer bounded.

What many blocks or chunks are made of leaves as it lies on disk. `ServingBudget` keeps a peer that catches up from
costing this node more than a small share of a core.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, Protocol

from chain.codec import decode, encode
from chain.errors import BadInput
from chain.model.trust import TrustLink
from chain.sync.wire import (
    ANSWER_BYTES_MAX,
    BLOCKS_BYTES_WANTED,
    BLOCKS_PER_ANSWER_MAX,
    CHUNK_HASHES_PER_ANSWER_MAX,
    CHUNKS_BYTES_WANTED,
    CHUNKS_PER_ANSWER_MAX,
    HASHES_PER_REQUEST_MAX,
    TRUST_BYTES_WANTED,
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    FetchedBlock,
    ProposalBodies,
    ProposalRequest,
    RequestKind,
    SnapshotAnswer,
    SnapshotRequest,
    TipAnswer,
    TransactionsAnswer,
    TransactionsRequest,
    TrustAnswer,
    TrustRequest,
)
from chain.types import DIGEST_BYTES, Digest, Height, ValidatorId

NUMBER_MAX: Final = 2**48  # no height, chunk or offset of a request is larger: nothing computed from one overflows
BULK: Final = frozenset(
    {RequestKind.BLOCKS, RequestKind.SNAPSHOT, RequestKind.CHUNK_HASHES, RequestKind.CHUNKS, RequestKind.TRUST}
)
CORE_SHARE: Final = 0.08  # of one core, for the bulk requests of one peer
BURST_US: Final = 50_000  # CPU that a peer may use before it waits
BULK_AT_ONCE_MAX: Final = 4  # of one peer; more is refused
REQUEST_COST_US: Final = 150  # of frames and scheduling, which the thread that answers does not see
BYTE_COST_NS: Final = 4  # of TLS and copies


class Archive(Protocol):
    """What a node has; called in threads."""

    def tip(self) -> TipAnswer: ...

    def load_block(self, height: Height) -> FetchedBlock | None: ...

    def load_bodies(self, digest: Digest) -> ProposalBodies | None: ...

    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        """A raw transaction from the pool, which holds those of live proposals too."""
        ...

    def load_snapshot(self, height: int) -> SnapshotAnswer | None: ...

    def load_chunk_hashes(self, height: int, first: int, count: int) -> bytes | None: ...

    def load_chunk(self, height: int, index: int, offset: int, bytes_max: int) -> tuple[bytes, int] | None:
        """(bytes of the chunk from `offset` on, how many of it are left after them); None: no such chunk here."""
        ...


class SyncServer:
    def __init__(self, archive: Archive, *, trust: Callable[[], Sequence[TrustLink]] = tuple) -> None:
        """`trust` gives the proof of all validator sets since genesis, as it is now (`chain.model.trust`)."""
        self._archive = archive
        self._trust = trust

    def answer(self, kind: int, payload: bytes) -> bytes:
        """Raises BadInput (malformed or unknown request)."""
        match kind:
            case RequestKind.BLOCKS:
                return encode(self._blocks(decode(BlocksRequest, payload)))
            case RequestKind.PROPOSAL:
                return encode(self._proposal(decode(ProposalRequest, payload)))
            case RequestKind.TRANSACTIONS:
                return encode(self._transactions(decode(TransactionsRequest, payload)))
            case RequestKind.TIP:
                return encode(self._archive.tip())
            case RequestKind.SNAPSHOT:
                height = decode(SnapshotRequest, payload).height
                found = self._archive.load_snapshot(height) if 0 < height < NUMBER_MAX else None
                if found is None:
                    raise BadInput("no_snapshot", "there is no snapshot of that height here")
                return encode(found)
            case RequestKind.CHUNK_HASHES:
                return self._chunk_hashes(decode(ChunksRequest, payload))
            case RequestKind.CHUNKS:
                return encode(self._chunks(decode(ChunksRequest, payload)))
            case RequestKind.TRUST:
                return encode(self._links(decode(TrustRequest, payload)))
            case _:
                raise BadInput("unknown_request", f"request kind {kind} is not known")

    def _blocks(self, request: BlocksRequest) -> BlocksAnswer:
        if not 1 <= request.first <= request.last:
            raise BadInput("bad_range", f"blocks {request.first}..{request.last}")
        blocks: list[FetchedBlock] = []
        size = 0
        for height in range(request.first, min(request.last, request.first + BLOCKS_PER_ANSWER_MAX - 1) + 1):
            block = self._archive.load_block(Height(height))
            if block is None:
                break
            size += len(block.bodies) + len(block.header) + len(block.certificate) + len(block.skipped) + 64
            if blocks and size > ANSWER_BYTES_MAX:
                break
            blocks.append(block)
            if size > BLOCKS_BYTES_WANTED:
                break
        return BlocksAnswer(blocks=tuple(blocks))

    def _proposal(self, request: ProposalRequest) -> ProposalBodies:
        bodies = self._archive.load_bodies(Digest(request.digest))
        return bodies if bodies is not None else ProposalBodies(proposal=b"", transactions=())

    def _transactions(self, request: TransactionsRequest) -> TransactionsAnswer:
        count, rest = divmod(len(request.hashes), DIGEST_BYTES)
        if rest or count > HASHES_PER_REQUEST_MAX:
            raise BadInput("bad_hashes", f"{len(request.hashes)} bytes of hashes")
        found: list[bytes] = []
        size = 0
        for at in range(0, len(request.hashes), DIGEST_BYTES):
            raw = self._archive.find_transaction(Digest(request.hashes[at : at + DIGEST_BYTES]))
            if raw is None:
                continue
            size += len(raw) + 8
            if size > ANSWER_BYTES_MAX:
                break
            found.append(raw)
        return TransactionsAnswer(transactions=tuple(found))

    def _chunk_hashes(self, request: ChunksRequest) -> bytes:
        count = _count(request, CHUNK_HASHES_PER_ANSWER_MAX)
        hashes = self._archive.load_chunk_hashes(request.height, request.first, count)
        if hashes is None:
            raise BadInput("no_snapshot", "there is no snapshot of that height here")
        return hashes

    def _chunks(self, request: ChunksRequest) -> ChunksAnswer:
        """Whole chunks up to about a mebibyte; one that no message holds comes in parts."""
        chunks: list[bytes] = []
        size, offset = 0, request.offset
        for index in range(request.first, request.first + _count(request, CHUNKS_PER_ANSWER_MAX)):
            found = self._archive.load_chunk(request.height, index, offset, ANSWER_BYTES_MAX)
            if found is None:
                if chunks:
                    break
                raise BadInput("no_snapshot", "there is no such chunk here")
            data, rest = found
            size += len(data) + 8
            if chunks and (rest or size > ANSWER_BYTES_MAX):
                break
            chunks.append(data)
            if rest or request.offset or size > CHUNKS_BYTES_WANTED:
                return ChunksAnswer(chunks=tuple(chunks), rest=rest)
        return ChunksAnswer(chunks=tuple(chunks), rest=0)

    def _links(self, request: TrustRequest) -> TrustAnswer:
        links = self._trust()
        if not 0 <= request.first < NUMBER_MAX:
            raise BadInput("bad_range", f"links from {request.first} on")
        part: list[TrustLink] = []
        size = 0
        for link in links[request.first :]:
            size += len(encode(link))
            if part and size > TRUST_BYTES_WANTED:
                break
            part.append(link)
        return TrustAnswer(links=tuple(part), rest=max(0, len(links) - request.first - len(part)))


def _count(request: ChunksRequest, count_max: int) -> int:
    if not 0 <= request.first <= request.last < NUMBER_MAX or not 0 <= request.offset < NUMBER_MAX:
        raise BadInput("bad_range", f"chunks {request.first}..{request.last}")
    return min(request.last - request.first + 1, count_max)


class ServingBudget:
    """Answers in a thread; a peer's bulk requests are few at once, and wait while it has had more than its share."""

    def __init__(
        self,
        server: SyncServer,
        thread: Executor,
        *,
        share: float = CORE_SHARE,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        """`cpu_ns` is the CPU time of the thread that calls it."""
        self._server = server
        self._thread = thread
        self._share = share
        self._cpu_ns = cpu_ns
        self._peers: dict[ValidatorId, _Account] = {}
        self.spent_us = 0  # of all peers, thread and estimate

    async def serve(self, peer: ValidatorId, kind: int, payload: bytes) -> bytes:
        """Raises BadInput: as `SyncServer.answer`, or `busy`."""
        loop = asyncio.get_running_loop()
        if kind not in BULK:
            return await loop.run_in_executor(self._thread, self._server.answer, kind, payload)
        account = self._peers.setdefault(peer, _Account(at=loop.time()))
        if account.open >= BULK_AT_ONCE_MAX:
            raise BadInput("busy", f"more than {BULK_AT_ONCE_MAX} requests for blocks or chunks at once")
        account.open += 1
        try:
            await asyncio.sleep(account.wait_s(loop.time(), self._share))
            answer, spent_us = await loop.run_in_executor(self._thread, self._measure, kind, payload)
            account.debt_us += spent_us
            self.spent_us += spent_us
            return answer
        finally:
            account.open -= 1

    def _measure(self, kind: int, payload: bytes) -> tuple[bytes, int]:
        start = self._cpu_ns()
        answer = self._server.answer(kind, payload)
        spent_ns = self._cpu_ns() - start + len(answer) * BYTE_COST_NS
        return answer, spent_ns // 1_000 + REQUEST_COST_US


class _Account:
    """What one peer has had."""

    __slots__ = ("at", "debt_us", "open")

    def __init__(self, *, at: float) -> None:
        self.at = at
        self.debt_us = 0.0
        self.open = 0

    def wait_s(self, now: float, share: float) -> float:
        """How long the next answer must wait."""
        self.debt_us = max(0.0, self.debt_us - (now - self.at) * share * 1e6)
        self.at = now
        return max(0.0, self.debt_us - BURST_US) / (share * 1e6)

"""Answers other nodes' requests from the store, the live proposals and the pool, each answer bounded."""

from __future__ import annotations

from typing import Protocol

from chain.codec import decode, encode
from chain.errors import BadInput
from chain.sync.wire import (
    ANSWER_BYTES_MAX,
    BLOCKS_PER_ANSWER_MAX,
    HASHES_PER_REQUEST_MAX,
    BlocksAnswer,
    BlocksRequest,
    FetchedBlock,
    ProposalBodies,
    ProposalRequest,
    RequestKind,
    TransactionsAnswer,
    TransactionsRequest,
)
from chain.types import DIGEST_BYTES, Digest, Height


class Archive(Protocol):
    def stored_height(self) -> Height: ...

    def load_block(self, height: Height) -> FetchedBlock | None: ...

    def load_bodies(self, digest: Digest) -> ProposalBodies | None: ...

    def find_transaction(self, transaction_hash: Digest) -> bytes | None:
        """A raw transaction from the pool, which holds those of live proposals too."""
        ...


class SyncServer:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def answer(self, kind: int, payload: bytes) -> bytes:
        """Raises BadInput (malformed or unknown request)."""
        match kind:
            case RequestKind.BLOCKS:
                return encode(self._blocks(decode(BlocksRequest, payload)))
            case RequestKind.PROPOSAL:
                return encode(self._proposal(decode(ProposalRequest, payload)))
            case RequestKind.TRANSACTIONS:
                return encode(self._transactions(decode(TransactionsRequest, payload)))
            case _:
                raise BadInput("unknown_request", f"request kind {kind} is not known")

    def _blocks(self, request: BlocksRequest) -> BlocksAnswer:
        if not 1 <= request.first <= request.last:
            raise BadInput("bad_range", f"blocks {request.first}..{request.last}")
        last = min(request.last, self._archive.stored_height(), request.first + BLOCKS_PER_ANSWER_MAX - 1)
        blocks: list[FetchedBlock] = []
        size = 0
        for height in range(request.first, last + 1):
            block = self._archive.load_block(Height(height))
            if block is None:
                break
            size += sum(map(len, block.bodies.transactions)) + len(block.bodies.proposal) + 4_096
            size += 8 * len(block.bodies.transactions)
            if blocks and size > ANSWER_BYTES_MAX:
                break
            blocks.append(block)
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

"""Requests between nodes and their answers. Every answer is bounded by the one message size."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta

from chain.codec import Record
from chain.model.trust import TrustLink
from chain.types import DIGEST_BYTES, MESSAGE_BYTES_MAX, ValidatorId

ANSWER_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 64 * 1024  # room for framing
BLOCKS_PER_ANSWER_MAX: Final = 64
BLOCKS_BYTES_WANTED: Final = 2 * 1024 * 1024  # an answer of blocks is closed when it has reached this
HASHES_PER_REQUEST_MAX: Final = MESSAGE_BYTES_MAX // DIGEST_BYTES // 2
CHUNKS_PER_ANSWER_MAX: Final = 256
CHUNKS_BYTES_WANTED: Final = 1024 * 1024  # an answer of chunks is closed when it has reached this
CHUNK_HASHES_PER_ANSWER_MAX: Final = 65_536
TRUST_BYTES_WANTED: Final = 2 * 1024 * 1024  # an answer of trust links holds no more, but at least one
SNAPSHOTS_PER_TIP_MAX: Final = 16  # a node keeps two; a crash may leave it one more


class RequestKind(enum.IntEnum):
    BLOCKS = 1
    PROPOSAL = 2
    TRANSACTIONS = 3
    TIP = 4
    SNAPSHOT = 5
    CHUNK_HASHES = 6
    CHUNKS = 7
    TRUST = 8


# (peer, kind, payload, time-out in seconds) -> answer; raises PeerFault or TimeoutError
Ask: TypeAlias = Callable[[ValidatorId, RequestKind, bytes, float], Awaitable[bytes]]

# Starts a task whose failure stops the node
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class BlocksRequest(Record, frozen=True, kw_only=True):
    first: int
    last: int


class ProposalBodies(Record, frozen=True, kw_only=True):
    """A proposal and its raw transactions in the order of its hashes; `proposal` is empty if it is not known."""

    proposal: bytes
    transactions: tuple[bytes, ...]


class FetchedBlock(Record, frozen=True, kw_only=True):
    """A block as it lies in the server's store: `bodies` is `pack_parts` (chain.store.layout) of the proposal and its
    raw transactions, `skipped` the positions that execution skipped, 4 bytes each."""

    bodies: bytes
    header: bytes
    certificate: bytes
    skipped: bytes


class BlocksAnswer(Record, frozen=True, kw_only=True):
    """Consecutive stored blocks from the first one asked for; fewer than asked where the answer would be too big."""

    blocks: tuple[FetchedBlock, ...]


class ProposalRequest(Record, frozen=True, kw_only=True):
    digest: bytes


class TransactionsRequest(Record, frozen=True, kw_only=True):
    hashes: bytes  # concatenated


class TransactionsAnswer(Record, frozen=True, kw_only=True):
    transactions: tuple[bytes, ...]  # those that are known, in the order asked for


class TipAnswer(Record, frozen=True, kw_only=True):
    """What a node has; TIP is asked for without a payload. Only a hint: everything else proves itself."""

    height: int
    base: int  # the lowest block it has above genesis
    snapshots: Annotated[tuple[int, ...], Meta(max_length=SNAPSHOTS_PER_TIP_MAX)]  # heights, ascending


class SnapshotRequest(Record, frozen=True, kw_only=True):
    height: int


class SnapshotAnswer(Record, frozen=True, kw_only=True):
    """What ties a snapshot to a certificate: its head, the headers from its height up to the one that commits to it,
    and that one's certificate."""

    head: bytes  # encode(SnapshotHead)
    headers: tuple[bytes, ...]
    certificate: bytes


class ChunksRequest(Record, frozen=True, kw_only=True):
    """Chunks `first`.. of a snapshot (CHUNKS, CHUNK_HASHES). `offset` is 0, or where the part already had of a chunk
    that is larger than a message ends."""

    height: int
    first: int
    last: int
    offset: int


class ChunksAnswer(Record, frozen=True, kw_only=True):
    """Consecutive chunks from the first one asked for. `rest` is the number of bytes that the last one still lacks."""

    chunks: tuple[bytes, ...]
    rest: int


class TrustRequest(Record, frozen=True, kw_only=True):
    """The links of the chain of trust (`chain.model.trust`) from number `first`, counted from 0, on."""

    first: int


class TrustAnswer(Record, frozen=True, kw_only=True):
    """Consecutive links from the first one asked for. `rest` is how many there are after them."""

    links: tuple[TrustLink, ...]
    rest: int

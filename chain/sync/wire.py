"""Requests between nodes and their answers. Every answer is bounded by the one message size."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

from chain.codec import Record
from chain.types import DIGEST_BYTES, MESSAGE_BYTES_MAX, ValidatorId

ANSWER_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 64 * 1024  # room for framing
BLOCKS_PER_ANSWER_MAX: Final = 64
HASHES_PER_REQUEST_MAX: Final = MESSAGE_BYTES_MAX // DIGEST_BYTES // 2


class RequestKind(enum.IntEnum):
    BLOCKS = 1
    PROPOSAL = 2
    TRANSACTIONS = 3


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
    bodies: ProposalBodies
    header: bytes
    certificate: bytes


class BlocksAnswer(Record, frozen=True, kw_only=True):
    """Consecutive stored blocks from the first one asked for; fewer than asked where the answer would be too big."""

    blocks: tuple[FetchedBlock, ...]


class ProposalRequest(Record, frozen=True, kw_only=True):
    digest: bytes


class TransactionsRequest(Record, frozen=True, kw_only=True):
    hashes: bytes  # concatenated


class TransactionsAnswer(Record, frozen=True, kw_only=True):
    transactions: tuple[bytes, ...]  # those that are known, in the order asked for

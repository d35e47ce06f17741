"""The state as a whole: its Merkle root, and the chunks in which it travels.

The leaves are the write leaves (`chain.model.merkle`) of all keys of the state, ascending by key, so the tree is that
of one write set that makes the state from nothing. A *chunk* is the subtree of `CHUNK_LEAVES` consecutive leaves; the
last one may be smaller. The chunk hashes lead to the root, so each chunk is checked by itself, and as the root covers
the number of leaves, no key can be missing or too many anywhere, the end included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from chain.codec import Record, pack, unpack
from chain.errors import DecodeError
from chain.model.merkle import ARITY, COUNT_BYTES, EMPTY_ROOT, LEAF_PREFIX, NODE_PREFIX, ROOT_PREFIX
from chain.types import DIGEST_BYTES, Digest

CHUNK_LEVELS: Final = 2
CHUNK_LEAVES: Final = ARITY**CHUNK_LEVELS
CHUNKS_MAX: Final = 2**40 // CHUNK_LEAVES

Pair = tuple[bytes, bytes]  # key, value


class SnapshotHead(Record, frozen=True, kw_only=True):
    """What a snapshot says about itself; all of it follows from the state."""

    height: int
    root: bytes
    count: int  # keys
    leaf_bytes: int  # of all chunks together


def chunk_count(count: int) -> int:
    """Chunks of a state of `count` keys."""
    return -(-count // CHUNK_LEAVES)


def chunk_leaves(count: int, index: int) -> int:
    """Leaves of chunk `index` of a state of `count` keys; 0 where there is no such chunk."""
    return max(0, min(CHUNK_LEAVES, count - index * CHUNK_LEAVES)) if index >= 0 else 0


def pack_chunk(pairs: Sequence[Pair], *, alone: bool) -> tuple[bytes, bytes]:
    """(bytes, hash) of a chunk: its leaves, one after the other, and the top of their subtree.

    `alone`: it is the only chunk of the state, and the tree may have less than `CHUNK_LEVELS` levels.
    """
    leaves = [pack(pair) for pair in pairs]
    return b"".join(leaves), _top(leaves, alone=alone)


def unpack_chunk(data: bytes, index: int, count: int) -> tuple[list[Pair], bytes]:
    """The pairs of chunk `index` of a state of `count` keys, and the chunk's hash; `data` may come from anybody.

    Raises:
        DecodeError: not exactly as many canonical leaves, all with values, as the chunk has.
    """
    value = unpack(_array_header(chunk_leaves(count, index)) + data)
    pairs: list[Pair] = []
    if type(value) is not tuple:
        raise DecodeError("chunk: no leaves")
    for leaf in value:
        match leaf:
            case (bytes(key), bytes(held)) if key and held:
                pairs.append((key, held))
            case _:
                raise DecodeError("chunk: a leaf that is no key with a value")
    return pairs, _top([pack(pair) for pair in pairs], alone=count <= CHUNK_LEAVES)


def root_of_chunks(hashes: bytes, count: int) -> Digest:
    """The root of a state of `count` keys whose chunks have these hashes, 32 bytes each, one after the other.

    Raises:
        DecodeError: another number of hashes than `count` demands.
    """
    if len(hashes) != chunk_count(count) * DIGEST_BYTES:
        raise DecodeError(f"{len(hashes)} bytes of chunk hashes for {count} keys")
    if not count:
        return EMPTY_ROOT
    level, group = hashes, ARITY * DIGEST_BYTES
    while len(level) > DIGEST_BYTES:
        level = b"".join(
            [hashlib.sha256(NODE_PREFIX + level[at : at + group]).digest() for at in range(0, len(level), group)]
        )
    return Digest(hashlib.sha256(ROOT_PREFIX + count.to_bytes(COUNT_BYTES, "big") + level).digest())


def snapshot_root(pairs: Iterable[Pair]) -> Digest:
    """The root of a state, pairs ascending by key: the one-call twin of chunks and `root_of_chunks`."""
    every = list(pairs)
    alone = len(every) <= CHUNK_LEAVES
    hashes = b"".join(
        pack_chunk(every[at : at + CHUNK_LEAVES], alone=alone)[1] for at in range(0, len(every), CHUNK_LEAVES)
    )
    return root_of_chunks(hashes, len(every))


def _top(leaves: Sequence[bytes], *, alone: bool) -> bytes:
    sha256, group = hashlib.sha256, ARITY * DIGEST_BYTES
    level = b"".join([sha256(LEAF_PREFIX + leaf).digest() for leaf in leaves])
    for _ in range(CHUNK_LEVELS):
        if alone and len(level) == DIGEST_BYTES:
            break
        level = b"".join([sha256(NODE_PREFIX + level[at : at + group]).digest() for at in range(0, len(level), group)])
    return level


def _array_header(count: int) -> bytes:
    """msgpack's header of an array: chunks leave it out, the count is known."""
    return bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")

"""Merkle commitments: a 16-ary tree over byte strings, its inclusion and absence proofs, write sets and state roots.

    leaf hash  = sha256(0x00 || leaf)
    node hash  = sha256(0x01 || hashes of 1 to 16 children)
    root       = sha256(0x02 || number of leaves, 8 bytes big-endian || top hash)
    empty root = sha256(0x02 || eight zero bytes)

The first byte keeps leaves, nodes and roots apart, so no inner node can be shown as a leaf. The number of leaves fixes
the shape: depth, group sizes and with them the exact length of every proof, so each leaf has exactly one proof.
Sixteen children a node cost 0.07 node hashes a leaf; two would cost one.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from chain.codec import Record, pack, tagged_digest, unpack, unpack_trusted
from chain.errors import DecodeError, InvariantError
from chain.model.block import WriteSet
from chain.types import DIGEST_BYTES, Digest

ARITY: Final = 16
COUNT_BYTES: Final = 8
TAG_STATE_ROOT: Final = b"headrace/state-root/1"
LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"
ROOT_PREFIX: Final = b"\x02"
EMPTY_ROOT: Final = Digest(hashlib.sha256(ROOT_PREFIX + bytes(COUNT_BYTES)).digest())


class InclusionProof(Record, frozen=True, kw_only=True):
    """That a leaf stands at `index` of `count` leaves.

    `siblings[level]` is the concatenation of the other hashes in the leaf's group at that level, from the leaves up.
    """

    index: int
    count: int
    siblings: tuple[bytes, ...]


class NeighbourProof(Record, frozen=True, kw_only=True):
    """A leaf next to the gap where an absent key would stand."""

    leaf: bytes
    proof: InclusionProof


class AbsenceProof(Record, frozen=True, kw_only=True):
    """That no leaf of a sorted list carries a key: the leaves before and after the gap are adjacent.

    `left` is None where the key sorts before the first leaf, `right` where it sorts after the last; both are None
    for the empty list only.
    """

    left: NeighbourProof | None
    right: NeighbourProof | None


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(LEAF_PREFIX + leaf).digest()


def _parents(hashes: list[bytes]) -> list[bytes]:
    return _joined_parents(b"".join(hashes))


def _joined_parents(hashes: bytes) -> list[bytes]:
    sha256, group = hashlib.sha256, ARITY * DIGEST_BYTES
    return [
        sha256(NODE_PREFIX + hashes[at : at + group]).digest()  # a group of one is hashed like any other
        for at in range(0, len(hashes), group)
    ]


def _seal(count: int, top: bytes) -> Digest:
    return Digest(hashlib.sha256(ROOT_PREFIX + count.to_bytes(COUNT_BYTES, "big") + top).digest())


def leaf_hashes(leaves: Iterable[bytes]) -> bytes:
    """What `root_of_hashes` takes, for callers that share the hashing out: 32 bytes a leaf, one after the other."""
    sha256 = hashlib.sha256
    return b"".join([sha256(LEAF_PREFIX + leaf).digest() for leaf in leaves])


def root_of_hashes(hashes: bytes) -> Digest:
    """The root of the leaves that have these hashes, one after the other."""
    if not hashes:
        return EMPTY_ROOT
    count = len(hashes) // DIGEST_BYTES
    while len(hashes) > DIGEST_BYTES:
        hashes = b"".join(_joined_parents(hashes))
    return _seal(count, hashes)


def merkle_root(leaves: Sequence[bytes]) -> Digest:
    """The root of a list of leaves, in the order given."""
    return root_of_hashes(leaf_hashes(leaves))


class MerkleTree:
    """Every level of a tree, for callers that need more than one proof of one list."""

    __slots__ = ("_levels", "count", "root")

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.count: int = len(leaves)
        self._levels: list[list[bytes]] = [[leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))
        self.root: Digest = _seal(self.count, self._levels[-1][0]) if leaves else EMPTY_ROOT

    def prove(self, index: int) -> InclusionProof:
        """Raises IndexError where there is no such leaf."""
        if not 0 <= index < self.count:
            raise IndexError(f"leaf {index} of {self.count}")
        siblings: list[bytes] = []
        at = index
        for level in self._levels[:-1]:
            first = at - at % ARITY
            siblings.append(b"".join(level[first:at]) + b"".join(level[at + 1 : first + ARITY]))
            at //= ARITY
        return InclusionProof(index=index, count=self.count, siblings=tuple(siblings))


def inclusion_proof(leaves: Sequence[bytes], index: int) -> InclusionProof:
    """The proof of `leaves[index]`; raises IndexError where there is no such leaf."""
    return MerkleTree(leaves).prove(index)


def root_of_proof(leaf: bytes, proof: InclusionProof) -> Digest | None:
    """The root that `proof` leads to from `leaf`, or None where the proof has not the shape its count demands."""
    count, at = proof.count, proof.index
    if not 0 <= at < count < 2 ** (8 * COUNT_BYTES):
        return None
    current = leaf_hash(leaf)
    width = count
    for siblings in proof.siblings:
        if width <= 1:
            return None
        place = at % ARITY
        if len(siblings) != (min(ARITY, width - (at - place)) - 1) * DIGEST_BYTES:
            return None
        cut = place * DIGEST_BYTES
        current = hashlib.sha256(NODE_PREFIX + siblings[:cut] + current + siblings[cut:]).digest()
        at //= ARITY
        width = -(-width // ARITY)
    return _seal(count, current) if width == 1 else None


def verify_inclusion(root: bytes, leaf: bytes, proof: InclusionProof) -> bool:
    """True if `leaf` stands at `proof.index` of the list that has this root."""
    return root_of_proof(leaf, proof) == root


def absence_proof(leaves: Sequence[bytes], key: bytes, *, key_of: Callable[[bytes], bytes]) -> AbsenceProof:
    """The proof that no leaf of `leaves`, ascending by `key_of(leaf)`, carries `key`.

    Raises:
        ValueError: a leaf carries the key.
    """
    low, high = 0, len(leaves)
    while low < high:
        middle = (low + high) // 2
        if key_of(leaves[middle]) < key:
            low = middle + 1
        else:
            high = middle
    if low < len(leaves) and key_of(leaves[low]) == key:
        raise ValueError("the key is in the list")
    tree = MerkleTree(leaves)
    left = NeighbourProof(leaf=leaves[low - 1], proof=tree.prove(low - 1)) if low > 0 else None
    right = NeighbourProof(leaf=leaves[low], proof=tree.prove(low)) if low < len(leaves) else None
    return AbsenceProof(left=left, right=right)


def verify_absence(root: bytes, key: bytes, proof: AbsenceProof, *, key_of: Callable[[bytes], bytes]) -> bool:
    """True if no leaf of the sorted list with this root carries `key`. `key_of` may raise DecodeError."""
    left, right = proof.left, proof.right
    if left is None and right is None:
        return root == EMPTY_ROOT
    try:
        if left is not None and not (key_of(left.leaf) < key and verify_inclusion(root, left.leaf, left.proof)):
            return False
        if right is not None and not (key < key_of(right.leaf) and verify_inclusion(root, right.leaf, right.proof)):
            return False
    except DecodeError:
        return False
    if left is None:
        return right is not None and right.proof.index == 0
    if right is None:
        return left.proof.index == left.proof.count - 1
    return left.proof.count == right.proof.count and left.proof.index + 1 == right.proof.index


# --- write sets ---


def write_leaf(key: bytes, value: bytes | None) -> bytes:
    """The leaf of one write; None says that the key was deleted."""
    return pack((key, value))


def parse_write_leaf(leaf: bytes) -> tuple[bytes, bytes | None]:
    """The (key, value) of a write leaf.

    Raises:
        DecodeError: not the canonical encoding of a write.
    """
    match unpack(leaf):
        case (bytes(key), None):
            return key, None
        case (bytes(key), bytes(value)):
            return key, value
    raise DecodeError("write leaf: not a key and a value")


def write_leaf_key(leaf: bytes) -> bytes:
    """The key of a write leaf; raises DecodeError."""
    return parse_write_leaf(leaf)[0]


def write_leaves(writes: WriteSet) -> list[bytes]:
    """The leaves of a write set.

    Raises:
        InvariantError: keys not strictly ascending, so that nothing could be proved absent.
    """
    keys = [key for key, _ in writes]
    if not all(map(operator.lt, keys, islice(keys, 1, None))):
        raise InvariantError("write set: keys are not strictly ascending")
    return list(map(pack, writes))


def writes_root(writes: WriteSet) -> Digest:
    """The Merkle root of a block's write set, ascending by key; raises InvariantError where it is not."""
    return merkle_root(write_leaves(writes))


def chain_state_root(parent: bytes, writes: bytes) -> Digest:
    """The state root after a block, from its parent's state root and its writes root."""
    return tagged_digest(TAG_STATE_ROOT, parent + writes)


def state_root(parent: bytes, writes: WriteSet) -> Digest:
    """The state root after a block, from its parent's state root and its write set."""
    return chain_state_root(parent, writes_root(writes))


def pack_writes(writes: WriteSet) -> bytes:
    """A write set as it travels and is stored: one packed tuple of (key, value or None)."""
    return pack(tuple(writes))


def unpack_writes(data: bytes) -> WriteSet:
    """The write set of `pack_writes`, from a source this node trusts; empty bytes are no writes.

    Raises:
        DecodeError: not a write set at all. Order and canonical form are not checked.
    """
    if not data:
        return []
    try:
        return list(unpack_trusted(data))  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise DecodeError(f"write set: {error}") from None

"""The tree against a naive twin, and everything a forger might try on a proof."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import pack
from chain.errors import DecodeError, InvariantError
from chain.model.block import WriteSet
from chain.model.merkle import (
    EMPTY_ROOT,
    AbsenceProof,
    InclusionProof,
    MerkleTree,
    absence_proof,
    inclusion_proof,
    leaf_hash,
    merkle_root,
    pack_writes,
    parse_write_leaf,
    root_of_proof,
    state_root,
    unpack_writes,
    verify_absence,
    verify_inclusion,
    write_leaf,
    write_leaf_key,
    write_leaves,
    writes_root,
)

leaf_lists = st.lists(st.binary(max_size=40), max_size=40) | st.integers(0, 600).map(
    lambda count: [b"%d" % number for number in range(count)]
)
keys = st.binary(min_size=1, max_size=4)
write_sets = st.dictionaries(keys, st.none() | st.binary(min_size=1, max_size=4), max_size=40).map(
    lambda writes: sorted(writes.items())
)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def naive_top(leaves: Sequence[bytes]) -> bytes:
    """Recursive and slow: the subtree of the smallest power of 16 that holds all leaves."""
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    span = 1
    while span * 16 < len(leaves):
        span *= 16
    parts = [leaves[at : at + span] for at in range(0, len(leaves), span)]
    return sha(b"\x01" + b"".join(naive_part(part, span) for part in parts))


def naive_part(leaves: Sequence[bytes], span: int) -> bytes:
    if span == 1:
        return sha(b"\x00" + leaves[0])
    step = span // 16
    parts = [leaves[at : at + step] for at in range(0, len(leaves), step)]
    return sha(b"\x01" + b"".join(naive_part(part, step) for part in parts))


def naive_root(leaves: Sequence[bytes]) -> bytes:
    return sha(b"\x02" + len(leaves).to_bytes(8, "big") + (naive_top(leaves) if leaves else b""))


@given(leaf_lists)
def test_root_equals_the_naive_twin(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == naive_root(leaves) == MerkleTree(leaves).root


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 255, 256, 257, 272, 4095, 4096, 4097])
def test_root_equals_the_naive_twin_around_full_levels(count: int) -> None:
    leaves = [b"%d" % number for number in range(count)]
    tree = MerkleTree(leaves)
    assert merkle_root(leaves) == naive_root(leaves) == tree.root
    for index in {0, 1, 15, 16, count // 2, count - 2, count - 1} & set(range(count)):
        assert verify_inclusion(tree.root, leaves[index], tree.prove(index))
        assert tree.prove(index) == inclusion_proof(leaves, index)
    for wrong in (-1, count):
        with pytest.raises(IndexError):
            tree.prove(wrong)


@given(leaf_lists, leaf_lists)
def test_two_lists_have_two_roots(one: list[bytes], other: list[bytes]) -> None:
    assert (merkle_root(one) == merkle_root(other)) == (one == other)


@given(leaf_lists.filter(bool), st.data())
def test_every_leaf_has_one_proof(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.prove(index)
    assert verify_inclusion(tree.root, leaves[index], proof)
    other_leaf = data.draw(st.binary(max_size=40))
    assert verify_inclusion(tree.root, other_leaf, proof) == (other_leaf == leaves[index])
    for wrong in _altered(proof, data):
        assert not verify_inclusion(tree.root, leaves[index], wrong)


def _altered(proof: InclusionProof, data: st.DataObject) -> list[InclusionProof]:
    """Proofs that differ in index, count, depth, or one sibling."""
    change = msgspec.structs.replace
    wrong = [
        change(proof, count=count)
        for count in (proof.count - 1, proof.count + 1, proof.count * 16, 0, -1, 2**64, 2**70)
    ]
    wrong += [change(proof, index=proof.index + by) for by in (-proof.count, proof.count, -proof.index - 1)]
    wrong.append(change(proof, siblings=(*proof.siblings, b"")))
    wrong.append(change(proof, siblings=(*proof.siblings, bytes(32))))
    if proof.siblings:
        wrong.append(change(proof, siblings=proof.siblings[:-1]))
        level = data.draw(st.integers(0, len(proof.siblings) - 1))
        siblings = proof.siblings[level]
        replaced = [siblings[:-1], siblings + bytes(32), siblings[32:]] if siblings else [bytes(32)]
        if siblings:
            at = data.draw(st.integers(0, len(siblings) - 1))
            replaced.append(siblings[:at] + bytes((siblings[at] ^ 1,)) + siblings[at + 1 :])
        swapped = siblings[32:64] + siblings[:32] + siblings[64:]
        if swapped != siblings:
            replaced.append(swapped)
        before, after = proof.siblings[:level], proof.siblings[level + 1 :]
        wrong += [change(proof, siblings=(*before, item, *after)) for item in replaced]
    return wrong


@given(st.integers(2, 300), st.data())
def test_the_same_proof_at_another_index_does_not_hold(count: int, data: st.DataObject) -> None:
    leaves = [b"%d" % number for number in range(count)]
    index, other = data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
    proof = inclusion_proof(leaves, index)
    assert not verify_inclusion(merkle_root(leaves), leaves[index], msgspec.structs.replace(proof, index=other))


def test_an_inner_node_is_no_leaf() -> None:
    leaves = [b"%d" % number for number in range(32)]
    inner = [b"".join(map(leaf_hash, leaves[at : at + 16])) for at in (0, 16)]
    root = merkle_root(leaves)
    for prefix in (b"", b"\x01", b"\x00"):
        forged = [prefix + node for node in inner]
        assert merkle_root(forged) != root
        for claimed in (32, 2):
            proof = InclusionProof(index=0, count=claimed, siblings=(sha(b"\x01" + inner[1]),))
            assert not verify_inclusion(root, forged[0], proof)


def test_a_root_is_no_leaf_and_no_node() -> None:
    """A list of one leaf has another root than its leaf hash, and than a list of that list's parts."""
    assert merkle_root([b"a"]) != leaf_hash(b"a")
    assert merkle_root([merkle_root([b"a"])]) != merkle_root([b"a"])
    assert root_of_proof(b"a", InclusionProof(index=0, count=1, siblings=())) == merkle_root([b"a"])


@given(write_sets, keys)
def test_a_key_is_either_proved_present_or_proved_absent(writes: WriteSet, key: bytes) -> None:
    leaves = write_leaves(writes)
    root = writes_root(writes)
    present = dict(writes)
    if key in present:
        with pytest.raises(ValueError, match="in the list"):
            absence_proof(leaves, key, key_of=write_leaf_key)
        index = [name for name, _ in writes].index(key)
        assert verify_inclusion(root, write_leaf(key, present[key]), inclusion_proof(leaves, index))
        return
    proof = absence_proof(leaves, key, key_of=write_leaf_key)
    assert verify_absence(root, key, proof, key_of=write_leaf_key)
    for other, _ in writes:
        assert not verify_absence(root, other, proof, key_of=write_leaf_key)
    assert not verify_absence(bytes(32), key, proof, key_of=write_leaf_key)


@given(write_sets.filter(lambda writes: len(writes) > 1), st.data())
def test_absence_needs_neighbours_that_touch(writes: WriteSet, data: st.DataObject) -> None:
    """Every pair of leaves that leaves room, and every single leaf that is not an end, proves nothing."""
    tree, leaves = MerkleTree(write_leaves(writes)), write_leaves(writes)
    sides = [AbsenceProof(left=None, right=None)]
    neighbours = [None] + [
        msgspec.structs.replace(_neighbour, leaf=leaf, proof=tree.prove(at)) for at, leaf in enumerate(leaves)
    ]
    for left in neighbours:
        for right in neighbours:
            if left is not None or right is not None:
                sides.append(AbsenceProof(left=left, right=right))
    proof = data.draw(st.sampled_from(sides))
    written = data.draw(st.sampled_from([key for key, _ in writes]))
    assert not verify_absence(tree.root, written, proof, key_of=write_leaf_key)


_empty = absence_proof([write_leaf(b"b", None)], b"a", key_of=write_leaf_key).right
assert _empty is not None
_neighbour = _empty


def test_absence_in_an_empty_list_and_beside_nonsense() -> None:
    nothing = AbsenceProof(left=None, right=None)
    assert verify_absence(EMPTY_ROOT, b"k", nothing, key_of=write_leaf_key)
    assert not verify_absence(writes_root([(b"a", b"v")]), b"k", nothing, key_of=write_leaf_key)
    leaves = [b"\xc1", b"\xc1"]
    proof = InclusionProof(index=1, count=2, siblings=(leaf_hash(leaves[0]),))
    side = msgspec.structs.replace(_neighbour, leaf=leaves[1], proof=proof)
    assert not verify_absence(
        merkle_root(leaves), b"k", AbsenceProof(left=side, right=None), key_of=write_leaf_key
    )


@given(write_sets)
def test_write_sets_travel_and_chain(writes: WriteSet) -> None:
    assert unpack_writes(pack_writes(writes)) == writes
    assert [parse_write_leaf(leaf) for leaf in write_leaves(writes)] == writes
    assert write_leaves(writes) == [write_leaf(key, value) for key, value in writes]
    parent = bytes(32)
    expected = sha(b"\x15headrace/state-root/1" + parent + naive_root([pack(item) for item in writes]))
    assert state_root(parent, writes) == expected
    assert state_root(expected, writes) != expected


@pytest.mark.parametrize("writes", [[(b"b", b"v"), (b"a", b"v")], [(b"a", b"v"), (b"a", b"w")]])
def test_writes_out_of_order_are_our_bug(writes: WriteSet) -> None:
    with pytest.raises(InvariantError, match="ascending"):
        writes_root(writes)


@pytest.mark.parametrize("leaf", [b"", b"\xc0", pack(b"key"), pack((b"key",)), pack(("key", b"v")), pack((b"k", 1))])
def test_what_is_no_write_is_refused(leaf: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_write_leaf(leaf)


@pytest.mark.parametrize("data", [b"\xc0", b"\x91", b"\xc1", b"\x00"])
def test_what_is_no_write_set_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack_writes(data)

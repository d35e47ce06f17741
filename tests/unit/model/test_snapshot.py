"""The state as a whole: chunks compose to the root of the tree over all leaves, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.model.merkle import MerkleTree, merkle_root, verify_inclusion, write_leaf
from chain.model.snapshot import (
    CHUNK_LEAVES,
    Pair,
    chunk_count,
    chunk_leaves,
    pack_chunk,
    root_of_chunks,
    snapshot_root,
    unpack_chunk,
)

COUNTS = (0, 1, 2, 15, 16, 17, 255, 256, 257, 511, 512, 513, 4_096, 4_097)


def make(count: int) -> list[Pair]:
    return [(b"key%06d" % number, b"value%d" % number) for number in range(count)]


def split(pairs: list[Pair]) -> list[tuple[bytes, bytes]]:
    alone = len(pairs) <= CHUNK_LEAVES
    return [pack_chunk(pairs[at : at + CHUNK_LEAVES], alone=alone) for at in range(0, len(pairs), CHUNK_LEAVES)]


@pytest.mark.parametrize("count", COUNTS)
def test_the_root_is_that_of_the_tree_over_all_leaves(count: int) -> None:
    pairs = make(count)
    leaves = [write_leaf(*pair) for pair in pairs]
    chunks = split(pairs)
    assert len(chunks) == chunk_count(count)
    root = root_of_chunks(b"".join(digest for _, digest in chunks), count)
    assert root == snapshot_root(pairs) == merkle_root(leaves)
    for index, (data, digest) in enumerate(chunks):
        own = pairs[index * CHUNK_LEAVES : (index + 1) * CHUNK_LEAVES]
        assert unpack_chunk(data, index, count) == (own, digest)
        assert len(own) == chunk_leaves(count, index)
    if count:
        assert verify_inclusion(root, leaves[-1], MerkleTree(leaves).prove(count - 1)), "proofs hang on it as on any"


def test_a_chunk_has_exactly_its_leaves() -> None:
    pairs = make(300)
    (first, _), (last, _) = split(pairs)
    more = pack_chunk([*pairs[256:], (b"zzz", b"v")], alone=False)[0]
    fewer = pack_chunk(pairs[256:-1], alone=False)[0]
    for data, index in ((more, 1), (fewer, 1), (first, 1), (last, 0), (b"", 1), (last, 2), (last, -1)):
        with pytest.raises(DecodeError):
            unpack_chunk(data, index, 300)


def test_leaves_are_keys_with_values() -> None:
    for data in (b"\x92\xc4\x01k\xc0", b"\x92\xc4\x01k\xc4\x00", b"\x92\xc4\x00\xc4\x01v", b"\x91\xc4\x01k", b"\x01"):
        with pytest.raises(DecodeError):
            unpack_chunk(data, 0, 1)
    with pytest.raises(DecodeError):
        unpack_chunk(b"\x92\xc5\x00\x01k\xc4\x01v", 0, 1)  # not canonical


def test_another_number_of_hashes_than_of_chunks_is_refused() -> None:
    hashes = b"".join(digest for _, digest in split(make(600)))
    for count in (0, 256, 512, 769, 2**40):
        with pytest.raises(DecodeError):
            root_of_chunks(hashes, count)
    assert root_of_chunks(hashes, 601) != root_of_chunks(hashes, 600)


state = st.dictionaries(st.binary(min_size=1, max_size=6), st.binary(min_size=1, max_size=4), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(state, st.data())
def test_any_other_state_has_another_root(pairs: dict[bytes, bytes], data: st.DataObject) -> None:
    root = snapshot_root(sorted(pairs.items()))
    key = data.draw(st.sampled_from(sorted(pairs)))
    without = {other: value for other, value in pairs.items() if other != key}
    assert snapshot_root(sorted(without.items())) != root
    assert snapshot_root(sorted({**pairs, key: pairs[key] + b"x"}.items())) != root
    extra = data.draw(st.binary(min_size=7, max_size=9))
    assert snapshot_root(sorted({**pairs, extra: b"v"}.items())) != root
    if len(pairs) > 1:
        assert snapshot_root(sorted(pairs.items(), reverse=True)) != root

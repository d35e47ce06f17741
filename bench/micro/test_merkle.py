"""Merkle roots and proofs: microseconds a leaf."""

from __future__ import annotations

from typing import Any

import pytest

from chain.model.merkle import MerkleTree, leaf_hash, merkle_root, verify_inclusion, writes_root

COUNT = 1_000
HASHES = [number.to_bytes(32, "big") for number in range(COUNT)]
RECEIPTS = [number.to_bytes(4, "big") * 40 for number in range(COUNT)]
WRITES: list[tuple[bytes, bytes | None]] = [(bytes(20) + b"balances\x00%030d" % n, b"%020d" % n) for n in range(COUNT)]


def _per_leaf(benchmark: Any) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_leaf"] = round(benchmark.stats.stats.median / COUNT * 1e6, 3)


@pytest.mark.parametrize("leaves", [HASHES, RECEIPTS], ids=["32 B", "160 B"])
def test_leaf_hashes_alone(benchmark: Any, leaves: list[bytes]) -> None:
    benchmark(lambda: [leaf_hash(leaf) for leaf in leaves])
    _per_leaf(benchmark)


@pytest.mark.parametrize("leaves", [HASHES, RECEIPTS], ids=["32 B", "160 B"])
def test_root(benchmark: Any, leaves: list[bytes]) -> None:
    benchmark(merkle_root, leaves)
    _per_leaf(benchmark)


def test_writes_root(benchmark: Any) -> None:
    benchmark(writes_root, WRITES)
    _per_leaf(benchmark)


def test_prove_and_verify(benchmark: Any) -> None:
    tree = MerkleTree(HASHES)

    def both() -> None:
        assert verify_inclusion(tree.root, HASHES[777], tree.prove(777))

    benchmark(both)

"""Proof documents: what a node pays to build one, and what whoever holds it pays to check it offline.

The checker is `chain.offline`, which needs nothing of the project: its signatures alone are most of what it costs.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import pytest

from bench.micro.figures import CPU, note_cpu
from chain.model.block import WriteSet
from chain.model.proofs import receipt_proof, value_proof
from chain.offline import verify_proof
from tests.unit.model.proofs_of import genesis_of, state_root_before
from tests.unit.store.factory import ChainFactory, key_of, value_of

pytestmark = CPU

TRANSACTIONS: Final = 200  # of a block
WRITES: Final = 400  # of a block
BLOCKS: Final = 20
KEY: Final = key_of(WRITES)  # written in the first block, and in no other
EACH_AGE: Final = pytest.mark.parametrize("blocks", [1, BLOCKS])


@cache
def make_chain() -> ChainFactory:
    chain = ChainFactory()
    for height in range(1, BLOCKS + 1):
        writes: WriteSet = [(key_of(number), value_of(number, height)) for number in range(WRITES + (height == 1))]
        chain.block(writes, transactions=TRANSACTIONS)
    return chain


def build_receipt_proof() -> dict[str, Any]:
    chain = make_chain()
    block, bodies = chain.made[-1].block, chain.made[-1].bodies
    return receipt_proof(
        header=block.header, certificate=block.certificate, validators=chain.validators, hashes=block.hashes,
        receipts=block.receipts, position=TRANSACTIONS // 3, transaction=bodies[TRANSACTIONS // 3],
    )  # fmt: skip


def build_value_proof(blocks: int) -> dict[str, Any]:
    """Of a key that was written in the first of so many blocks."""
    chain = make_chain()
    block = chain.made[blocks - 1].block
    return value_proof(
        key=KEY, header=block.header, certificate=block.certificate, validators=chain.validators,
        parent_state_root=state_root_before(chain, 1), write_sets=[made.writes for made in chain.made[:blocks]],
    )  # fmt: skip


def test_build_a_receipt_proof(benchmark: Any) -> None:
    make_chain()
    assert benchmark(build_receipt_proof)["kind"] == "receipt"
    note_cpu(benchmark, proof=1)


def test_verify_a_receipt_proof(benchmark: Any) -> None:
    document, genesis = build_receipt_proof(), genesis_of(make_chain())
    assert benchmark(verify_proof, document, genesis).kind == "receipt"
    note_cpu(benchmark, proof=1)


@EACH_AGE
def test_build_a_value_proof(benchmark: Any, blocks: int) -> None:
    """By how many blocks it spans: with each comes a proof that the key was left alone."""
    make_chain()
    assert benchmark(build_value_proof, blocks)["kind"] == "value"
    note_cpu(benchmark, proof=1, block=blocks)


@EACH_AGE
def test_verify_a_value_proof(benchmark: Any, blocks: int) -> None:
    document, genesis = build_value_proof(blocks), genesis_of(make_chain())
    assert benchmark(verify_proof, document, genesis).kind == "value"
    note_cpu(benchmark, proof=1, block=blocks)

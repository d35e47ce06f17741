"""Proof documents of a small chain, for the tests of builder and verifier."""

from __future__ import annotations

import json
from typing import Any

from chain.model.genesis_json import genesis_to_json
from chain.model.proofs import receipt_proof, value_proof
from chain.types import ZERO_DIGEST
from tests.unit.store.factory import ChainFactory, key_of, value_of

Json = dict[str, Any]

KEY = key_of(5)


def reparsed(document: Json) -> Json:
    """As it comes out of a file."""
    parsed: Json = json.loads(json.dumps(document))
    return parsed


def chain_with_writes() -> ChainFactory:
    """Five heights: KEY is written at 2, then left alone beside, before, after and among other keys."""
    chain = ChainFactory()
    chain.block([(key_of(number), value_of(number, 1)) for number in range(20) if number != 5], transactions=20)
    chain.block([(key_of(4), value_of(4, 2)), (KEY, value_of(5, 2)), (key_of(6), None)], transactions=1)
    chain.block([(key_of(number), value_of(number, 3)) for number in range(20) if number != 5], signers=4)
    chain.block([(key_of(6), value_of(6, 4))], transactions=0)
    chain.block([], skipped=(1,))
    return chain


def genesis_of(chain: ChainFactory) -> Json:
    return reparsed(genesis_to_json(chain.genesis))


def receipt_document(chain: ChainFactory, height: int, position: int, *, with_body: bool = True) -> Json:
    made = chain.made[height - 1]
    body = [raw for at, raw in enumerate(made.bodies) if at not in made.block.skipped][position]
    return reparsed(
        receipt_proof(
            header=made.block.header, certificate=made.block.certificate, validators=chain.validators,
            hashes=made.block.hashes, receipts=made.block.receipts, position=position,
            transaction=body if with_body else None,
        )
    )  # fmt: skip


def value_document(chain: ChainFactory, key: bytes, height: int, *, written_at: int | None) -> Json:
    first = written_at or 1
    made = chain.made[height - 1]
    return reparsed(
        value_proof(
            key=key, header=made.block.header, certificate=made.block.certificate, validators=chain.validators,
            parent_state_root=state_root_before(chain, first),
            write_sets=[item.writes for item in chain.made[first - 1 : height]],
        )
    )  # fmt: skip


def state_root_before(chain: ChainFactory, height: int) -> bytes:
    return chain.made[height - 2].header.state_root if height > 1 else ZERO_DIGEST


def documents(chain: ChainFactory) -> dict[str, Json]:
    """One document of every shape."""
    return {
        "receipt with events and body": receipt_document(chain, 1, 17),
        "failed receipt without body": receipt_document(chain, 1, 1, with_body=False),
        "only transaction of a block": receipt_document(chain, 2, 0),
        "after a skipped one, all signed": receipt_document(chain, 5, 1),
        "value written long before": value_document(chain, KEY, 5, written_at=2),
        "value written in this block": value_document(chain, KEY, 2, written_at=2),
        "deleted": value_document(chain, key_of(6), 3 - 1, written_at=2),
        "never written": value_document(chain, key_of(500), 5, written_at=None),
        "four signatures": value_document(chain, KEY, 3, written_at=2),
    }

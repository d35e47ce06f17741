"""Proof documents: what the builder makes the offline verifier accepts, and only that."""

from __future__ import annotations

import pytest

from chain.errors import InvariantError
from chain.model.proofs import receipt_proof, value_proof
from chain.offline import ProofError, verify_proof
from tests.unit.model.proofs_of import (
    KEY,
    chain_with_writes,
    documents,
    genesis_of,
    receipt_document,
    state_root_before,
    value_document,
)
from tests.unit.store.factory import CONTRACT, OTHER_CONTRACT, ChainFactory, key_of, value_of


@pytest.fixture(scope="module")
def chain() -> ChainFactory:
    return chain_with_writes()


def test_every_receipt_of_every_block_is_proved(chain: ChainFactory) -> None:
    genesis = genesis_of(chain)
    for height, made in enumerate(chain.made, 1):
        for position, digest in enumerate(made.hashes):
            verdict = verify_proof(receipt_document(chain, height, position), genesis)
            claim = verdict.claim
            assert (verdict.kind, verdict.height) == ("receipt", height)
            assert verdict.chain_id == chain.genesis_header.chain_id.hex()
            assert verdict.time_ms == made.header.time_ms
            assert (verdict.quorum, verdict.total_weight) == (3, 4)
            assert claim["transaction_hash"] == digest.hex()
            assert claim["position"] == position
            assert claim["status"] == position % 2
            assert [event["contract"] for event in claim["events"]] == [CONTRACT.hex(), OTHER_CONTRACT.hex()]
            assert claim["transaction"]["method"] == "pay"
            assert claim["transaction"]["target"] == CONTRACT.hex()
            without = verify_proof(receipt_document(chain, height, position, with_body=False), genesis)
            assert without.claim == {**claim, "transaction": None}


def test_every_key_has_one_value_at_every_height(chain: ChainFactory) -> None:
    genesis = genesis_of(chain)
    for key in (KEY, key_of(0), key_of(6), key_of(19), key_of(500), b"\x00", b"\xff" * 30):
        value, written_at = None, None
        for height, made in enumerate(chain.made, 1):
            writes = dict(made.writes)
            if key in writes:
                value, written_at = writes[key], height
            claim = verify_proof(value_document(chain, key, height, written_at=written_at), genesis).claim
            assert claim == {
                "chain_id": chain.genesis_header.chain_id.hex(),
                "height": height,
                "time_ms": made.header.time_ms,
                "key": key.hex(),
                "value": None if value is None else value.hex(),
                "written_at": written_at,
            }


def test_an_older_value_cannot_be_shown_as_the_newest(chain: ChainFactory) -> None:
    """Key 6 is written at 1, deleted at 2, written again at 3 and 4: only the last write before the height counts."""
    made = chain.made[4]
    for first in (1, 2, 3):
        with pytest.raises(InvariantError, match="written again"):
            value_proof(
                key=key_of(6), header=made.block.header, certificate=made.block.certificate,
                validators=chain.validators, parent_state_root=state_root_before(chain, first),
                write_sets=[item.writes for item in chain.made[first - 1 :]],
            )  # fmt: skip


def test_the_builder_refuses_parts_that_do_not_belong_together(chain: ChainFactory) -> None:
    one, other = chain.made[0].block, chain.made[4].block
    with pytest.raises(InvariantError, match="do not lead to the header's roots"):
        receipt_proof(
            header=one.header, certificate=one.certificate, validators=chain.validators, hashes=other.hashes,
            receipts=one.receipts, position=0,
        )  # fmt: skip
    with pytest.raises(IndexError):
        receipt_proof(
            header=one.header, certificate=one.certificate, validators=chain.validators, hashes=one.hashes,
            receipts=one.receipts, position=20,
        )  # fmt: skip
    for first, last in ((2, 4), (3, 5)):
        with pytest.raises(InvariantError, match="do not lead to the header's state root"):
            value_proof(
                key=KEY, header=other.header, certificate=other.certificate, validators=chain.validators,
                parent_state_root=bytes(32), write_sets=[item.writes for item in chain.made[first - 1 : last]],
            )  # fmt: skip
    with pytest.raises(InvariantError, match="do not begin at height 1"):
        value_proof(
            key=key_of(500), header=other.header, certificate=other.certificate, validators=chain.validators,
            parent_state_root=state_root_before(chain, 3), write_sets=[item.writes for item in chain.made[2:]],
        )  # fmt: skip


def test_the_chain_id_and_validators_are_enough_trust(chain: ChainFactory) -> None:
    genesis = genesis_of(chain)
    trust = {
        "format": "headrace-trust-1",
        "chain_id": chain.genesis_header.chain_id.hex(),
        "validators": genesis["validators"],
    }
    for document in documents(chain).values():
        assert verify_proof(document, trust) == verify_proof(document, genesis)
    with pytest.raises(ProofError, match="chain"):
        verify_proof(documents(chain)["deleted"], {**trust, "chain_id": "00" * 32})


def test_weights_count_not_heads() -> None:
    chain = ChainFactory(weights=(5, 1, 1, 1))  # W 8, F 2, a quorum weighs 6
    chain.block([(KEY, value_of(5, 1))], signers=2)
    assert verify_proof(value_document(chain, KEY, 1, written_at=1), genesis_of(chain)).weight == 6
    chain = ChainFactory(weights=(1, 1, 1, 5))
    chain.block([(KEY, value_of(5, 1))], signers=3)
    with pytest.raises(ProofError, match="weight 3 of 8, a quorum weighs 6"):
        verify_proof(value_document(chain, KEY, 1, written_at=1), genesis_of(chain))

"""What the mutations of validator sets and of sync found to be tested nowhere else."""

from __future__ import annotations

from contextlib import nullcontext

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput, ConfigError
from chain.model.block import Certificate, Proposal, decode_header, encode_header, header_hash, proposal_digest
from chain.model.validators import VALIDATORS_ALONE, VALIDATORS_MAX, VALIDATORS_MIN, ValidatorSchedule, check_count
from chain.store.layout import pack_parts, unpack_parts
from chain.sync import BlockChecker
from chain.sync.wire import FetchedBlock
from chain.types import DIGEST_BYTES
from tests.unit.pool.transactions import CHAIN_ID
from tests.unit.sync.test_blocks import CHAIN, OLD

# --- how many validators a chain has ---


@pytest.mark.parametrize(
    ("count", "is_good"),
    [
        (-1, False), (0, False), (VALIDATORS_ALONE, True), (2, False), (VALIDATORS_MIN - 1, False),
        (VALIDATORS_MIN, True), (VALIDATORS_MAX, True), (VALIDATORS_MAX + 1, False),
    ],
)  # fmt: skip
def test_a_chain_begins_with_one_validator_or_with_enough_of_them(count: int, is_good: bool) -> None:
    with nullcontext() if is_good else pytest.raises(ConfigError, match="for development"):
        check_count(count, "so many")


# --- what belongs together in a fetched block ---

HEIGHT = 5


def check(block: FetchedBlock, first: int = HEIGHT) -> None:
    BlockChecker(chain_id=CHAIN_ID, schedule=lambda: ValidatorSchedule(OLD.validators)).check([block], first)


def rebuilt(*, header: int = HEIGHT, proposal: int = HEIGHT, certificate: int = HEIGHT) -> FetchedBlock:
    """A block whose parts name these heights, and hash and sign each other as they should otherwise."""
    block = CHAIN[HEIGHT - 1]
    raw, *bodies = unpack_parts(block.bodies)
    other = msgspec.structs.replace(decode(Proposal, raw), height=proposal)
    head = msgspec.structs.replace(decode_header(block.header), height=header, proposal_digest=proposal_digest(other))
    signed = OLD.certify(msgspec.structs.replace(head, height=certificate))
    return msgspec.structs.replace(
        block,
        bodies=pack_parts((encode(other), *bodies)),
        header=encode_header(head),
        certificate=encode(msgspec.structs.replace(signed, digest=header_hash(head))),
    )


@pytest.mark.parametrize("part", ["header", "proposal", "certificate"])
@pytest.mark.parametrize("height", [HEIGHT - 1, HEIGHT + 1])
def test_header_proposal_and_certificate_are_each_of_the_height_asked_for(part: str, height: int) -> None:
    check(rebuilt())
    with pytest.raises(BadInput) as caught:
        check(rebuilt(**{part: height}))
    assert caught.value.code == "wrong_height"


@pytest.mark.parametrize("digest", [bytes(DIGEST_BYTES), b"\xff" * DIGEST_BYTES])
def test_a_certificate_is_of_the_header_whichever_way_they_differ(digest: bytes) -> None:
    """Nothing of this is left to the signatures."""
    block = CHAIN[HEIGHT - 1]
    certificate = msgspec.structs.replace(decode(Certificate, block.certificate), digest=digest)
    with pytest.raises(BadInput) as caught:
        check(msgspec.structs.replace(block, certificate=encode(certificate)))
    assert caught.value.code == "wrong_block"


def test_a_block_without_any_part_is_a_lie_like_others() -> None:
    """And no error that stops the node."""
    with pytest.raises(BadInput):
        check(msgspec.structs.replace(CHAIN[HEIGHT - 1], bodies=pack_parts(())))

"""A rule set never changes the bytes of its headers; what is not canonical is refused."""

from __future__ import annotations

import msgspec
import pytest

from chain.codec import encode
from chain.errors import DecodeError, InvariantError
from chain.model.block import SNAPSHOT_LAG, Header, decode_header, encode_header, header_hash, snapshot_height

OLD = Header(
    chain_id=bytes([1]) * 32, height=5, time_ms=1_700_000_000_000, parent_hash=bytes([2]) * 32,
    proposal_digest=bytes([3]) * 32, rule_set=2, validator_set_hash=bytes([4]) * 32, transaction_count=7,
    transaction_root=bytes([5]) * 32, receipt_root=bytes([6]) * 32, state_root=bytes([7]) * 32, gas_used=300,
)  # fmt: skip
# Recorded with the code that knew rule sets 1 and 2 only.
RECORDED = (
    "9cc420" + "01" * 32 + "05cf0000018bcfe56800c420" + "02" * 32 + "c420" + "03" * 32 + "02c420" + "04" * 32
    + "07c420" + "05" * 32 + "c420" + "06" * 32 + "c420" + "07" * 32 + "cd012c"
)  # fmt: skip
RECORDED_HASH = "f135dfbf27dbe51d62fb706245eecf807bb721086584c6df855e8ff8c1162540"
NEW = msgspec.structs.replace(OLD, rule_set=3)
COMMITTING = msgspec.structs.replace(NEW, snapshot_root=bytes([8]) * 32)


@pytest.mark.parametrize("rule_set", [1, 2])
def test_headers_of_rule_sets_1_and_2_keep_their_bytes(rule_set: int) -> None:
    header = msgspec.structs.replace(OLD, rule_set=rule_set)
    recorded = bytes.fromhex(RECORDED.replace("02c42004", f"0{rule_set}c42004"))
    assert encode_header(header) == recorded
    assert decode_header(recorded) == header


def test_the_hash_of_an_old_header_is_what_it_was() -> None:
    assert header_hash(OLD).hex() == RECORDED_HASH


def test_from_rule_set_3_on_the_snapshot_root_is_a_field() -> None:
    for header in (NEW, COMMITTING):
        assert decode_header(encode_header(header)) == header
    assert encode_header(NEW)[0] == 0x9D
    assert header_hash(NEW) != header_hash(COMMITTING)


def test_the_encoding_of_another_rule_set_is_refused() -> None:
    twelve = encode(tuple(getattr(NEW, name) for name in Header.__struct_fields__[:-1]))
    with pytest.raises(DecodeError):
        decode_header(twelve)
    with pytest.raises(DecodeError):
        decode_header(encode(OLD))  # thirteen fields
    with pytest.raises(DecodeError):
        decode_header(encode(msgspec.structs.replace(OLD, snapshot_root=bytes(32))))
    for data in (b"", b"\xc0", encode_header(NEW) + b"\x00", encode_header(NEW)[:-1]):
        with pytest.raises(DecodeError):
            decode_header(data)


def test_a_root_in_a_rule_set_that_has_none_is_our_bug() -> None:
    with pytest.raises(InvariantError):
        encode_header(msgspec.structs.replace(OLD, snapshot_root=bytes(32)))


def test_which_heights_commit_to_which() -> None:
    committing = {at: found for at in range(300) if (found := snapshot_height(at, 100)) is not None}
    assert committing == {100 + SNAPSHOT_LAG: 100, 200 + SNAPSHOT_LAG: 200}
    assert not any(snapshot_height(at, 0) for at in range(300))

"""Signed messages as bytes."""

from __future__ import annotations

import msgspec
import pytest

from chain.codec import encode
from chain.errors import BadInput, DecodeError
from chain.types import MESSAGE_BYTES_MAX
from consensus import decode_signed, encode_signed
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    Prepare,
    PrePrepare,
    Signed,
    Status,
)
from tests.unit.consensus.members import Chain

CHAIN = Chain()
DIGEST = bytes(range(32))


def messages() -> list[Signed[Message]]:
    prepared = CHAIN.certificate(MessageType.PREPARE, height=1, digest=DIGEST, signers=(0, 1, 2))
    stable = CHAIN.certificate(MessageType.CHECKPOINT, height=3, digest=DIGEST, signers=(0, 1, 2))
    changes = [CHAIN.view_change(number, 5, prepared=[prepared]) for number in (0, 1, 2)]
    return [
        CHAIN.sign(0, PrePrepare(view=0, proposal=CHAIN.proposal(1, "a", "b"))),
        CHAIN.sign(1, Prepare(view=0, height=1, digest=DIGEST)),
        CHAIN.sign(1, Commit(view=0, height=1, digest=DIGEST)),
        CHAIN.sign(2, Checkpoint(height=1, digest=DIGEST)),
        CHAIN.view_change(3, 5, stable=stable),
        changes[0],
        CHAIN.new_view(5, changes),
        CHAIN.sign(3, Status(view=2, changing=True, certified=4, ordered=5)),
    ]


@pytest.mark.parametrize("signed", messages(), ids=lambda signed: type(signed.message).__name__)
def test_what_is_encoded_is_decoded(signed: Signed[Message]) -> None:
    data = encode_signed(signed)
    assert decode_signed(data) == signed
    assert encode_signed(decode_signed(data)) == data
    assert encode_signed(CHAIN.verify(signed)) == data


@pytest.mark.parametrize("signed", messages(), ids=lambda signed: type(signed.message).__name__)
def test_every_truncation_is_refused(signed: Signed[Message]) -> None:
    data = encode_signed(signed)
    for end in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(DecodeError):
            decode_signed(data[:end])


def test_unknown_type_is_refused() -> None:
    vote = messages()[1]
    with pytest.raises(DecodeError, match="message type 8"):
        decode_signed(encode((8, vote.sender, encode(vote.message), vote.signature)))


def test_lengths_of_sender_and_signature_are_checked() -> None:
    vote = messages()[1]
    with pytest.raises(DecodeError, match="sender"):
        decode_signed(encode((2, vote.sender + b"x", encode(vote.message), vote.signature)))
    with pytest.raises(DecodeError, match="signature"):
        decode_signed(encode((2, vote.sender, encode(vote.message), vote.signature[1:])))


def test_a_prepare_does_not_decode_as_a_status() -> None:
    vote = messages()[1]
    with pytest.raises(DecodeError):
        decode_signed(encode((7, vote.sender, encode(vote.message), vote.signature)))


def test_trailing_bytes_and_other_encodings_of_the_same_message_are_refused() -> None:
    data = encode_signed(messages()[1])
    with pytest.raises(DecodeError):
        decode_signed(data + b"\x00")
    assert data[1] == MessageType.PREPARE  # a positive fixint; the same number in two bytes is not canonical
    with pytest.raises(DecodeError, match="canonical"):
        decode_signed(data[:1] + b"\xcc\x02" + data[2:])


def test_the_size_bound_holds_in_both_directions() -> None:
    large = msgspec.structs.replace(CHAIN.proposal(1), hashes=bytes(MESSAGE_BYTES_MAX))
    with pytest.raises(BadInput, match="allowed"):
        encode_signed(CHAIN.sign(0, PrePrepare(view=0, proposal=large)))
    with pytest.raises(DecodeError, match="allowed"):
        decode_signed(bytes(MESSAGE_BYTES_MAX + 1))

"""Where two nodes part: the first height by bisection, the first receipt, the first key, who stands behind what."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from chain.cli.comparison import check_certificate, compare, different_keys, first_difference, first_receipt, tally
from chain.cli.sides import Content, diverged_content
from chain.codec import encode
from chain.errors import BadInput, StoreError
from chain.model.block import Certificate, Event, Receipt, VoteSignature
from chain.model.merkle import pack_writes
from chain.model.signing import ValidatorKey
from chain.model.validators import Validator, ValidatorSet
from chain.types import Digest, Height, View
from consensus.messages import MessageType, signing_bytes

KEYS = [ValidatorKey(bytes((at,)) * 32) for at in range(1, 5)]
SET = ValidatorSet(Validator(name=f"node-{at}", public_key=key.public_key, weight=1) for at, key in enumerate(KEYS))


def content(height: int, mark: int, **changes: Any) -> Content:
    fields: dict[str, Any] = {
        "height": height, "header_hash": bytes((mark,)) * 32, "hashes": (), "receipts": (), "writes": {},
        "header": {"state_root": bytes((mark,)), "gas_used": 7}, "certificate": None,
    }  # fmt: skip
    return Content(**{**fields, **changes})


class Chain:
    """A node whose headers are numbers; from `parts` on they are its own."""

    def __init__(self, name: str, tip: int, parts: int, *, report: dict[str, Any] | None = None) -> None:
        self.name, self._tip, self._parts, self._report = name, tip, parts, report
        self.asked = 0

    async def height(self) -> int:
        return self._tip

    async def divergence(self) -> dict[str, Any] | None:
        return self._report

    async def hash_at(self, height: int) -> bytes:
        self.asked += 1
        return (await self.block(height)).header_hash

    async def block(self, height: int) -> Content:
        return content(height, 1 + (height >= self._parts))


@pytest.mark.parametrize("parts", [1, 2, 3, 499, 500, 998, 999, 1_000])
def test_bisection_finds_the_first_height_at_which_headers_differ(parts: int) -> None:
    own, peer = Chain("own", 1_000, parts), Chain("peer", 1_200, 5_000)
    found = asyncio.run(first_difference(own, peer))
    assert found is not None
    assert (found[0].height, found[1].height, found[2]) == (parts, parts, "certified_blocks_differ")
    assert own.asked <= 12


def test_nodes_that_agree_as_far_as_both_go_have_no_difference() -> None:
    assert asyncio.run(first_difference(Chain("own", 900, 5_000), Chain("peer", 1_000, 5_000))) is None


def report(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "height": 901, "reason": "header_differs", "own_header_hash": "09" * 32,
        "own_header": {"state_root": "09", "gas_used": 7}, "transactions": [{"hash": "ab", "receipt": "cd"}],
        "writes": pack_writes([(b"key", b"own")]).hex(),
    }  # fmt: skip
    return {**fields, **changes}


def test_a_diverged_node_is_compared_at_the_height_of_its_report() -> None:
    own, peer = Chain("own", 900, 5_000, report=report()), Chain("peer", 1_000, 5_000)
    found = asyncio.run(first_difference(own, peer))
    assert found is not None
    mine, theirs, reason = found
    assert (mine.height, theirs.height, reason) == (901, 901, "header_differs")
    assert (mine.receipts, mine.writes) == ((b"\xcd",), {b"key": b"own"})
    assert compare(mine, theirs, reason=reason, peer="peer").fields == ("state_root",)


def test_a_peer_that_is_not_there_yet_is_no_peer_to_compare_with() -> None:
    own, peer = Chain("own", 900, 5_000, report=report()), Chain("peer", 900, 5_000)
    with pytest.raises(BadInput, match="nothing at height 901"):
        asyncio.run(first_difference(own, peer))


@pytest.mark.parametrize("change", [{"writes": "zz"}, {"transactions": [{"hash": "ab"}]}, {"own_header_hash": 5}])
def test_a_damaged_report_is_said_to_be_one(change: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="damaged"):
        diverged_content(report(**change))


def receipt(number: int, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "transaction_hash": bytes((number,)) * 32, "status": 0, "gas_used": 5, "result": b"", "error": "", "events": ()
    }
    return encode(Receipt(**{**fields, **changes}))


def test_the_first_receipt_that_differs_is_named_with_its_field() -> None:
    right = tuple(receipt(at) for at in range(4))
    cases: list[tuple[dict[str, Any], str, tuple[Any, Any]]] = [
        ({"gas_used": 6}, "gas_used", (6, 5)),
        ({"status": 3, "error": "no"}, "status", (3, 0)),
        ({"events": (Event(contract=b"c", name="E", values=b""),)}, "events", ("1 events", "0 events")),
    ]
    for change, field, values in cases:
        wrong = (*right[:2], receipt(2, **change), receipt(3, gas_used=9))
        found = first_receipt(content(1, 1, receipts=wrong), content(1, 2, receipts=right))
        assert found == (2, bytes((2,)) * 32, field, *values)
    assert first_receipt(content(1, 1, receipts=right), content(1, 2, receipts=right)) is None
    short = first_receipt(content(1, 1, receipts=right[:3]), content(1, 2, receipts=right))
    assert short == (3, bytes((3,)) * 32, "transaction_hash", None, bytes((3,)) * 32)


def test_keys_that_differ_include_those_that_one_side_did_not_write_or_deleted() -> None:
    mine: dict[bytes, bytes | None] = {b"a": b"1", b"b": b"2", b"c": None}
    theirs: dict[bytes, bytes | None] = {b"a": b"1", b"b": b"3", b"d": b"4"}
    assert different_keys(mine, theirs) == [b"b", b"c", b"d"]


def certified(signers: int, *, spoil: bool = False) -> Content:
    """A block whose header `signers` validators signed, the last of them perhaps wrongly."""
    digest = Digest(b"\x05" * 32)
    message = signing_bytes(
        chain_id=bytes(32), kind=MessageType.CHECKPOINT, view=View(0), height=Height(5), digest=digest
    )
    signatures = sorted(
        (VoteSignature(validator=key.validator_id, signature=key.sign(message)) for key in KEYS[:signers]),
        key=lambda entry: entry.validator,
    )
    if spoil:
        signatures[-1] = VoteSignature(validator=signatures[-1].validator, signature=bytes(64))
    certificate = Certificate(
        kind=MessageType.CHECKPOINT, view=0, height=5, digest=digest, signatures=tuple(signatures)
    )
    header = {"validator_set_hash": SET.digest, "chain_id": bytes(32)}
    return content(5, 5, header=header, certificate=certificate)


def test_who_stands_behind_a_header_is_weighed() -> None:
    block = certified(3)
    own = KEYS[3].validator_id
    found = tally({b"\x09" * 32: {own}, block.header_hash: {KEYS[0].validator_id}}, block, SET)
    assert [(entry.validators, entry.weight, entry.quorum, entry.source) for entry in found] == [
        (("node-0", "node-1", "node-2"), 3, True, "certificate"),
        (("node-3",), 1, False, "statements"),
    ]


def test_a_certificate_is_checked_against_the_set_that_the_header_names() -> None:
    assert check_certificate(certified(3), [SET]) == (SET, "")
    assert check_certificate(certified(3), [])[0] is None
    assert check_certificate(content(5, 5), [SET]) == (None, "not certified")
    for wrong in (certified(2), certified(3, spoil=True)):
        signers, text = check_certificate(wrong, [SET])
        assert signers is SET
        assert text
    other = replace(certified(3), header_hash=b"\x06" * 32)
    assert check_certificate(other, [SET]) == (SET, "the certificate is for another header")

"""The oracle against what a block must do, computed by hand: no executor may be its own judge."""

from __future__ import annotations

import pytest

from chain.codec import encode, pack, unpack
from chain.errors import InvariantError
from chain.model.block import Event, WriteSet
from chain.model.merkle import merkle_root, pack_writes, state_root, unpack_writes
from contracts.runtime import Outcome, Status
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import decode_call, run_call
from tests.unit.executor.workbench import (
    ARENA,
    CHAIN,
    MemoryReader,
    Oracle,
    account,
    block_of,
    deployment,
    hash_of,
    machine,
    receipts_of,
    transaction,
)


@pytest.fixture
def board() -> tuple[Oracle, bytes]:
    oracle = Oracle()
    raw, address = deployment(0, "board", ARENA, (0,))
    oracle.run([raw])
    return oracle, address


def _balance(board: bytes, number: int) -> bytes:
    return board + b"balances\x00" + pack(account(number).address)


def test_a_block_of_successes_and_failures(board: tuple[Oracle, bytes]) -> None:
    oracle, address = board
    raws = [
        transaction(1, address, "fund", (100,)),
        transaction(1, address, "send", (account(2).address, 60)),
        transaction(1, address, "send", (account(2).address, 60)),  # 40 left
        transaction(2, address, "relay", (address, 1, 9, True)),  # fails after two writes
        transaction(1, address, "burn", (1_000_000,), gas_limit=50_000),
        transaction(1, address, "send", (account(3).address, 40)),
    ]
    parent = oracle.root
    output = oracle.run(raws)
    receipts = receipts_of(output)
    assert [receipt.status for receipt in receipts] == [
        Status.OK, Status.OK, Status.REVERTED, Status.REVERTED, Status.OUT_OF_GAS, Status.OK,
    ]  # fmt: skip
    assert [receipt.error for receipt in receipts][2:4] == ["insufficient", "poked_to_fail"]
    assert [receipt.transaction_hash for receipt in receipts] == [hash_of(raw) for raw in raws]
    assert [len(receipt.events) for receipt in receipts] == [0, 1, 0, 0, 0, 1]
    values = (account(1).address, account(2).address, 60)
    assert receipts[1].events == (Event(contract=address, name="Moved", values=pack(values)),)
    balances = ((1, 0), (2, 60), (3, 40))
    writes: WriteSet = sorted([(_balance(address, number), pack(balance)) for number, balance in balances])
    assert unpack_writes(output.writes) == writes
    assert output.writes == pack_writes(writes)
    assert output.gas_used == sum([receipt.gas_used for receipt in receipts])
    assert output.transaction_root == merkle_root([hash_of(raw) for raw in raws])
    assert output.receipt_root == merkle_root([encode(receipt) for receipt in receipts])
    assert output.state_root == state_root(parent, writes)
    assert (output.stats.mode, output.stats.largest_shard) == ("serial", 6)


def test_deletions_and_overwritten_values(board: tuple[Oracle, bytes]) -> None:
    oracle, address = board
    cell = address + b"cells\x00" + pack(1) + pack(2)
    output = oracle.run([transaction(0, address, "put", (1, 2, value)) for value in (5, 6)])
    assert unpack_writes(output.writes) == [(cell, pack((1, 6)))]
    output = oracle.run([transaction(0, address, "drop", (1, 2)), transaction(0, address, "drop", (1, 2))])
    assert [unpack(receipt.result) for receipt in receipts_of(output)] == [True, False]
    assert unpack_writes(output.writes) == [(cell, None)]


def test_an_empty_block_moves_the_state_root_only(board: tuple[Oracle, bytes]) -> None:
    oracle, _ = board
    parent = oracle.root
    output = oracle.run([])
    assert (output.transaction_root, output.receipt_root) == (merkle_root([]), merkle_root([]))
    assert output.state_root == state_root(parent, [])
    assert (output.writes, output.receipts, output.gas_used) == (b"\x90", (), 0)


def test_bytes_that_are_no_transaction_are_our_bug() -> None:
    with pytest.raises(InvariantError, match="does not decode"):
        decode_call(b"\x92\xc4\x01a\xc4\x01b")
    with pytest.raises(InvariantError, match="does not decode"):
        execute_serially(
            block_of(1, [b"nothing"]), base=BaseState(MemoryReader()), machine=machine(), chain=CHAIN,
            progress=NoProgress(), reason="test",
        )  # fmt: skip


class _Leaky:
    """A machine whose failed calls leave something behind."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def execute(self, *_: object, **__: object) -> Outcome:
        return self._outcome


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(status=1, gas_used=1, writes={b"k": b"v"}),
        Outcome(status=1, gas_used=1, events=(Event(contract=b"c", name="n", values=b""),)),
    ],
)
def test_a_failure_that_leaves_something_stops_the_node(outcome: Outcome) -> None:
    call = decode_call(transaction(0, bytes(20), "m", ()))
    with pytest.raises(InvariantError, match="failed and left"):
        run_call(_Leaky(outcome), BaseState(MemoryReader()), CHAIN.block(height=1, time_ms=1), call)  # type: ignore[arg-type]

"""The oracle against what a block must do, computed by hand: no executor may be its own judge."""

from __future__ import annotations

import pytest

from chain.codec import decode, encode, pack, unpack
from chain.errors import DecodeError, InvariantError
from chain.model.block import Event, Receipt, WriteSet
from chain.model.merkle import merkle_root, pack_writes, state_root, unpack_writes, write_leaves
from contracts.runtime import Outcome, Status
from executor.outcome import ExecutionInput
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import Result, Roots, call_at, calls_of, decode_call, join_leaves, roots_of, run_call
from tests.unit.executor.shares import Bench
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
    parent = oracle.base.snapshot_root
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
    assert (output.stats.mode, output.stats.shard_sizes, output.stats.conflicts_actual) == ("serial", (6,), 0)


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
    parent = oracle.base.snapshot_root
    output = oracle.run([])
    assert (output.transaction_root, output.receipt_root) == (merkle_root([]), merkle_root([]))
    assert output.state_root == state_root(parent, [])
    assert (output.writes, output.receipts, output.gas_used) == (b"\x90", (), 0)


def test_bytes_that_are_no_transaction_are_our_bug() -> None:
    with pytest.raises(InvariantError, match="does not decode"):
        decode_call(b"\x92\xc4\x01a\xc4\x01b", bytes(32), bytes(20))
    block = ExecutionInput(height=1, time_ms=1, hashes=bytes(32), senders=bytes(20), transactions=(b"nothing",))
    with pytest.raises(InvariantError, match="does not decode"):
        execute_serially(
            block, base=BaseState(MemoryReader()), machine=machine(), chain=CHAIN, progress=NoProgress()
        )
    with pytest.raises(DecodeError):
        block_of(1, [b"nothing"])


def test_an_input_carries_what_its_transactions_say() -> None:
    raws = [transaction(number, bytes(20), "m", (number,)) for number in (3, 1)]
    block = block_of(1, raws)
    assert [block.hash_at(position) for position in range(2)] == [hash_of(raw) for raw in raws]
    assert [block.sender_at(position) for position in range(2)] == [account(3).address, account(1).address]
    assert calls_of(block) == [call_at(block, 0), call_at(block, 1)]
    call = call_at(block, 1)
    assert (call.hash, call.sender, call.method) == (hash_of(raws[1]), account(1).address, "m")
    assert call.arguments == pack((1,))


def test_a_result_is_what_its_parts_hash_to() -> None:
    writes: WriteSet = [(b"a", b"1"), (b"b", None)]
    result = Result.of([b"r1", b"r2"], 7, dict(reversed(writes)))
    assert result.packed_writes == pack_writes(writes) == join_leaves(write_leaves(writes))
    block = block_of(1, [transaction(0, bytes(20), "m", ())])
    roots = roots_of(block, result, parent_state_root=b"p" * 32)
    assert roots == Roots(
        transactions=merkle_root([block.hashes]),
        receipts=merkle_root([b"r1", b"r2"]),
        state=state_root(b"p" * 32, writes),
    )


@pytest.mark.parametrize("count", [0, 15, 16, 70_000])
def test_leaves_are_joined_under_a_header_of_any_size(count: int) -> None:
    writes: WriteSet = [(b"%07d" % number, b"v") for number in range(count)]
    assert join_leaves(write_leaves(writes)) == pack_writes(writes)


def test_adds_are_settled_in_order() -> None:
    bench = Bench()
    raws = [
        bench.call("add", 1, 5),
        bench.call("within", 1, -6, 0, 100),  # 5 is not enough
        bench.call("add", 1, 2),
        bench.call("within", 1, -6, 0, 100),
        bench.call("copy", 1, 9),
        bench.call("see", 1, -1, 8),  # succeeds within, and is taken back
        bench.call("add", 2, 0),
    ]
    result = bench.serial(bench.block(raws))
    statuses = [decode(Receipt, receipt).status for receipt in result.receipts]
    assert statuses == [0, Status.ARITHMETIC, 0, 0, 0, 0, 0]
    assert decode(Receipt, result.receipts[1]).error.startswith("below_minimum")
    assert result.writes == {
        bench.key("sums", 1): pack(1), bench.key("sums", 2): pack(0),
        bench.key("seen", 9): pack(1), bench.key("seen", 8): pack(int(Status.REVERTED)),
    }  # fmt: skip


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
    call = call_at(block_of(1, [transaction(0, bytes(20), "m", ())]), 0)
    with pytest.raises(InvariantError, match="failed and left"):
        run_call(_Leaky(outcome), BaseState(MemoryReader()), CHAIN.block(height=1, time_ms=1), call)  # type: ignore[arg-type]

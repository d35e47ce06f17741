"""Predictions against what real contracts really touch, and predictions of what cannot be known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from chain.codec import Value, pack
from contracts.runtime import Status
from contracts.sources import load_source
from contracts.system.registry import SYSTEM_ADDRESS, record_key
from executor.plan import find_shards
from executor.predict import AccessTable, SummaryPredictor
from executor.summary import merge_modes
from executor.transactions import calls_of, run_call
from tests.unit.executor.recorder import EVERYTHING, Recorder, missed
from tests.unit.executor.workbench import (
    ARENA,
    CHAIN,
    Oracle,
    account,
    block_of,
    deployment,
    machine,
    receipts_of,
    transaction,
)

CALLER = '''"""Calls a board whose address it stores."""


class Board(Interface):
    @external
    def put(self, group: int, index: int, value: int): ...

    @external
    def send(self, target: Address, amount: int): ...


class Caller(Contract):
    board: Value[Address]

    def init(self, board: Address):
        self.board.set(board)

    @external
    def put(self, group: int, value: int):
        Board(self.board.get()).put(group, 4, value)

    @external
    def either(self, first: Address, second: Address, flag: bool):
        target = first
        if flag:
            target = second
        Board(target).put(1, 1, 1)
'''


@pytest.fixture(scope="module")
def chain() -> tuple[Oracle, bytes, bytes]:
    """(oracle, a board with funded accounts and cells, a caller of it)."""
    oracle = Oracle()
    board_raw, board = deployment(0, "board", ARENA, (0,))
    caller_raw, caller = deployment(0, "caller", CALLER, (board,))
    assert [receipt.status for receipt in receipts_of(oracle.run([board_raw, caller_raw]))] == [0, 0]
    oracle.run([transaction(number, board, "fund", (100,)) for number in range(3)])
    oracle.run([transaction(0, board, "put", (group, 1, 13)) for group in range(3)])
    return oracle, board, caller


def predict(oracle: Oracle, transactions: Sequence[bytes]) -> AccessTable:
    """The prediction, which is the same whether methods are interpreted or compiled."""
    height = oracle.base.height + 1
    calls = calls_of(block_of(height, transactions))
    tables = [
        SummaryPredictor(hot_calls=hot).predict(calls, base=oracle.base, height=height, time_ms=5)
        for hot in (1_000, 0)
    ]
    assert touched(tables[0]) == touched(tables[1])
    return tables[1]


def touched(table: AccessTable) -> list[dict[bytes, int]]:
    """Names and modes by transaction."""
    names = [EVERYTHING, *table.names]
    found: list[dict[bytes, int]] = []
    for first, last in pairwise(table.starts):
        modes: dict[bytes, int] = {}
        for node, mode in zip(table.nodes[first:last], table.modes[first:last], strict=True):
            modes[names[node]] = merge_modes(modes.get(names[node], mode), mode)
        found.append(modes)
    return found


def keys(table: AccessTable, transaction: int = 0) -> tuple[set[bytes], set[bytes]]:
    """(read, written) state keys and group prefixes."""
    modes = touched(table)[transaction]
    return {name for name, mode in modes.items() if mode & 1}, {name for name, mode in modes.items() if mode & 2}


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("fund", (1,)), ("send", (account(2).address, 1)), ("put", (1, 2, 3)), ("drop", (1, 1)), ("strict", (1, 1)),
        ("follow", (1, 1)), ("append", (5,)), ("count", (1,)), ("poke", (1, 2, False)), ("burn", (3,)),
    ],
)  # fmt: skip
def test_predicted_keys_cover_what_the_machine_touches(
    chain: tuple[Oracle, bytes, bytes], method: str, arguments: tuple[Value, ...]
) -> None:
    """Except code, which is read by every call."""
    oracle, board, _ = chain
    raw = transaction(1, board, method, arguments)
    (predicted,) = touched(predict(oracle, [raw]))
    state = Recorder(oracle.base)
    (call,) = calls_of(block_of(9, [raw]))
    _, outcome = run_call(machine(), state, CHAIN.block(height=9, time_ms=5), call)
    assert outcome.status == Status.OK
    assert missed(predicted, state, outcome) == set()


def test_a_scan_reads_the_group_of_its_prefix(chain: tuple[Oracle, bytes, bytes]) -> None:
    oracle, board, _ = chain
    cells = board + b"cells\x00"
    reads, writes = keys(predict(oracle, [transaction(1, board, "sum_group", (2, 1))]))
    assert cells + pack(2) in reads
    assert cells + pack(1) + pack(99) in writes


def test_calls_follow_addresses_in_arguments_and_in_the_state(chain: tuple[Oracle, bytes, bytes]) -> None:
    oracle, board, caller = chain
    key = board + b"cells\x00" + pack(3) + pack(4)
    relay = transaction(1, board, "relay", (board, 2, 1, True))
    table = predict(oracle, [transaction(1, caller, "put", (3, 9)), relay])
    assert keys(table)[1] == {key}
    assert board + b"cells\x00" + pack(7) + pack(2) in keys(table, 1)[1]
    assert board + b"log\x01" in keys(table, 1)[0]


def test_what_cannot_be_followed_touches_everything(chain: tuple[Oracle, bytes, bytes]) -> None:
    oracle, _, caller = chain
    unknown = transaction(1, caller, "either", (caller, caller, True))
    table = predict(oracle, [unknown, transaction(1, caller, "put", (1, 1))])
    assert keys(table) == ({EVERYTHING}, {EVERYTHING})
    assert find_shards(table)[0] == [0, 0]


def test_calls_that_the_machine_refuses_touch_nothing(chain: tuple[Oracle, bytes, bytes]) -> None:
    oracle, board, _ = chain
    refused = [
        transaction(1, board, "nothing", ()),
        transaction(1, board, "put", (1,)),
        transaction(1, bytes(20), "put", (1, 1, 1)),
    ]
    table = predict(oracle, refused)
    assert (table.count, table.nodes) == (3, [])


def test_arguments_of_wrong_types_never_raise(chain: tuple[Oracle, bytes, bytes]) -> None:
    oracle, board, caller = chain
    odd: list[Value] = [None, True, b"", "text", -1, 2**200, (), ((1, 2), b"x"), 10**9]
    raws = [transaction(1, board, "put", (value, value, value)) for value in odd]
    raws += [transaction(1, board, "relay", (value, value, value, value)) for value in odd]
    raws += [transaction(1, caller, "put", (value, value)) for value in odd]
    raws += [transaction(1, SYSTEM_ADDRESS, method, (value,)) for value in odd for method in ("deploy", "freeze", "x")]
    assert predict(oracle, raws).count == len(raws)


def test_contracts_that_the_block_changes_come_before_their_callers(chain: tuple[Oracle, bytes, bytes]) -> None:
    oracle, board, caller = chain
    raw, address = deployment(2, "late", load_source("library/smallbank"))
    block = [
        transaction(0, SYSTEM_ADDRESS, "freeze", (board,)),
        transaction(1, board, "put", (1, 1, 1)),
        raw,
        transaction(1, address, "create_account", (1, 1, 1)),
        transaction(2, address, "create_account", (2, 1, 1)),
        transaction(2, caller, "put", (5, 5)),
        transaction(2, bytes(20), "put", (5, 5)),
    ]
    table = predict(oracle, block)
    assert record_key(board) in keys(table)[1]
    assert find_shards(table)[0] == [0, 0, 2, 2, 2, 0, 6]

"""Validation: the fast way, the exact way, and that both say the same."""

from __future__ import annotations

import msgspec
import pytest

from chain.errors import InvariantError
from chain.model.merkle import pack_writes
from contracts.runtime import Outcome
from executor.outcome import ShareOutcome
from executor.process import NoProgress
from executor.share import is_well_formed, run_share
from executor.state import BaseState
from executor.transactions import decode_call
from executor.validate import ShareResult, Validated, is_undisturbed, merge, validate
from tests.unit.executor.workbench import (
    ARENA,
    CHAIN,
    Oracle,
    deployment,
    machine,
    receipts_of,
    transaction,
)


class Bench:
    """A board, and shares of a block run apart from each other on the same base."""

    def __init__(self) -> None:
        self.oracle = Oracle()
        raw, self.board = deployment(0, "board", ARENA, (0,))
        self.oracle.run([raw])
        self.base = BaseState(self.oracle.reader)
        self.context = CHAIN.block(height=self.base.height + 1, time_ms=1_700_000_000_000 + self.base.height + 1)

    def call(self, method: str, *arguments: int) -> bytes:
        return transaction(0, self.board, method, arguments)

    def validate(self, raws: list[bytes], shares: list[list[int]]) -> tuple[list[ShareResult], Validated]:
        calls = [decode_call(raw) for raw in raws]
        results = [
            ShareResult(
                share,
                run_share(
                    [calls[position] for position in share], share,
                    base=self.base, machine=machine(), context=self.context, progress=NoProgress(),
                ),
            )
            for share in shares
        ]  # fmt: skip
        validated = validate(
            calls, results, base=self.base, machine=machine(), context=self.context, progress=NoProgress()
        )
        expected = self.oracle.run(raws)
        assert tuple(validated.receipts) == expected.receipts
        assert pack_writes(validated.writes) == expected.writes
        assert validated.gas_used == expected.gas_used
        return results, validated


def test_undisturbed_shares_are_merged_in_block_order() -> None:
    bench = Bench()
    raws = [bench.call("put", 1, 1, value) for value in range(6)]  # blind writes of one key
    results, validated = bench.validate(raws, [[0, 3, 5], [1, 2, 4]])
    assert is_undisturbed(6, results)
    assert validated.reexecuted == 0


def test_a_key_that_another_share_wrote_disturbs() -> None:
    bench = Bench()
    results, validated = bench.validate([bench.call("put", 1, 1, 5), bench.call("drop", 1, 1)], [[0], [1]])
    assert not is_undisturbed(2, results)
    assert validated.reexecuted == 1


def test_a_read_before_the_write_holds() -> None:
    bench = Bench()
    _, validated = bench.validate([bench.call("drop", 1, 1), bench.call("put", 1, 1, 5)], [[0], [1]])
    assert validated.reexecuted == 0


def test_a_scan_is_disturbed_only_by_keys_under_its_prefix() -> None:
    bench = Bench()
    results, validated = bench.validate([bench.call("put", 1, 1, 5), bench.call("sum_group", 2, 3)], [[0], [1]])
    assert is_undisturbed(2, results)
    bench.base.refresh()
    results, validated = bench.validate([bench.call("sum_group", 2, 3), bench.call("put", 2, 1, 5)], [[0], [1]])
    assert not is_undisturbed(2, results)
    assert validated.reexecuted == 0  # the scan stands before the write


def test_positions_that_nobody_ran_are_run_in_place() -> None:
    bench = Bench()
    _, validated = bench.validate([bench.call("count", 1) for _ in range(4)], [[0, 2]])
    assert validated.reexecuted == 3


def test_a_second_run_that_writes_the_same_spares_those_who_saw_it() -> None:
    """`drop` of a missing cell on one share, made by another: the second run of `put` after it changes nothing."""
    bench = Bench()
    raws = [
        bench.call("count", 0),  # total 0 -> 0 on share A
        bench.call("count", 0),  # on share B: saw the base's version, runs again, writes 0 again
        bench.call("count", 0),  # on share B: saw what the first run of the one before wrote
        bench.call("count", 0),
    ]
    _, validated = bench.validate(raws, [[0], [1, 2, 3]])
    assert validated.reexecuted == 1


def test_fast_and_exact_ways_agree() -> None:
    bench = Bench()
    raws = [bench.call("put", n % 3, n % 2, n) for n in range(12)]
    results, exact = bench.validate(raws, [[n for n in range(12) if n % 3 == share] for share in range(3)])
    assert is_undisturbed(12, results)
    assert merge(12, results) == exact


class _Raises:
    """A machine that breaks a promise on one method, as it might on reads that no prefix ever had."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def execute(self, state: object, block: object, *, method: str, **call: object) -> Outcome:
        if method == "drop":
            raise self._error
        return machine().execute(state, block, method=method, **call)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [InvariantError, MemoryError, RecursionError])
def test_a_promise_broken_on_unvalidated_reads_proves_nothing(error: type[BaseException]) -> None:
    bench = Bench()
    calls = [decode_call(raw) for raw in (bench.call("count", 1), bench.call("drop", 1, 1), bench.call("count", 2))]
    share = run_share(
        calls, range(3), base=bench.base, machine=_Raises(error),  # type: ignore[arg-type]
        context=bench.context, progress=NoProgress(),
    )  # fmt: skip
    assert share.receipts[1] == b""
    assert is_well_formed(share, range(3))
    validated = validate(
        calls, [ShareResult(range(3), share)], base=bench.base, machine=machine(), context=bench.context,
        progress=NoProgress(),
    )  # fmt: skip
    assert validated.reexecuted == 1
    with pytest.raises(error):
        validate(
            calls, [ShareResult(range(3), share)], base=bench.base,
            machine=_Raises(error),  # type: ignore[arg-type]
            context=bench.context, progress=NoProgress(),
        )  # fmt: skip


def test_answers_that_do_not_fit_are_told() -> None:
    bench = Bench()
    calls = [decode_call(bench.call("count", 1)) for _ in range(3)]
    share = run_share(
        calls, range(3), base=bench.base, machine=machine(), context=bench.context, progress=NoProgress()
    )
    assert is_well_formed(share, range(3))
    assert not is_well_formed(share, range(2))
    wrong: dict[str, object] = {
        "read_counts": b"123", "read_refs": share.read_refs[4:], "read_versions": b"", "write_keys": (),
        "gas": (1, 2, -3), "scans": ((3, b"", ()),), "receipts": (b"",), "write_counts": b"",
    }  # fmt: skip
    for field, value in wrong.items():
        spoiled: ShareOutcome = msgspec.structs.replace(share, **{field: value})
        assert not is_well_formed(spoiled, range(3)), field


def test_an_empty_block() -> None:
    bench = Bench()
    _, validated = bench.validate([], [[], []])
    assert validated == Validated([], 0, [], 0)
    assert receipts_of(bench.oracle.run([])) == []

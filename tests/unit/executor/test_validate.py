"""Validation: the fast way, the exact way, and that both say what one transaction after the other says."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from chain.codec import decode, pack, unpack
from chain.errors import InvariantError
from chain.model.block import Receipt
from chain.model.merkle import unpack_writes
from contracts.runtime import Machine, Outcome, Status, integer_bytes
from executor import validate as validate_module
from executor.outcome import ExecutionInput
from executor.share import integers
from executor.transactions import Result
from executor.validate import ShareResult, Validated, merge, rests_of, undisturbed
from tests.unit.executor.shares import ADDER, Bench, assert_equal
from tests.unit.executor.workbench import ARENA, machine


def board() -> Bench:
    return Bench(ARENA, (0,), machine=machine())


def statuses_of(result: Result) -> list[int]:
    return [decode(Receipt, receipt).status for receipt in result.receipts]


def writes_of(result: ShareResult) -> dict[bytes, bytes | None]:
    """What an executor knows that it wrote last to each key."""
    return result.final


# --- reads, writes, scans ---


def test_undisturbed_shares_are_merged_in_block_order() -> None:
    bench = board()
    block = bench.block([bench.call("put", 1, 1, value) for value in range(6)])  # blind writes of one key
    for split in ([[0, 3, 5], [1, 2, 4]], [[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]], [[5], [0, 4], [1, 2, 3]]):
        results = bench.shares(block, split)
        assert list((undisturbed(6, results, bench.base) or {}).values()) == [pack((1, 5))]
        validated = bench.validated(block, results)
        assert_equal(validated.result, bench.serial(block))
        assert validated.reexecuted == 0
        assert list(validated.result.writes.values()) == [pack((1, 5))]


def test_shares_with_keys_of_their_own_are_merged_with_their_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No leaf is hashed a second time."""
    bench = board()
    block = bench.block([bench.call("put", group, 1, group) for group in (3, 1, 4, 2, 9)])
    results = bench.shares(block, [[1, 4], [0, 2], [3]])
    expected = bench.serial(block)
    monkeypatch.setattr(Result, "of", None)
    assert_equal(merge(5, results, {}), expected)


def test_rests_are_what_an_executor_did_not_write_or_not_alone() -> None:
    bench = Bench()
    raws = [
        bench.call("put", 0, 1), bench.call("put", 3, 1), bench.call("add", 5, 1), bench.call("put", 7, 1),
        bench.call("put", 1, 2), bench.call("put", 3, 2), bench.call("add", 5, 2),
        bench.call("put", 2, 3), bench.call("drop", 8), bench.call("put", 3, 3),
    ]  # fmt: skip
    bench.store(bench.call("put", 8, 8))
    block = bench.block(raws)
    results = bench.shares(block, [[0, 1, 2, 3], [4, 6, 9], [5, 7, 8]])
    sums = undisturbed(10, results, bench.base)
    assert sums is not None
    common = {bench.key("sums", 3): pack(3), bench.key("sums", 5): pack(3)}
    alone: list[dict[int, int | None]] = [{0: 1, 7: 1}, {1: 2}, {2: 3, 8: None}]
    assert sums == common
    for index, rest in enumerate(rests_of(results, sums)):
        others = {
            bench.key("sums", key): None if value is None else pack(value)
            for other, written in enumerate(alone)
            if other != index
            for key, value in written.items()
        }
        assert dict(unpack_writes(rest)) == {**others, **common}  # the latter of equal keys wins


def test_a_key_that_another_share_wrote_disturbs() -> None:
    bench = board()
    results, reexecuted = bench.run([bench.call("put", 1, 1, 5), bench.call("drop", 1, 1)], [[0], [1]])
    assert undisturbed(2, results, bench.base) is None
    assert reexecuted == 1


def test_a_read_before_the_write_holds() -> None:
    bench = board()
    _, reexecuted = bench.run([bench.call("drop", 1, 1), bench.call("put", 1, 1, 5)], [[0], [1]])
    assert reexecuted == 0


def test_a_scan_is_disturbed_only_by_keys_under_its_prefix() -> None:
    bench = board()
    results, reexecuted = bench.run([bench.call("put", 1, 1, 5), bench.call("sum_group", 2, 3)], [[0], [1]])
    assert undisturbed(2, results, bench.base) == {}
    results, reexecuted = bench.run([bench.call("sum_group", 2, 3), bench.call("put", 2, 1, 5)], [[0], [1]])
    assert undisturbed(2, results, bench.base) is None
    assert reexecuted == 0  # the scan stands before the write


def test_prefixes_are_looked_for_among_all_keys() -> None:
    """A key that is the prefix, keys before and after it, several prefixes: against a look at each key."""
    for seed in range(300):
        draw = random.Random(seed)
        keys = sorted([bytes(draw.choices(b"ab\xff", k=draw.randrange(1, 4))) for _ in range(draw.randrange(8))])
        prefixes = {bytes(draw.choices(b"ab\xff", k=draw.randrange(4))) for _ in range(draw.randrange(3))}
        expected = any(key.startswith(prefix) for key in keys for prefix in prefixes)
        assert validate_module._any_under(prefixes, keys) is expected, (prefixes, keys)


def test_a_scan_whose_rows_another_share_changed_runs_again() -> None:
    bench = board()
    raws = [bench.call("put", 2, 1, 5), bench.call("put", 2, 1, 6), bench.call("sum_group", 2, 3)]
    for split, expected in (([[0, 1, 2]], 0), ([[0, 1], [2]], 1), ([[0, 2], [1]], 1), ([[1, 2], [0]], 0)):
        block = bench.block(raws)
        validated = bench.validated(block, bench.shares(block, split))
        assert_equal(validated.result, bench.serial(block))
        assert validated.reexecuted == expected, split


def test_positions_that_nobody_ran_are_run_in_place() -> None:
    bench = board()
    _, reexecuted = bench.run([bench.call("count", 1) for _ in range(4)], [[0, 2]])
    assert reexecuted == 3


def test_a_second_run_that_writes_the_same_spares_those_who_saw_it() -> None:
    bench = board()
    raws = [
        bench.call("count", 0),  # total 0 -> 0 on share A
        bench.call("count", 0),  # on share B: saw the base's version, runs again, writes 0 again
        bench.call("count", 0),  # on share B: saw what the first run of the one before wrote
        bench.call("count", 0),
    ]
    _, reexecuted = bench.run(raws, [[0], [1, 2, 3]])
    assert reexecuted == 1


def test_a_second_run_that_writes_another_value_is_seen_by_all_who_read_it() -> None:
    bench = board()
    _, reexecuted = bench.run([bench.call("count", 1) for _ in range(5)], [[0], [1, 2, 3, 4]])
    assert reexecuted == 4


def test_a_second_run_that_writes_no_more_is_seen_by_all_who_read_it() -> None:
    """`drop` finds the cell in its first run and nothing in its second; the one after it saw the deletion."""
    bench = board()
    bench.store(bench.call("put", 1, 1, 5))
    raws = [bench.call("drop", 1, 1), bench.call("drop", 1, 1), bench.call("drop", 1, 1)]
    block = bench.block(raws)
    results = bench.shares(block, [[0], [1, 2]])
    validated = bench.validated(block, results)
    assert_equal(validated.result, bench.serial(block))
    assert [unpack(decode(Receipt, receipt).result) for receipt in validated.result.receipts] == [True, False, False]
    assert validated.reexecuted == 2


def test_an_empty_block() -> None:
    bench = board()
    block = bench.block([])
    validated = bench.validated(block, bench.shares(block, [[], []]))
    assert validated == Validated(Result.of([], 0, {}), 0, [b"\x90", b"\x90"])


# --- adds, the fast way ---


def test_adds_of_several_executors_are_summed() -> None:
    bench = Bench()
    bench.store(bench.call("put", 1, 100))
    raws = [bench.call("add", 1, 5), bench.call("add", 1, -7), bench.call("add", 2, 3), bench.call("add", 1, 11)]
    block = bench.block(raws)
    results = bench.shares(block, [[0, 2], [1, 3]])
    assert undisturbed(4, results, bench.base) == {bench.key("sums", 1): integer_bytes(109)}  # 2 has one adder
    validated = bench.validated(block, results)
    assert_equal(validated.result, bench.serial(block))
    assert validated.reexecuted == 0
    assert dict(validated.result.writes) == {bench.key("sums", 1): pack(109), bench.key("sums", 2): pack(3)}


def test_sums_leave_leaves_of_other_keys_alone() -> None:
    bench = Bench()
    raws = [bench.call(method, key, 3) for method in ("add", "put") for key in (1, 2, 3, 4)]
    raws[4:] = [bench.call("put", 7, 1), bench.call("put", 0, 1), bench.call("put", 7, 2), bench.call("drop", 6)]
    raws += [bench.call("add", 2, 9), bench.call("add", 3, 9)]
    _, reexecuted = bench.run(raws, [[0, 1, 4, 7], [2, 5, 8], [3, 6, 9]])
    assert reexecuted == 0


def test_an_addition_of_nothing_makes_a_missing_key() -> None:
    bench = Bench()
    _, reexecuted = bench.run([bench.call("add", 1, 0), bench.call("add", 1, 0)], [[0], [1]])
    assert reexecuted == 0
    assert bench.base.get(bench.key("sums", 1)) == pack(0)


@pytest.mark.parametrize("margin", [-1, 0, 1])
@pytest.mark.parametrize("side", [-1, 1])
def test_bounds_are_held_against_the_farthest_the_block_can_go(side: int, margin: int) -> None:
    """20 beneath; the other executor takes away 4 and puts 10 back, or the mirror image of that. The bound is as far
    off as all adds that go its way could take the value before this one (which is counted among them), or one nearer:
    then the positions decide."""
    bench = Bench()
    bench.store(bench.call("put", 1, 20 * side))
    low, high = (-100, 20 + 11 + 1 + margin) if side > 0 else (-(20 + 11 + 1 + margin), 100)
    raws = [bench.call("add", 1, -4 * side), bench.call("within", 1, side, low, high), bench.call("add", 1, 10 * side)]
    block = bench.block(raws)
    results = bench.shares(block, [[0, 2], [1]])
    assert (undisturbed(3, results, bench.base) is None) is (margin < 0)
    validated = bench.validated(block, results)
    assert_equal(validated.result, bench.serial(block))
    assert validated.reexecuted == 0  # at its position there is room enough
    assert statuses_of(validated.result) == [0, 0, 0]


@pytest.mark.parametrize(("order", "statuses"), [((0, 1), [0, 0]), ((1, 0), [Status.ARITHMETIC, 0])])
def test_a_bound_that_breaks_at_its_position_runs_again(order: tuple[int, int], statuses: list[int]) -> None:
    """Each executor saw 5, which is enough for its own -4 only; or a deposit that comes too late."""
    bench = Bench()
    amounts = (4, -4)
    raws = [bench.call("within", 1, amounts[index], 0, 100) for index in order]
    block = bench.block(raws)
    validated = bench.validated(block, bench.shares(block, [[0], [1]]))
    assert_equal(validated.result, bench.serial(block))
    assert statuses_of(validated.result) == statuses
    bench.store(bench.call("put", 1, 5))
    block = bench.block([bench.call("within", 1, -4, 0, 100), bench.call("within", 1, -4, 0, 100)])
    results = bench.shares(block, [[0], [1]])
    assert undisturbed(2, results, bench.base) is None
    validated = bench.validated(block, results)
    assert_equal(validated.result, bench.serial(block))
    assert statuses_of(validated.result) == [0, Status.ARITHMETIC]
    assert validated.reexecuted == 1


def test_a_plain_write_beside_adds_goes_the_exact_way() -> None:
    for position in range(3):
        bench = Bench()
        raws = [bench.call("add", 1, 5), bench.call("add", 1, 7)]
        raws.insert(position, bench.call("put", 1, 1_000))
        for split in ([[0], [1], [2]], [[0, 1], [2]], [[0, 2], [1]], [[0], [1, 2]]):
            block = bench.block(raws)
            results = bench.shares(block, split)
            assert undisturbed(3, results, bench.base) is None
            validated = bench.validated(block, results)
            assert_equal(validated.result, bench.serial(block))
            assert validated.reexecuted == 0  # nobody has read anything


def test_a_deletion_beside_adds_goes_the_exact_way() -> None:
    bench = Bench()
    bench.store(bench.call("put", 1, 50))
    raws = [bench.call("add", 1, 5), bench.call("drop", 1), bench.call("add", 1, 7), bench.call("drop", 1)]
    for last in (3, 4):
        block = bench.block(raws[:last])
        validated = bench.validated(block, bench.shares(block, [[0, 3][: last - 2], [1], [2]]))
        assert_equal(validated.result, bench.serial(block))
        assert validated.reexecuted == 0


def test_an_add_beside_a_read_goes_the_exact_way() -> None:
    bench = Bench()
    for raws, expected in (
        ([bench.call("add", 1, 5), bench.call("copy", 1, 1)], 1),
        ([bench.call("copy", 1, 1), bench.call("add", 1, 5)], 0),
        ([bench.call("add", 1, 5), bench.call("total", 1)], 1),
        ([bench.call("total", 1), bench.call("add", 1, 5)], 0),
        ([bench.call("add", 1, 5), bench.call("add_read", 1, 5)], 1),
    ):
        block = bench.block(raws)
        results = bench.shares(block, [[0], [1]])
        assert undisturbed(2, results, bench.base) is None
        validated = bench.validated(block, results)
        assert_equal(validated.result, bench.serial(block))
        assert validated.reexecuted == expected


def test_an_observation_holds_or_runs_again() -> None:
    """`see` takes its add back; that it succeeded is all that is left, and depends on what others do before it."""
    bench = Bench()
    bench.store(bench.call("put", 1, 10))
    for other, expected, is_fast in (
        (bench.call("add", 1, 100), 0, True),
        (bench.call("add", 1, -5), 0, True),  # 5 is just enough
        (bench.call("add", 1, -6), 1, False),
        (bench.call("put", 1, 5), 0, False),
        (bench.call("put", 1, 4), 1, False),
        (bench.call("drop", 1), 1, False),
        (bench.call("put", 2, 4), 0, True),
    ):
        block = bench.block([other, bench.call("see", 1, -5, 9)])
        results = bench.shares(block, [[0], [1]])
        assert [delta for _, _, delta, *_ in results[1].outcome.adds] == [None]
        assert (undisturbed(2, results, bench.base) is not None) is is_fast
        validated = bench.validated(block, results)
        assert_equal(validated.result, bench.serial(block))
        assert validated.reexecuted == expected
        block = bench.block([bench.call("see", 1, -5, 9), other])
        assert bench.validated(block, bench.shares(block, [[0], [1]])).reexecuted == 0


def test_an_observation_beside_adds_of_one_executor_keeps_the_adds() -> None:
    """The key has two executors' adds and one executor's writes, so nothing is left to sum."""
    bench = Bench()
    bench.store(bench.call("put", 1, 10))
    _, reexecuted = bench.run([bench.call("add", 1, 1), bench.call("see", 1, -5, 9)], [[0], [1]])
    assert reexecuted == 0
    assert bench.base.get(bench.key("sums", 1)) == pack(11)


def test_what_is_no_integer_beneath_is_never_summed() -> None:
    """No executor adds to it unless it stood on other values than the lead; then nothing of that is taken."""
    bench = Bench()
    raws = [bench.call("add", 1, 5), bench.call("add", 1, 6)]
    early = bench.block(raws)
    results = bench.shares(early, [[0], [1]])
    bench.put(bench.key("sums", 1), "text")
    block = ExecutionInput.of(height=early.height + 1, time_ms=early.time_ms, transactions=raws)
    assert undisturbed(2, results, bench.base) is None
    validated = bench.validated(block, results)
    assert validated.reexecuted == 2
    assert_equal(validated.result, bench.serial(block))
    assert statuses_of(validated.result) == [Status.TYPE, Status.TYPE]


@pytest.mark.parametrize("value", [2**100, -(2**100), 2**63 - 12, 2**63, -(2**63)])
def test_sums_beyond_a_word_are_right(value: int) -> None:
    """The messages carry 64 bits, so these go the exact way and run again where they must."""
    bench = Bench()
    bench.put(bench.key("sums", 1), value)
    raws = [
        bench.call("add", 1, 5), bench.call("add", 1, 6), bench.call("add", 1, 2**80),
        bench.call("within", 1, 1, 2**70, 2**200), bench.call("add", 1, -(2**80)), bench.call("copy", 1, 1),
    ]  # fmt: skip
    bench.run(raws, [[0, 3], [1, 5], [2, 4]])
    stored = bench.base.get(bench.key("sums", 1))
    assert stored is not None
    assert unpack(stored) in (value + 11, value + 12)


# --- adds, the exact way ---


@pytest.mark.parametrize(("amount", "expected"), [(5, 1), (0, 0)])
def test_a_reader_of_a_corrected_sum_runs_again(amount: int, expected: int) -> None:
    """It stands on the executor of the add and saw the sum that this executor knew."""
    bench = Bench()
    raws = [bench.call("add", 1, amount), bench.call("add", 1, 7), bench.call("copy", 1, 9)]
    _, reexecuted = bench.run(raws, [[0], [1, 2]])
    assert reexecuted == expected
    assert bench.base.get(bench.key("seen", 9)) == pack(amount + 7)


@pytest.mark.parametrize(("amount", "expected"), [(5, 1), (0, 0)])
def test_a_scan_over_a_corrected_sum_runs_again(amount: int, expected: int) -> None:
    bench = Bench()
    raws = [bench.call("add", 1, amount), bench.call("add", 1, 7), bench.call("add", 2, 1), bench.call("total", 9)]
    _, reexecuted = bench.run(raws, [[0], [1, 2, 3]])
    assert reexecuted == expected
    assert bench.base.get(bench.key("seen", 9)) == pack(amount + 8)


def test_a_corrected_sum_is_summed_on() -> None:
    """Adds after it were made for its speculated value, but they only say where it may lie."""
    bench = Bench()
    raws = [bench.call("add", 1, 1), bench.call("put", 1, 40), *[bench.call("add", 1, 7) for _ in range(4)]]
    _, reexecuted = bench.run(raws, [[0, 2, 4], [1, 3, 5]])
    assert reexecuted == 0
    assert bench.base.get(bench.key("sums", 1)) == pack(68)


def test_a_failure_by_a_bound_is_a_read() -> None:
    bench = Bench()
    raws = [bench.call("add", 1, 9), bench.call("within", 1, -9, 0, 99)]
    block = bench.block(raws)
    validated = bench.validated(block, bench.shares(block, [[0], [1]]))
    assert_equal(validated.result, bench.serial(block))
    assert (statuses_of(validated.result), validated.reexecuted) == ([0, 0], 1)


# --- both ways, and the oracle ---


def test_random_shares_give_the_oracle_s_result_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random blocks on random executors, some positions run by nobody, in both ways; no transaction runs twice here
    unless it must."""
    ways: Counter[str] = Counter()
    bench = Bench()
    for seed in range(400):
        draw = random.Random(seed)
        calm = draw.random() < 0.3  # nothing but adds, their bounds far away
        calls = [_random_call(bench, draw, calm) for _ in range(draw.randrange(1, 25))]
        block = bench.block(calls)
        executors = draw.randrange(1, 5)
        splits: list[list[int]] = [[] for _ in range(executors)]
        for position in range(len(calls)):
            if draw.random() < 0.98:
                splits[draw.randrange(executors)].append(position)
        results = bench.shares(block, splits)
        expected = bench.serial(block)
        fast = undisturbed(len(calls), results, bench.base)
        validated = bench.validated(block, results)
        assert_equal(validated.result, expected)
        if fast is not None:
            ways["fast"] += 1
            ways["sums"] += bool(fast)
            assert validated.result == merge(len(calls), results, fast)
            assert validated.reexecuted == 0
            for own, rest in zip(results, validated.rests, strict=True):
                assert {**writes_of(own), **dict(unpack_writes(rest))} == dict(expected.writes)
            with monkeypatch.context() as patch:
                patch.setattr(validate_module, "undisturbed", lambda *_: None)
                exact = bench.validated(block, results)
            assert_equal(exact.result, expected)
            assert (exact.reexecuted, exact.rests) == (0, [])
        else:
            ways["exact"] += 1
            assert validated.rests == []
            ways["again"] += bool(validated.reexecuted)
        if seed % 3 == 0:
            bench.store(*calls)
    assert min(ways[way] for way in ("fast", "sums", "exact", "again")) >= 50, ways


def _random_call(bench: Bench, draw: random.Random, calm: bool) -> bytes:
    key, amount = draw.randrange(5), draw.randrange(-6, 9)
    match draw.random() / (2 if calm else 1):
        case chance if chance < 0.5:
            return bench.call("add", key, amount)
        case chance if chance < 0.75:
            return bench.call("within", key, amount, -draw.randrange(20), draw.randrange(80))
        case chance if chance < 0.8:
            return bench.call("see", key, amount, draw.randrange(90))
    method, arguments = draw.choice((
        ("put", (key, amount)), ("put", (draw.randrange(90), amount)), ("drop", (key,)), ("total", (amount + 6,)),
        ("copy", (key, amount + 6)), ("copy_seen", (key, amount + 6)), ("add_read", (key, amount)),
    ))  # fmt: skip
    return bench.call(method, *arguments)


class _Counting(Machine):
    """Knows which transactions ran."""

    def __init__(self) -> None:
        super().__init__(2)
        self.runs: list[bytes] = []

    def execute(self, *arguments: Any, **named: Any) -> Outcome:
        self.runs.append(named["transaction_hash"])
        return super().execute(*arguments, **named)


def test_only_what_does_not_hold_runs_again_and_at_its_place() -> None:
    bench = Bench()
    raws = [bench.call("add", 1, 5), bench.call("copy", 1, 1), bench.call("copy", 2, 2), bench.call("copy_seen", 1, 3)]
    block = bench.block(raws)
    results = bench.shares(block, [[0], [1, 2], [3]])
    counting = _Counting()
    validated = bench.validated(block, results, machine=counting)
    assert counting.runs == [block.hash_at(1), block.hash_at(3)]
    assert validated.reexecuted == 2
    assert_equal(validated.result, bench.serial(block))


# --- promises of ours ---


class _Raises(Machine):
    """Breaks a promise on one method, as it might on reads that no prefix ever had."""

    def __init__(self, method: str, error: type[BaseException]) -> None:
        super().__init__(2)
        self._method = method
        self._error = error

    def execute(self, *arguments: Any, **named: Any) -> Outcome:
        if named["method"] == self._method:
            raise self._error
        return super().execute(*arguments, **named)


@pytest.mark.parametrize("error", [InvariantError, MemoryError, RecursionError])
def test_a_promise_broken_on_unvalidated_reads_proves_nothing(error: type[BaseException]) -> None:
    bench = Bench()
    breaking = _Raises("drop", error)
    block = bench.block([bench.call("add_read", 1, 1), bench.call("drop", 1), bench.call("add_read", 1, 2)])
    share = bench.share(block, range(3), machine=breaking)
    assert (share.receipts[1], len(share.receipt_hashes), share.gas[1]) == (b"", 96, 0)
    assert list(integers(share.write_counts)) == [1, 0, 1]
    results = [ShareResult(range(3), share)]
    assert undisturbed(3, results, bench.base) is None
    validated = bench.validated(block, results)
    assert validated.reexecuted == 2  # it, and the one that did not see its deletion
    assert_equal(validated.result, bench.serial(block))
    with pytest.raises(error):
        bench.validated(block, results, machine=breaking)


def test_the_contract_of_these_tests_adds_without_reading() -> None:
    """Otherwise nothing above is about adds."""
    assert ADDER.count(".add(") == 4
    bench = Bench()
    share = bench.share(bench.block([bench.call("add", 1, 1), bench.call("within", 1, 1, 0, 9)]), range(2))
    sums = bench.key("sums", 1)
    assert sums not in share.read_keys
    assert [(index, key, delta) for index, key, delta, *_ in share.adds] == [(0, sums, 1), (1, sums, 1)]
    assert share.adds[1][3:] == (-1, 8)

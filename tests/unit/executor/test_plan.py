"""Shards and their assignment, against a slow model of the definition."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from executor.outcome import SHARD_SIZES_MAX
from executor.plan import (
    GAS_ESTIMATE,
    GAS_SAMPLE,
    METHODS_MAX,
    NO_HOME,
    Estimates,
    Load,
    PlainPlanner,
    Plan,
    assign,
    find_shards,
    make_plan,
)
from executor.predict import EVERYTHING, AccessTable, SummaryPredictor
from tests.unit.executor.shares import ADDER, Bench
from tests.unit.executor.workbench import deployment, transaction

READ, WRITE, BOTH, ADD = 1, 2, 3, 4


def table_of(transactions: list[list[tuple[bytes, int]]]) -> AccessTable:
    """Accesses by names: b"" is everything, b"v" a variable, b"v/k" a key in it."""
    table = AccessTable()
    for accesses in transactions:
        for name, mode in accesses:
            variable, _, key = name.partition(b"/")
            node = EVERYTHING
            if variable:
                node = table.node(variable, EVERYTHING, 1)
            if key:
                node = table.node(name, node, 0)
            table.touch(node, mode)
        table.end()
    return table


def shards_of(transactions: list[list[tuple[bytes, int]]]) -> list[int]:
    return find_shards(table_of(transactions))[0]


def conflicts_of(transactions: list[list[tuple[bytes, int]]]) -> int:
    return find_shards(table_of(transactions))[1]


def load_of(
    weights: Sequence[int],
    contracts: Sequence[int] | None = None,
    homes: list[int] | None = None,
    head_start: int = 0,
) -> Load:
    """All of one contract that has no home, unless said otherwise."""
    return Load(weights, contracts or [0] * len(weights), [NO_HOME] if homes is None else homes, head_start)


# --- shards ---


def test_reads_join_their_latest_earlier_writer() -> None:
    assert shards_of([[(b"v/a", BOTH)], [(b"v/b", BOTH)], [(b"v/a", BOTH)], [(b"v/b", READ)]]) == [0, 1, 0, 1]


def test_a_read_before_the_write_and_blind_writes_join_nobody() -> None:
    assert shards_of([[(b"v/a", READ)], [(b"v/a", WRITE)], [(b"v/a", WRITE)], [(b"v/a", READ)]]) == [0, 1, 2, 2]


def test_one_transaction_joins_two_shards() -> None:
    assert shards_of([[(b"v/a", BOTH)], [(b"v/b", BOTH)], [(b"v/a", BOTH), (b"v/b", BOTH)]]) == [0, 0, 0]


def test_reading_a_variable_follows_every_writer_in_it() -> None:
    assert shards_of([[(b"v/a", WRITE)], [(b"v/b", WRITE)], [(b"w/a", WRITE)], [(b"v", READ)]]) == [0, 0, 2, 0]


def test_writing_a_variable_leads_every_reader_in_it() -> None:
    assert shards_of([[(b"v", WRITE)], [(b"v/a", READ)], [(b"v/b", READ)], [(b"w/b", READ)]]) == [0, 0, 0, 3]


def test_writers_of_a_variable_that_nobody_reads_stay_apart() -> None:
    assert shards_of([[(b"v", WRITE)], [(b"v", WRITE)], [(b"v/a", WRITE)]]) == [0, 1, 2]


def test_everything_joins_all() -> None:
    assert shards_of([[(b"v/a", WRITE)], [(b"", BOTH)], [(b"w/a", READ)], [(b"x/a", WRITE)]]) == [0, 0, 0, 3]


def test_adds_join_nobody() -> None:
    assert shards_of([[(b"v/a", ADD)], [(b"v/a", ADD)], [(b"v/a", ADD)], [(b"v/b", ADD)]]) == [0, 1, 2, 3]


def test_a_read_joins_the_writer_and_all_who_have_added_since() -> None:
    transactions = [[(b"v/a", WRITE)], [(b"v/a", ADD)], [(b"v/a", ADD)], [(b"v/b", ADD)], [(b"v/a", READ)]]
    assert shards_of(transactions) == [0, 0, 0, 3, 0]
    assert shards_of([*transactions, [(b"v/a", ADD)], [(b"v/b", READ)]]) == [0, 0, 0, 3, 0, 5, 3]
    assert shards_of([*transactions, [(b"v/a", ADD)], [(b"v/a", READ)]]) == [0, 0, 0, 3, 0, 0, 0]


def test_a_write_after_adds_forgets_them() -> None:
    assert shards_of([[(b"v/a", ADD)], [(b"v/a", ADD)], [(b"v/a", WRITE)], [(b"v/a", READ)]]) == [0, 1, 2, 2]
    assert shards_of([[(b"v/a", ADD)], [(b"v/a", ADD)], [(b"v/a", BOTH)], [(b"v/a", READ)]]) == [0, 0, 0, 0]


def test_an_add_with_a_read_follows_and_leads() -> None:
    assert shards_of([[(b"v/a", ADD)], [(b"v/a", READ | ADD)], [(b"v/a", ADD)], [(b"v/a", READ)]]) == [0, 0, 0, 0]
    assert shards_of([[(b"v/a", READ | ADD)], [(b"v/a", READ | ADD)]]) == [0, 0]


def test_an_add_with_a_write_is_a_write() -> None:
    assert shards_of([[(b"v/a", ADD)], [(b"v/a", WRITE | ADD)], [(b"v/a", READ)]]) == [0, 1, 1]


def test_reading_a_variable_follows_adds_inside() -> None:
    assert shards_of([[(b"v/a", ADD)], [(b"v/b", ADD)], [(b"w/a", ADD)], [(b"v", READ)], [(b"v/a", ADD)]]) == [
        0, 0, 2, 0, 4,
    ]  # fmt: skip


def test_an_add_somewhere_in_a_variable_is_a_write_of_it() -> None:
    assert shards_of([[(b"v", ADD)], [(b"v/a", READ)], [(b"v/b", READ)], [(b"w/a", READ)]]) == [0, 0, 0, 3]
    assert shards_of([[(b"v", ADD)], [(b"v", ADD)], [(b"v/a", ADD)]]) == [0, 1, 2]


def test_conflicts_are_links_between_transactions() -> None:
    assert conflicts_of([[(b"v/a", BOTH)], [(b"v/a", BOTH)], [(b"v/a", BOTH)]]) == 2
    assert conflicts_of([[(b"v/a", BOTH), (b"v/a", BOTH)]]) == 0  # with itself
    assert conflicts_of([[(b"v/a", WRITE)], [(b"v/b", READ)], [(b"v/a", WRITE)]]) == 0
    assert conflicts_of([[(b"v/a", WRITE)], [(b"v/a", READ)], [(b"v/a", READ)]]) == 2
    assert conflicts_of([[(b"v/a", ADD)], [(b"v/a", ADD)], [(b"v/a", READ)]]) == 2
    assert conflicts_of([[(b"v/a", WRITE), (b"v/b", WRITE)], [(b"v/a", READ), (b"v/b", READ)]]) == 2


def _model(transactions: list[list[tuple[bytes, int]]]) -> list[set[int]]:
    """For each transaction those it must share a shard with, straight from the definition for single keys; for groups
    every earlier writer that overlaps."""

    def overlap(first: bytes, second: bytes) -> bool:
        return (
            first == second
            or not first
            or not second
            or first.startswith(second + b"/")
            or second.startswith(first + b"/")
        )

    links: list[set[int]] = []
    for at, accesses in enumerate(transactions):
        found: set[int] = set()
        earlier = [(t, name, mode) for t in range(at) for name, mode in transactions[t] if mode != READ]
        for name, mode in accesses:
            if not mode & READ:
                continue
            if b"/" not in name:
                found.update(t for t, other, _ in earlier if overlap(other, name))
                continue
            last = max([t for t, other, mode in earlier if other == name and mode & WRITE], default=-1)
            found.update(t for t, other, _ in earlier if other == name and t >= last)
            found.update(t for t, other, _ in earlier if other in (b"", name.partition(b"/")[0]))
        links.append(found)
    return links


def test_shards_equal_the_model_on_random_tables() -> None:
    names = [b"", b"v", b"w", b"v/a", b"v/b", b"w/a", b"w/b", b"x/a"]
    for seed in range(600):
        draw = random.Random(seed)
        wide, modes = draw.random() < 0.5, draw.choice([(READ, WRITE, BOTH), (1, 2, 3, 4, 5, 6, 7), (READ, ADD, ADD)])
        transactions = []
        for _ in range(draw.randrange(1, 14)):
            choices = names if wide and draw.random() < 0.4 else names[3:]
            touched = {draw.choice(choices) for _ in range(draw.randrange(4))}
            transactions.append([(name, draw.choice(modes)) for name in sorted(touched)])
        root = list(range(len(transactions)))
        for at, found in enumerate(_model(transactions)):
            for other in found:
                old, new = max(root[at], root[other]), min(root[at], root[other])
                root = [new if item == old else item for item in root]
        assert shards_of(transactions) == root, (seed, transactions)


# --- executors ---


def test_shares_cover_all_positions_in_order_and_balance() -> None:
    plan = assign([0, 1, 0, 3, 4, 5], load_of([5, 9, 5, 3, 3, 3]), 2)
    assert sorted(position for share in plan.shares for position in share) == [0, 1, 2, 3, 4, 5]
    assert all(share == sorted(share) for share in plan.shares)
    assert sorted(plan.loads) == [13, 15]
    assert (plan.shards, plan.largest_shard, plan.shard_sizes) == (5, 2, (2, 1, 1, 1, 1))
    assert plan.heaviest_shard == 10
    assert [0, 2] in [[position for position in share if position in (0, 2)] for share in plan.shares]


def test_more_executors_than_shards_and_no_transactions() -> None:
    plan = make_plan(table_of([[(b"v/a", BOTH)], [(b"v/a", BOTH)]]), load_of([1, 1]), 4)
    assert sorted(plan.shares) == [[], [], [], [0, 1]]
    assert plan.conflicts == 1
    empty = make_plan(AccessTable(), load_of([]), 3)
    assert (empty.shares, empty.shards, empty.largest_shard, empty.heaviest_shard) == ([[], [], []], 0, 0, 0)


def test_the_sizes_of_shards_are_the_largest() -> None:
    count = SHARD_SIZES_MAX + 5
    shard_of = [number for number in range(count) for _ in range(number + 1)]
    first_of = {shard: shard_of.index(shard) for shard in shard_of}
    plan = assign([first_of[shard] for shard in shard_of], load_of([1] * len(shard_of)), 2)
    assert plan.shards == count
    assert plan.shard_sizes == tuple(range(count, count - SHARD_SIZES_MAX, -1))


@pytest.mark.parametrize(("head_start", "loads"), [(0, [50, 50]), (40, [30, 70]), (-40, [70, 30]), (1_000, [0, 100])])
def test_the_head_start_shifts_load_from_the_lead_and_to_it(head_start: int, loads: list[int]) -> None:
    assert assign(range(100), load_of([1] * 100, head_start=head_start), 2).loads == loads


def test_a_head_start_of_the_others_counts_for_each() -> None:
    assert assign(range(100), load_of([1] * 100, head_start=-20), 4).loads == [40, 20, 20, 20]
    assert assign(range(100), load_of([1] * 100, head_start=20), 4).loads == [10, 30, 30, 30]


def test_shards_go_where_their_contract_ran_last() -> None:
    contracts = [0, 1, 2, 3] * 5
    plan = assign(range(20), load_of([1] * 20, contracts, [3, 2, 1, 0]), 4)
    assert plan.shares == [[3, 7, 11, 15, 19], [2, 6, 10, 14, 18], [1, 5, 9, 13, 17], [0, 4, 8, 12, 16]]


def test_a_home_takes_no_more_than_its_room() -> None:
    """A hot contract spreads; nobody waits for its home."""
    plan = assign(range(100), load_of([1] * 100, [0] * 100, [2]), 4)
    assert plan.loads == [25, 25, 25, 25]
    plan = assign(range(100), load_of([1] * 100, [0] * 100, [0], head_start=20), 4)
    assert plan.loads == [10, 30, 30, 30]
    plan = assign([0, 1, 2], load_of([10, 1, 1], [0, 0, 0], [1]), 2)
    assert plan.loads == [10, 2]  # the heavy one is more than half, so it has no room anywhere


def test_a_contract_without_a_home_gets_one() -> None:
    homes = [NO_HOME, NO_HOME, 7]
    plan = assign([0, 1, 2, 3], load_of([5, 4, 1, 1], [0, 1, 1, 2], homes), 2)
    assert plan.shares == [[0, 3], [1, 2]]
    assert homes == [0, 1, 7]  # one that is not there is kept, for it may come back


def test_any_plan_is_a_partition_and_equal_for_equal_input() -> None:
    for seed in range(200):
        draw = random.Random(seed)
        count, executors, contracts = draw.randrange(40), draw.choice([1, 2, 3, 8]), draw.randrange(1, 5)
        shard_of: list[int] = []
        for transaction_index in range(count):
            shard_of.append(draw.choice(shard_of) if shard_of and draw.random() < 0.5 else transaction_index)
        weights = [draw.randrange(1, 50) for _ in range(count)]
        contract_of = [draw.randrange(contracts) for _ in range(count)]
        homes = [draw.randrange(-1, 9) for _ in range(contracts)]
        head_start = draw.randrange(-300, 300)
        plans: list[Plan] = [
            assign(list(shard_of), Load(list(weights), list(contract_of), list(homes), head_start), executors)
            for _ in range(2)
        ]
        assert plans[0] == plans[1]
        plan = plans[0]
        assert len(plan.shares) == executors
        assert sorted(position for share in plan.shares for position in share) == list(range(count)), seed
        assert all(share == sorted(share) for share in plan.shares)
        owner = {position: executor for executor, share in enumerate(plan.shares) for position in share}
        assert all(owner[position] == owner[shard_of[position]] for position in range(count)), seed
        assert plan.loads == [sum(weights[position] for position in share) for share in plan.shares]
        heaviest = Counter[int]()
        for position in range(count):
            heaviest[shard_of[position]] += weights[position]
        assert plan.heaviest_shard == max(heaviest.values(), default=0)


# --- what transactions cost ---


def test_estimates_follow_a_sample_of_what_methods_cost() -> None:
    estimates = Estimates()
    methods = [estimates.number(b"c", "cheap"), estimates.number(b"c", "dear"), estimates.number(b"d", "cheap")]
    assert methods == [0, 1, 2]
    assert estimates.number(b"c", "dear") == 1
    assert (estimates.contracts, estimates.gas) == ([0, 0, 1], [GAS_ESTIMATE] * 3)
    plan = _plan_with([0, 1] * 40)
    for _ in range(40):
        estimates.learn(plan, range(0, 80, 2), [80] * 40)
        estimates.learn(plan, range(1, 80, 2), [10**6] * 40)
    assert 80 <= estimates.gas[0] < 90
    assert 990_000 < estimates.gas[1] <= 10**6
    assert estimates.gas[2] == GAS_ESTIMATE
    load = estimates.load([1, 2, 2], 0.5)
    assert load.weights == [estimates.gas[1], GAS_ESTIMATE, GAS_ESTIMATE]
    assert load.contracts == [0, 1, 1]
    assert load.head_start == sum(load.weights) // 2
    assert estimates.load([2, 2], -0.25).head_start == -GAS_ESTIMATE // 2


def test_one_transaction_in_so_many_is_looked_at() -> None:
    estimates = Estimates()
    estimates.number(b"c", "m")
    gas = [GAS_ESTIMATE] * (2 * GAS_SAMPLE)
    gas[1] = gas[GAS_SAMPLE - 1] = 10**9
    estimates.learn(_plan_with([0] * len(gas)), range(len(gas)), gas)
    assert estimates.gas == [GAS_ESTIMATE]
    gas[GAS_SAMPLE] = 5 * GAS_ESTIMATE
    estimates.learn(_plan_with([0] * len(gas)), range(len(gas)), gas)
    assert estimates.gas == [2 * GAS_ESTIMATE]


def test_an_estimate_is_never_nothing() -> None:
    """A shard without weight would cost nothing anywhere."""
    estimates = Estimates()
    estimates.number(b"c", "m")
    for _ in range(100):
        estimates.learn(_plan_with([0]), [0], [0])
    assert estimates.gas[0] >= 1


def test_estimates_are_forgotten_when_there_are_too_many_methods() -> None:
    estimates = Estimates()
    for number in range(METHODS_MAX):
        estimates.number(b"c", str(number))
    assert not estimates.tidy()
    estimates.number(b"d", "one more")
    assert estimates.tidy()
    assert (estimates.gas, estimates.homes) == ([], [])
    assert estimates.number(b"d", "m") == 0
    estimates.learn(_plan_with([METHODS_MAX]), [0], [5])  # of a block planned before
    assert estimates.gas == [GAS_ESTIMATE]


def _plan_with(methods: list[int]) -> Plan:
    return assign(range(len(methods)), load_of([1] * len(methods)), 1)._replace(methods=methods)


# --- the whole way ---


def test_the_plain_planner_plans_learns_and_keeps_contracts_at_home() -> None:
    bench = Bench()
    other_raw, other = deployment(1, "other", ADDER)
    bench.store(other_raw)
    planner = PlainPlanner(SummaryPredictor())
    raws = [transaction(0, target, "add", (number, 1)) for number in range(20) for target in (bench.contract, other)]
    raws += [bench.call("copy", 3, 3), bench.call("total", 9)]
    block = bench.block(raws)
    plan = planner.plan(block, base=bench.base, executors=2, head_start=0.0)
    assert sorted([*plan.shares[0], *plan.shares[1]]) == list(range(42))
    assert plan.conflicts > 20  # the scan follows all adds to the contract
    assert plan.largest_shard == 22
    owner = {position: executor for executor, share in enumerate(plan.shares) for position in share}
    assert len({owner[position] for position in (*range(0, 40, 2), 40, 41)}) == 1
    assert planner.plan(block, base=bench.base, executors=2, head_start=0.0).shares == plan.shares
    for share in plan.shares:
        planner.learn(plan, share, [10**6 if raws[position] == raws[-1] else 1_000 for position in share])
    later = planner.plan(bench.block(raws[:40]), base=bench.base, executors=2, head_start=0.0)
    assert later.conflicts == 0
    assert later.shares == [list(range(0, 40, 2)), list(range(1, 40, 2))]  # each contract where it ran before
    assert len(set(later.methods)) == 2


def test_adds_to_one_counter_are_shared_out() -> None:
    bench = Bench()
    raws = [bench.call("add", 1, 1) for _ in range(40)]
    plan = PlainPlanner(SummaryPredictor()).plan(bench.block(raws), base=bench.base, executors=4, head_start=0.0)
    assert (plan.shards, plan.conflicts) == (40, 0)
    assert [len(share) for share in plan.shares] == [10] * 4

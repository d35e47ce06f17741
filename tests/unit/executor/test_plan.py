"""Shards and their assignment, against a slow model of the definition."""

from __future__ import annotations

import random

from executor.plan import assign, find_shards, make_plan
from executor.predict import EVERYTHING, AccessTable

READ, WRITE, BOTH = 1, 2, 3


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
    return find_shards(table_of(transactions))


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
        for name, mode in accesses:
            if not mode & READ:
                continue
            if b"/" in name:
                same = [t for t in range(at) if any(n == name and m & WRITE for n, m in transactions[t])]
                found.update(same[-1:])
                candidates = [b"", name.partition(b"/")[0]]
                found.update(t for t in range(at) for n, m in transactions[t] if m & WRITE and n in candidates)
            else:
                found.update(t for t in range(at) for n, m in transactions[t] if m & WRITE and overlap(n, name))
        links.append(found)
    return links


def test_shards_equal_the_model_on_random_tables() -> None:
    names = [b"", b"v", b"w", b"v/a", b"v/b", b"w/a", b"w/b", b"x/a"]
    for seed in range(300):
        draw = random.Random(seed)
        wide = draw.random() < 0.5
        transactions = []
        for _ in range(draw.randrange(1, 14)):
            choices = names if wide and draw.random() < 0.4 else names[3:]
            touched = {draw.choice(choices) for _ in range(draw.randrange(4))}
            transactions.append([(name, draw.choice([READ, WRITE, BOTH])) for name in sorted(touched)])
        root = list(range(len(transactions)))
        for at, found in enumerate(_model(transactions)):
            for other in found:
                old, new = max(root[at], root[other]), min(root[at], root[other])
                root = [new if item == old else item for item in root]
        assert shards_of(transactions) == root, (seed, transactions)


def test_shares_cover_all_positions_in_order_and_balance() -> None:
    plan = assign([0, 1, 0, 3, 4, 5], [5, 9, 5, 3, 3, 3], 2)
    assert sorted(position for share in plan.shares for position in share) == [0, 1, 2, 3, 4, 5]
    assert all(share == sorted(share) for share in plan.shares)
    assert sorted(plan.loads) == [13, 15]
    assert (plan.shards, plan.largest_shard) == (5, 2)
    assert [0, 2] in [[position for position in share if position in (0, 2)] for share in plan.shares]


def test_more_executors_than_shards_and_no_transactions() -> None:
    plan = make_plan(table_of([[(b"v/a", BOTH)], [(b"v/a", BOTH)]]), [1, 1], 4)
    assert sorted(plan.shares) == [[], [], [], [0, 1]]
    assert make_plan(AccessTable(), [], 3).shares == [[], [], []]

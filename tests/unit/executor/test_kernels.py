"""The planner's kernels against their twins in plain Python: the same shards, the same executors."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from chain.codec import pack
from chain.model.merkle import unpack_writes
from executor import kernels
from executor.outcome import ExecutionInput
from executor.plan import Load, PlainPlanner, Plan, make_plan
from executor.planners import planner_of
from executor.predict import SummaryPredictor
from executor.state import BaseState
from executor.table import EVERYTHING, AccessTable
from executor.template import KernelPlanner, make_plan_with_kernels
from tests.unit.executor.workbench import ARENA, Oracle, account, block_of, deployment, transaction

BANK = '''"""Keys of every kind that a template can have."""

FIXED = 7


class Bank(Contract):
    total: Value[int]
    balances: Map[Address, int]
    pairs: Map[tuple[int, Address], int]
    named: Map[tuple[str, bytes], int]
    limits: Map[int, int]
    log: List[int]

    @external
    def pay(self, target: Address, amount: int):
        self.balances[ctx.sender] = self.balances.get(ctx.sender, 0) - amount
        self.balances[target] = self.balances.get(target, 0) + amount

    @external
    def pair(self, group: int, value: int):
        self.pairs[(group, ctx.sender)] = value

    @external
    def sum_pairs(self, group: int) -> int:
        amount = 0
        for key, value in self.pairs.scan(group):
            amount = amount + value
        return amount

    @external
    def sum_all(self) -> int:
        return len(self.pairs.scan())

    @external
    def name(self, first: str, second: bytes, value: int):
        self.named[(first, second)] = value

    @external
    def limit(self, value: int):
        self.limits[FIXED] = value

    @external
    def raise_total(self, value: int):
        self.total.set(self.total.get(0) + value)

    @external
    def note(self, value: int):
        self.log.append(value)

    @external
    def at(self, index: int) -> int:
        return self.log[index]

    @external
    def indirect(self, key: int) -> int:
        return self.limits.get(self.limits.get(key, 0), 0)
'''


def random_table(draw: random.Random, transactions: int) -> AccessTable:
    """Accesses of all modes on a small tree of nodes: contracts, variables, groups, keys."""
    table = AccessTable()
    nodes = [EVERYTHING]
    for contract in range(2):
        above = table.node(b"c%d" % contract, EVERYTHING, 1)
        for variable in range(2):
            around = table.node(b"c%dv%d" % (contract, variable), above, 1)
            nodes.append(around)
            for key in range(4):
                nodes.append(table.node(b"c%dv%dk%d" % (contract, variable, key), around, 0))
            group = table.node(b"c%dv%dg" % (contract, variable), around, 1)
            nodes.append(group)
            nodes += [table.node(b"c%dv%dg%d" % (contract, variable, key), group, 0) for key in range(3)]
        nodes.append(above)
    wide = draw.random() < 0.7
    usable = nodes if wide else [node for node in nodes if not table.groups[node]]
    for _ in range(transactions):
        for _ in range(draw.randrange(4)):
            table.touch(draw.choice(usable[1:] if draw.random() < 0.97 else usable), draw.choice((1, 2, 3, 4, 4)))
        table.end()
    return table


def partition(shares: Sequence[Sequence[int]]) -> list[int]:
    return sorted([position for share in shares for position in share])


@pytest.mark.parametrize("seed", range(150))
def test_tables_give_equal_plans(seed: int) -> None:
    draw = random.Random(seed)
    count, executors = draw.choice((0, 1, 2, 5, 40, 120)), draw.choice((1, 2, 3, 8))
    table = random_table(draw, count)
    weights = [draw.randrange(1, 500) for _ in range(count)]
    contracts = [draw.randrange(3) for _ in range(count)]
    homes = [draw.choice((-1, 0, 1, 9)) for _ in range(3)]
    head_start = draw.choice((0, 0, 300, -200))

    def load() -> Load:
        return Load(weights, contracts, list(homes), head_start)

    plain_load, kernel_load = load(), load()
    plain = make_plan(table, plain_load, executors)
    compiled = make_plan_with_kernels(table, kernel_load, executors)
    assert compiled == plain
    assert kernel_load.homes == plain_load.homes
    assert partition(compiled.shares) == list(range(count))


@pytest.fixture(scope="module")
def world() -> tuple[Oracle, list[bytes]]:
    oracle = Oracle()
    made = [deployment(0, name, BANK) for name in ("bank.one", "bank.two")] + [deployment(0, "board", ARENA, (0,))]
    output = oracle.run([raw for raw, _ in made])
    assert len(unpack_writes(output.writes)) > 3
    return oracle, [address for _, address in made]


def random_block(draw: random.Random, contracts: list[bytes], count: int, *, managed: bool) -> ExecutionInput:
    """Calls of all methods, some with arguments that do not fit, some of contracts that are not there."""
    raws = []
    for _ in range(count):
        sender, target = draw.randrange(5), draw.choice([*contracts, bytes(20)])
        other, small = account(draw.randrange(5)).address, draw.randrange(3)
        method, arguments = draw.choice(
            [
                ("pay", (other, 1)), ("pay", (other,)), ("pay", ()), ("pair", (small, 1)),
                ("sum_pairs", (small,)), ("sum_all", ()), ("name", (f"n{small}", bytes(small * 130), 1)),
                ("limit", (1,)), ("raise_total", (1,)), ("note", (1,)), ("at", (small,)), ("indirect", (small,)),
                ("put", (small, small, 1)), ("sum_group", (small, 1)), ("nothing", (1, (2, 3))),
                ("raise_total", (2**200,)),
            ]
        )  # fmt: skip
        raws.append(transaction(sender, target, method, arguments))
    if managed:
        raws.insert(count // 2, deployment(1, "more", BANK)[0])
    return block_of(9, raws)


def shards_of(plan: Plan) -> tuple[int, tuple[int, ...], int]:
    return plan.shards, plan.shard_sizes, plan.conflicts


@pytest.mark.parametrize("seed", range(40))
def test_blocks_give_equal_plans(world: tuple[Oracle, list[bytes]], seed: int) -> None:
    """Templates on raw bytes say what the predictor says of decoded calls."""
    oracle, contracts = world
    draw = random.Random(seed)
    base = BaseState(oracle.reader)
    compiled, plain = KernelPlanner(), PlainPlanner(SummaryPredictor())
    for _ in range(3):
        block = random_block(draw, contracts, draw.choice((0, 1, 30, 80)), managed=draw.random() < 0.15)
        first = compiled.plan(block, base=base, executors=3, head_start=0.1)
        second = plain.plan(block, base=base, executors=3, head_start=0.1)
        assert shards_of(first) == shards_of(second)
        assert partition(first.shares) == list(range(len(block.transactions)))


def test_templates_are_used(world: tuple[Oracle, list[bytes]]) -> None:
    """A payment between strangers is a shard of its own; payments that share an account are one."""
    oracle, (bank, *_) = world
    base = BaseState(oracle.reader)

    def shards(*pairs: tuple[int, int]) -> int:
        block = block_of(9, [transaction(a, bank, "pay", (account(b).address, 1)) for a, b in pairs])
        return KernelPlanner().plan(block, base=base, executors=2, head_start=0.0).shards

    assert shards((0, 1), (2, 3)) == 2
    assert shards((0, 1), (1, 2)) == 1
    assert shards((0, 1), (2, 1), (4, 3)) == 2
    assert shards((0, 1), (2, 0)) == 1  # one's sender is the other's argument


def test_a_template_follows_an_upgrade() -> None:
    oracle = Oracle()
    raw, bank = deployment(0, "bank", BANK)
    oracle.run([raw])
    planner = KernelPlanner()

    def conflicts() -> int:
        block = block_of(9, [transaction(sender, bank, "limit", (1,)) for sender in (0, 1)])
        return planner.plan(block, base=BaseState(oracle.reader), executors=2, head_start=0.0).conflicts

    assert conflicts() == 0  # writes alone need no order
    upgraded = BANK.replace("self.limits[FIXED] = value", "self.limits[FIXED] = self.limits.get(FIXED, 0) + value")
    oracle.run([transaction(0, bytes(19) + b"\x01", "upgrade", (bank, upgraded), gas_limit=90_000_000)])
    assert conflicts() == 1


@pytest.mark.parametrize("seed", range(20))
def test_span_walks_what_the_codec_writes(seed: int) -> None:
    draw = random.Random(seed)

    def value(depth: int = 0) -> object:
        kind = draw.randrange(8 if depth < 3 else 6)
        match kind:
            case 0:
                return draw.choice((0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**63, 2**64 - 1, 2**64, 2**200))
            case 1:
                return -draw.choice((1, 32, 33, 128, 129, 32_768, 32_769, 2**31, 2**31 + 1, 2**63))
            case 2:
                return draw.choice((None, True, False))
            case 3:
                return bytes(draw.choice((0, 1, 255, 256, 65_536)))
            case 4 | 5:
                return "x" * draw.choice((0, 1, 31, 32, 255, 256, 65_536))
            case _:
                return tuple([value(depth + 1) for _ in range(draw.choice((0, 1, 3, 15, 16, 20)))])

    for _ in range(40):
        parts = [pack(value()) for _ in range(draw.randrange(1, 6))]  # type: ignore[arg-type]
        data = np.frombuffer(b"".join(parts), np.uint8)
        at = 0
        for part in parts:
            begin, after = kernels.span(data, at, len(data))
            assert after == at + len(part)
            assert at <= begin <= after
            assert kernels.span(data, at, after - 1) == (-1, -1)
            at = after


def test_garbage_is_not_read_beyond_its_end() -> None:
    """Raw transactions are checked before they are ordered; a kernel stays within others all the same."""
    draw = random.Random(1)
    whole = transaction(0, bytes(20), "pay", (b"x", 1))
    for _ in range(300):
        raw = bytearray(whole[: draw.randrange(len(whole) + 1)])
        for _ in range(draw.randrange(3)):
            if raw:
                raw[draw.randrange(len(raw))] = draw.randrange(256)
        data = np.frombuffer(bytes(raw) or b"\x00", np.uint8)
        hashes, places = np.zeros(1, np.uint64), np.zeros((1, 2), np.int64)
        kernels.read_calls(data, np.array([0, len(raw)], np.int64), hashes, places)
        assert 0 <= places[0, 0] <= places[0, 1] <= len(raw)


def test_the_planner_for_use_is_the_compiled_one() -> None:
    assert isinstance(planner_of("summary"), KernelPlanner)

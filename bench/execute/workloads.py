"""What the blocks hold. A workload sets a world up by real transactions and makes all its blocks from a seed, before
any clock starts; none of its transactions may fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final

from bench.errors import BenchError
from bench.execute.credit import credit_order
from bench.execute.world import GAS_LIMIT_SETUP, Made, World
from bench.workloads.draws import Zipf, uniform_pair
from bench.workloads.sources import source
from contracts.sources import load_source

SENDERS: Final = 1_000
GAS_LIMIT: Final = 200_000
GAS_LIMIT_HEAVY: Final = 10_000_000

ACCOUNTS: Final = 100_000
ACCOUNTS_PER_CALL: Final = 500
OPENING_BALANCE: Final = 1_000_000_000
ZIPF: Final = 0.9

SORTERS: Final = 8  # contracts
SORTED: Final = 48  # numbers a task sorts
ROWS: Final = 64  # of the board
HOLDERS: Final = 10_000  # who the one sender pays
HOT_SHARE: Final = 5  # every fifth transaction of the mixed workload is on the counter

Make = Callable[[World, random.Random, int], Iterator[Made]]  # (world, draw, how many transactions will be taken)


@dataclass(frozen=True, slots=True)
class Workload:
    """`make` sets the world up and then yields transactions, as many as were asked for at least.

    `conflicts`: what serialises it, for people.
    """

    title: str
    conflicts: str
    make: Make


def blocks_of(
    workload: Workload, world: World, *, seed: int, blocks: int, transactions: int
) -> list[list[Made]]:
    """All blocks of a run; sets `world` up on the way.

    Raises:
        BenchError: the set-up failed, or the workload made too few transactions.
    """
    made = workload.make(world, random.Random(seed), blocks * transactions)
    result = [list(islice(made, transactions)) for _ in range(blocks)]
    if any(len(block) != transactions for block in result):
        raise BenchError(f"the workload made {sum(map(len, result))} of {blocks * transactions} transactions")
    return result


def _sender(draw: random.Random) -> str:
    return f"sender {draw.randrange(SENDERS)}"


# --- work without conflicts ---


def _cpu_heavy(contracts: int) -> Make:
    def make(world: World, draw: random.Random, count: int) -> Iterator[Made]:
        sorters = [world.deploy(f"bench.sorter{number}", source("cpu_heavy")) for number in range(contracts)]
        for task in range(count):
            yield world.transaction(
                _sender(draw), sorters[draw.randrange(contracts)], "sort", (task, SORTED), GAS_LIMIT_HEAVY
            )

    return make


def _bank(world: World) -> bytes:
    """A SmallBank with `ACCOUNTS` accounts."""
    bank = world.deploy("bench.smallbank", load_source("library/smallbank"))
    world.run(
        world.transaction(
            "admin", bank, "create_accounts", (first, ACCOUNTS_PER_CALL, OPENING_BALANCE, OPENING_BALANCE),
            GAS_LIMIT_SETUP,
        )
        for first in range(0, ACCOUNTS, ACCOUNTS_PER_CALL)
    )  # fmt: skip
    return bank


def _payment(world: World, draw: random.Random, bank: bytes, pair: tuple[int, int]) -> Made:
    return world.transaction(_sender(draw), bank, "send_payment", (*pair, 1), GAS_LIMIT)


def _smallbank_uniform(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    bank = _bank(world)
    for _ in range(count):
        yield _payment(world, draw, bank, uniform_pair(ACCOUNTS, draw))


# --- contention ---


def _zipf(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    bank = _bank(world)
    popular = Zipf(ACCOUNTS, ZIPF, draw)
    for _ in range(count):
        yield _payment(world, draw, bank, popular.pair(draw))


def _hot_counter(contract: str) -> Make:
    """Every call is on one counter; the contract says how it counts."""

    def make(world: World, draw: random.Random, count: int) -> Iterator[Made]:
        counter = world.deploy("bench.counter", source(contract))
        for _ in range(count):
            yield world.transaction(_sender(draw), counter, "hit", (1,), GAS_LIMIT)

    return make


def _same_sender(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    token = world.deploy("bench.token", load_source("library/token"), "Bench", "BEN", 10**15, account="spender")
    for _ in range(count):
        payee = draw.randrange(HOLDERS).to_bytes(20, "big")
        yield world.transaction("spender", token, "transfer", (payee, 1), GAS_LIMIT)


def _alternating_scans(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    board = world.deploy("bench.board", source("board"))
    world.run(world.transaction("admin", board, "put", (row, row), GAS_LIMIT) for row in range(ROWS))
    for number in range(count):
        if number % 2:
            yield world.transaction(_sender(draw), board, "total", (number,), GAS_LIMIT)
        else:
            yield world.transaction(_sender(draw), board, "put", (draw.randrange(ROWS), number), GAS_LIMIT)


def _mixed(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    """Payments, and hits of a counter that is read and written."""
    bank = _bank(world)
    counter = world.deploy("bench.counter", source("counter_rmw"))
    for _ in range(count):
        if draw.randrange(HOT_SHARE) == 0:
            yield world.transaction(_sender(draw), counter, "hit", (1,), GAS_LIMIT)
        else:
            yield _payment(world, draw, bank, uniform_pair(ACCOUNTS, draw))


WORKLOADS: Final[Mapping[str, Workload]] = MappingProxyType(
    {
        "cpu_heavy": Workload(f"sorting, {SORTERS} contracts", "nothing", _cpu_heavy(SORTERS)),
        "cpu_heavy_one_contract": Workload("sorting, one contract", "nothing", _cpu_heavy(1)),
        "smallbank_uniform": Workload("SmallBank, 100,000 accounts", "few pairs of payments", _smallbank_uniform),
        "credit_order": Workload("credit report delivered", "few orders about one subject", credit_order),
        "zipf": Workload(f"SmallBank, Zipf {ZIPF}", "popular accounts", _zipf),
        "hot_counter": Workload("one counter, added to", "nothing: adds commute", _hot_counter("counter_add")),
        "hot_counter_rmw": Workload("one counter, read and written", "everything", _hot_counter("counter_rmw")),
        "same_sender": Workload("one account pays all", "everything", _same_sender),
        "alternating_scans": Workload("scan of what others write", "everything", _alternating_scans),
        "mixed_80_20": Workload("80 % SmallBank, 20 % counter", "a fifth of it", _mixed),
    }
)

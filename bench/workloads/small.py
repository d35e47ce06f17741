"""Workloads of one contract and one method: token transfers, sorting, nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Final

from bench.workloads.draws import uniform_pair
from bench.workloads.sources import source
from bench.workloads.workload import Call, Deploy, Setup, SetupCall, Workload, account, deployed
from contracts.sources import load_source

HOLDERS: Final = 1_000
HOLDING: Final = 10**9
SORTED: Final = 48  # numbers a task sorts
TASKS_PER_SEED: Final = 10**9
GAS_LIMIT: Final = 200_000
GAS_LIMIT_SORT: Final = 10_000_000


def token_transfer(holders: int = HOLDERS) -> Workload:
    """Every holder pays others 1 of a token; who pays signs."""

    def calls(seed: int) -> Iterator[Call]:
        draw = random.Random(seed)
        names = [f"holder {number}" for number in range(holders)]
        addresses = [account(name).address for name in names]
        while True:
            payer, payee = uniform_pair(holders, draw)
            yield Call("transfer", (addresses[payee], 1), GAS_LIMIT, names[payer])

    return Workload(
        "the transfer of an ERC-20 token, as Hyperledger Caliper and most reports of EVM chains measure it; "
        f"{holders:,} holders drawn uniformly, none runs out",
        lambda start: _token(holders),
        calls,
    )


def _token(holders: int) -> Setup:
    arguments = ("Bench", "BEN", holders * HOLDING)
    token = yield from deployed(Deploy("bench.token", load_source("library/token"), arguments))
    yield [SetupCall(token, "transfer", (account(f"holder {at}").address, HOLDING)) for at in range(holders)]
    return token


def cpu_heavy() -> Workload:
    """Every call sorts an array of its own; no two conflict."""

    def calls(seed: int) -> Iterator[Call]:
        for task in count(seed * TASKS_PER_SEED):
            yield Call("sort", (task, SORTED), GAS_LIMIT_SORT)

    return Workload(
        f"BLOCKBENCH's CPUHeavy: a contract sorts an array; {SORTED} numbers by shell sort, where BLOCKBENCH sorts up "
        "to a hundred million by quicksort",
        lambda start: deployed(Deploy("bench.sorter", source("cpu_heavy"))),
        calls,
    )


def do_nothing() -> Workload:
    """Every call enters a contract and leaves it: what is left is the chain itself."""

    def calls(seed: int) -> Iterator[Call]:
        while True:
            yield Call("nothing", (), GAS_LIMIT)

    return Workload(
        "BLOCKBENCH's DoNothing",
        lambda start: deployed(Deploy("bench.nothing", source("do_nothing"))),
        calls,
    )

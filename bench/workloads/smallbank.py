"""SmallBank with BenchBase's transactions, weights and amounts.

Accounts are numbers and have no owners, so anybody signs. Amounts are cents where BenchBase has dollars.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final

from bench.workloads.draws import Mix, Zipf, uniform_pair
from bench.workloads.workload import Call, Deploy, Setup, SetupCall, Workload, deployed
from contracts.sources import load_source

ACCOUNTS: Final = 100_000
PAYMENT_ACCOUNTS: Final = 10_000
ACCOUNTS_PER_CALL: Final = 250
BALANCES: Final = (1_000_000, 5_000_000)  # of the opening, least and most
ZIPF: Final = 0.99
GAS_LIMIT: Final = 200_000
GAS_LIMIT_CREATE: Final = 100_000_000
OPENING_SEED: Final = 1

MIX: Final = MappingProxyType(
    {
        "amalgamate": 15, "balance": 15, "deposit_checking": 15, "send_payment": 25, "transact_savings": 15,
        "write_check": 15,
    }
)  # fmt: skip
PAYMENT: Final = 500
DEPOSIT: Final = 130
SAVING: Final = 2_020
CHECK: Final = 500

Pair = Callable[[random.Random], tuple[int, int]]


def send_payment(accounts: int = PAYMENT_ACCOUNTS) -> Workload:
    """Nothing but payments of 1: none fails for want of funds."""

    def calls(seed: int) -> Iterator[Call]:
        draw = random.Random(seed)
        while True:
            yield Call("send_payment", (*uniform_pair(accounts, draw), 1), GAS_LIMIT)

    return Workload(
        f"SmallBank's send_payment alone, {accounts:,} accounts drawn uniformly; the amount is 1 and not 5.00, so "
        "that funds never run out",
        lambda start: _open(accounts),
        calls,
    )


def smallbank(accounts: int = ACCOUNTS) -> Workload:
    """The mix, accounts drawn uniformly. A payment from an account that was amalgamated fails, as in BenchBase."""
    return Workload(
        f"SmallBank with BenchBase's weights, amounts and opening balances; {accounts:,} accounts and not a million, "
        "drawn uniformly without its hotspot; 250 neighbours open with one balance; reads are transactions too",
        lambda start: _open(accounts),
        lambda seed: _mixed(seed, lambda draw: uniform_pair(accounts, draw)),
    )


def smallbank_zipf(accounts: int = ACCOUNTS) -> Workload:
    """The mix, with popular accounts."""

    def calls(seed: int) -> Iterator[Call]:
        popular = Zipf(accounts, ZIPF, random.Random(OPENING_SEED))  # the same accounts for every seed
        return _mixed(seed, popular.pair)

    return Workload(
        f"SmallBank with BenchBase's weights and amounts; {accounts:,} accounts drawn by Zipf's law with exponent "
        f"{ZIPF}, YCSB's, in place of BenchBase's hotspot",
        lambda start: _open(accounts),
        calls,
    )


def _open(accounts: int) -> Setup:
    bank = yield from deployed(Deploy("bench.smallbank", load_source("library/smallbank")))
    draw = random.Random(OPENING_SEED)
    yield [
        SetupCall(
            bank, "create_accounts",
            (first, min(ACCOUNTS_PER_CALL, accounts - first), draw.randint(*BALANCES), draw.randint(*BALANCES)),
            gas_limit=GAS_LIMIT_CREATE,
        )
        for first in range(0, accounts, ACCOUNTS_PER_CALL)
    ]  # fmt: skip
    return bank


def _mixed(seed: int, pair: Pair) -> Iterator[Call]:
    draw = random.Random(seed)
    mix = Mix(MIX)
    while True:
        method = mix.one(draw)
        first, second = pair(draw)
        match method:
            case "amalgamate":
                yield Call(method, (first, second), GAS_LIMIT)
            case "balance":
                yield Call(method, (first,), GAS_LIMIT)
            case "send_payment":
                yield Call(method, (first, second, PAYMENT), GAS_LIMIT)
            case "deposit_checking":
                yield Call(method, (first, DEPOSIT), GAS_LIMIT)
            case "transact_savings":
                yield Call(method, (first, SAVING), GAS_LIMIT)
            case _:
                yield Call(method, (first, CHECK), GAS_LIMIT)

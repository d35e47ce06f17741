"""How good predictions are: over seeded transactions of the shipped contracts, the share whose every access was
predicted, and how much more than the truth was. Hints need not be sound; these floors keep them from rotting."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, cast

import pytest

from chain.cli.demo import credit_phases, income_phases, load_census_income, load_german_credit
from chain.codec import Value, pack
from contracts import credit, income
from contracts.runtime import settle
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source
from contracts.suite import CALL_GAS_LIMIT, Suite
from executor.predict import SummaryPredictor
from executor.state import BaseState
from executor.transactions import Call, run_call
from tests.unit.credit.flow_runner import account, parties_of
from tests.unit.credit.suite_world import SuiteWorld
from tests.unit.executor.recorder import Recorder, missed, touched_keys
from tests.unit.executor.test_predict import touched

PEOPLE = 16
BLOCK = 16
MANGLED = 0.2  # share of transactions in which an argument is exchanged for one of another transaction

Planned = tuple[bytes, bytes, str, tuple[Value, ...]]  # sender, target, method, arguments


class Quality(NamedTuple):
    """`predicted` and `actual` are numbers of keys and prefixes, added up."""

    transactions: int
    covered: int
    predicted: int
    actual: int

    @property
    def share(self) -> float:
        return self.covered / self.transactions

    @property
    def excess(self) -> float:
        return self.predicted / self.actual


def blocks(planned: Sequence[Planned]) -> Iterator[list[Call]]:
    for first in range(0, len(planned), BLOCK):
        yield [
            Call(
                hash=sha256(b"%d" % number).digest(), sender=sender, target=target, method=method,
                arguments=pack(arguments), gas_limit=CALL_GAS_LIMIT,
            )
            for number, (sender, target, method, arguments) in enumerate(planned[first : first + BLOCK], first)
        ]  # fmt: skip


def measure(chain: LocalChain, planned: Sequence[Planned]) -> Quality:
    """Predict a block from the state before it, run it one by one, compare; interpreted and compiled agree."""
    transactions = covered = predicted = actual = 0
    base = cast(BaseState, chain.state)
    interpreted, compiled = SummaryPredictor(hot_calls=1_000_000), SummaryPredictor(hot_calls=0)
    for calls in blocks(planned):
        chain.height += 1
        context = chain.block()
        hints = [
            touched(predictor.predict(calls, base=base, height=context.height, time_ms=context.time_ms))
            for predictor in (interpreted, compiled)
        ]
        assert hints[0] == hints[1]
        for call, hint in zip(calls, hints[0], strict=True):
            state = Recorder(chain.state)
            _, outcome = run_call(chain.machine, state, context, call)
            transactions += 1
            covered += not missed(hint, state, outcome)
            predicted += len(hint)
            actual += len(touched_keys(state, outcome))
            chain.state.apply(settle(outcome, state.peek))
    return Quality(transactions, covered, predicted, actual)


def mangled(planned: Sequence[Planned], draw: random.Random) -> list[Planned]:
    """Some arguments exchanged for others that stood at the same place of the same method."""
    seen: dict[tuple[str, int], list[Value]] = {}
    result: list[Planned] = []
    for sender, target, method, arguments in planned:
        chosen = list(arguments)
        for place, value in enumerate(arguments):
            others = seen.setdefault((method, place), [])
            others.append(value)
            if draw.random() < MANGLED / len(arguments):
                chosen[place] = draw.choice(others)
        result.append((sender, target, method, tuple(chosen)))
    return result


def suite_transactions(suite: Suite) -> tuple[LocalChain, list[Planned]]:
    """The demo's workload of the suite, all phases, a fifth of it mangled."""
    world = SuiteWorld(suite, {"operator": "regulator"})
    parties = parties_of(world, PEOPLE)
    if suite is credit.SUITE:
        phases = credit_phases(load_german_credit(PEOPLE), parties, seed=b"coverage", now_ms=world.time_ms)
    else:
        phases = income_phases(load_census_income(PEOPLE), parties, seed=b"coverage", now_ms=world.time_ms)
    planned = [
        (world.address(account(call.signer)), world.contracts[call.contract], call.method, call.arguments)
        for phase in phases
        for call in phase.calls
    ]
    return world.chain, mangled(planned, random.Random(7))


def credit_transactions() -> tuple[LocalChain, list[Planned]]:
    return suite_transactions(credit.SUITE)


def income_transactions() -> tuple[LocalChain, list[Planned]]:
    return suite_transactions(income.SUITE)


def smallbank_transactions() -> tuple[LocalChain, list[Planned]]:
    chain, draw = LocalChain(), random.Random(11)
    bank = chain.deploy("bank", load_source("library/smallbank"))
    planned: list[Planned] = [(chain.account("clerk"), bank, "create_accounts", (0, 40, 500, 500))]
    for _ in range(300):
        method, count = draw.choice(
            [
                ("create_account", 3), ("create_accounts", 4), ("balance", 1), ("deposit_checking", 2),
                ("transact_savings", 2), ("amalgamate", 2), ("write_check", 2), ("send_payment", 3),
            ]
        )  # fmt: skip
        arguments = tuple([draw.randrange(50) for _ in range(count)])
        planned.append((chain.account(f"user {draw.randrange(9)}"), bank, method, arguments))
    return chain, planned


def token_transactions() -> tuple[LocalChain, list[Planned]]:
    chain, draw = LocalChain(), random.Random(13)
    users = [chain.account(f"user {number}") for number in range(12)]
    token = chain.deploy("token", load_source("library/token"), "Points", "PTS", 10_000, sender=users[0])
    planned: list[Planned] = [(users[0], token, "transfer", (user, 200)) for user in users]
    for _ in range(300):
        one, other, amount = draw.choice(users), draw.choice(users), draw.randrange(-5, 60)
        calls: list[tuple[str, tuple[Value, ...]]] = [
            ("transfer", (one, amount)), ("approve", (one, amount)), ("transfer_from", (one, other, amount)),
            ("mint", (one, amount)), ("balance_of", (one,)), ("allowance", (one, other)), ("supply", ()),
            ("describe", ()),
        ]  # fmt: skip
        method, arguments = draw.choice(calls)
        planned.append((draw.choice([*users, users[0]]), token, method, arguments))
    return chain, planned


@pytest.mark.parametrize(
    ("transactions", "share", "excess"),
    [
        pytest.param(credit_transactions, 0.97, 1.5, id="credit"),
        pytest.param(income_transactions, 0.92, 1.3, id="income"),
        pytest.param(smallbank_transactions, 1.0, 1.05, id="smallbank"),
        pytest.param(token_transactions, 1.0, 1.35, id="token"),
    ],
)
def test_predictions_cover_what_transactions_touch(
    transactions: Callable[[], tuple[LocalChain, list[Planned]]], share: float, excess: float
) -> None:
    """What is missed are numbers that count up within a block; whoever counts shares the counter anyway."""
    quality = measure(*transactions())
    assert quality.transactions > 50
    assert quality.share >= share, quality
    assert quality.excess <= excess, quality

"""What the contract runtime costs: one transaction on a state in a dict, all of `Machine.execute` in it.

    python -m pytest bench/micro/test_contract_runtime.py --benchmark-enable --benchmark-only -p no:xdist
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chain.codec import pack
from contracts.language import check, compile_contract
from contracts.runtime import Machine, Outcome
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source

ACCOUNTS = 1_000
Benchmark = Callable[..., Any]


@pytest.fixture(scope="module")
def chain() -> LocalChain:
    return LocalChain()


@pytest.fixture(scope="module")
def bank(chain: LocalChain) -> bytes:
    address = chain.deploy("smallbank", load_source("library/smallbank"))
    assert chain.call(address, "create_accounts", 0, ACCOUNTS, 10**6, 10**6).ok
    return address


@pytest.fixture(scope="module")
def token(chain: LocalChain) -> bytes:
    return chain.deploy("token", load_source("library/token"), "Token", "TKN", 10**9, sender=chain.account("a"))


def _transaction(chain: LocalChain, target: bytes, method: str, *arguments: Any) -> Callable[[], Outcome]:
    packed, block, sender = pack(arguments), chain.block(), chain.account("a")
    hash_ = bytes(32)

    def execute() -> Outcome:
        return chain.machine.execute(
            chain.state,
            block,
            sender=sender,
            transaction_hash=hash_,
            target=target,
            method=method,
            arguments=packed,
            gas_limit=1_000_000,
        )

    assert execute().status == 0, execute().error
    return execute


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("send_payment", (1, 2, 1)),
        ("amalgamate", (1, 2)),
        ("write_check", (1, 1)),
        ("deposit_checking", (1, 1)),
        ("transact_savings", (1, 1)),
        ("balance", (1,)),
    ],
)
def test_smallbank(
    benchmark: Benchmark, chain: LocalChain, bank: bytes, method: str, arguments: tuple[int, ...]
) -> None:
    benchmark(_transaction(chain, bank, method, *arguments))


def test_token_transfer(benchmark: Benchmark, chain: LocalChain, token: bytes) -> None:
    benchmark(_transaction(chain, token, "transfer", chain.account("b"), 1))


def test_call_into_another_contract(benchmark: Benchmark, chain: LocalChain, token: bytes) -> None:
    source = (
        "class Token(Interface):\n    @view\n    def balance_of(self, account: Address) -> int: ...\n"
        "class Asker(Contract):\n    @external\n    def ask(self, token: Address, account: Address) -> int:\n"
        "        return Token(token).balance_of(account)\n"
    )
    asker = chain.deploy("asker", source)
    benchmark(_transaction(chain, asker, "ask", token, chain.account("a")))


def test_loop_of_a_thousand_rounds(benchmark: Benchmark, chain: LocalChain) -> None:
    source = (
        "class Loop(Contract):\n    @external\n    def run(self, rounds: int) -> int:\n"
        "        total = 0\n        for n in range(rounds):\n            total += n\n        return total\n"
    )
    loop = chain.deploy("loop", source)
    benchmark(_transaction(chain, loop, "run", 1_000))


@pytest.mark.parametrize("name", ["library/smallbank", "library/token"])
def test_lint_translate_compile(benchmark: Benchmark, name: str) -> None:
    benchmark(compile_contract, load_source(name))


def test_lint_of_a_large_contract(benchmark: Benchmark) -> None:
    assert benchmark(check, load_source("credit/order")) == []


def test_first_call_on_a_new_machine(benchmark: Benchmark, chain: LocalChain, bank: bytes) -> None:
    """Compile, link and bind: what an executor process pays once a contract."""
    block, packed = chain.block(), pack((1, 2, 1))

    def execute() -> Outcome:
        return Machine().execute(
            chain.state,
            block,
            sender=chain.account("a"),
            transaction_hash=bytes(32),
            target=bank,
            method="send_payment",
            arguments=packed,
            gas_limit=1_000_000,
        )

    assert benchmark(execute).status == 0

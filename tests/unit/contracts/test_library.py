"""The SmallBank, the token and the counter do what they say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source

Bank = tuple[LocalChain, bytes]


@pytest.fixture
def bank() -> Bank:
    chain = LocalChain()
    address = chain.deploy("smallbank", load_source("library/smallbank"))
    chain.call(address, "create_accounts", 0, 5, 1_000, 500)
    return chain, address


def _balances(bank: Bank, *customers: int) -> list[tuple[int, int]]:
    chain, address = bank
    return [chain.read(address, "balance", customer).value for customer in customers]


def test_accounts_are_opened_one_by_one_or_in_bulk(bank: Bank) -> None:
    chain, address = bank
    chain.call(address, "create_account", 77, 1, 2)
    assert _balances(bank, 0, 4, 77) == [(1_000, 500), (1_000, 500), (1, 2)]
    assert chain.read(address, "balance", 5).status == Status.MISSING_KEY


def test_deposit_checking(bank: Bank) -> None:
    chain, address = bank
    assert chain.call(address, "deposit_checking", 1, 30).ok
    assert _balances(bank, 1) == [(1_000, 530)]
    assert chain.call(address, "deposit_checking", 1, -1).error == "negative_amount"
    assert chain.call(address, "deposit_checking", 9, 1).error == "missing_key: checking (line 39)"


def test_transact_savings(bank: Bank) -> None:
    chain, address = bank
    assert chain.call(address, "transact_savings", 1, -1_000).ok
    assert _balances(bank, 1) == [(0, 500)]
    assert chain.call(address, "transact_savings", 1, -1).error == "insufficient_funds"


def test_amalgamate(bank: Bank) -> None:
    chain, address = bank
    assert chain.call(address, "amalgamate", 1, 2).ok
    assert _balances(bank, 1, 2) == [(0, 0), (1_000, 2_000)]
    assert chain.call(address, "amalgamate", 2, 2).ok
    assert _balances(bank, 2) == [(0, 3_000)]


def test_write_check_with_and_without_penalty(bank: Bank) -> None:
    chain, address = bank
    assert chain.call(address, "write_check", 1, 1_500).ok
    assert chain.call(address, "write_check", 2, 1_501).ok
    assert _balances(bank, 1, 2) == [(1_000, -1_000), (1_000, -1_002)]


def test_send_payment(bank: Bank) -> None:
    chain, address = bank
    assert chain.call(address, "send_payment", 1, 2, 500).ok
    assert _balances(bank, 1, 2) == [(1_000, 0), (1_000, 1_000)]
    result = chain.call(address, "send_payment", 1, 2, 1)
    assert (result.status, result.error) == (Status.REVERTED, "insufficient_funds")
    assert chain.call(address, "send_payment", 2, 2, 700).ok
    assert _balances(bank, 2) == [(1_000, 1_000)]


def test_the_token_s_life() -> None:
    chain = LocalChain()
    alice, bob, carol = (chain.account(name) for name in ("alice", "bob", "carol"))
    token = chain.deploy("token", load_source("library/token"), "Points", "PTS", 1_000, sender=alice)
    assert chain.read(token, "describe").value == ("Points", "PTS", alice)
    assert chain.read(token, "supply").value == 1_000

    sent = chain.call(token, "transfer", bob, 300, sender=alice)
    assert sent.events == [("Transferred", {"source": alice, "destination": bob, "amount": 300})]
    assert chain.call(token, "transfer", bob, 701, sender=alice).error == "insufficient_funds"
    assert chain.call(token, "transfer", bob, -1, sender=alice).error == "negative_amount"
    assert chain.call(token, "transfer", alice, 300, sender=bob).ok
    assert chain.call(token, "transfer", bob, 300, sender=alice).ok
    assert chain.call(token, "transfer", bob, 700, sender=alice).ok
    assert chain.call(token, "transfer", bob, 1_000, sender=bob).ok  # to oneself
    assert chain.read(token, "balance_of", bob).value == 1_000

    assert chain.call(token, "transfer_from", bob, alice, 1, sender=carol).error == "insufficient_allowance"
    approved = chain.call(token, "approve", carol, 10, sender=bob)
    assert approved.events == [("Approved", {"owner": bob, "spender": carol, "amount": 10})]
    assert chain.call(token, "transfer_from", bob, alice, 7, sender=carol).ok
    assert chain.read(token, "allowance", bob, carol).value == 3
    assert chain.call(token, "transfer_from", bob, alice, -1, sender=carol).error == "negative_amount"
    assert chain.call(token, "approve", carol, -1, sender=bob).error == "negative_amount"

    assert chain.call(token, "mint", bob, 5, sender=bob).error == "not_the_owner"
    minted = chain.call(token, "mint", bob, 5, sender=alice)
    assert minted.events == [("Transferred", {"source": bytes(20), "destination": bob, "amount": 5})]
    assert chain.call(token, "mint", bob, -5, sender=alice).error == "negative_amount"
    assert chain.call(token, "mint", bob, 2**256 - 1, sender=alice).status == Status.ARITHMETIC
    assert chain.call(token, "set_owner", bob, sender=bob).error == "not_the_owner"
    assert chain.call(token, "set_owner", bob, sender=alice).events == [("OwnerChanged", {"owner": bob})]
    assert chain.call(token, "mint", bob, 5, sender=bob).ok
    assert chain.read(token, "supply").value == 1_010


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-5, 60), st.booleans()), max_size=20)
)
@settings(max_examples=25, deadline=None)
def test_tokens_are_conserved(steps: list[tuple[int, int, int, bool]]) -> None:
    chain = LocalChain()
    people = [chain.account(str(number)) for number in range(4)]
    token = chain.deploy("token", load_source("library/token"), "P", "P", 100, sender=people[0])
    for source, destination, amount, direct in steps:
        if direct:
            chain.call(token, "transfer", people[destination], amount, sender=people[source])
        else:
            chain.call(token, "approve", people[destination], amount, sender=people[source])
            arguments = (people[source], people[destination], amount)
            chain.call(token, "transfer_from", *arguments, sender=people[destination])
    balances = [chain.read(token, "balance_of", person).value for person in people]
    assert sum(balances) == 100 and min(balances) >= 0


def test_the_library_s_tokens_flow_to_one_account_without_reading_it() -> None:
    chain = LocalChain()
    alice, shop = chain.account("alice"), chain.account("shop")
    token = chain.deploy("token", load_source("library/token"), "P", "P", 100, sender=alice)
    paid = chain.call(token, "transfer", shop, 5, sender=alice).outcome
    assert [add.delta for add in paid.adds.values()] == [5]
    minted = chain.call(token, "mint", shop, 7, sender=alice).outcome
    assert sorted(add.delta or 0 for add in minted.adds.values()) == [7, 7] and minted.writes == {}
    assert (chain.read(token, "supply").value, chain.read(token, "balance_of", shop).value) == (107, 12)


def test_the_counter_sells_what_it_has() -> None:
    chain = LocalChain()
    counter = chain.deploy("counter", load_source("library/counter"))
    assert chain.call(counter, "hit", "front page").ok and chain.call(counter, "hit", "front page").ok
    assert (chain.read(counter, "hits_of", "front page").value, chain.read(counter, "hits_of", "back").value) == (2, 0)
    assert chain.call(counter, "stock", "umbrella", 3).ok
    assert chain.call(counter, "take", "umbrella", 2).ok
    assert chain.call(counter, "take", "umbrella", 2).status == Status.ARITHMETIC
    assert chain.call(counter, "take", "umbrella", 1).ok
    assert chain.call(counter, "take", "umbrella", 1).error.startswith("below_minimum (line ")
    assert chain.call(counter, "take", "umbrella", 0).error == "count"
    assert chain.call(counter, "stock", "umbrella", -1).error == "count"
    assert chain.call(counter, "stock", "umbrella", 1_000_000).error.startswith("above_maximum (line ")
    assert chain.read(counter, "left", "umbrella").value == 0

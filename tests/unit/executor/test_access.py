"""Access summaries: what is read from a contract's syntax tree, and that hostile sources cost little."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contracts.sources import load_source
from executor import access as access_module
from executor.access import Access, CallSite, Mode, Summary, summarise

SENDER = ("context", "sender")


def argument(index: int) -> tuple[Any, ...]:
    return ("argument", index)


def summary_of(source: str, method: str = "run") -> Summary:
    summary = summarise(source)[method]
    assert summary is not None
    return summary


def accesses(source: str, method: str = "run") -> dict[Access, int]:
    return dict(summary_of(source, method).accesses)


def contract(body: str, before: str = "") -> str:
    storage = (
        "    owner: Value[Address]\n    balances: Map[Address, int]\n    grants: Map[tuple[Address, bytes], Grant]\n"
        "    entries: List[int]\n"
    )
    grant = "class Grant(Struct):\n    user: Address\n    uses: int\n\n"
    return f'"""Doc."""\n{before}\n{grant}class Bank(Contract):\n{storage}\n{body}'


def test_keys_over_arguments_sender_and_constants() -> None:
    source = contract(
        "    @external\n    def run(self, to: Address, amount: int):\n"
        "        mine = self.balances[ctx.sender]\n"
        "        self.balances[ctx.sender] = mine - amount\n"
        "        self.balances[to] = self.balances.get(to, 0) + amount\n"
        "        self.grants[(to, TAG)] = 1\n",
        before='TAG = b"tag"',
    )
    assert accesses(source) == {
        Access("balances", "Map", (SENDER,), True): Mode.BOTH,
        Access("balances", "Map", (argument(0),), True): Mode.BOTH,
        Access("grants", "Map", (argument(0), ("constant", b"tag")), True): Mode.WRITE,
    }


def test_membership_deletion_values_lists_and_scans() -> None:
    source = contract(
        "    @external\n    def run(self, who: Address, index: int):\n"
        "        require(ctx.sender == self.owner.get(), 'no')\n"
        "        if who in self.balances:\n            del self.balances[who]\n"
        "        self.owner.set(who)\n"
        "        self.entries.append(self.entries[index])\n"
        "        total = sum([value for key, value in self.grants.scan(who)])\n"
    )
    assert accesses(source) == {
        Access("owner", "Value", (), True): Mode.BOTH,
        Access("balances", "Map", (argument(0),), True): Mode.BOTH,
        Access("entries", "List", (argument(1),), True): Mode.READ,
        Access("entries", "Length", (), True): Mode.BOTH,
        Access("grants", "Map", (argument(0),), False): Mode.READ,
    }


def test_helpers_are_inlined_and_struct_fields_followed() -> None:
    source = contract(
        "    @external\n    def run(self, who: Address, name: bytes):\n"
        "        grant = self._grant(who, name)\n"
        "        self._pay(grant.user, 5)\n"
        "    def _grant(self, who: Address, name: bytes) -> Grant:\n        return self.grants[(who, name)]\n"
        "    def _pay(self, to: Address, amount: int):\n        self.balances[to] += amount\n"
    )
    key = ("tuple", (argument(0), argument(1)))
    assert accesses(source) == {
        Access("grants", "Map", (argument(0), argument(1)), True): Mode.READ,
        Access("balances", "Map", (("item", ("state", "grants", key, None), 0),), True): Mode.BOTH,
    }


def test_names_that_branches_or_loops_change_are_unknown() -> None:
    source = contract(
        "    @external\n    def run(self, a: Address, b: Address, flag: bool):\n"
        "        who = a\n"
        "        if flag:\n            who = b\n"
        "        self.balances[who] = 1\n"
        "        same = a\n"
        "        if flag:\n            same = b\n            return\n"
        "        self.balances[same] = 1\n"
        "        for item in [a, b]:\n            self.balances[item] = 2\n"
    )
    assert accesses(source) == {
        Access("balances", "Map", (None,), True): Mode.WRITE,
        Access("balances", "Map", (argument(0),), True): Mode.WRITE,
    }


def test_calls_through_interfaces_keep_their_address_expression() -> None:
    source = contract(
        "    @external\n    def run(self, other: Address):\n"
        "        bank = Other(other)\n        bank.pay(ctx.sender, 1)\n        Other(self.owner.get()).pay(other, 2)\n",
        before="class Other(Interface):\n    def pay(self, to: Address, amount: int): ...\n",
    )
    assert summary_of(source).calls == (
        CallSite(argument(0), "pay", (SENDER, ("constant", 1))),
        CallSite(("state", "owner", None, None), "pay", (argument(0), ("constant", 2))),
    )


def test_what_does_not_parse_has_no_summaries() -> None:
    assert summarise("class (") == {}
    assert summarise("\x00") == {}
    assert summarise("(" * 50_000) == {}


def test_methods_too_large_to_follow_may_do_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "    @external\n    def run(self, a: Address):\n        self._h1()\n"
    for level in range(1, 7):  # each helper calls the next ten times: a million walks
        body += f"    def _h{level}(self):\n" + f"        self._h{level + 1}()\n" * 10
    body += "    def _h7(self):\n        self.owner.set(1)\n"
    body += "    @external\n    def small(self):\n        self.owner.get()\n"
    start = time.process_time()
    summaries = summarise(contract(body))
    assert time.process_time() - start < 2
    assert summaries["run"] is None
    assert summaries["small"] is not None
    monkeypatch.setattr(access_module, "ACCESSES_MAX", 3)
    many = "".join([f"        self.balances[{number}] = 1\n" for number in range(5)])
    assert summarise(contract("    @external\n    def run(self):\n" + many))["run"] is None


def test_expressions_that_double_become_unknown() -> None:
    lines = "        key = (ctx.sender, ctx.sender)\n" + "        key = (key, key)\n" * 200
    source = contract(f"    @external\n    def run(self):\n{lines}        self.balances[key] = 1\n")
    start = time.process_time()
    (access,) = accesses(source)
    assert len(repr(access)) < 2_000
    assert time.process_time() - start < 2


def test_recursion_between_helpers_ends() -> None:
    source = contract(
        "    @external\n    def run(self):\n        self._a()\n"
        "    def _a(self):\n        self._b()\n    def _b(self):\n        self._a()\n"
    )
    assert summarise(source)["run"] is None


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("library/smallbank", "send_payment"), ("library/token", "transfer"), ("credit/order", "create"),
        ("credit/order", "deliver"), ("credit/consent", "use"), ("credit/settlement", "hold"),
        ("credit/query_log", "append"), ("income/verify", "submit"),
    ],
)  # fmt: skip
def test_the_busy_methods_of_shipped_contracts_are_followed_to_exact_keys(name: str, method: str) -> None:
    summary = summary_of(load_source(name), method)
    assert all(access.exact and None not in access.key for access, _ in summary.accesses)
    assert all(site.address is not None for site in summary.calls)

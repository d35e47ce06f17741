"""Access summaries: what is read from a contract's syntax tree, and that hostile sources cost little."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contracts.sources import load_source
from executor import access as access_module
from executor import scopes
from executor.access import Access, CallSite, Expression, Loop, Mode, Summary, infer, summarise

SENDER = ("context", "sender")


def argument(index: int) -> tuple[Any, ...]:
    return ("argument", index)


def summary_of(source: str, method: str = "run") -> Summary:
    summary = summarise(source)[method]
    assert summary is not None
    return summary


def accesses(source: str, method: str = "run") -> dict[Access, int]:
    return dict(summary_of(source, method).accesses)


def reasons(source: str, method: str = "run") -> list[str]:
    return [f"{widening.subject}: {widening}" for widening in summary_of(source, method).widenings]


def contract(body: str, before: str = "") -> str:
    storage = (
        "    owner: Value[Address]\n    balances: Map[Address, int]\n    grants: Map[tuple[Address, bytes], Grant]\n"
        "    entries: List[int]\n    total: Value[int]\n"
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
        Access("entries", "List", (("length", "entries"),), True): Mode.WRITE,
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
        Access("balances", "Map", (("item", ("state", "grants", key, None), 0, "user"),), True): Mode.BOTH,
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
        "        while flag:\n            self.balances[same] = 2\n            same = b\n"
        "        self.balances[a if flag else b] = 3\n"
    )
    assert accesses(source) == {
        Access("balances", "Map", (None,), True): Mode.WRITE,
        Access("balances", "Map", (argument(0),), True): Mode.WRITE,
    }
    assert reasons(source) == [
        "balances: line 19: key depends on who, which the branches set differently (line 17)",
        "balances: line 26: key depends on same, which changes from round to round (line 25)",
        "balances: line 28: key depends on the choice a if flag else b",
    ]


def test_adds_stand_alone_until_the_key_is_read_or_written() -> None:
    source = contract(
        "    @external\n    def run(self, who: Address, other: Address):\n"
        "        self.total.add(5, maximum=self.entries[0])\n"
        "        self.balances.add(who, 1)\n        self.balances.add(who, 2)\n        self.balances.add(other, 3)\n"
        "        if self.balances[other] > 3:\n            pass\n"
    )
    assert accesses(source) == {
        Access("total", "Value", (), True): Mode.ADD,
        Access("balances", "Map", (argument(0),), True): Mode.ADD,
        Access("balances", "Map", (argument(1),), True): Mode.BOTH,
        Access("entries", "List", (("constant", 0),), True): Mode.READ,
        Access("entries", "Length", (), True): Mode.READ,
    }
    written = contract("    @external\n    def run(self):\n        self.total.set(1)\n        self.total.add(1)\n")
    assert accesses(written) == {Access("total", "Value", (), True): Mode.BOTH}
    assert summary_of(source).lines == (16, 16, 16, 17, 19)


def test_what_was_written_to_a_value_is_known_when_it_is_read() -> None:
    source = contract(
        "    @external\n    def run(self, who: Address, flag: bool):\n"
        "        self.owner.set(who)\n        self._pay()\n"
        "        if flag:\n            self.owner.set(ctx.sender)\n"
        "        self.balances[self.owner.get()] = 2\n"
        "    def _pay(self):\n        self.balances[self.owner.get()] = 1\n"
    )
    assert set(accesses(source)) == {
        Access("owner", "Value", (), True),
        Access("balances", "Map", (argument(0),), True),
        Access("balances", "Map", (("state", "owner", None, None),), True),
    }


@pytest.mark.parametrize(
    ("header", "domain", "key"),
    [
        ("for x in many:", argument(0), ("loop", 1)),
        ("for x in range(first, first + 3):", None, ("loop", 1)),
        ("for n, x in enumerate(many):", ("builtin", "enumerate", (argument(0),)), ("item", ("loop", 1), 1)),
        (
            "for x, y in zip(many, reversed(many)):",
            ("builtin", "zip", (argument(0), ("builtin", "reversed", (argument(0),)))),
            ("item", ("loop", 1), 0),
        ),
        ("for x in [first, ctx.sender]:", ("tuple", (argument(1), SENDER)), ("loop", 1)),
        ("for x in range(len(self.entries)):", ("builtin", "range", (("length", "entries"),)), ("loop", 1)),
    ],
)
def test_loops_over_what_is_known_are_kept_as_loops(header: str, domain: Expression, key: Expression) -> None:
    source = contract(
        "    @external\n    def run(self, many: tuple[Address, ...], first: Address):\n"
        f"        {header}\n            self.balances[x] += 1\n            self.total.add(1)\n"
    )
    (loop,) = summary_of(source).loops
    assert loop.accesses == ((Access("balances", "Map", (key,), True), Mode.BOTH),)
    assert loop.line == 16
    if domain is not None:
        assert loop.domain == domain
    assert (Access("total", "Value", (), True), Mode.ADD) in summary_of(source).accesses
    assert reasons(source) == []


def test_comprehensions_are_loops_and_their_values_are_followed() -> None:
    source = contract(
        "    @external\n    def run(self, many: tuple[Grant, ...], more: tuple[bytes, ...]):\n"
        "        sum([self.balances[grant.user] for grant in many])\n"
        "        keys = [(grant.user, name) for grant in many for name in more]\n"
        "        users = [grant.user for grant in many]\n"
        "        for user in users:\n            self.balances[user] = 0\n"
        "        for key in keys:\n            self.grants[key] = 1\n"
    )
    first, second = summary_of(source).loops
    assert first.accesses == ((Access("balances", "Map", (("item", ("loop", 1), 0, "user"),), True), Mode.READ),)
    assert second.domain is not None
    assert second.domain[0] == "collect"
    assert accesses(source) == {Access("grants", "Map", (None, None), True): Mode.WRITE}
    assert reasons(source) == [
        "grants: line 22: key depends on [(grant.user, name) for grant in many for nam... (line 17)"
    ]


def test_loops_stand_inside_those_that_they_name() -> None:
    source = contract(
        "    @external\n    def run(self, many: tuple[Address, ...], names: tuple[bytes, ...]):\n"
        "        for who in many:\n"
        "            for name in names:\n                self.grants[(who, name)] = 1\n"
        "            for name in names:\n                self.grants[(ctx.sender, name)] = 1\n"
    )
    inner = Access("grants", "Map", (("loop", 1), ("loop", 2)), True)
    outer = Access("grants", "Map", (SENDER, ("loop", 3)), True)
    assert [describe(loop) for loop in summary_of(source).loops] == [
        ([outer], []),
        ([], [([inner], [])]),
    ]


def describe(loop: Loop) -> tuple[list[Access], list[Any]]:
    return [access for access, _ in loop.accesses], [describe(inner) for inner in loop.loops]


def test_calls_in_loops_follow_each_item() -> None:
    source = contract(
        "    @external\n    def run(self, banks: tuple[Address, ...]):\n"
        "        for bank in banks:\n"
        "            Other(bank).pay(ctx.sender, 1)\n            Other(ctx.origin).pay(bank, 1)\n",
        before="class Other(Interface):\n    def pay(self, to: Address, amount: int): ...\n",
    )
    (loop,) = summary_of(source).loops
    assert [(site.address, site.arguments[0]) for site in loop.calls] == [
        (("loop", 1), SENDER),
        (("context", "origin"), ("loop", 1)),
    ]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("for key, v in self.balances.scan():\n            self.balances[key] = 0", "what a scan of balances finds"),
        ("self.balances[Other(ctx.origin).find()] = 0", "the result of Other.find()"),
        ("who = Other(ctx.origin).find()\n        self.balances[who] = 0", "the result of Other.find() (line 18)"),
        ("self.balances[text.strip()] = 0", "the result of text.strip()"),
        ("self.grants[(ctx.sender, text[1:])] = 0", "text[1:]"),
        ("some = []\n        some.append(text)\n        self.balances[some[0]] = 0", "some, which is changed in place"),
        ("for x in text.split():\n            self.balances[x] = 0", "the result of text.split()"),
        (
            "last = text\n        for x in [text]:\n            self.balances[last] = 0\n            last = x",
            "last, which changes from round to round (line 19)",
        ),
        ("for x in [text]:\n            y = x\n        self.balances[y] = 0", "y"),
    ],
)
def test_every_widening_says_why_and_where(lines: str, reason: str) -> None:
    source = contract(
        f"    @external\n    def run(self, text: str):\n        {lines}\n",
        before="class Other(Interface):\n    def find(self) -> Address: ...\n",
    )
    (found,) = reasons(source)
    assert f"key depends on {reason}" in found
    assert found.split(": ")[1].startswith("line ")


def test_an_unknown_target_says_why() -> None:
    source = contract(
        "    @external\n    def run(self, text: str):\n        Other(Other(self.owner.get()).find()).find()\n",
        before="class Other(Interface):\n    def find(self) -> Address: ...\n",
    )
    assert reasons(source) == ["Other.find: line 18: target of the call is the result of Other.find()"]


def test_keys_given_as_one_value_have_as_many_parts_as_the_map() -> None:
    source = contract(
        "    @external\n    def run(self, key: tuple[Address, bytes], grant: Grant):\n"
        "        self.grants[key] = grant\n"
        "        self.balances[grant.replace(uses=1).user] = 1\n"
        "        self.balances[Grant(uses=2, user=ctx.origin).user] = 1\n"
        "        self.balances[-LIMIT] = 1\n",
        before="LIMIT = 2 * 3 + 1",
    )
    assert set(accesses(source)) == {
        Access("grants", "Map", (("item", argument(0), 0), ("item", argument(0), 1)), True),
        Access("balances", "Map", (("item", argument(1), 0, "user"),), True),
        Access("balances", "Map", (("context", "origin"),), True),
        Access("balances", "Map", (("operation", "subtract", ("constant", 0), ("constant", 7)),), True),
    }


def test_calls_through_interfaces_keep_their_address_expression() -> None:
    source = contract(
        "    @external\n    def run(self, other: Address):\n"
        "        bank = Other(other)\n        bank.pay(ctx.sender, 1)\n        Other(self.owner.get()).pay(other, 2)\n",
        before="class Other(Interface):\n    def pay(self, to: Address, amount: int): ...\n",
    )
    assert summary_of(source).calls == (
        CallSite(argument(0), "pay", (SENDER, ("constant", 1)), "Other", 19),
        CallSite(("state", "owner", None, None), "pay", (argument(0), ("constant", 2)), "Other", 20),
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
    monkeypatch.setattr(scopes, "ACCESSES_MAX", 3)
    many = "".join([f"        self.balances[{number}] = 1\n" for number in range(5)])
    assert summarise(contract("    @external\n    def run(self):\n" + many))["run"] is None


def test_a_source_of_many_large_methods_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "SOURCE_STEPS_MAX", 20)
    method = "    @external\n    def run{}(self, a: Address):\n        self.balances[a] = 1 + 2 + 3\n"
    body = "".join([method.format(number) for number in range(9)])
    inference = infer(contract(body))
    followed = [name for name, summary in inference.summaries.items() if summary is not None]
    assert followed == ["run0", "run1", "run2", "run3"]
    assert "all methods" in inference.refused["run8"]


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
    assert infer(source).refused["run"].endswith("helpers call each other more than 8 deep")
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

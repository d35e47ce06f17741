"""Contracts that call contracts, in every shape, and what a failure on the way leaves behind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import pytest

from chain.codec import pack
from contracts.language.limits import CALL_DEPTH_MAX
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain, Result
from contracts.system import SYSTEM_ADDRESS
from tests.scenarios.call_graph import NAMES, Graph, Script, flat


def test_a_chain_of_calls() -> None:
    graph = Graph(8)
    script: list[tuple[Any, ...]] = [("set", 8), ("mark", 8), ("get",)]
    for number, name in reversed(list(enumerate(NAMES[1:], 1))):
        script = [("set", number), ("call", name, script), ("mark", number), ("add", number), ("get",)]
    result = graph.run(script)
    assert result.value == (8, 7, 6, 5, 4, 3, 2, 1)
    assert graph.marks(result) == [(name, 8 - at) for at, name in enumerate(reversed(NAMES))]
    assert [graph.state(name)[:2] for name in NAMES] == [(at, at) for at in range(1, 8)] + [(8, 0)]


def test_every_node_of_a_chain_sees_its_caller_as_the_sender() -> None:
    graph = Graph(3)
    alice = graph.chain.account("alice")
    rows = flat([("mark", 0), ("call", "b", [("mark", 1), ("call", "c", [("mark", 2)])])])
    result = graph.chain.call(graph["a"], "run", rows, tuple(graph.nodes), 0, len(rows), sender=alice)
    assert [fields["sender"] for _, fields in result.events] == [alice, graph["a"], graph["b"]]


def test_a_ring_comes_back_to_what_its_first_node_has_done_so_far() -> None:
    graph = Graph(3)
    in_the_middle = [("get",), ("sum",), ("set", 2), ("add", 1), ("note", 9)]
    ring = [("set", 1), ("add", 5), ("call", "b", [("call", "c", [("call", "a", in_the_middle)])]), ("get",), ("sum",)]
    result = graph.run(ring)
    assert result.value == (1, 5, 2, 6)
    assert graph.state("a") == (2, 6, {9: 1})
    assert graph.run(ring).value == (1, 11, 2, 12)


def test_a_star_whose_hub_calls_all_and_is_called_by_all() -> None:
    graph = Graph(8)
    rays = [("try", name, [("add", 1), ("call", "a", [("add", 1), ("note", 0)])]) for name in "bcdefgh"]
    assert graph.run([("add", 100), *rays, ("sum",), ("scan",)]).value == (107, 7)
    assert [graph.state(name)[1] for name in NAMES] == [107, 1, 1, 1, 1, 1, 1, 1]


def test_two_ways_to_one_node() -> None:
    graph = Graph(4)
    below = [("add", 1), ("sum",)]
    below_d = ("call", "d", below)
    result = graph.run([("call", "b", [below_d]), ("call", "c", [below_d]), below_d])
    assert result.value == (1, 2, 3)


def test_adds_of_many_calls_stay_adds_until_someone_looks() -> None:
    graph = Graph(3)
    graph.run([("call", "c", [("add", 10)])])
    blind = graph.run([("call", "b", [("call", "c", [("add", 2)])]), ("call", "c", [("add", -3)])]).outcome
    assert blind.writes == {} and [add.delta for add in blind.adds.values()] == [-1]
    looking = graph.run([("call", "c", [("add", 2)]), ("call", "b", [("look", "c", [("sum",)])])])
    assert looking.value == (11,)
    assert list(looking.outcome.writes.values()) == [pack(11)]
    assert [add.delta for add in looking.outcome.adds.values()] == [None]


# Re-entrance


def test_a_node_that_was_entered_again_finds_its_state_changed() -> None:
    graph = Graph(2)
    result = graph.run([("set", 1), ("get",), ("call", "b", [("call", "a", [("set", 2), ("note", 5)])]), ("get",)])
    assert result.value == (1, 2)
    assert graph.state("a") == (2, 0, {5: 1})


def test_a_failure_inside_the_second_entry_restores_what_the_first_had_done() -> None:
    graph = Graph(2)
    again = [("get",), ("set", 2), ("add", 7), ("note", 5), ("sum",), ("fail", 1)]
    result = graph.run(
        [("set", 1), ("add", 3), ("note", 4), ("try", "b", [("set", 8), ("call", "a", again)]), ("get",), ("sum",)]
    )
    assert result.value == (-Status.REVERTED, 1, 3)
    assert graph.state("a") == (1, 3, {4: 1}) and graph.state("b") == (0, 0, {})


def test_a_node_may_call_itself() -> None:
    graph = Graph(1)
    script = [("add", 1), ("call", "a", [("sum",), ("add", 1), ("try", "a", [("fail", 0)])]), ("sum",)]
    assert graph.run(script).value == (1, -Status.REVERTED, 2)


def _mutual(calls: int, last: Script) -> list[tuple[Any, ...]]:
    """a and b calling each other, `calls` times, with `last` at the end."""
    script = list(last)
    for number in range(calls, 0, -1):
        script = [("add", 1), ("call", "ab"[number % 2], script)]
    return script


def test_mutual_recursion_up_to_the_depth_limit() -> None:
    graph = Graph(2)
    result = graph.run(_mutual(CALL_DEPTH_MAX, [("sum",), ("mark", 1)]))
    assert result.value == (CALL_DEPTH_MAX // 2,)
    assert [graph.state(name)[1] for name in "ab"] == [CALL_DEPTH_MAX // 2, CALL_DEPTH_MAX // 2]


def test_mutual_recursion_one_beyond_the_depth_limit() -> None:
    graph = Graph(2)
    result = graph.run(_mutual(CALL_DEPTH_MAX + 1, [("mark", 1)]))
    assert (result.status, result.error) == (Status.LIMIT, "call_depth")
    assert (result.outcome.writes, result.events) == ({}, [])
    assert all(add.delta is None for add in result.outcome.adds.values())
    caught = graph.run(_mutual(CALL_DEPTH_MAX, [("try", "b", [("mark", 1)]), ("mark", 2), ("sum",)]))
    assert caught.value == (-Status.LIMIT, CALL_DEPTH_MAX // 2)
    assert graph.marks(caught) == [("a", 2)]


def test_calls_that_failed_do_not_count_towards_the_depth() -> None:
    graph = Graph(2)
    failures: list[tuple[Any, ...]] = [("try", "b", [("fail", 1)])] * (CALL_DEPTH_MAX + 8)
    result = graph.run([*failures, *_mutual(CALL_DEPTH_MAX, [("sum",)])])
    assert result.value == (-Status.REVERTED,) * (CALL_DEPTH_MAX + 8) + (CALL_DEPTH_MAX // 2,)


# Failure


_DOING: Final[Script] = (("set", 9), ("add", 9), ("note", 9), ("mark", 9))


def test_a_caught_revert_leaves_nothing_of_the_callee_and_keeps_its_gas() -> None:
    graph = Graph(3)
    script = [("set", 1), ("mark", 1), ("try", "b", [*_DOING, ("call", "c", _DOING), ("fail", 1)]), ("mark", 2)]
    result = graph.run(script)
    assert result.value == (-Status.REVERTED,)
    assert graph.marks(result) == [("a", 1), ("a", 2)]
    assert [graph.state(name) for name in "abc"] == [(1, 0, {}), (0, 0, {}), (0, 0, {})]
    without = graph.run([("set", 1), ("mark", 1), ("mark", 2)])
    doing = graph.run([("call", "c", _DOING)])
    assert result.gas_used > without.gas_used + doing.gas_used
    assert set(result.outcome.writes) == {graph["a"] + b"value\x00"}


def test_an_uncaught_revert_leaves_nothing_at_all() -> None:
    graph = Graph(3)
    result = graph.run([*_DOING, ("call", "b", [*_DOING, ("call", "c", [*_DOING, ("fail", 3)])])])
    assert (result.status, result.error) == (Status.REVERTED, "asked 3")
    assert (result.outcome.writes, result.events) == ({}, [])
    assert [graph.state(name) for name in "abc"] == [(0, 0, {})] * 3


def test_a_bound_that_an_add_of_a_callee_breaks_is_the_callee_s_failure() -> None:
    graph = Graph(2)
    too_much = ("try", "b", [("add", -2), ("add", -2)])
    result = graph.run([("call", "b", [("add", 3)]), too_much, ("look", "b", [("sum",)])])
    assert result.value == (-Status.ARITHMETIC, 3)
    assert graph.run([("call", "b", [("add", -4)])]).error.startswith("below_minimum (line ")


def test_a_failure_after_a_caught_failure() -> None:
    graph = Graph(4)
    inner = [*_DOING, ("try", "c", [*_DOING, ("fail", 1)]), ("mark", 3), ("fail", 2)]
    result = graph.run([("set", 1), ("try", "b", inner), ("mark", 4), ("try", "d", _DOING)])
    assert result.value == (-Status.REVERTED,)
    assert graph.marks(result) == [("a", 4), ("d", 9)]
    assert [graph.state(name) for name in "abcd"] == [(1, 0, {}), (0, 0, {}), (0, 0, {}), (9, 9, {9: 1})]
    failing = graph.run([("set", 2), ("try", "b", inner), ("fail", 5)])
    assert (failing.error, failing.outcome.writes, failing.events) == ("asked 5", {}, [])
    assert graph.state("a") == (1, 0, {})


def test_a_callee_that_catches_saves_its_own_work() -> None:
    graph = Graph(3)
    result = graph.run([("call", "b", [("add", 2), ("try", "c", [*_DOING, ("fail", 1)]), ("sum",), ("add", 1)])])
    assert result.value == (-Status.REVERTED, 2)
    assert [graph.state(name)[1] for name in "abc"] == [0, 3, 0]


def test_the_same_callee_fails_and_succeeds_by_turns() -> None:
    graph = Graph(2)
    turns: list[tuple[Any, ...]] = []
    for number in range(6):
        turns.append(("try", "b", [("add", 1), ("note", number), ("sum",), *([("fail", 0)] if number % 2 else [])]))
    assert graph.run([*turns, ("look", "b", [("sum",), ("scan",)])]).value == (1, -1, 2, -1, 3, -1, 3, 3)


# Gas


def test_gas_that_runs_out_in_a_callee_ends_the_transaction() -> None:
    graph = Graph(3)
    script = [*_DOING, ("try", "b", [*_DOING, ("try", "c", [*_DOING, ("burn",)])]), ("mark", 1)]
    result = graph.run(script, gas_limit=300_000)
    assert (result.status, result.error, result.gas_used) == (Status.OUT_OF_GAS, "out_of_gas", 300_000)
    assert (result.outcome.writes, result.events, result.value) == ({}, [], None)
    assert [graph.state(name) for name in "abc"] == [(0, 0, {})] * 3


def test_a_gas_limit_decides_between_all_and_nothing() -> None:
    graph = Graph(3)
    script = [("add", 1), ("try", "b", [("note", 1), ("try", "c", [("add", 1), ("fail", 1)]), ("sum",)]), ("get",)]
    needed = Graph(3).run(script).gas_used
    for limit in [*range(0, needed, 1_009), needed - 1]:
        result = graph.run(script, gas_limit=limit)
        assert (result.status, result.gas_used, result.outcome.writes) == (Status.OUT_OF_GAS, limit, {})
    assert graph.state("a")[1] == 0
    result = graph.run(script, gas_limit=needed)
    assert (result.ok, result.gas_used, graph.state("a")[1]) == (True, needed, 1)


# Views


@pytest.mark.parametrize("change", [("set", 1), ("add", 1), ("add", 0), ("note", 1), ("mark", 1)])
def test_a_view_that_calls_a_writer_is_stopped(change: tuple[Any, ...]) -> None:
    graph = Graph(3)
    for script in ([change], [("call", "b", [change])], [("look", "b", [("call", "c", [change])])]):
        result = graph.run(script, method="look")
        assert result.status == Status.FORBIDDEN
        assert (result.outcome.writes, result.events) == ({}, [])
    caught = graph.run([("set", 7), ("trylook", "b", [("call", "c", [change])]), *_DOING[1:]])
    assert caught.value == (-Status.FORBIDDEN,)
    assert graph.state("a") == (7, 9, {9: 1}) and graph.state("b") == graph.state("c") == (0, 0, {})


def test_a_view_sees_what_the_transaction_has_done_so_far() -> None:
    graph = Graph(2)
    looking = ("look", "a", [("get",), ("sum",), ("scan",)])
    result = graph.run([("set", 3), ("add", 4), ("note", 5), ("call", "b", [looking])])
    assert result.value == (3, 4, 1)
    assert graph.state("a") == (3, 4, {5: 1})


def test_what_a_failed_view_read_is_read() -> None:
    """The view looked at a sum and failed: the caller's add has been ordered by that look."""
    graph = Graph(2)
    result = graph.run([("add", 4), ("trylook", "b", [("look", "a", [("sum",)]), ("fail", 1)]), ("add", 1)])
    assert result.value == (-Status.REVERTED,)
    assert list(result.outcome.writes.values()) == [pack(5)]
    assert graph.state("a")[1] == 5


# Code that changes within a block


def in_one_block(chain: LocalChain, calls: Sequence[tuple[bytes, str, tuple[Any, ...], bytes]]) -> list[Result]:
    """Transactions (target, method, arguments, sender) of one height, in order."""
    height = chain.height + 1
    results = []
    for target, method, arguments, sender in calls:
        chain.height = height - 1
        results.append(chain.call(target, method, *arguments, sender=sender))
    return results


_MAKER = """
class System(Interface):
    @external
    def deploy(self, name: str, source: str, arguments: bytes) -> Address: ...
    @external
    def upgrade(self, address: Address, source: str): ...
    @external
    def freeze(self, address: Address): ...
    @external
    def abolish(self, address: Address): ...

class Answering(Interface):
    @external
    def answer(self) -> int: ...
    @external
    def answer_after(self, source: str, give_up: bool) -> int: ...
    @view
    def peek(self) -> int: ...

SYSTEM = b"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01"

class Maker(Contract):
    made: Value[Address]

    @external
    def make(self, name: str, source: str) -> int:
        self.made.set(System(SYSTEM).deploy(name, source, b"\\x90"))
        return Answering(self.made.get()).answer()

    @external
    def remake(self, source: str, give_up: bool) -> tuple[int, int, int]:
        before = Answering(self.made.get()).answer()
        within = 0
        try:
            within = Answering(ctx.this).answer_after(source, give_up)
        except CallFailed as failure:
            within = -failure.status
        return (before, within, Answering(self.made.get()).answer())

    @external
    def answer_after(self, source: str, give_up: bool) -> int:
        require(ctx.sender == ctx.this, "not_for_others")
        System(SYSTEM).upgrade(self.made.get(), source)
        found = Answering(self.made.get()).answer()
        require(not give_up, "gave_up")
        return found

    @external
    def close(self, how: str) -> tuple[int, int]:
        if how == "freeze":
            System(SYSTEM).freeze(self.made.get())
        else:
            System(SYSTEM).abolish(self.made.get())
        peeked = 0
        try:
            peeked = Answering(self.made.get()).peek()
        except CallFailed as failure:
            peeked = -failure.status
        try:
            return (peeked, Answering(self.made.get()).answer())
        except CallFailed as failure:
            return (peeked, -failure.status)

    @external
    def ask(self, other: Address) -> int:
        try:
            return Answering(other).answer()
        except CallFailed as failure:
            return -failure.status
"""


def answering(number: int) -> str:
    """A contract that counts how often it was asked, times ten, plus `number`."""
    return (
        "class Answer(Contract):\n    asked: Value[int]\n\n    @external\n    def answer(self) -> int:\n"
        f"        self.asked.add(1)\n        return self.asked.get() * 10 + {number}\n\n"
        "    @view\n    def peek(self) -> int:\n        return self.asked.get(0)\n"
    )


class Workshop:
    """A contract that makes contracts, and one that it made."""

    def __init__(self) -> None:
        self.chain = LocalChain()
        self.alice = self.chain.account("alice")
        self.maker = self.chain.deploy("maker", _MAKER, sender=self.alice)

    def call(self, method: str, *arguments: Any) -> Result:
        return self.chain.call(self.maker, method, *arguments, sender=self.alice)

    def make(self) -> bytes:
        result = self.call("make", "answer", answering(1))
        assert result.value == 11, result.error
        address: bytes = self.chain.read(SYSTEM_ADDRESS, "resolve", "answer").value
        return address


def test_a_contract_that_makes_a_contract_and_calls_it_at_once() -> None:
    shop = Workshop()
    made = shop.make()
    assert shop.call("ask", made).value == 21
    assert shop.chain.read(SYSTEM_ADDRESS, "info", made).value[2] == shop.maker  # the maker is its admin


def test_a_contract_made_in_a_call_that_fails_was_never_there() -> None:
    shop = Workshop()
    result = shop.call("make", "broken", answering(1).replace("return self.asked.get() * 10 + 1", "revert('no')"))
    assert (result.status, result.error, result.outcome.writes) == (Status.REVERTED, "no", {})
    assert shop.chain.read(SYSTEM_ADDRESS, "resolve", "broken").value is None
    assert shop.call("make", "broken", answering(1)).value == 11  # the name is free


def test_an_upgrade_in_the_middle_of_a_transaction() -> None:
    shop = Workshop()
    shop.make()
    assert shop.call("remake", answering(2), False).value == (21, 32, 42)


def test_an_upgrade_in_a_call_that_fails_is_taken_back_with_its_code() -> None:
    shop = Workshop()
    shop.make()
    assert shop.call("remake", answering(2), True).value == (21, -Status.REVERTED, 31)


@pytest.mark.parametrize(
    ("how", "answers"), [("freeze", (1, -Status.FROZEN)), ("abolish", (-Status.UNKNOWN_CONTRACT,) * 2)]
)
def test_calls_into_code_that_the_caller_just_closed(how: str, answers: tuple[int, int]) -> None:
    shop = Workshop()
    shop.make()
    assert shop.call("close", how).value == answers


def test_create_and_call_in_one_block() -> None:
    shop, twin = Workshop(), Workshop()
    chain, alice = shop.chain, shop.alice
    # An address depends on the hash of the deploying transaction, here the third: a twin chain tells it in advance.
    twin.call("ask", alice)
    address = twin.chain.deploy("late", answering(5), sender=alice)
    deploy = (SYSTEM_ADDRESS, "deploy", ("late", answering(5), pack(())), alice)
    ask = (shop.maker, "ask", (address,), alice)
    early, deployed, late, direct = in_one_block(chain, [ask, deploy, ask, (address, "answer", (), alice)])
    assert deployed.value == address
    assert (early.value, late.value, direct.value) == (-Status.UNKNOWN_CONTRACT, 15, 25)


def test_freeze_upgrade_and_abolish_between_calls_of_one_block() -> None:
    chain = LocalChain()
    alice = chain.account("alice")
    maker = chain.deploy("maker", _MAKER, sender=alice)
    made = chain.deploy("answer", answering(1), sender=alice)
    ask = (maker, "ask", (made,), alice)

    def system(method: str, *arguments: Any) -> tuple[bytes, str, tuple[Any, ...], bytes]:
        return SYSTEM_ADDRESS, method, (made, *arguments), alice

    results = in_one_block(
        chain,
        [
            ask, system("freeze"), ask, system("unfreeze"), ask, system("upgrade", answering(2)), ask,
            system("upgrade", "class Broken:"), ask, system("abolish"), ask, system("unfreeze"), ask,
        ],
    )  # fmt: skip
    assert [result.value for result in results[::2]] == [
        11, -Status.FROZEN, 21, 32, 42, -Status.UNKNOWN_CONTRACT, -Status.UNKNOWN_CONTRACT,
    ]  # fmt: skip
    assert [result.status for result in results[1::2]] == [
        Status.OK, Status.OK, Status.OK, Status.BAD_SOURCE, Status.OK, Status.UNKNOWN_CONTRACT,
    ]  # fmt: skip


_GREETER = """
class Answering(Interface):
    @external
    def answer(self) -> int: ...

class Greeter(Contract):
    first: Value[int]

    def init(self, other: Address, strict: bool):
        self.first.set(Answering(other).answer())
        require(not strict, "strict")
"""


def test_an_init_that_calls_another_contract() -> None:
    chain = LocalChain()
    other = chain.deploy("other", answering(1))
    greeter = chain.deploy("greeter", _GREETER, other, False)
    assert chain.state[greeter + b"first\x00"] == pack(11)
    failed = chain.call(SYSTEM_ADDRESS, "deploy", "strict", _GREETER, pack((other, True)))
    assert (failed.status, failed.error, failed.outcome.writes) == (Status.REVERTED, "strict", {})
    assert chain.read(other, "peek").value == 1


# Any shape


class ModelError(Exception):
    """A call of the model failed with this status."""


def model(script: Script, here: str, nodes: dict[str, dict[str, Any]], readonly: bool, depth: int) -> list[int]:
    """What following a script gives, on plain dicts that are copied at every call that may fail."""
    seen: list[int] = []
    node = nodes[here]
    for what, *arguments in script:
        if what in ("call", "try", "look", "trylook"):
            before = {name: {**each, "notes": dict(each["notes"])} for name, each in nodes.items()}
            marks = len(nodes["events"]["marks"])
            try:
                if depth == CALL_DEPTH_MAX:
                    raise ModelError(Status.LIMIT)
                seen += model(arguments[1], arguments[0], nodes, readonly or what.endswith("look"), depth + 1)
            except ModelError as error:
                if not what.startswith("try"):
                    raise
                for name, each in before.items():
                    nodes[name].update(each)
                del nodes["events"]["marks"][marks:]
                seen.append(-error.args[0])
        elif what in ("get", "sum", "scan"):
            seen.append({"get": node["value"], "sum": node["total"], "scan": sum(node["notes"].values())}[what])
        elif what == "fail":
            raise ModelError(Status.REVERTED)
        elif readonly:
            raise ModelError(Status.FORBIDDEN)
        elif what == "set":
            node["value"] = arguments[0]
        elif what == "note":
            node["notes"][arguments[0]] = node["notes"].get(arguments[0], 0) + 1
        elif what == "mark":
            nodes["events"]["marks"].append((here, arguments[0]))
        elif node["total"] + arguments[0] < 0:
            raise ModelError(Status.ARITHMETIC)
        else:
            node["total"] += arguments[0]
    return seen


_WORDS: Final = (
    "set", "add", "add", "note", "mark", "get", "sum", "scan", "call", "try", "try", "look", "trylook",
)  # fmt: skip


def draw_script(draw: random.Random, depth: int) -> list[tuple[Any, ...]]:
    script: list[tuple[Any, ...]] = []
    for _ in range(draw.randint(1, 5)):
        what = draw.choice(_WORDS)
        if what in ("call", "try", "look", "trylook"):
            if depth:
                script.append((what, draw.choice("abc"), draw_script(draw, depth - 1)))
        else:
            script.append((what, draw.randint(-3, 6) if what == "add" else draw.randint(0, 3)))
    if draw.random() < 0.15:
        script.append(("fail", 1))
    return script


@pytest.mark.parametrize("seed", range(20))
def test_any_call_graph_does_what_a_plain_model_does(seed: int) -> None:
    draw = random.Random(seed)
    graph = Graph(3)
    nodes: dict[str, dict[str, Any]] = {name: {"value": 0, "total": 0, "notes": {}} for name in "abc"}
    nodes["events"] = {"marks": [], "notes": {}}
    for _ in range(12):
        script = draw_script(draw, 4)
        expected = {name: {**each, "notes": dict(each["notes"])} for name, each in nodes.items()}
        expected["events"]["marks"] = []
        result = graph.run(script)
        try:
            seen = model(script, "a", expected, False, 0)
        except ModelError as error:
            assert (result.status, result.outcome.writes, result.events) == (error.args[0], {}, []), script
        else:
            assert result.ok and list(result.value) == seen, script
            assert graph.marks(result) == expected["events"]["marks"], script
            nodes = expected
        for name in "abc":
            assert graph.state(name) == (nodes[name]["value"], nodes[name]["total"], nodes[name]["notes"]), script

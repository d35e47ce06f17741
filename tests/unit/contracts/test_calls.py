"""Contracts that call contracts: what goes over, what comes back, what a failure takes with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.language import check
from contracts.language.limits import CALL_DEPTH_MAX, RECURSION_DEPTH_MAX
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain, Result
from tests.unit.contracts.snippets import codes, contract, run

_CALLEE = """
class Pair(Struct):
    a: int
    b: str

class Touched(Event):
    by: Address
    value: int

class Callee(Contract):
    value: Value[int]
    log: List[Address]

    @external
    def put(self, value: int) -> Pair:
        self.value.set(value)
        self.log.append(ctx.sender)
        emit(Touched(by=ctx.sender, value=value))
        require(value != 13, "unlucky")
        return Pair(a=value, b="done")

    @external
    def append(self, value: int) -> int:
        return self.put(value).a

    @external
    def fail(self, how: int):
        self.value.set(99)
        if how == 0:
            revert("told to")
        if how == 1:
            require(1 // (how - 1) == 0, "never")
        if how == 2:
            while True:
                pass
        if how == 3:
            self.log[77] = ctx.this

    @view
    def get(self) -> int:
        return self.value.get(0)

    @view
    def origin(self) -> tuple[Address, Address]:
        return (ctx.sender, ctx.origin)
"""

_CALLER = """
class Pair(Struct):
    a: int
    b: str

class Callee(Interface):
    @external
    def put(self, value: int) -> Pair: ...
    @external
    def append(self, value: int) -> int: ...
    @external
    def fail(self, how: int): ...
    @view
    def get(self) -> int: ...
    @view
    def origin(self) -> tuple[Address, Address]: ...

class Liar(Interface):
    @external
    def get(self) -> str: ...
    @view
    def put(self, value: int) -> Pair: ...

class Called(Event):
    reason: str
    status: int

class Caller(Contract):
    mine: Value[int]

    @external
    def direct(self, callee: Address, value: int) -> str:
        pair = Callee(callee).put(value=value)
        return f"{pair.a} {pair.b}"

    @external
    def by_reference(self, callee: Address, value: int) -> tuple[int, int, int, Address]:
        other = Callee(callee)
        local = [1]
        local.append(2)
        return (other.append(value), other.get(), len(local), other.address)

    @external
    def guarded(self, callee: Address, how: int) -> tuple[str, int, int]:
        self.mine.set(1)
        emit(Called(reason="before", status=0))
        reason = "no failure"
        status = 0
        try:
            Callee(callee).put(5)
            self.mine.set(2)
            Callee(callee).fail(how)
            self.mine.set(3)
        except CallFailed as failure:
            reason = failure.reason
            status = failure.status
            emit(Called(reason=failure.reason, status=failure.status))
        else:
            self.mine.set(self.mine.get() + 10)
        return (reason, status, self.mine.get())

    @external
    def unguarded(self, callee: Address, how: int):
        self.mine.set(1)
        Callee(callee).fail(how)

    @external
    def swallow(self, callee: Address) -> str:
        try:
            Callee(callee).put(13)
        except CallFailed as failure:
            emit(Called(reason=failure.reason, status=failure.status))
            return failure.reason
        return "put"

    @external
    def believes(self, callee: Address, lie: bool) -> str:
        try:
            if lie:
                return Liar(callee).get()
            return str(Liar(callee).put(1).a)
        except CallFailed as failure:
            return failure.reason

    @view
    def who(self, callee: Address) -> tuple[Address, Address]:
        return Callee(callee).origin()

    @view
    def writes_elsewhere(self, callee: Address) -> int:
        return Callee(callee).append(1)
"""

Pair = tuple[LocalChain, bytes, bytes]


@pytest.fixture
def world() -> Iterator[Pair]:
    chain = LocalChain()
    yield chain, chain.deploy("caller", _CALLER), chain.deploy("callee", _CALLEE)


def test_a_call_passes_values_and_structs(world: Pair) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "direct", callee, 2**200)
    assert result.value == f"{2**200} done"
    assert result.events == [("Touched", {"by": caller, "value": 2**200})]
    assert chain.read(callee, "get").value == 2**200


def test_a_reference_is_called_like_an_object_and_lists_keep_their_methods(world: Pair) -> None:
    chain, caller, callee = world
    assert chain.call(caller, "by_reference", callee, 7).value == (7, 7, 2, callee)


def test_the_sender_is_the_calling_contract_and_the_origin_the_signer(world: Pair) -> None:
    chain, caller, callee = world
    alice = chain.account("alice")
    assert chain.call(caller, "who", callee, sender=alice).value == (caller, alice)
    assert chain.call(callee, "origin", sender=alice).value == (alice, alice)


@pytest.mark.parametrize(
    ("how", "reason", "status"),
    [
        (0, "told to", Status.REVERTED),
        (1, "division_by_zero (line 32)", Status.ARITHMETIC),
        (3, "index_out_of_range (line 37)", Status.MISSING_KEY),
    ],
)
def test_a_caught_failure_takes_back_exactly_the_callees_part(
    world: Pair, how: int, reason: str, status: Status
) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "guarded", callee, how)
    assert result.value == (reason, status, 2)
    assert chain.read(callee, "get").value == 5  # the first call stays, the failed one is gone
    assert [name for name, _ in result.events] == ["Called", "Touched", "Called"]
    assert result.events[-1] == ("Called", {"reason": reason, "status": status})


def test_a_failed_call_leaves_no_events(world: Pair) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "swallow", callee)
    assert result.value == "unlucky"
    assert result.events == [("Called", {"reason": "unlucky", "status": Status.REVERTED})]
    assert result.outcome.writes == {}


def test_no_failure_runs_the_else(world: Pair) -> None:
    chain, caller, callee = world
    assert chain.call(caller, "guarded", callee, 9).value == ("no failure", 0, 13)


def test_an_uncaught_failure_is_the_callers_failure(world: Pair) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "unguarded", callee, 1)
    assert (result.status, result.error) == (Status.ARITHMETIC, "division_by_zero (line 32)")
    assert result.outcome.writes == {} and result.events == []


def test_nobody_catches_running_out_of_gas(world: Pair) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "guarded", callee, 2, gas_limit=200_000)
    assert (result.status, result.gas_used, result.outcome.writes) == (Status.OUT_OF_GAS, 200_000, {})


def test_a_result_that_is_not_what_the_interface_says_fails_the_call(world: Pair) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "believes", callee, True)
    assert result.value == "expected str, not int"
    result = chain.call(caller, "believes", callee, False)  # called as a view, the method may not write
    assert result.value == "write_in_view (line 16)"
    assert chain.read(callee, "get").value == 0


def test_a_view_cannot_write_through_another_contract(world: Pair) -> None:
    chain, caller, callee = world
    result = chain.call(caller, "writes_elsewhere", callee)
    assert (result.status, result.error) == (Status.FORBIDDEN, "write_in_view (line 16)")


def test_calling_nothing_and_a_missing_method(world: Pair) -> None:
    chain, caller, callee = world
    assert chain.call(caller, "direct", chain.account("nobody"), 1).status == Status.UNKNOWN_CONTRACT
    assert chain.call(callee, "direct", callee, 1).status == Status.UNKNOWN_METHOD
    assert chain.call(caller, "direct", caller, 1).error == "unknown_method: put"


_REENTRANT = """
class Self(Interface):
    @external
    def enter(self, other: Address, left: int) -> int: ...

class Reentrant(Contract):
    count: Value[int]

    @external
    def enter(self, other: Address, left: int) -> int:
        self.count.set(self.count.get(0) + 1)
        if left > 0:
            try:
                return Self(other).enter(ctx.this, left - 1)
            except CallFailed as failure:
                return -1
        require(left == 0, "negative")
        return self.count.get()

    @external
    def dive(self, depth: int) -> int:
        if depth == 0:
            return 0
        return Self(ctx.this).enter(ctx.this, depth)

    @view
    def total(self) -> int:
        return self.count.get(0)
"""


def _reentrant() -> Pair:
    chain = LocalChain()
    return chain, chain.deploy("a", _REENTRANT), chain.deploy("b", _REENTRANT)


def test_a_reentrant_call_sees_the_pending_writes() -> None:
    chain, a, b = _reentrant()
    assert chain.call(a, "enter", b, 4).value == 3  # a, b, a, b, a: the third time in a
    assert (chain.read(a, "total").value, chain.read(b, "total").value) == (3, 2)


def test_contracts_that_call_each_other_stop_at_a_depth() -> None:
    chain, a, b = _reentrant()
    assert chain.call(a, "enter", b, CALL_DEPTH_MAX).value == CALL_DEPTH_MAX // 2 + 1
    result = chain.call(a, "enter", b, CALL_DEPTH_MAX + 1)
    assert result.ok and result.value == -1


_RECURSIVE = """
def _down(self, n):
    if n == 0:
        return 0
    return 1 + self._across(n - 1)

def _across(self, n):
    if n == 0:
        return 0
    return 1 + self._down(n - 1)
"""


def test_recursion_is_bounded_over_all_methods_of_a_circle() -> None:
    body = "return self._down(n)"
    deepest = run(body, RECURSION_DEPTH_MAX, members=_RECURSIVE, parameters="n: int")
    assert deepest.value == RECURSION_DEPTH_MAX
    result = run(body, RECURSION_DEPTH_MAX + 1, members=_RECURSIVE, parameters="n: int")
    assert (result.status, result.error) == (Status.LIMIT, "recursion_depth (line 5)")


def test_recursion_unwound_by_a_caught_failure_does_not_count_on() -> None:
    above = "class Other(Interface):\n    @external\n    def missing(self): ..."
    members = """
    def _deep(self, n):
        if n == 0:
            Other(ctx.this).missing()
            return 0
        return self._deep(n - 1)
    """
    body = """
    failures = 0
    for i in range(10):
        try:
            self._deep(30)
        except CallFailed:
            failures += 1
    return failures
    """
    assert run(body, above=above, members=members).value == 10


@pytest.mark.parametrize("base", [0, 400])
def test_the_deepest_stack_does_not_depend_on_the_process(base: int) -> None:
    """32 contracts, each with its chain of helpers and its part of the recursion, from a shallow and a deep stack."""
    chain_length = 29
    helpers = "".join(
        f"    def _h{n}(self, left, extra):\n        return self._h{n + 1}(left, extra)\n" for n in range(chain_length)
    )
    source = f"""
class Self(Interface):
    @external
    def go(self, left: int, extra: int) -> int: ...

class Deep(Contract):
    @external
    def go(self, left: int, extra: int) -> int:
        return self._r(left, extra)
    def _r(self, left, extra):
        if extra > 0:
            return self._r(left, extra - 1)
        return self._h0(left, extra)
{helpers}
    def _h{chain_length}(self, left, extra):
        if left == 0:
            return 0
        return 1 + Self(ctx.this).go(left - 1, 1)
"""
    assert check(source) == []
    chain = LocalChain()
    address = chain.deploy("deep", source)

    def from_depth(depth: int) -> Result:
        return from_depth(depth - 1) if depth else chain.call(address, "go", CALL_DEPTH_MAX, 20)

    result = from_depth(base)
    assert result.value == CALL_DEPTH_MAX, result.error


def test_calls_that_cannot_work_are_found_by_the_lint() -> None:
    above = "class I(Interface):\n    @view\n    def f(self, a: int, b: int) -> int: ..."
    assert codes(contract("return I(ctx.this).g(1)", above=above)) == ["interface"]
    assert codes(contract("return I(ctx.this).f(1)", above=above)) == ["arguments"]
    assert codes(contract("return I(ctx.this).f(1, b=2)", above=above)) == []
    assert codes(contract("return I(ctx.this).f(b=1, a=2)", above=above)) == ["arguments"]
    assert codes(contract("return I(ctx.this, 1).f(1, 2)", above=above)) == ["arguments"]
    assert codes(contract("i = I(ctx.this)\nreturn i.f(1)", above=above)) == ["arguments"]
    assert codes(contract("i = I(ctx.this)\nreturn i.g(1)", above=above)) == ["method"]
    assert codes(contract("return I", above=above)) == ["name"]


def test_a_reference_is_no_value_for_borders() -> None:
    above = "class I(Interface):\n    @view\n    def f(self) -> int: ..."
    result = run("i = I(ctx.this)\nself.x.set(i)\nreturn 1", above=above, members="x: Value[Address]")
    assert result.error == "value of x: expected Address, not a reference (line 9)"
    assert run("return encode(I(ctx.this))", above=above, returns="bytes").status == Status.TYPE
    assert run("return I(b'x').f()", above=above).error == "expected Address, not bytes (line 7)"

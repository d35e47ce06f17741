"""Adding to stored integers: what commutes, what turns it into a read, what bounds and failures do, what it costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import pack
from chain.errors import InvariantError
from contracts.language import gas
from contracts.language.limits import INTEGER_MAX, INTEGER_MIN, KEY_BYTES_MAX
from contracts.runtime import Add, Outcome, integer_bytes, integer_of, settle
from contracts.runtime.errors import Status
from contracts.runtime.testing import DictState, LocalChain, Result
from contracts.system import SYSTEM_ADDRESS
from tests.unit.contracts.snippets import body_codes, codes, contract, run

MEMBERS = "total: Value[int]\nhits: Map[str, int]\npairs: Map[tuple[int, Address], int]\nname: Value[str]"
FULL = (INTEGER_MIN, INTEGER_MAX)


class Watched(DictState):
    """Notes what was asked for."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        super().__init__(values)
        self.asked: list[tuple[str, bytes]] = []

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        self.asked.append(("get", key))
        return super().get(key, default)

    def peek(self, key: bytes) -> bytes | None:
        self.asked.append(("peek", key))
        return super().get(key)

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self.asked.append(("scan", prefix))
        return super().scan(prefix, limit)


class World:
    """One contract with a body, and values stored for it."""

    def __init__(self, body: str, *, members: str = MEMBERS, above: str = "", returns: str = "int") -> None:
        self.chain = LocalChain()
        self.address = self.chain.deploy("c", contract(body, members=members, above=above, returns=returns))

    @property
    def total(self) -> bytes:
        return self.address + b"total\x00"

    def hits(self, name: str) -> bytes:
        return self.address + b"hits\x00" + pack(name)

    def run(self, **stored: int) -> Result:
        """Call `run` with these values stored: `total`, and any other name as a key of `hits`."""
        for name, value in stored.items():
            self.chain.state[self.total if name == "total" else self.hits(name)] = integer_bytes(value)
        self.state = self.chain.state = Watched(dict(self.chain.state))
        return self.chain.call(self.address, "run")

    def asked(self, *kinds: str) -> list[bytes]:
        """Keys of this contract that were asked for in these ways."""
        return [key for kind, key in self.state.asked if kind in kinds and key.startswith(self.address)]


def test_an_add_reads_nothing_and_leaves_a_sum_to_be_settled() -> None:
    world = World("self.total.add(5)\nself.hits.add('a', -2)\nreturn 1")
    result = world.run(total=7)
    assert world.asked("get", "scan") == []
    assert result.outcome.writes == {}
    assert result.outcome.adds == {
        world.total: Add(5, INTEGER_MIN - 5, INTEGER_MAX - 5),
        world.hits("a"): Add(-2, INTEGER_MIN + 2, INTEGER_MAX + 2),
    }
    assert (world.state[world.total], world.state[world.hits("a")]) == (pack(12), pack(-2))


def test_an_add_of_nothing_makes_the_key_exist() -> None:
    world = World("self.total.add(0)\nreturn 1")
    assert world.run().ok
    assert world.state[world.total] == pack(0)


def test_adds_to_one_key_sum_up_and_narrow_what_may_be_beneath() -> None:
    body = "self.total.add(5, maximum=20)\nself.total.add(-9, minimum=0)\nself.total.add(1)\nreturn 1"
    world = World(body)
    assert world.run(total=10).outcome.adds == {world.total: Add(-3, 4, 15)}
    assert world.asked("get") == []
    assert world.state[world.total] == pack(7)


@pytest.mark.parametrize(
    ("call", "stored", "error", "held"),
    [
        ("add(5, maximum=14)", 10, "above_maximum", None),
        ("add(-5, minimum=6)", 10, "below_minimum", None),
        ("add(1, minimum=5, maximum=0)", 2, "below_minimum", None),
        ("add(-1, minimum=0)", None, "below_minimum", None),
        ("add(1)", INTEGER_MAX, "integer_range", None),
        ("add(-1)", INTEGER_MIN, "integer_range", None),
        ("add(2 ** 300)", 0, "integer_range", None),
        ("add(1, maximum=2 ** 300)", INTEGER_MAX, "integer_range", None),
        ("add(-1, minimum=-(2 ** 300))", INTEGER_MIN, "integer_range", None),
        ("add(4, maximum=14)", 10, "", (INTEGER_MIN - 4, 10)),
        ("add(-4, minimum=6)", 10, "", (10, INTEGER_MAX + 4)),
        ("add(2 ** 255, maximum=2 ** 300)", -1, "", (INTEGER_MIN - 2**255, INTEGER_MAX - 2**255)),
    ],
)
def test_a_bound_is_held_or_the_call_fails(
    call: str, stored: int | None, error: str, held: tuple[int, int] | None
) -> None:
    world = World(f"self.total.{call}\nreturn 1")
    result = world.run() if stored is None else world.run(total=stored)
    if held is None:
        assert (result.status, result.error) == (Status.ARITHMETIC, f"{error} (line 8)")
        assert (result.outcome.writes, result.outcome.adds) == ({}, {})
        assert world.asked("get") == [world.total]  # a failure is decided on a value that counts as read
    else:
        ((_, low, high),) = result.outcome.adds.values()
        assert (low, high) == held and world.asked("get") == []


def test_a_failed_transaction_keeps_what_its_adds_observed_and_nothing_else() -> None:
    world = World("self.total.add(5, maximum=9)\nself.hits.add('a', 1)\nrevert('no')")
    outcome = world.run(total=3).outcome
    assert (outcome.status, outcome.error, outcome.writes) == (Status.REVERTED, "no", {})
    assert outcome.adds == {
        world.total: Add(None, INTEGER_MIN - 5, 4),
        world.hits("a"): Add(None, INTEGER_MIN - 1, INTEGER_MAX - 1),
    }
    assert world.state[world.total] == pack(3) and world.hits("a") not in world.state


def test_running_out_of_gas_keeps_observations_too() -> None:
    world = World("self.total.add(5)\nwhile True:\n    pass\nreturn 1")
    world.chain.gas_limit = 20_000
    outcome = world.run().outcome
    assert (outcome.status, outcome.adds) == (Status.OUT_OF_GAS, {world.total: Add(None, FULL[0] - 5, FULL[1] - 5)})


@pytest.mark.parametrize(
    ("read", "value"),
    [
        ("self.total.get()", 12),
        ("self.total.get(99)", 12),
        ("1 if self.total.exists() else 0", 1),
    ],
)
def test_reading_after_an_add_makes_it_a_read_and_a_write(read: str, value: int) -> None:
    world = World(f"self.total.add(5, maximum=50)\na = {read}\nself.total.add(1)\nb = {read}\nreturn a")
    result = world.run(total=7)
    assert result.value == value
    assert world.asked("get") == [world.total]
    assert result.outcome.writes == {world.total: pack(13)}
    assert result.outcome.adds == {world.total: Add(None, INTEGER_MIN - 5, 45)}


@pytest.mark.parametrize("read", ["self.hits['a']", "self.hits.get('a')", "1 if 'a' in self.hits else 0"])
def test_reading_a_map_s_item_after_an_add(read: str) -> None:
    world = World(f"self.hits.add('a', 1)\nself.hits.add('b', 1)\nreturn {read}")
    result = world.run()
    assert result.value == 1
    assert result.outcome.writes == {world.hits("a"): pack(1)}
    assert [(key, add.delta) for key, add in result.outcome.adds.items()] == [
        (world.hits("a"), None),
        (world.hits("b"), 1),
    ]


def test_a_scan_reads_the_adds_it_covers_and_no_others() -> None:
    body = """
    self.hits.add("b", 4)
    self.hits.add("a", 4)
    self.pairs.add((1, ctx.this), 4)
    self.pairs.add((2, ctx.this), 4)
    self.total.add(4)
    return sum([amount for key, amount in self.pairs.scan(1)]) * 1000 + sum([n * len(k) for k, n in self.hits.scan()])
    """
    world = World(body)
    result = world.run(a=10, cc=100)
    assert result.value == 4_000 + 14 + 4 + 200
    waiting = {key[20:].partition(b"\0")[0]: add.delta for key, add in result.outcome.adds.items() if add.delta}
    assert waiting == {b"pairs": 4, b"total": 4}
    assert len(result.outcome.writes) == 3


def test_a_scan_before_an_add_leaves_it_pending_and_a_scan_after_it_sees_it() -> None:
    world = World("a = len(self.hits.scan())\nself.hits.add('a', 1)\nb = len(self.hits.scan())\nreturn a * 10 + b")
    result = world.run(b=1)
    assert result.value == 12 and result.outcome.writes == {world.hits("a"): pack(1)}
    assert world.asked("scan") == [world.address + b"hits\x00"]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("a = self.total.get(0)", 12),
        ("a = self.total.exists()", 12),
        ("self.total.set(1)", 6),
        ("self.total.delete()", 5),
        ("a = self.total.get(0)\nself.total.delete()", 5),
    ],
)
def test_an_add_after_a_read_or_a_write_is_an_ordinary_change(before: str, expected: int) -> None:
    world = World(f"{before}\nself.total.add(5)\nreturn 1")
    outcome = world.run(total=7).outcome
    assert (outcome.writes, outcome.adds) == ({world.total: pack(expected)}, {})
    assert ("peek", world.total) not in world.state.asked


@pytest.mark.parametrize(
    ("after", "written"), [("self.total.set(3)", pack(3)), ("self.total.delete()", None)]
)
def test_a_write_over_an_add_keeps_only_the_observation(after: str, written: bytes | None) -> None:
    world = World(f"self.total.add(5, minimum=0)\n{after}\nreturn 1")
    outcome = world.run(total=7).outcome
    assert (outcome.writes, outcome.adds) == ({world.total: written}, {world.total: Add(None, -5, INTEGER_MAX - 5)})
    assert world.asked("get") == []
    assert world.state.get(world.total) == written


def test_wide_integers_are_summed_exactly() -> None:
    world = World("self.total.add(2 ** 200)\nself.total.add(-(2 ** 70))\nreturn 1")
    assert world.run(total=2**254 + 3).ok
    assert integer_of(world.state[world.total]) == 2**254 + 3 + 2**200 - 2**70
    world = World("self.total.add(2 ** 200)\nreturn self.total.get()")
    assert world.run(total=-(2**200) - 1).value == -1


# Failing callees

_ABOVE = """
class Self(Interface):
    @external
    def inner(self): ...
    @external
    def run(self) -> int: ...
    @view
    def look(self) -> int: ...
"""
_INNER = MEMBERS + """
@view
def look(self) -> int:
    return self.total.get(0)

@external
def inner(self):
    {}
    revert("no")
"""
_CATCH = "try:\n    Self(ctx.this).inner()\nexcept CallFailed:\n    pass\n"


def _nested(before: str, inner: str, after: str, **stored: int) -> tuple[World, Result]:
    members = _INNER.format(inner.replace("\n", "\n    "))
    world = World(f"{before}\n{_CATCH}{after}", members=members, above=_ABOVE)
    result = world.run(**stored)
    assert result.ok, result.error
    return world, result


def test_a_failed_callee_takes_its_adds_back_and_their_observation_stays() -> None:
    world, result = _nested("pass", "self.total.add(5, maximum=20)", "return 1", total=7)
    assert result.outcome.adds == {world.total: Add(None, INTEGER_MIN - 5, 15)}
    assert result.outcome.writes == {} and world.asked("get") == []
    assert world.state[world.total] == pack(7)


def test_the_caller_s_own_adds_stay() -> None:
    inner, after = "self.total.add(5, maximum=20)", "self.total.add(1)\nreturn 1"
    world, result = _nested("self.total.add(2)", inner, after, total=7)
    assert result.outcome.adds == {world.total: Add(3, INTEGER_MIN - 2, 13)}
    assert world.asked("get") == [] and world.state[world.total] == pack(10)


def test_an_add_again_after_one_taken_back() -> None:
    inner, after = "self.total.add(5, maximum=20)", "self.total.add(-1, minimum=0)\nreturn 1"
    world, result = _nested("pass", inner, after, total=7)
    assert result.outcome.adds == {world.total: Add(-1, 1, 15)}
    assert world.state[world.total] == pack(6)


def test_a_read_after_an_add_taken_back_is_a_read() -> None:
    world, result = _nested("pass", "self.total.add(5)", "a = self.total.get()\nself.total.add(1)\nreturn a", total=7)
    assert result.value == 7
    assert result.outcome.writes == {world.total: pack(8)}
    assert result.outcome.adds == {world.total: Add(None, INTEGER_MIN - 5, INTEGER_MAX - 5)}
    assert world.asked("get") == [world.total]


@pytest.mark.parametrize("inner", ["self.total.set(99)", "self.total.delete()", "self.total.add(1)\nself.total.set(9)"])
def test_a_write_of_a_failed_callee_over_the_caller_s_add_is_undone(inner: str) -> None:
    world, result = _nested("self.total.add(2)", inner, "return self.total.get()", total=7)
    assert result.value == 9 and world.state[world.total] == pack(9)


def test_a_read_in_a_failed_callee_stays_a_read_and_asks_the_state_once() -> None:
    """The sum that the callee read is gone with it, the reading is not: the caller's add does not commute any more."""
    world, result = _nested("self.total.add(2)", "a = self.total.get()\nself.total.add(a)", "return 1", total=7)
    assert result.outcome.writes == {world.total: pack(9)}
    assert [add.delta for add in result.outcome.adds.values()] == [None]
    world, result = _nested(
        "self.total.add(2)", "a = self.total.get()", "self.total.add(1)\nreturn self.total.get()", total=7
    )
    assert result.value == 10 and world.asked("get") == [world.total]


def test_an_add_that_fails_in_a_callee_after_one_of_the_caller() -> None:
    world, result = _nested("self.total.add(2)", "self.total.add(5, maximum=13)", "return 1", total=7)
    assert result.outcome.writes == {world.total: pack(9)}  # it was read to decide the failure
    assert result.outcome.adds == {world.total: Add(None, INTEGER_MIN - 2, INTEGER_MAX - 2)}
    assert world.asked("get") == [world.total]


def test_a_view_may_read_what_its_caller_added() -> None:
    members = _INNER.format("pass")
    world = World("self.total.add(2)\nreturn Self(ctx.this).look()", members=members, above=_ABOVE)
    result = world.run(total=7)
    assert result.value == 9 and result.outcome.writes == {world.total: pack(9)}


def test_a_view_adds_nothing() -> None:
    source = "class A(Contract):\n    x: Value[int]\n    m: Map[int, int]\n"
    source += "    @view\n    def f(self):\n        self.{}\n"
    assert codes(source.format("x.add(1)")) == codes(source.format("m.add(1, 1)")) == ["view_writes"]
    hidden = "class A(Contract):\n    x: Value[int]\n    @view\n    def f(self):\n        self._g()\n"
    hidden += "    def _g(self):\n        self.x.add(1)\n"
    chain = LocalChain()
    result = chain.call(chain.deploy("a", hidden), "f")
    assert (result.status, result.error) == (Status.FORBIDDEN, "write_in_view (line 7)")
    assert result.outcome.adds == {}


def test_a_read_of_a_view_that_adds_elsewhere_is_refused() -> None:
    above = "class Other(Interface):\n    @view\n    def inner(self): ..."
    members = "total: Value[int]\n@external\ndef inner(self):\n    self.total.add(1)\n"
    result = run("Other(ctx.this).inner()\nreturn 1", above=above, members=members)
    assert result.status == Status.FORBIDDEN


# What is stored is no integer any more

_WAS = """
class A(Contract):
    total: Value[str]

    @external
    def put(self, text: str):
        self.total.set(text)
"""
_NOW = """
class Self(Interface):
    @external
    def inner(self): ...

class A(Contract):
    total: Value[int]

    @external
    def add(self):
        self.total.add(1)

    @external
    def caught(self) -> str:
        try:
            Self(ctx.this).inner()
        except CallFailed as failure:
            self.total.set(3)
            return failure.reason
        return ""

    @external
    def inner(self):
        self.total.add(1)
"""


def test_after_an_upgrade_something_else_may_be_stored() -> None:
    chain = LocalChain()
    address = chain.deploy("a", _WAS)
    costs = []
    for text in ("short", "l" * 100_000):
        chain.call(address, "put", text)
        assert chain.call(SYSTEM_ADDRESS, "upgrade", address, _NOW).ok
        result = chain.call(address, "add")
        assert (result.status, result.error) == (Status.TYPE, "expected int, not str (line 11)")
        costs.append(result.gas_used)
        assert chain.call(address, "caught").value == "expected int, not str (line 24)"
        assert chain.call(address, "add").ok and chain.state[address + b"total\x00"] == pack(4)
        assert chain.call(SYSTEM_ADDRESS, "upgrade", address, _WAS).ok
    assert costs[1] > costs[0] + 100_000  # looking at a long one is paid for


@pytest.mark.parametrize(
    ("other", "name"), [(None, "None"), (True, "bool"), (b"", "bytes"), ((1, "x"), "tuple"), ("x" * 99, "str")]
)
@pytest.mark.parametrize("before", ["pass", "a = self.name.exists()", "self.hits.add('a', 1)"])
def test_what_is_stored_instead_is_named(other: object, name: str, before: str) -> None:
    world = World(f"{before}\nself.total.add(2)\nreturn 1")
    world.chain.state[world.total] = pack(other)  # type: ignore[arg-type]
    result = world.run()
    assert (result.status, result.error) == (Status.TYPE, f"expected int, not {name} (line 9)")


def test_deleting_first_makes_the_type_irrelevant() -> None:
    world = World("self.total.delete()\nself.total.add(2)\nreturn self.total.get()")
    world.chain.state[world.total] = pack("text")
    world.state = world.chain.state = Watched(dict(world.chain.state))
    assert world.chain.call(world.address, "run").value == 2


@pytest.mark.parametrize("other", [True, False, None, b"x", "x", (1,), ()])
def test_only_integers_are_integers(other: object) -> None:
    assert integer_of(pack(other)) is None  # type: ignore[arg-type]
    assert not Add(1, -(2**300), 2**300).holds(pack(other))  # type: ignore[arg-type]


@given(st.integers(-(2**256) + 1, 2**256 - 1))
def test_integers_have_one_stored_form(value: int) -> None:
    assert integer_bytes(value) == pack(value)
    assert integer_of(pack(value)) == value


def test_settling_refuses_a_value_the_adds_were_not_made_for() -> None:
    outcome = Outcome(0, 1, writes={b"w": b"\x01"}, adds={b"a": Add(5, 0, 10), b"b": Add(None, 7, 7)})
    assert settle(outcome, {b"a": pack(10)}.get) == {b"w": b"\x01", b"a": pack(15)}
    assert settle(outcome, lambda key: None) == {b"w": b"\x01", b"a": pack(5)}
    assert outcome.writes == {b"w": b"\x01"}
    for beneath in (pack(11), pack(-1), pack("x")):
        with pytest.raises(InvariantError, match="61 is settled on a value it was not made for"):
            settle(outcome, {b"a": beneath}.get)
    assert (Add(1, 0, 10).holds(None), Add(1, 1, 10).holds(None)) == (True, False)


# Reads and simulations

def test_a_simulation_shows_the_sum_and_keeps_nothing() -> None:
    world = World("self.total.add(5)\nreturn 1")
    world.chain.state[world.total] = pack(7)
    outcome = world.chain.read(world.address, "run").outcome
    assert (outcome.writes, outcome.adds) == ({world.total: pack(12)}, {})
    assert world.chain.state[world.total] == pack(7)
    failing = World("self.total.add(5)\nrevert('no')")
    outcome = failing.chain.read(failing.address, "run").outcome
    assert (outcome.status, outcome.writes, outcome.adds) == (Status.REVERTED, {}, {})


# Gas

def test_an_add_costs_the_same_whatever_is_there_and_whatever_was_done_before() -> None:
    world = World("self.total.add(5)\nreturn 1")
    plain = world.run().gas_used
    assert [world.run(total=value).gas_used for value in (0, 1, -(2**60), 2**64, 2**255)] == [plain] * 5
    base = run("return 1", members=MEMBERS).gas_used
    key = len(world.total)
    assert plain - base == gas.ADD + gas.CALL + gas.STATEMENT + 2 * gas.EXPRESSION + gas.WRITE_BYTE * key

    def second(before: str) -> int:
        with_add, without = (f"{before}\n{line}\nreturn 1" for line in ("self.total.add(5)", "pass"))
        return run(with_add, members=MEMBERS).gas_used - run(without, members=MEMBERS).gas_used

    befores = ("pass", "self.total.add(1)", "a = self.total.get(0)", "self.total.set(2 ** 99)", "self.total.delete()")
    assert {second(before) for before in befores} == {plain - base - gas.STATEMENT}


def test_the_key_of_an_add_is_paid_by_its_length() -> None:
    short, long = (run(f"self.hits.add('{name}', 1)\nreturn 1", members=MEMBERS) for name in ("a", "a" * 300))
    assert long.gas_used - short.gas_used >= 299 * gas.WRITE_BYTE


def test_a_scan_costs_the_same_whether_an_add_was_pending_or_had_to_read() -> None:
    lines = "self.hits.add('a', 1)\nself.total.add(1)\n"
    first = "b = self.hits.get('a', 0)\nc = self.total.get(0)\n"
    scan = "return len(self.hits.scan())"
    pending = World(lines + scan).run().gas_used - World(lines + "return 0").run().gas_used
    written = World(first + lines + scan).run().gas_used - World(first + lines + "return 0").run().gas_used
    assert pending == written


def test_an_add_that_was_paid_for_pays_for_reading_too() -> None:
    free = World("self.total.add(2 ** 200)\nreturn 1").run().gas_used
    read = World("self.total.add(2 ** 200)\na = self.total.get(0)\nreturn 1").run().gas_used
    assert read - free > gas.READ


def test_every_gas_limit_below_the_need_ends_out_of_gas() -> None:
    world = World("self.total.add(5)\nself.hits.add('a', 1)\nreturn self.total.get()")
    needed = world.run().gas_used
    for limit in [*range(0, needed, 131), needed - 1]:
        result = world.chain.call(world.address, "run", gas_limit=limit)
        assert (result.status, result.gas_used, result.outcome.writes) == (Status.OUT_OF_GAS, limit, {})
        assert all(add.delta is None for add in result.outcome.adds.values())


# The language

@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("self.total.add('1')", "amount of total: expected int, not str"),
        ("self.total.add(True)", "amount of total: expected int, not bool"),
        ("self.total.add(1, minimum=None)", "minimum of total: expected int, not None"),
        ("self.total.add(1, maximum=True)", "maximum of total: expected int, not bool"),
        ("self.hits.add(1, 1)", "key of hits: expected str, not int"),
        ("self.hits.add('a', b'')", "amount of hits: expected int, not bytes"),
        ("self.pairs.add((1,), 1)", "key of pairs: expected tuple of 2, not tuple"),
        ("self.pairs.add((1, b''), 1)", "key of pairs: expected Address, not bytes"),
    ],
)
def test_amount_bounds_and_key_are_checked(body: str, error: str) -> None:
    result = run(f"{body}\nreturn 1", members=MEMBERS)
    assert (result.status, result.error) == (Status.TYPE, f"{error} (line 8)")


def test_a_key_that_is_too_long() -> None:
    result = run(f"self.hits.add('a' * {KEY_BYTES_MAX}, 1)\nreturn 1", members=MEMBERS)
    assert (result.status, result.error) == (Status.LIMIT, "key_too_long (line 8)")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("self.total.add()", "arguments"),
        ("self.total.add(1, 2)", "arguments"),
        ("self.total.add(1, 0, 9)", "arguments"),
        ("self.total.add(amount=1)", "arguments"),
        ("self.total.add(1, lowest=0)", "arguments"),
        ("self.total.add(1, minimum=0, minimum=1)", "arguments"),
        ("self.hits.add('a')", "arguments"),
        ("self.hits.add('a', 1, 2)", "arguments"),
        ("self.hits.add('a', amount=1)", "arguments"),
        ("self.name.add('x')", "storage"),
        ("self.maybe.add(1)", "storage"),
        ("self.flags.add(1, True)", "storage"),
        ("self.log.add(1)", "storage"),
        ("self.total.add", "attribute"),
        ("self.total.add(1.5)", "float"),
        ("self.total.add(*[1])", "star"),
        ("self.total.add(1, **{})", "star"),
    ],
)
def test_add_has_one_form(body: str, code: str) -> None:
    members = MEMBERS + "\nmaybe: Value[int | None]\nflags: Map[int, bool]\nlog: List[int]"
    assert code in body_codes(f"{body}\nreturn 1", members=members)


def test_bounds_may_stand_in_any_order_and_be_computed() -> None:
    body = "low = -3\nself.total.add(low - 1, maximum=self.total.get(0) + 5, minimum=low * 2)\nreturn self.total.get()"
    assert run(body, members=MEMBERS).value == -4


def test_arguments_are_evaluated_from_left_to_right() -> None:
    members = MEMBERS + "\ndef _mark(self, letter, value):\n"
    members += "    self.name.set(self.name.get('') + letter)\n    return value"
    body = """
    self.hits.add(self._mark("k", "key"), self._mark("a", 1), maximum=self._mark("x", 5), minimum=self._mark("n", 0))
    return self.name.get()
    """
    assert run(body, members=members, returns="str").value == "kaxn"


def test_add_gives_no_value() -> None:
    assert run("return 1 if self.total.add(1) is None else 0", members=MEMBERS).value == 1


def test_a_local_value_and_another_contract_may_have_an_add_of_their_own() -> None:
    above = "class Sum(Interface):\n    @external\n    def add(self, a: int) -> int: ..."
    members = "total: Value[int]\n@external\ndef add(self, a: int) -> int:\n    self.total.add(a)\n    return a"
    assert run("return Sum(ctx.this).add(4)", above=above, members=members).value == 4
    assert body_codes("a = [1]\na.add(2)\nreturn 1") == ["method"]

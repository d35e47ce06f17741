"""Value, Map and List: what is stored under which key, what comes back, what a border refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import pack, unpack
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain
from tests.unit.contracts.snippets import contract, run

MEMBERS = """
total: Value[int]
name: Value[str]
point: Value[Point]
maybe: Value[int | None]
balances: Map[Address, int]
grid: Map[tuple[int, str], Point]
flags: Map[bytes, bool]
log: List[tuple[int, str]]
rows: Map[int, tuple[int, ...]]
"""
ABOVE = """
class Point(Struct):
    x: int
    label: str
    tags: tuple[bytes, ...] = ()
"""
WHO = bytes(range(20))


def _run(body: str) -> object:
    result = run(body, returns="bytes", members=MEMBERS, above=ABOVE)
    assert result.ok, result.error
    return unpack(result.value)


def test_a_value_is_missing_then_set_then_deleted() -> None:
    body = """
    a = (self.total.get(), self.total.get(5), self.total.get(default=6), self.total.exists())
    self.total.set(7)
    b = (self.total.get(), self.total.get(5), self.total.exists())
    self.total.delete()
    return encode(a, b, self.total.exists())
    """
    assert _run(body) == ((None, 5, 6, False), (7, 7, True), False)


def test_a_map_has_items_membership_and_defaults() -> None:
    body = """
    who = ctx.this
    a = (who in self.balances, self.balances.get(who), self.balances.get(who, 3))
    self.balances[who] = 5
    self.balances[who] += 2
    b = (who in self.balances, who not in self.balances, self.balances[who], self.balances.get(who, 3))
    del self.balances[who]
    return encode(a, b, who in self.balances)
    """
    assert _run(body) == ((False, None, 3), (True, False, 7, 7), False)


def test_a_missing_key_is_named() -> None:
    result = run("return self.balances[ctx.this]", members="balances: Map[Address, int]")
    assert (result.status, result.error) == (Status.MISSING_KEY, "missing_key: balances (line 5)")


def test_a_list_grows_and_is_indexed_from_both_ends() -> None:
    body = """
    before = len(self.log)
    self.log.append((1, "a"))
    self.log.append((2, "b"))
    self.log[0] = (9, "z")
    return encode(before, len(self.log), self.log[0], self.log[1], self.log[-1])
    """
    assert _run(body) == (0, 2, (9, "z"), (2, "b"), (2, "b"))


@pytest.mark.parametrize("index", [0, 1, -1, 2**70])
def test_an_index_outside_a_list(index: int) -> None:
    result = run(f"return self.log[{index}]", members="log: List[int]")
    assert (result.status, result.error) == (Status.MISSING_KEY, "index_out_of_range (line 5)")


def test_a_struct_is_stored_as_the_tuple_of_its_fields() -> None:
    chain = LocalChain()
    body = """
    self.point.set(Point(x=2 ** 200, label="ä", tags=[b"1", b"2"]))
    return encode(self.point.get())
    """
    address = chain.deploy("c", contract(body, returns="bytes", members=MEMBERS, above=ABOVE))
    stored = (2**200, "ä", (b"1", b"2"))
    assert unpack(chain.call(address, "run").value) == (stored,)
    assert chain.state[address + b"point\x00"] == pack(stored)


def test_storage_keys_are_where_the_state_layout_says() -> None:
    chain = LocalChain()
    body = """
    self.total.set(1)
    self.balances[ctx.this] = 2
    self.grid[(3, "x")] = Point(1, "p")
    self.flags[b"f"] = True
    self.log.append((1, "a"))
    return b""
    """
    address = chain.deploy("c", contract(body, returns="bytes", members=MEMBERS, above=ABOVE))
    writes = chain.call(address, "run").outcome.writes
    assert writes == {
        address + b"total\x00": pack(1),
        address + b"balances\x00" + pack(address): pack(2),
        address + b"grid\x00" + pack(3) + pack("x"): pack((1, "p", ())),
        address + b"flags\x00" + pack(b"f"): pack(True),
        address + b"log\x00" + bytes(8): pack((1, "a")),
        address + b"log\x01": pack(1),
    }


def test_scan_is_ascending_and_sees_the_transactions_own_writes() -> None:
    chain = LocalChain()
    source = contract(
        """
        if len(self.log) == 0:
            self.log.append((0, ""))
            for n in range(5):
                self.grid[(n // 3, str(n))] = Point(n, "old")
            return b""
        self.grid[(0, "1")] = Point(11, "new")
        self.grid[(0, "9")] = Point(9, "new")
        del self.grid[(0, "2")]
        return encode(self.grid.scan(0), len(self.grid.scan()), self.grid.scan(7))
        """,
        returns="bytes",
        members=MEMBERS,
        above=ABOVE,
    )
    address = chain.deploy("c", source)
    chain.call(address, "run")
    assert unpack(chain.call(address, "run").value) == (
        (((0, "0"), (0, "old", ())), ((0, "1"), (11, "new", ())), ((0, "9"), (9, "new", ()))),
        5,
        (),
    )


def test_scan_of_wide_and_scalar_keys() -> None:
    body = "self.rows[2 ** 100] = (1,)\nself.rows[5] = [2, 3]\nreturn encode(self.rows.scan())"
    assert _run(body) == (((5, (2, 3)), (2**100, (1,))),)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("self.total.set('x')", Status.TYPE, "value of total: expected int, not str"),
        ("self.total.set(True)", Status.TYPE, "value of total: expected int, not bool"),
        ("self.total.set(None)", Status.TYPE, "value of total: expected int, not None"),
        ("self.total.set(2 ** 256)", Status.ARITHMETIC, "integer_range"),
        ("self.total.set(-(2 ** 255) - 1)", Status.ARITHMETIC, "integer_range"),
        ("self.name.set(b'x')", Status.TYPE, "value of name: expected str, not bytes"),
        ("self.point.set((1, 'x', ()))", Status.TYPE, "expected Point, not tuple"),
        ("self.balances[b'x'] = 1", Status.TYPE, "key of balances: expected Address, not bytes"),
        ("self.grid[1] = Point(1, 'x')", Status.TYPE, "key of grid: expected tuple of 2, not int"),
        ("self.grid[(1, 2)] = Point(1, 'x')", Status.TYPE, "key of grid: expected str, not int"),
        ("self.flags[b'x'] = 1", Status.TYPE, "value of flags: expected bool, not int"),
        ("self.log.append((1, 2))", Status.TYPE, "expected str, not int"),
        ("self.log.append([1, 'x'])", Status.TYPE, "expected tuple[int, str], not list"),
        ("self.rows[1] = (1, 'x')", Status.TYPE, "expected int, not str"),
        ("self.rows[2 ** 256] = ()", Status.ARITHMETIC, "integer_range"),
        ("self.flags[bytes(500)] = True", Status.LIMIT, "key_too_long"),
        ("self.name.set('x' * 1048576)", Status.LIMIT, "value_size"),
        ("a = []\nfor n in range(40):\n    a = [a]\nself.rows[1] = a", Status.LIMIT, "value_nesting"),
        ("Point(1, 'x', [1])", Status.TYPE, "expected bytes, not int"),
    ],
)
def test_what_is_stored_is_of_the_declared_type(body: str, status: Status, error: str) -> None:
    result = run(body + "\nreturn b''", returns="bytes", members=MEMBERS, above=ABOVE)
    assert (result.status, result.error.partition(" (line")[0]) == (status, error)
    assert result.outcome.writes == {}


def test_no_live_object_escapes_from_storage() -> None:
    body = """
    mine = [1, 2]
    self.rows[1] = mine
    mine.append(3)
    first = self.rows[1]
    return encode(first, self.rows[1], first == (1, 2))
    """
    assert _run(body) == ((1, 2), (1, 2), True)
    frozen = "x = self.rows.get(1, (1,))\nx.append(4)\nreturn b''"
    assert run(frozen, members=MEMBERS, above=ABOVE, returns="bytes").error == "tuple has no method append (line 18)"


def test_an_optional_value_may_be_none() -> None:
    body = """
    self.maybe.set(None)
    a = (self.maybe.exists(), self.maybe.get(5))
    self.maybe.set(1)
    return encode(a, self.maybe.get())
    """
    assert _run(body) == ((True, None), 1)


def test_a_struct_of_an_upgrade_may_have_more_fields_with_defaults() -> None:
    chain = LocalChain()
    head = "class P(Struct):\n    x: int\n{}class A(Contract):\n    p: Value[P]\n"
    write = "    @external\n    def write(self, x: int):\n        self.p.set(P(x))\n"
    read = "    @view\n    def read(self) -> P:\n        return self.p.get()\n"
    address = chain.deploy("p", head.format("") + write + read)
    wider = head.format("    y: str = 'new'\n") + read
    for number in (5, 2**200):
        chain.call(address, "write", number)
        chain.call(bytes(19) + b"\x01", "upgrade", address, wider)
        assert chain.read(address, "read").value == (number, "new")
        chain.call(bytes(19) + b"\x01", "upgrade", address, head.format("") + write + read)
    chain.call(bytes(19) + b"\x01", "upgrade", address, head.format("    y: str\n") + read)
    assert chain.read(address, "read").status == Status.TYPE


_VALUES = st.tuples(
    st.integers(-(2**255), 2**256 - 1), st.text(max_size=40), st.lists(st.binary(max_size=40), max_size=5).map(tuple)
)
_CHAIN = LocalChain()
_ECHO = _CHAIN.deploy(
    "echo",
    """
class Point(Struct):
    x: int
    label: str
    tags: tuple[bytes, ...]

class Echo(Contract):
    point: Value[Point]
    deep: Value[tuple[Point | None, tuple[bool, ...]]]

    @external
    def run(self, point: Point, flags: tuple[bool, ...]) -> tuple[Point, Point | None, tuple[bool, ...]]:
        self.point.set(point)
        self.deep.set((point if len(flags) > 1 else None, flags))
        a, b = self.deep.get()
        return (self.point.get(), a, b)
""",
)


@given(point=_VALUES, flags=st.lists(st.booleans(), max_size=3).map(tuple))
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(point: tuple[object, ...], flags: tuple[bool, ...]) -> None:
    result = _CHAIN.call(_ECHO, "run", point, flags)
    assert result.ok, result.error
    assert result.value == (point, point if len(flags) > 1 else None, flags)
    assert _CHAIN.state[_ECHO + b"point\x00"] == pack(point)  # type: ignore[arg-type]
    assert result.outcome.writes[_ECHO + b"point\x00"] == pack(point)  # type: ignore[arg-type]

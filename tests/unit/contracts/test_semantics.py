"""The language means what Python means: the same body, translated and metered, and run by Python, agree."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import pack, unpack
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain
from tests.unit.contracts.snippets import contract, run

# Bodies of a method, a blank line after each; what they use of Python is what the language has.
_TEXT = Path(__file__).with_name("semantics.txt").read_text("utf-8")
_BODIES = [body.strip() for body in _TEXT.split("\n\n") if not body.startswith("#")]


def _by_python(body: str) -> Any:
    scope: dict[str, Any] = {}
    exec("def run():\n" + textwrap.indent(body, "    "), scope)  # noqa: S102
    return scope["run"]()


@pytest.mark.parametrize("body", _BODIES)
def test_a_body_gives_what_python_gives(body: str) -> None:
    head, _, last = body.rpartition("return ")
    result = run(f"{head}return encode({last})", returns="bytes")
    assert result.ok, result.error
    assert result.value == pack((_by_python(body),))


_INTEGERS = st.integers(-(2**255), 2**256 - 1) | st.integers(-5, 5)
_OPERATORS = ["+", "-", "*", "//", "%", "&", "|", "^", "<", "<=", "==", "!=", ">", ">="]
_CHAIN = LocalChain()
_ARITHMETIC = _CHAIN.deploy(
    "arithmetic",
    "class A(Contract):\n"
    + "".join(
        f"    @external\n    def fast{n}(self, a: int, b: int) -> bytes:\n        return encode(a {op} b)\n"
        f"    @external\n    def slow{n}(self, a: int, b: int) -> bytes:\n"
        f"        x = [a, b]\n        return encode(x[0] {op} x[1])\n"
        for n, op in enumerate(_OPERATORS)
    ),
)


@given(a=_INTEGERS, b=_INTEGERS, position=st.integers(0, len(_OPERATORS) - 1), way=st.sampled_from(["fast", "slow"]))
@settings(max_examples=150, deadline=None)
def test_integer_operators_agree_with_python(a: int, b: int, position: int, way: str) -> None:
    result = _CHAIN.read(_ARITHMETIC, f"{way}{position}", a, b)
    try:
        expected = eval(f"a {_OPERATORS[position]} b")  # noqa: S307
        packed = pack((expected,))
    except (ZeroDivisionError, OverflowError):
        assert result.status == Status.ARITHMETIC
    else:
        assert result.value == packed


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("return 1 // 0", Status.ARITHMETIC, "division_by_zero (line 4)"),
        ("return 1 % 0", Status.ARITHMETIC, "division_by_zero (line 4)"),
        ("return 2 ** 256", Status.ARITHMETIC, "integer_range"),
        ("return -(2 ** 255) - 1", Status.ARITHMETIC, "integer_range"),
        ("a = [2 ** 1000]\nreturn a[0] * a[0]", Status.ARITHMETIC, "integer_range (line 5)"),
        ("return 2 ** -1", Status.ARITHMETIC, "negative_exponent (line 4)"),
        ("return 1 << -1", Status.ARITHMETIC, "negative_shift (line 4)"),
        ("a = (1, 2)\nreturn a[5]", Status.MISSING_KEY, "index_out_of_range (line 5)"),
        ("a = {}\nreturn a['x']", Status.MISSING_KEY, "missing_key (line 5)"),
        ("a = [1]\na.remove(2)\nreturn 1", Status.MISSING_KEY, "missing_item (line 5)"),
        ("a = 1\nif a == 2:\n    b = 1\nreturn b", Status.TYPE, "unassigned_name (line 7)"),
        ("a, b = (1, 2, 3)\nreturn a", Status.TYPE, "bad_value (line 4)"),
        ("return 'x'", Status.TYPE, "expected int, not str"),
        ("return True", Status.TYPE, "expected int, not bool"),
        ("return None", Status.TYPE, "expected int, not None"),
        ("a = 'x'\nreturn a + 1", Status.TYPE, "wrong_type (line 5)"),
        ("a = 'x'\nb = [1]\nreturn a + b", Status.TYPE, "expected two values of one type to add, not list (line 6)"),
        ("a = 'x'\nreturn a - a", Status.TYPE, "expected int, not str (line 5)"),
        ("a = '%d'\nb = a % 1\nreturn 1", Status.TYPE, "expected int, not str (line 5)"),
        ("a = 'x'\nif a < 1:\n    pass\nreturn 1", Status.TYPE, "wrong_type (line 5)"),
        ("a = 'x'\nreturn a.append(1)", Status.TYPE, "str has no method append (line 5)"),
        ("a = 5\nfor x in a:\n    pass\nreturn 1", Status.TYPE, "expected something to iterate over, not int (line 5)"),
        ("a = 'x'\nreturn a[True]", Status.TYPE, "expected int as an index, not bool (line 5)"),
        ("return int('x')", Status.TYPE, "not_a_number (line 4)"),
        ("return int(' 1')", Status.TYPE, "not_a_number (line 4)"),
        ("return int('１２')", Status.TYPE, "not_a_number (line 4)"),
        ("a = [1]\nb = {}\nb[a] = 1\nreturn 1", Status.TYPE, "expected a key, not list (line 6)"),
        ("a = 'É'.lower()\nreturn 1", Status.TYPE, "ascii_only (line 4)"),
        ("a = b'\\xff'.decode()\nreturn 1", Status.TYPE, "bad_value (line 4)"),
        ("revert('because')", Status.REVERTED, "because"),
        ("require(1 > 2, 'smaller')\nreturn 1", Status.REVERTED, "smaller"),
        ("revert(5)", Status.TYPE, "expected str as a reason, not int (line 4)"),
        ("a = [3, 'x']\na.sort()\nreturn 1", Status.TYPE, "wrong_type (line 5)"),
        ("return min([])", Status.TYPE, "empty_sequence (line 4)"),
        ("return sha256('x')", Status.TYPE, "expected bytes, not str (line 4)"),
    ],
)  # fmt: skip
def test_a_fault_has_a_status_and_a_reason_with_the_line(body: str, status: Status, error: str) -> None:
    result = run(body)
    assert (result.status, result.error) == (status, error)


def test_the_error_of_an_index_is_that_of_python_for_bool() -> None:
    assert run("a = [1, 2]\ni = [True]\nreturn a[i[0]]").error == "expected int as an index, not bool (line 6)"


@pytest.mark.parametrize("step", ["a = a * a", "a *= a", "a = a + a", "a += a", "b = a\n    a = b * b"])
def test_a_parameter_that_is_assigned_again_is_no_longer_known_to_be_small(step: str) -> None:
    body = f"for n in range(2_000):\n    {step}\nreturn 1"
    result = run(body, 3, parameters="a: int")
    assert (result.status, result.error.partition(" ")[0]) == (Status.ARITHMETIC, "integer_range")


def test_a_reason_is_bounded() -> None:
    assert len(run("revert('x' * 10_000)").error) == 160


def test_value_is_evaluated_before_the_target_and_the_key_once() -> None:
    members = """
    order: Value[int]
    table: Map[int, int]
    def _next(self, n):
        self.order.set(self.order.get(0) * 10 + n)
        return n
    """
    body = """
    self.table[self._next(2)] = self._next(1)
    self.table[self._next(3)] = 0
    self.table[self._next(3)] += self._next(4)
    d = {}
    d[self._next(6)] = self._next(5)
    return self.order.get()
    """
    assert run(body, members=members).value == 1_233_456


def test_a_struct_is_immutable_compared_by_fields_and_replaced_by_copy() -> None:
    above = """
    class Point(Struct):
        x: int
        y: int = 7
    class Other(Struct):
        x: int
        y: int
    """
    body = """
    p = Point(1)
    q = p.replace(x=5)
    d = {p: 1}
    return encode(p.x, p.y, q.x, q.y, p == Point(x=1, y=7), p != q, p == (1, 7), p == Other(1, 7), p in d, q, q in [q])
    """
    result = run(body, above=above, returns="bytes")
    assert result.value == pack((1, 7, 5, 7, True, True, False, False, True, (5, 7), True))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return Point('a')", "Point.x: expected int, not str (line 7)"),
        ("return Point(True)", "Point.x: expected int, not bool (line 7)"),
        ("p = Point(1)\nreturn p.replace(x='a')", "Point.x: expected int, not str (line 8)"),
        ("return (1).replace(x=1)", "expected a struct to replace fields of, not int (line 7)"),
        ("a = 'x'\nreturn a.x", "no_such_field (line 8)"),
        ("return Point(1) < Point(2)", "wrong_type (line 7)"),
        ("return Point(1)[0]", "wrong_type (line 7)"),
        ("x, y = Point(1)\nreturn x", "wrong_type (line 7)"),
    ],
)
def test_a_struct_checks_its_fields(body: str, error: str) -> None:
    result = run(body, above="class Point(Struct):\n    x: int\n    y: int = 7")
    assert (result.status, result.error) == (Status.TYPE, error)


def test_constants_of_all_kinds() -> None:
    above = "A = 10 ** 18\nB = b'x'\nC = ('a', (1, -2))\nD = A // 3\nE = None\nF = True\nG: int = 4"
    assert run("return encode(A, B, C, D, E, F, G)", above=above, returns="bytes").value == pack(
        (10**18, b"x", ("a", (1, -2)), 10**18 // 3, None, True, 4)
    )


def test_private_helpers_take_defaults_and_keywords() -> None:
    members = "def _f(self, a, b=2, c: int = 3) -> tuple:\n    return (a, b, c)"
    body = "return encode(self._f(1), self._f(1, 5), self._f(1, c=9), self._f(a=4, b=5))"
    result = run(body, members=members, returns="bytes")
    assert result.value == pack(((1, 2, 3), (1, 5, 3), (1, 2, 9), (4, 5, 3)))


def test_every_builtin_and_method_of_the_vocabulary_is_there() -> None:
    from contracts.language.vocabulary import BUILTINS, CLASS_METHODS, METHODS
    from contracts.runtime.functions import FUNCTIONS
    from contracts.runtime.methods import VALUE_METHODS

    for name in BUILTINS:
        assert f"h__b_{name}" in FUNCTIONS or f"h__{name}" in FUNCTIONS, name
    for kind, name in CLASS_METHODS:
        assert f"h__c_{kind}_{name}" in FUNCTIONS
    for name in METHODS:
        assert f"h__m_{name}" in VALUE_METHODS


def test_context_fields() -> None:
    chain = LocalChain(time_ms=1_234)
    names = ["sender", "origin", "this", "height", "time_ms", "chain_id", "is_query", "is_signed", "transaction_hash"]
    body = f"return encode({', '.join(f'ctx.{name}' for name in names)})"
    address = chain.deploy("c", contract(body, returns="bytes"))
    alice = chain.account("alice")
    done = chain.call(address, "run", sender=alice)
    fields = chain.block()
    expected = (alice, alice, address, fields.height, 1_234, fields.chain_id)
    values = unpack(done.value)
    assert isinstance(values, tuple)
    assert values[:6] == expected and values[6:8] == (False, True)
    for signed in (False, True):
        read = unpack(chain.read(address, "run", sender=alice, signed=signed).value)
        assert isinstance(read, tuple)
        assert read[6:] == (True, signed, bytes(32))

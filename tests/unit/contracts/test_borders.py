"""Arguments, results, events, methods: what a call may bring and take."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import encode as encode_record
from chain.codec import pack
from chain.model.block import Event
from contracts.runtime.errors import Status
from contracts.runtime.frame import Outcome
from contracts.runtime.records import encode_value
from contracts.runtime.testing import LocalChain
from tests.unit.contracts.snippets import contract, run

_SOURCE = """
class Pair(Struct):
    a: int
    b: Address

class Noted(Event):
    who: Address
    number: int
    pairs: tuple[Pair, ...]

class Border(Contract):
    last: Value[int]

    @external
    def take(self, number: int, flag: bool, text: str, data: bytes, who: Address, pair: Pair | None) -> str:
        return text

    @external
    def nothing(self):
        pass

    @external
    def note(self, who: Address, number: int):
        emit(Noted(who=who, number=number, pairs=[Pair(1, who), Pair(number, who)]))

    @view
    def sneaky(self) -> int:
        return self._write()

    @view
    def loud(self) -> int:
        return self._shout()

    def _write(self):
        self.last.set(1)
        return 1

    def _shout(self):
        emit(Noted(who=ctx.this, number=1, pairs=()))
        return 1
"""
WHO = bytes(range(20))
_GOOD = (1, True, "t", b"d", WHO, (5, WHO))


@pytest.fixture(scope="module")
def world() -> tuple[LocalChain, bytes]:
    chain = LocalChain()
    return chain, chain.deploy("border", _SOURCE)


def _raw(chain: LocalChain, address: bytes, method: str, arguments: bytes) -> Outcome:
    return chain.machine.execute(
        chain.state,
        chain.block(),
        sender=WHO,
        transaction_hash=bytes(32),
        target=address,
        method=method,
        arguments=arguments,
        gas_limit=10_000_000,
    )


def test_good_arguments(world: tuple[LocalChain, bytes]) -> None:
    chain, address = world
    assert chain.call(address, "take", *_GOOD).value == "t"
    assert chain.call(address, "take", 2**256 - 1, False, "", b"", WHO, None).value == ""


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, "1", "take: expected int, not str"),
        (0, True, "take: expected int, not bool"),
        (0, -(2**256) + 1, "take: integer_range"),
        (1, 1, "take: expected bool, not int"),
        (2, b"t", "take: expected str, not bytes"),
        (3, "d", "take: expected bytes, not str"),
        (4, bytes(19), "take: an Address has 20 bytes, not 19"),
        (5, (5,), "take: expected Pair, not tuple"),
        (5, (5, WHO, 1), "take: expected Pair, not tuple"),
        (5, ("5", WHO), "take: expected int, not str"),
    ],
)
def test_bad_arguments_say_what_was_expected(
    world: tuple[LocalChain, bytes], position: int, value: object, error: str
) -> None:
    chain, address = world
    arguments = [*_GOOD[:position], value, *_GOOD[position + 1 :]]
    result = chain.call(address, "take", *arguments)
    assert (result.status, result.error) == (Status.BAD_ARGUMENTS, error)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (b"", "malformed arguments"),
        (b"\xc1", "malformed arguments"),
        (b"\x96\x01", "malformed arguments"),
        (b"\xdd\xff\xff\xff\xff", "malformed arguments"),
        (b"\x91" * 100_000, "malformed arguments"),
        (pack(5), "take: 6 arguments expected, no tuple of given"),
        (pack((1,)), "take: 6 arguments expected, 1 given"),
        (pack(_GOOD) + b"\x00", "malformed arguments"),
        (msgpack.packb([1.0, True, "t", b"d", WHO, None]), "malformed arguments"),
        (msgpack.packb([{}, True, "t", b"d", WHO, None]), "malformed arguments"),
        (b"\x96\xcc\x01" + pack(_GOOD)[2:], "malformed arguments"),  # the number 1 in two bytes: not canonical
        (pack(_GOOD).replace(b"\xa1t", b"\xa1\xff"), "malformed arguments"),  # not UTF-8
    ],
)
def test_malformed_arguments(world: tuple[LocalChain, bytes], arguments: bytes, error: str) -> None:
    chain, address = world
    outcome = _raw(chain, address, "take", arguments)
    assert (outcome.status, outcome.error) == (Status.BAD_ARGUMENTS, error)


def test_a_method_without_parameters_takes_the_empty_tuple_only(world: tuple[LocalChain, bytes]) -> None:
    chain, address = world
    done = _raw(chain, address, "nothing", pack(()))
    assert (done.status, done.result) == (Status.OK, b"")
    refused = _raw(chain, address, "nothing", pack((1,)))
    assert (refused.status, refused.error) == (Status.BAD_ARGUMENTS, "nothing: no arguments expected")


@pytest.mark.parametrize("method", ["missing", "_write", "init", "__class__", "run", "m__note", ""])
def test_only_public_methods_are_reached(world: tuple[LocalChain, bytes], method: str) -> None:
    chain, address = world
    result = chain.call(address, method)
    assert (result.status, result.error) == (Status.UNKNOWN_METHOD, f"unknown_method: {method}")


def test_an_event_carries_its_values_in_the_order_of_declaration(world: tuple[LocalChain, bytes]) -> None:
    chain, address = world
    result = chain.call(address, "note", WHO, 2**70)
    pairs = ((1, WHO), (2**70, WHO))
    assert result.events == [("Noted", {"who": WHO, "number": 2**70, "pairs": pairs})]
    assert result.outcome.events == (Event(contract=address, name="Noted", values=pack((WHO, 2**70, pairs))),)


def test_a_view_does_not_write_not_even_through_a_helper(world: tuple[LocalChain, bytes]) -> None:
    chain, address = world
    for result in (chain.call(address, "sneaky"), chain.read(address, "sneaky")):
        assert (result.status, result.error) == (Status.FORBIDDEN, "write_in_view (line 35)")
    assert chain.call(address, "loud").error == "event_in_view (line 39)"


def test_a_read_may_simulate_and_keeps_nothing(world: tuple[LocalChain, bytes]) -> None:
    chain, address = world
    before = dict(chain.state)
    result = chain.read(address, "note", WHO, 1)
    assert result.ok and len(result.events) == 1 and result.outcome.writes == {}
    assert dict(chain.state) == before


def test_unknown_contract() -> None:
    result = LocalChain().call(WHO, "x")
    assert (result.status, result.error) == (Status.UNKNOWN_CONTRACT, "unknown_contract")


@pytest.mark.parametrize(
    ("returns", "body", "expected"),
    [
        ("tuple[int, ...]", "return [1, 2]", (1, 2)),
        ("tuple[tuple[int, ...], ...]", "return [[1], (2, 3)]", ((1,), (2, 3))),
        ("tuple[int, str]", "return (1, 'x')", (1, "x")),
        ("int | None", "return None", None),
        ("int | None", "pass", None),
        ("Address", "return ctx.this", ...),
        ("tuple[int | None, ...]", "return (None, 2 ** 100)", (None, 2**100)),
    ],
)
def test_results_of_many_types(returns: str, body: str, expected: object) -> None:
    result = run(body, returns=returns)
    assert result.ok, result.error
    assert expected is ... or result.value == expected


def test_a_result_of_another_type_fails_the_call_and_leaves_nothing() -> None:
    chain = LocalChain()
    address = chain.deploy("c", contract("self.a.set(1)\nreturn 'x'", members="a: Value[int]"))
    result = chain.call(address, "run")
    assert (result.status, result.error, result.outcome.writes) == (Status.TYPE, "expected int, not str", {})


_LEAVES = st.none() | st.booleans() | st.integers(-(2**255), 2**256 - 1) | st.binary(max_size=50) | st.text(max_size=50)
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=20).map(tuple), max_leaves=30)


@given(_VALUES)
@settings(max_examples=200, deadline=None)
def test_both_encoders_make_the_same_bytes(value: object) -> None:
    packed = pack(value)  # type: ignore[arg-type]
    assert encode_value(value) == packed
    try:
        assert encode_record(value) == packed
    except OverflowError:
        assert b"\xc7" in packed or b"\xd8" in packed  # an integer wider than 64 bits

"""Gas: paid before it is spent, by size where size costs, the same on every node."""

from __future__ import annotations

import pytest

from chain.codec import pack
from contracts.language import compile_contract, gas
from contracts.runtime.errors import Status
from contracts.runtime.frame import Frame
from contracts.runtime.instance import Linked
from contracts.runtime.machine import Machine
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source
from contracts.system import SYSTEM_ADDRESS
from tests.unit.contracts.snippets import contract, run


def _used(body: str, members: str = "") -> int:
    result = run(body, members=members)
    assert result.ok, result.error
    return result.gas_used


def test_gas_is_the_same_warm_and_cold_and_whatever_ran_before() -> None:
    chain = LocalChain()
    bank = chain.deploy("bank", load_source("library/smallbank"))
    chain.call(bank, "create_accounts", 0, 10, 100, 100)

    def payment(machine: Machine) -> tuple[object, ...]:
        outcome = machine.execute(
            chain.state,
            chain.block(),
            sender=bank,
            transaction_hash=bytes(32),
            target=bank,
            method="send_payment",
            arguments=pack((1, 2, 3)),
            gas_limit=1_000_000,
        )
        return outcome.gas_used, outcome.writes, outcome.status

    warm = payment(chain.machine)
    cold = Machine()
    assert payment(cold) == warm == payment(cold)


def test_deploying_a_known_source_costs_what_it_cost_first() -> None:
    source = load_source("library/token")
    chain = LocalChain()
    used = [
        chain.call(SYSTEM_ADDRESS, "deploy", name, source, pack(("T", "T", 1))).gas_used
        for name in ("token_a", "token_b", "token_c")
    ]
    assert len(set(used)) == 1
    assert used[0] > gas.SOURCE_BYTE * len(source)


def test_every_limit_below_the_need_ends_out_of_gas_and_every_other_gives_the_same_outcome() -> None:
    chain = LocalChain()
    body = "a = 0\nfor n in range(12):\n    if n % 3 == 0:\n        a += n\nself.x.set(a)\nreturn a"
    address = chain.deploy("c", contract(body, members="x: Value[int]"))
    needed = chain.call(address, "run").gas_used
    for limit in [*range(0, needed, 97), needed - 1]:
        result = chain.call(address, "run", gas_limit=limit)
        assert (result.status, result.gas_used, result.outcome.writes) == (Status.OUT_OF_GAS, limit, {})
    for limit in (needed, needed + 1, 10 * needed):
        result = chain.call(address, "run", gas_limit=limit)
        assert (result.status, result.gas_used, result.value) == (Status.OK, needed, 18)


def test_gas_is_limited_by_the_blocks_rule_too() -> None:
    chain = LocalChain(gas_limit=10**12)
    address = chain.deploy("c", contract("while True:\n    pass"))
    assert chain.block().transaction_gas_max == 10**12
    small = LocalChain()
    address = small.deploy("c", contract("while True:\n    pass"))
    result = small.call(address, "run", gas_limit=10**15)
    assert (result.status, result.gas_used) == (Status.OUT_OF_GAS, small.block().transaction_gas_max)


def test_a_failed_call_pays_for_what_it_did() -> None:
    chain = LocalChain()
    address = chain.deploy("c", contract("for n in range(100):\n    pass\nrevert('x')"))
    result = chain.call(address, "run")
    assert result.status == Status.REVERTED
    assert gas.TRANSACTION + 100 * gas.ITERATION < result.gas_used < 10_000


def test_a_write_costs_the_same_whatever_was_there() -> None:
    chain = LocalChain()
    members = "m: Map[int, str]\nv: Value[int]"
    body = "self.m[1] = 'x' * 10\nself.v.set(7)\nreturn 1"
    address = chain.deploy("c", contract(body, members=members))
    first = chain.call(address, "run").gas_used
    chain.state[address + b"m\x00\x01"] = pack("y" * 5_000)
    assert chain.call(address, "run").gas_used == first
    del chain.state[address + b"m\x00\x01"]
    assert chain.call(address, "run").gas_used == first


@pytest.mark.parametrize(
    ("small", "large", "factor"),
    [
        ("a = 'x' * 100", "a = 'x' * 100_000", 10),
        ("a = [0] * 100", "a = [0] * 100_000", 10),
        ("a = bytes(100)", "a = bytes(100_000)", 10),
        ("a = list(range(100))", "a = list(range(100_000))", 10),
        ("a = sum(range(100))", "a = sum(range(100_000))", 10),
        ("a = sorted(range(100))", "a = sorted(range(100_000))", 10),
        ("a = [x for x in range(100)]", "a = [x for x in range(100_000)]", 10),
        ("a = sha256(bytes(100))", "a = sha256(bytes(1_000_000))", 10),
        ("a = keccak256(bytes(100))", "a = keccak256(bytes(1_000_000))", 10),
        ("a = encode('x' * 100)", "a = encode('x' * 1_000_000)", 10),
        ("a = ','.join(['x'] * 100)", "a = ','.join(['x'] * 100_000)", 10),
        ("a = ('x' * 100).find('y')", "a = ('x' * 1_000_000).find('y')", 10),
        ("b = 'x' * 100\na = b + b", "b = 'x' * 400_000\na = b + b", 10),
        ("b = 'x' * 100\na = b[1:]", "b = 'x' * 400_000\na = b[1:]", 10),
        ("b = [0] * 100\na = 1 in b", "b = [0] * 100_000\na = 1 in b", 10),
        ("for n in range(100):\n    pass", "for n in range(100_000):\n    pass", 100),
    ],
)
def test_what_is_larger_costs_more(small: str, large: str, factor: int) -> None:
    assert _used(f"{large}\nreturn 1") > factor * _used(f"{small}\nreturn 1") / 2


@pytest.mark.parametrize("key", ["(1, n)", "n + 2 ** 70"])
def test_keys_whose_hashes_can_be_chosen_pay_for_the_crowd(key: str) -> None:
    body = "d = {{{} + 1: 0 for n in range(500)}}\nfor n in range(100):\n    a = {} in d\nreturn 1"
    plain = _used(body.format("n", "n"))
    crowded = _used(body.format("n", "n").replace(" n in d", f" {key} in d"))
    assert crowded - plain > 100 * 500 * gas.DICT_CROWD


def test_storage_bytes_read_and_written_cost() -> None:
    members = "m: Map[int, bytes]"
    write = "self.m[1] = bytes({})\nreturn 1"
    extra = _used(write.format(10_000), members=members) - _used(write.format(1_000), members=members)
    assert extra >= 9_000 * (gas.WRITE_BYTE + gas.BYTE_NEW)
    read = "self.m[1] = bytes({})\na = self.m[1]\nreturn 1"
    both = _used(read.format(10_000), members=members) - _used(read.format(1_000), members=members)
    assert both >= extra + 9_000 * gas.READ_BYTE


def test_untaken_branches_are_free() -> None:
    heavy = "\n    ".join(f"b{n} = sha256(b'')" for n in range(50))
    assert _used(f"a = 1\nif a == 2:\n    {heavy}\nreturn 1") < _used(f"a = 1\nif a == 1:\n    {heavy}\nreturn 1") / 3


def test_a_comprehension_pays_for_all_rounds_before_the_first() -> None:
    result = run("a = [n for n in range(1_000_000)]\nreturn 1", gas_limit=100_000)
    assert (result.status, result.gas_used) == (Status.OUT_OF_GAS, 100_000)


def test_the_gas_table_is_pinned() -> None:
    """Gas is consensus: a change here is a new rule set, not an edit."""
    chain = LocalChain()
    bank = chain.deploy("bank", load_source("library/smallbank"))
    chain.call(bank, "create_accounts", 0, 10, 100, 100)
    assert chain.call(bank, "send_payment", 1, 2, 3).gas_used == PINNED_PAYMENT


PINNED_PAYMENT = 5_241


def test_itemised_code_pays_the_same_line_by_line() -> None:
    lines: dict[int, int] = {}

    def pay(x: Frame, items: tuple[tuple[int, int], ...]) -> None:
        for line, cost in items:
            lines[line] = lines.get(line, 0) + cost
            x.gas -= cost

    class Itemised(Machine):
        def link(self, source: str) -> Linked:
            return Linked(compile_contract(source, self.rule_set, itemised=True), {"h__pay": pay})

    body = '''
    """Not the line of the entry cost."""
    a = 0
    for n in range(rounds):
        a += n
        if n > 2:
            a += 1
    while a > 100:
        a -= 60
    self.total.add(a, minimum=0)
    return a
    '''
    source = contract(body, members="total: Value[int]", parameters="rounds: int")
    outcomes = []
    for machine in (Machine(), Itemised()):
        chain = LocalChain()
        chain.machine = machine
        address = chain.deploy("c", source)
        outcomes.append([chain.call(address, "run", rounds, gas_limit=40_000).outcome for rounds in (0, 1, 20, 9_999)])
    assert outcomes[0] == outcomes[1]
    assert [outcome.status for outcome in outcomes[0]] == [Status.OK, Status.OK, Status.OK, Status.OUT_OF_GAS]
    first = source.split("\n").index("        a = 0") + 1
    assert lines[first - 1] < lines[first] < lines[first + 2]  # the docstring, the first statement, the busiest
    assert set(lines) == {first - 1, *range(first, first + 9)}

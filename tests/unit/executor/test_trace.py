"""What a traced transaction tells: the tree of calls, the accesses in words of the source, and where the gas went."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from chain.cli.demo.credit_flow import credit_phases, load_german_credit
from chain.codec import decode, encode, pack
from chain.model.block import Receipt
from contracts.credit import SUITE
from contracts.language import gas
from contracts.runtime import BlockContext, Machine, Outcome, State
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source
from contracts.system import SYSTEM_ADDRESS
from executor.outcome import ExecutionInput
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.state import BaseState
from executor.trace import trace_call, trace_transaction
from executor.trace_names import text_of
from executor.trace_result import Access, CallTrace, Emitted, Step, TransactionTrace
from executor.transactions import Call, ChainContext
from tests.unit.credit.flow_runner import parties_of, run
from tests.unit.credit.suite_world import SuiteWorld
from tests.unit.executor.workbench import CHAIN_ID, deployment, transaction

VAULT = '''"""Keeps amounts, asks a bell to ring."""


class Bell(Interface):
    @external
    def ring(self, times: int, crack: bool) -> int: ...

    @external
    def wrong(self) -> int: ...


class Item(Struct):
    owner: Address
    amount: int


class Kept(Event):
    who: Address
    amount: int


class Vault(Contract):
    total: Value[int]
    items: Map[tuple[int, str], Item]
    log: List[int]

    def init(self, start: int):
        self.total.set(start)

    @external
    def keep(self, shelf: int, name: str, amount: int) -> Item:
        require(amount > 0, "nothing")
        item = Item(owner=ctx.sender, amount=amount)
        self.items[(shelf, name)] = item
        self.total.set(self.total.get() + amount)
        self.total.set(self.total.get() + self._bonus(amount))
        self.log.append(amount)
        emit(Kept(who=ctx.sender, amount=amount))
        return self.items[(shelf, name)]

    def _bonus(self, amount):
        bonus = 0
        for step in range(amount % 7):
            bonus += step
        return bonus

    @external
    def shelf(self, shelf: int) -> int:
        found = 0
        for key, item in self.items.scan(shelf):
            found += item.amount
        return found

    @external
    def ring(self, bell: Address, times: int, crack: bool) -> str:
        self.total.set(1)
        outcome = "rung"
        try:
            Bell(bell).ring(times, crack)
        except CallFailed as failure:
            outcome = failure.reason
        return outcome

    @external
    def ring_twice(self, bell: Address) -> int:
        times = Bell(bell).ring(1, False)
        try:
            Bell(bell).ring(1, True)
        except CallFailed:
            times += 100
        return times

    @external
    def ring_hard(self, bell: Address, times: int) -> int:
        return Bell(bell).ring(times, True)

    @external
    def ask_wrongly(self, bell: Address) -> int:
        return Bell(bell).wrong()

    @external
    def burn(self):
        while True:
            self.total.set(self.total.get() + 1)

    @external
    def dive(self, bell: Address) -> int:
        while Bell(bell).ring(3, False) > 0:
            pass
        return 0
'''

BELL = '''"""Rings."""


class Rung(Event):
    times: int


class Bell(Contract):
    rings: Map[Address, int]

    @external
    def ring(self, times: int, crack: bool) -> int:
        self.rings[ctx.sender] = self.rings.get(ctx.sender, 0) + times
        emit(Rung(times=times))
        require(not crack, "cracked")
        return times

    @external
    def wrong(self) -> str:
        return "no number"
'''

COUNTER = '''"""Adds without reading."""


class Counter(Contract):
    total: Value[int]

    @external
    def up(self, amount: int):
        self.total.add(amount)

    @external
    def up_and_look(self, amount: int) -> int:
        self.total.add(amount)
        self.total.add(amount)
        return self.total.get()
'''


class Checking(Machine):
    """Traces every transaction before it executes it, and compares."""

    def __init__(self, rule_set: int) -> None:
        super().__init__(rule_set)
        self.traces: list[TransactionTrace] = []

    def execute(
        self, state: State, block: BlockContext, *, sender: bytes, transaction_hash: bytes, target: bytes, method: str,
        arguments: bytes, gas_limit: int,
    ) -> Outcome:  # fmt: skip
        call = Call(transaction_hash, sender, target, method, arguments, gas_limit)
        trace = trace_call(call, state=state, context=block)
        outcome = super().execute(
            state, block, sender=sender, transaction_hash=transaction_hash, target=target, method=method,
            arguments=arguments, gas_limit=gas_limit,
        )  # fmt: skip
        receipt = Receipt(
            transaction_hash=transaction_hash, status=outcome.status, gas_used=outcome.gas_used, result=outcome.result,
            error=outcome.error, events=outcome.events,
        )  # fmt: skip
        assert trace.receipt == encode(receipt)
        assert trace.call_gas + sum(source.gas for source in trace.sources) == trace.gas_used == outcome.gas_used
        assert trace.call.gas_used == trace.gas_used
        assert all(line.gas >= 0 for source in trace.sources for line in source.lines)
        json.dumps(trace.document())
        self.traces.append(trace)
        return outcome


class Traced(LocalChain):
    """A chain whose last transaction was traced."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.machine: Checking = Checking(self.machine.rule_set)

    @property
    def last(self) -> TransactionTrace:
        return self.machine.traces[-1]


@pytest.fixture
def chain() -> Traced:
    return Traced()


def accesses(steps: tuple[Step, ...]) -> list[tuple[str, str, str]]:
    """(kind, name, value) of the accesses to contracts' own variables, calls left out."""
    return [
        (step.kind, step.name, text_of(step.value))
        for step in steps
        if isinstance(step, Access) and step.contract != SYSTEM_ADDRESS
    ]


def test_accesses_stand_in_order_in_words_of_the_source(chain: Traced) -> None:
    alice = chain.account("alice")
    vault = chain.deploy("vault", VAULT, 100, sender=alice)
    chain.call(vault, "keep", 3, "cup", 5, sender=alice)
    call = chain.last.call
    item = f"{{owner: 0x{alice.hex()}, amount: 5}}"
    assert accesses(call.steps) == [
        ("write", 'items[3, "cup"]', item),
        ("read", "total", "100"),
        ("write", "total", "105"),
        ("read", "total", "105"),
        ("write", "total", "115"),
        ("read", "len(log)", "null"),
        ("write", "log[0]", "5"),
        ("write", "len(log)", "1"),
        ("read", 'items[3, "cup"]', item),
    ]
    assert [step.own for step in call.steps if isinstance(step, Access) and step.kind == "read"][-1]
    assert (call.contract_name, call.method) == ("vault", "keep")
    assert call.arguments == {"shelf": 3, "name": "cup", "amount": 5}
    assert call.result == {"owner": alice, "amount": 5}
    events = [step for step in call.steps if isinstance(step, Emitted)]
    assert [(event.name, event.fields) for event in events] == [("Kept", {"who": alice, "amount": 5})]


def test_the_code_that_a_call_finds_is_a_read_and_its_source_is_none(chain: Traced) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    chain.call(vault, "shelf", 1)
    read, *_ = chain.last.call.steps
    assert isinstance(read, Access)
    assert (read.kind, read.contract, read.variable, read.key) == ("read", SYSTEM_ADDRESS, "contracts", (vault,))
    assert isinstance(read.value, dict)
    assert read.value["name"] == "vault"
    assert not any(isinstance(step, Access) and step.variable == "sources" for step in chain.last.call.steps)


def test_a_scan_says_how_much_it_found(chain: Traced) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    for name in ("cup", "jug"):
        chain.call(vault, "keep", 3, name, 5)
    assert chain.call(vault, "shelf", 3).value == 10
    assert accesses(chain.last.call.steps) == [("scan", "items[3, *]", "2")]


def test_gas_stands_at_the_lines_that_used_it(chain: Traced) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    chain.call(vault, "keep", 3, "cup", 6)
    (source,) = chain.last.sources
    by_text = {line.text.strip(): line for line in source.lines}
    assert by_text["bonus += step"].times == 6
    assert 0 < by_text["return bonus"].gas < 10  # what follows in the caller is the caller's line's
    assert by_text["self.total.set(self.total.get() + self._bonus(amount))"].gas > gas.READ + gas.WRITE
    assert by_text["bonus += step"].gas % 6 == 0
    assert by_text["self.log.append(amount)"].gas > 2 * by_text["bonus = 0"].gas > 0
    assert "found = 0" not in by_text
    assert not any('"""' in text for text in by_text)
    assert all(VAULT.splitlines()[line.line - 1] == line.text for line in source.lines)


def test_calls_nest_and_a_failure_that_was_caught_leaves_its_part_of_the_tree(chain: Traced) -> None:
    vault, bell = chain.deploy("vault", VAULT, 100), chain.deploy("bell", BELL)
    assert chain.call(vault, "ring", bell, 2, True).value == "cracked"
    root = chain.last.call
    (inner,) = [step for step in root.steps if isinstance(step, CallTrace)]
    assert (root.status, root.error, root.result) == (0, "", "cracked")
    assert (inner.contract_name, inner.method, inner.error, inner.status) == ("bell", "ring", "cracked", 1)
    assert inner.arguments == {"times": 2, "crack": True}
    assert accesses(inner.steps) == [
        ("read", f"rings[0x{vault.hex()}]", "null"),
        ("write", f"rings[0x{vault.hex()}]", "2"),
    ]
    assert [step.name for step in inner.steps if isinstance(step, Emitted)] == ["Rung"]
    assert 0 < inner.gas_used < root.gas_used
    assert inner.call_gas < gas.CONTRACT_CALL < gas.TRANSACTION < root.call_gas
    calling = next(line for line in chain.last.sources[0].lines if "ring(times, crack)" in line.text)
    assert calling.gas > gas.CONTRACT_CALL  # the price of a call is its caller's
    assert [source.contract_name for source in chain.last.sources] == ["vault", "bell"]


def test_taking_a_failed_call_back_is_no_access_of_anyone(chain: Traced) -> None:
    vault, bell = chain.deploy("vault", VAULT, 100), chain.deploy("bell", BELL)
    assert chain.call(vault, "ring_twice", bell).value == 101
    root, first, second = chain.last.call.calls()
    assert accesses(root.steps) == []
    key = f"rings[0x{vault.hex()}]"
    assert accesses(first.steps) == [("read", key, "null"), ("write", key, "1")]
    assert accesses(second.steps) == [("read", key, "1"), ("write", key, "2")]
    assert [step.own for step in second.steps if isinstance(step, Access)] == [False, True, False]


def test_a_failure_that_nobody_caught_is_named_in_every_call_it_ended(chain: Traced) -> None:
    vault, bell = chain.deploy("vault", VAULT, 100), chain.deploy("bell", BELL)
    assert not chain.call(vault, "ring_hard", bell, 2).ok
    assert [(call.method, call.error) for call in chain.last.call.calls()] == [
        ("ring_hard", "cracked"),
        ("ring", "cracked"),
    ]


def test_a_result_of_another_type_fails_the_call_though_the_callee_went_well(chain: Traced) -> None:
    vault, bell = chain.deploy("vault", VAULT, 100), chain.deploy("bell", BELL)
    assert chain.call(vault, "ask_wrongly", bell).status == Status.TYPE
    _, inner = chain.last.call.calls()
    assert inner.status == Status.TYPE
    assert inner.error


def test_calls_that_never_begin_are_shown(chain: Traced) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    nobody = chain.account("nobody")
    assert chain.call(vault, "ring", nobody, 1, False).value.startswith("unknown_contract")
    _, inner = chain.last.call.calls()
    assert (inner.contract, inner.status) == (nobody, Status.UNKNOWN_CONTRACT)
    assert chain.call(nobody, "anything", 1).status == Status.UNKNOWN_CONTRACT
    assert chain.last.call.status == Status.UNKNOWN_CONTRACT
    assert chain.last.sources == ()


@pytest.mark.parametrize("gas_limit", [0, 10, 2_000, 2_299, 2_300, 2_500, 5_000, 12_345, 100_000])
def test_a_transaction_out_of_gas_accounts_for_its_whole_limit(chain: Traced, gas_limit: int) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    assert chain.call(vault, "burn", gas_limit=gas_limit).status == Status.OUT_OF_GAS
    assert chain.last.gas_used == gas_limit
    assert chain.last.call.error == "out_of_gas"


@pytest.mark.parametrize("gas_limit", range(6_000, 40_000, 1_111))
def test_gas_may_end_anywhere_in_nested_calls(chain: Traced, gas_limit: int) -> None:
    vault, bell = chain.deploy("vault", VAULT, 100), chain.deploy("bell", BELL)
    assert chain.call(vault, "dive", bell, gas_limit=gas_limit).status == Status.OUT_OF_GAS


def test_adds_are_told_from_reads_and_writes(chain: Traced) -> None:
    counter = chain.deploy("counter", COUNTER)
    chain.call(counter, "up", 5)
    assert accesses(chain.last.call.steps) == [("add", "total", "5")]
    assert chain.call(counter, "up_and_look", 2).value == 9
    assert accesses(chain.last.call.steps) == [
        ("add", "total", "2"),
        ("add", "total", "2"),
        ("read", "total", "5"),
        ("write", "total", "9"),
    ]


def test_deployments_and_their_init_are_traced(chain: Traced) -> None:
    chain.deploy("vault", VAULT, 100)
    deploy, init = chain.last.call.calls()
    assert (deploy.contract_name, deploy.method, init.contract_name, init.method) == (
        "system", "deploy", "vault", "init",
    )  # fmt: skip
    assert init.arguments == {"start": 100}
    assert accesses(init.steps) == [("write", "total", "100")]
    assert [step.name for step in deploy.steps if isinstance(step, Emitted)] == ["Deployed"]
    assert isinstance(deploy.arguments, dict)
    assert deploy.arguments["name"] == "vault"


def test_arguments_that_are_no_values_are_shown_as_bytes(chain: Traced) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    call = Call(bytes(32), bytes(20), vault, "keep", b"\xc1", 1_000_000)
    trace = trace_call(call, state=chain.state, context=chain.block())
    assert trace.status == Status.BAD_ARGUMENTS
    assert trace.call.arguments == b"\xc1"


def test_every_transaction_of_the_credit_demo_adds_up() -> None:
    world = SuiteWorld(SUITE, {"operator": "regulator"})
    machine = world.chain.machine = Checking(world.chain.machine.rule_set)
    phases = credit_phases(load_german_credit(3), parties_of(world, 3), seed=b"trace", now_ms=world.time_ms)
    assert run(world, phases) == []
    assert len(machine.traces) > 25
    assert any(len(list(trace.call.calls())) > 4 for trace in machine.traces)


@pytest.mark.parametrize("rule_set", [1, 2])
def test_every_transaction_of_smallbank_adds_up(rule_set: int) -> None:
    chain = Traced(rule_set=rule_set)
    bank = chain.deploy("bank", load_source("library/smallbank"))
    chain.call(bank, "create_accounts", 0, 5, 100, 100)
    for amount in (1, 50, 1_000):
        for method, arguments in (
            ("send_payment", (0, 1, amount)), ("write_check", (1, amount)), ("amalgamate", (2, 3)),
            ("transact_savings", (4, -amount)), ("deposit_checking", (4, amount)), ("balance", (77,)),
        ):  # fmt: skip
            chain.call(bank, method, *arguments)
    assert len(chain.machine.traces) == 20


def test_nothing_is_left_behind(chain: Traced) -> None:
    vault = chain.deploy("vault", VAULT, 100)
    before = dict(chain.state), sys.gettrace()
    call = Call(bytes(32), bytes(20), vault, "keep", pack((1, "a", 2)), 1_000_000)
    trace_call(call, state=chain.state, context=chain.block())
    assert (dict(chain.state), sys.gettrace()) == before


class Empty:
    """A snapshot at height 0 with nothing in it."""

    def refresh(self) -> int:
        return 0

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(self, prefix: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        return []

    def state_root(self) -> bytes:
        return bytes(32)

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_transaction_is_traced_where_it_stood_and_sees_who_wrote_before_it() -> None:
    context = ChainContext(chain_id=CHAIN_ID, rule_set=2, transaction_gas_max=100_000_000, deployers=())
    deploy, vault = deployment(1, "vault", VAULT, (100,))
    raws = [
        deploy,
        transaction(1, vault, "keep", (3, "cup", 5)),
        transaction(2, vault, "keep", (4, "cup", 0)),
        transaction(3, vault, "shelf", (3,)),
        transaction(4, vault, "keep", (3, "jug", 7)),
    ]
    block = ExecutionInput.of(height=1, time_ms=1_700_000_000_000, transactions=raws)
    base = BaseState(Empty())
    done = execute_serially(block, base=base, machine=Machine(2), chain=context, progress=NoProgress())
    for position in range(len(raws)):
        trace = trace_transaction(block, position, base=base, chain=context)
        assert trace.receipt == done.receipts[position]
        assert trace.position == position
        assert trace.transaction_hash == decode(Receipt, done.receipts[position]).transaction_hash
    seen = {step.name: step.writers for step in trace.call.steps if isinstance(step, Access) and step.kind == "read"}
    assert seen["total"] == ()  # the last read of it sees the transaction's own write
    first = {
        step.name: step.writers
        for step in reversed(trace.call.steps)
        if isinstance(step, Access) and step.kind == "read"
    }
    assert (first["total"], first["len(log)"]) == ((1,), (1,))
    assert first[f"contracts[0x{vault.hex()}]"] == (0,)
    scan = trace_transaction(block, 3, base=base, chain=context).call.steps[-1]
    assert isinstance(scan, Access)
    assert (scan.kind, scan.writers) == ("scan", (1,))

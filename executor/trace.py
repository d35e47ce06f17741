"""Runs one transaction where it stood in its block and tells what it did: calls, accesses, events, gas by line.

The transaction runs on the same machine as ever; nothing in the machine knows of this. A subclass sees the calls, the
context's containers are replaced by ones that take notes, contracts are compiled so that each basic block's price is
paid line by line, and Python's own line tracing tells which line spent what depends on sizes. What is not traced pays
nothing for all this.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import FrameType, MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

from chain.errors import InvariantError
from chain.model.block import Event
from contracts.language.compiler import CODE_FILE, code_hash, compile_contract
from contracts.runtime import BlockContext, Machine, Outcome, State, settle
from contracts.runtime.adds import Missing, Pending
from contracts.runtime.errors import CALL_ERRORS, Status, contract_error
from contracts.runtime.frame import Context, Frame
from contracts.runtime.instance import Instance, Linked
from contracts.system.contract import SYSTEM_ADDRESS
from contracts.system.registry import ContractRecord, source_key
from executor.outcome import ExecutionInput
from executor.state import BaseState, BlockState
from executor.trace_names import Names
from executor.trace_result import Access, AccessKind, CallTrace, Emitted, LineGas, SourceGas, Step, TransactionTrace
from executor.transactions import Call, ChainContext, call_at, run_call

COMPILED_MAX: Final = 64  # sources kept in their itemised form
_OUTSIDE: Final = 0  # in place of a line number: gas that belongs to no line
_SOURCES: Final = source_key(b"")[:-2]  # where the system contract keeps sources
T = TypeVar("T")


def trace_transaction(
    block: ExecutionInput,
    position: int,
    *,
    base: BaseState,
    chain: ChainContext,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TransactionTrace:
    """What the transaction at `position` of a block does, on the state `base` before the block and what the
    transactions before it write. `progress` is told (transactions run, transactions to run).

    Raises:
        InvariantError: our bug, as in any execution of the block.
    """
    context = chain.block(height=block.height, time_ms=block.time_ms)
    state, machine = BlockState(base), Machine(chain.rule_set)
    writers: dict[bytes, int] = {}  # the last transaction of the block that wrote a key
    for at in range(position):
        progress(at, position)
        _, outcome = run_call(machine, state, context, call_at(block, at))
        writes = settle(outcome, state.peek)
        state.commit(writes)
        writers.update(dict.fromkeys(writes, at))
    return trace_call(call_at(block, position), state=state, context=context, position=position, writers=writers)


def trace_call(
    call: Call,
    *,
    state: State,
    context: BlockContext,
    position: int = 0,
    writers: Mapping[bytes, int] = MappingProxyType({}),
) -> TransactionTrace:
    """The same for a call on the state before it, which is left as it is. `writers` says which transactions of the
    block wrote last what the call may see.

    Raises:
        InvariantError: our bug.
    """
    tracer = _TracingMachine(context.rule_set)
    receipt, outcome = run_call(tracer, state, context, call)
    tell = _Telling(tracer.names, writers)
    root = tracer.ledger.root
    if root is None:  # its gas did not suffice for a transaction that does nothing
        root = _Node(call.target, call.method, call.arguments, gas=Counter({_OUTSIDE: outcome.gas_used}))
    root.status, root.error = outcome.status, outcome.error
    return TransactionTrace(
        height=context.height,
        position=position,
        transaction_hash=call.hash,
        sender=call.sender,
        gas_limit=min(call.gas_limit, context.transaction_gas_max),
        gas_used=outcome.gas_used,
        status=outcome.status,
        error=outcome.error,
        call=tell.call(root),
        sources=tell.sources(root),
        receipt=receipt,
    )


# --- what is noted while it runs ---


@dataclass(slots=True)
class _Touch:
    """An access as the machine made it."""

    kind: AccessKind
    key: bytes
    value: bytes | int | None  # stored bytes; of an add the amount, of a scan the number of entries
    own: bool = False


@dataclass(slots=True)
class _Node:
    """A call under way."""

    target: bytes
    method: str
    arguments: bytes
    steps: list[_Note] = field(default_factory=list)
    gas: Counter[int] = field(default_factory=Counter)  # by line
    times: Counter[int] = field(default_factory=Counter)
    lines: list[int] = field(default_factory=lambda: [_OUTSIDE])  # the current line of each function being run
    result: bytes = b""
    status: int = 0
    error: str = ""


_Note: TypeAlias = "_Touch | Event | _Node"


class _Ledger:
    """Which call and which line spent the gas: what is gone since the last look was spent by what ran in between."""

    def __init__(self) -> None:
        self.calls: list[_Node] = []  # under way, the innermost last
        self.root: _Node | None = None
        self._frames: list[Frame] = []
        self._last = 0  # what was left at the last look
        self._left = 0  # what of the limit nobody has been charged for
        self._latest: tuple[_Node, int] | None = None

    def begin(self, limit: int) -> None:
        """A transaction with so much gas comes next."""
        self._last = self._left = limit

    def enter(self, node: _Node, frame: Frame) -> None:
        """A call begins. Its price is the caller's, that of the transaction itself the first call's."""
        self.look()
        if self.calls:
            self.calls[-1].steps.append(node)
        else:
            self.root = node
        self.calls.append(node)
        self._frames.append(frame)
        self.look()

    def leave(self) -> None:
        """The innermost call is over."""
        self.look()
        self.calls.pop()
        self._frames.pop()

    def look(self) -> None:
        """Charge the current line for what is gone."""
        if not self._frames:
            return
        now = self._frames[-1].gas
        if now < self._last:  # right after a call it is more: the caller's frame has not been told yet
            self._spend(self.calls[-1].lines[-1], self._last - now)
            self._last = now

    def pay(self, frame: Frame, items: tuple[tuple[int, int], ...]) -> None:
        """A basic block is paid for, line by line; called by contract code in place of one subtraction."""
        self.look()
        self.calls[-1].times.update({line for line, _ in items})
        for line, cost in items:
            self._spend(line, cost)
            frame.gas -= cost
        self._last = frame.gas

    def _spend(self, line: int, amount: int) -> None:
        """Nobody pays more than there is, though the machine's count may go below zero."""
        spent = min(amount, self._left)
        if spent:
            node = self.calls[-1]
            node.gas[line] += spent
            self._latest = (node, line)
            self._left -= spent

    def close(self, outcome: Outcome) -> None:
        """The transaction is over. If it ran out of gas its whole limit is gone: the rest was the last line's.

        Raises:
            InvariantError: gas is gone that no line and no call spent.
        """
        rest = outcome.gas_used - sum(sum(node.gas.values()) for node in _nodes(self.root))
        if not rest:
            return
        if outcome.status != Status.OUT_OF_GAS or rest < 0 or (self._latest is None and self.root is not None):
            raise InvariantError(f"{rest} gas of {outcome.gas_used} belongs to no line")
        if self._latest is not None:
            node, line = self._latest
            node.gas[line] += rest


def _nodes(node: _Node | None) -> Iterator[_Node]:
    if node is not None:
        yield node
        for step in node.steps:
            if isinstance(step, _Node):
                yield from _nodes(step)


class _Notes:
    """Takes down what happens in the innermost call."""

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self.silent = False  # while a failed call is taken back

    def touch(self, kind: AccessKind, key: bytes, value: bytes | int | None, *, own: bool = False) -> None:
        """An access. Sources are read when the machine has not compiled them yet, which is no doing of the call's."""
        calls = self._ledger.calls
        if not calls or self.silent or (key.startswith(_SOURCES) and calls[-1].target != SYSTEM_ADDRESS):
            return
        calls[-1].steps.append(_Touch(kind, key, value, own))

    def event(self, event: Event) -> None:
        if self._ledger.calls:
            self._ledger.calls[-1].steps.append(event)

    def no_read(self, key: bytes) -> None:
        """The machine looked at an own write only to be able to put it back."""
        steps = self._ledger.calls[-1].steps if self._ledger.calls else []
        last = steps[-1] if steps else None
        if isinstance(last, _Touch) and last.kind == "read" and last.own and last.key == key:
            steps.pop()


class _Writes(dict[bytes, "bytes | None"]):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    def get(self, key: bytes, default: Any = None) -> Any:
        if key in self:
            self._notes.touch("read", key, self[key], own=True)
        return super().get(key, default)

    def __setitem__(self, key: bytes, value: bytes | None) -> None:
        self._notes.touch("delete" if value is None else "write", key, value)
        super().__setitem__(key, value)


class _Reads(dict[bytes, "bytes | None"]):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    def get(self, key: bytes, default: Any = None) -> Any:
        if key in self:
            self._notes.touch("read", key, self[key])
        return super().get(key, default)

    def __setitem__(self, key: bytes, value: bytes | None) -> None:
        self._notes.touch("read", key, value)
        super().__setitem__(key, value)


class _Scans(dict[bytes, "list[tuple[bytes, bytes]]"]):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    def get(self, prefix: bytes, default: Any = None) -> Any:
        if prefix in self:
            self._notes.touch("scan", prefix, len(self[prefix]))
        return super().get(prefix, default)

    def __setitem__(self, prefix: bytes, rows: list[tuple[bytes, bytes]]) -> None:
        self._notes.touch("scan", prefix, len(rows))
        super().__setitem__(prefix, rows)


class _Adds(dict[bytes, Pending]):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    def __setitem__(self, key: bytes, pending: Pending) -> None:
        before = self.get(key)
        if before is not None and isinstance(before.raw, Missing) and not isinstance(pending.raw, Missing):
            self._notes.touch("read", key, pending.raw)  # read after all; an ordinary write of the sum follows
        elif pending.delta is not None:
            self._notes.touch("add", key, pending.delta - (0 if before is None else before.delta or 0))
        super().__setitem__(key, pending)


class _Journal(list[Any]):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    def append(self, entry: Any) -> None:
        self._notes.no_read(entry[0])
        super().append(entry)


class _Events(list[Event]):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes

    def append(self, event: Event) -> None:
        self._notes.event(event)
        super().append(event)


class _TracedContext(Context):
    """A transaction whose containers take notes."""

    __slots__ = ("_notes",)

    def __init__(
        self, machine: Machine, state: State, block: BlockContext, origin: bytes, hash_: bytes, notes: _Notes
    ) -> None:
        super().__init__(machine, state, block, origin, hash_, False, True)
        self._notes = notes
        self.writes = _Writes(notes)
        self.reads = _Reads(notes)
        self.scans = _Scans(notes)
        self.adds = _Adds(notes)
        self.journal = _Journal(notes)
        self.events = _Events(notes)

    def rollback(self, journal_length: int, events_length: int) -> None:
        self._notes.silent = True
        super().rollback(journal_length, events_length)
        self._notes.silent = False


class _TracingMachine(Machine):
    """The machine of a rule set, for one transaction."""

    def __init__(self, rule_set: int) -> None:
        super().__init__(rule_set)
        self.ledger = _Ledger()
        self.names = Names()

    def execute(
        self,
        state: State,
        block: BlockContext,
        *,
        sender: bytes,
        transaction_hash: bytes,
        target: bytes,
        method: str,
        arguments: bytes,
        gas_limit: int,
    ) -> Outcome:
        context = _TracedContext(self, state, block, sender, transaction_hash, _Notes(self.ledger))
        limit = min(gas_limit, block.transaction_gas_max)
        self.ledger.begin(limit)
        previous = sys.gettrace()
        sys.settrace(self._on_function)
        try:
            outcome = self._run(context, sender, target, method, arguments, limit)
        finally:
            sys.settrace(previous)
        outcome.writes = dict(outcome.writes)
        self.ledger.close(outcome)
        return outcome

    def _enter(self, frame: Frame, target: bytes, method: str, arguments: bytes) -> bytes:
        node = _Node(target, method, arguments)
        with self._inside(node, frame):
            node.result = super()._enter(frame, target, method, arguments)
        return node.result

    def initialise(self, frame: Frame, arguments: bytes) -> None:
        node = _Node(frame.this, "", arguments)
        with self._inside(node, frame):
            super().initialise(frame, arguments)

    def call(
        self,
        caller: Frame,
        target: bytes,
        method: str,
        arguments: bytes,
        readonly: bool,
        decode: Callable[[Frame, bytes], T],
    ) -> T:
        steps = self.ledger.calls[-1].steps
        before = len(steps)
        try:
            return super().call(caller, target, method, arguments, readonly, decode)
        except CALL_ERRORS as caught:
            callee = steps[before] if len(steps) > before else None
            if not isinstance(callee, _Node):  # refused before it began
                callee = _Node(target, method, arguments)
                steps.append(callee)
            if not callee.error:  # it went well, but its result was not what the caller expects
                _fail(callee, caught)
            raise

    def link(self, source: str) -> Linked:
        linked = self._linked.get(code_hash(source))
        if linked is None:
            tracing = sys.gettrace()
            sys.settrace(None)  # no line of a contract runs in the compiler
            try:
                linked = _itemised(source, self.rule_set)
            finally:
                sys.settrace(tracing)
            self._linked.put(linked.compiled.code_hash, linked)
        return linked

    def instance(self, frame: Frame, address: bytes) -> tuple[Instance, ContractRecord]:
        found = super().instance(frame, address)
        self.names.learn(address, found[1].name, found[0].compiled)
        return found

    @contextmanager
    def _inside(self, node: _Node, frame: Frame) -> Iterator[None]:
        self.ledger.enter(node, frame)
        try:
            yield
        except CALL_ERRORS as caught:
            _fail(node, caught)
            raise
        finally:
            self.ledger.leave()

    # Lines

    def _on_function(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        if code.co_filename != CODE_FILE or code.co_name == "<module>" or not self.ledger.calls:
            return None
        self.ledger.look()
        self.ledger.calls[-1].lines.append(frame.f_lineno)
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        node = self.ledger.calls[-1]
        if event == "line":
            self.ledger.look()
            node.lines[-1] = frame.f_lineno
        elif event == "return":  # also where an exception leaves it
            self.ledger.look()
            node.lines.pop()
        return self._on_line


@lru_cache(maxsize=COMPILED_MAX)
def _itemised(source: str, rule_set: int) -> Linked:
    """A source in the form that says what each line costs."""
    return Linked(compile_contract(source, rule_set, itemised=True), extra={"h__pay": _pay})


def _pay(frame: Frame, items: tuple[tuple[int, int], ...]) -> None:
    machine = frame.context.machine
    assert isinstance(machine, _TracingMachine)
    machine.ledger.pay(frame, items)


def _fail(node: _Node, caught: Exception) -> None:
    status, node.error = contract_error(caught)
    node.status = int(status)


# --- telling it ---


class _Telling:
    """From notes to a trace."""

    def __init__(self, names: Names, writers: Mapping[bytes, int]) -> None:
        self._names = names
        self._writers = writers

    def call(self, node: _Node) -> CallTrace:
        names, method = self._names, node.method or self._names.init_method(node.target)
        return CallTrace(
            contract=node.target,
            contract_name=names.contract(node.target),
            method=method,
            arguments=names.arguments(node.target, method, node.arguments),
            status=node.status,
            error=node.error,
            result=None if node.error else names.result(node.target, method, node.result),
            gas_used=sum(sum(inner.gas.values()) for inner in _nodes(node)),
            call_gas=node.gas[_OUTSIDE],
            steps=tuple([self._step(step) for step in node.steps]),
        )

    def _step(self, step: _Note) -> Step:
        if isinstance(step, _Node):
            return self.call(step)
        if isinstance(step, Event):
            return Emitted(contract=step.contract, name=step.name, fields=self._names.event(step))
        named = self._names.key(step.key, partial=step.kind == "scan")
        value = step.value
        return Access(
            kind=step.kind,
            state_key=step.key,
            contract=named.contract,
            variable=named.variable,
            name=named.name,
            key=named.key,
            value=value if isinstance(value, int) else self._names.value(step.key, value),
            own=step.own,
            writers=self._seen(step),
        )

    def _seen(self, step: _Touch) -> tuple[int, ...]:
        if step.kind == "scan":
            return tuple(sorted({at for key, at in self._writers.items() if key.startswith(step.key)}))
        is_read = step.kind == "read" and not step.own
        return (self._writers[step.key],) if is_read and step.key in self._writers else ()

    def sources(self, root: _Node) -> tuple[SourceGas, ...]:
        """Gas by line of every contract that was met, in the order in which they were."""
        gas: dict[bytes, Counter[int]] = {}
        times: dict[bytes, Counter[int]] = {}
        for node in _nodes(root):
            gas.setdefault(node.target, Counter()).update(node.gas)
            times.setdefault(node.target, Counter()).update(node.times)
        made = []
        for address, by_line in gas.items():
            text = self._names.source(address)
            numbers = sorted({*by_line, *times[address]} - {_OUTSIDE})
            if not numbers:
                continue
            lines = tuple(
                [LineGas(line=at, gas=by_line[at], times=times[address][at], text=text[at - 1]) for at in numbers]
            )
            made.append(
                SourceGas(
                    contract=address,
                    contract_name=self._names.contract(address),
                    gas=sum(line.gas for line in lines),
                    lines=lines,
                )
            )
        return tuple(made)

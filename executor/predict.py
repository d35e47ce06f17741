"""What the transactions of a block will probably touch: the second half of prediction.

A method's summary (`executor.access`) is filled in with the transaction's arguments and sender, and with values of the
state before the block, which may be stale by the time the transaction runs: a hint needs no correctness. Whatever
fails here means "unknown", and an unknown transaction is taken to touch everything.

Nodes are what can be touched, each inside its parent: everything > a contract > a variable > the elements of a map that
share their first key element > one key.

Methods that are called often are compiled (`executor.flatten`); what this module says about a transaction without
that is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from chain.codec import unpack_trusted
from contracts.language import code_hash
from contracts.language.findings import Findings
from contracts.language.prescan import prescan
from contracts.system.contract import contract_address
from contracts.system.members import METHODS as MEMBER_METHODS
from contracts.system.membership import MEMBERSHIP_KEY
from contracts.system.registry import SYSTEM_ADDRESS, ContractRecord, name_key, record_key, source_key
from executor.access import Access, CallSite, Expression, Loop, Mode, Summary, summarise
from executor.evaluate import (
    ROUNDS_MAX,
    UNKNOWN,
    call_builtin,
    decode_arguments,
    decode_stored,
    index_of,
    item_of,
    length_of,
    operate,
    part_of,
    rounds_of,
    stored_key,
)
from executor.flatten import Flattened, flatten
from executor.generate import Fleeting, Run
from executor.state import BaseState
from executor.summary import key_elements
from executor.table import EVERYTHING, AccessTable
from executor.transactions import Call

__all__ = ["EVERYTHING", "AccessTable", "Predictor", "SummaryPredictor"]

CALL_DEPTH_MAX: Final = 6
CALLS_PER_TRANSACTION_MAX: Final = 64
ACCESSES_PER_TRANSACTION_MAX: Final = 1_024
CONTRACTS_MAX: Final = 1_024  # contracts whose summaries are kept
FLATTENED_MAX: Final = 1_024  # compiled methods kept
HOT_CALLS: Final = 48  # calls of a method after which it is worth compiling
REST_BLOCKS: Final = 16  # a method is compiled at most once in so many blocks

_SYSTEM_VIEWS: Final = frozenset({"code", "abi", "resolve", "info"})
_SYSTEM_METHODS: Final[dict[str, list[type]]] = {
    "deploy": [str, str, bytes], "upgrade": [bytes, str], "set_admin": [bytes, bytes], "resolve": [str],
    **{key: [bytes] for key in ("freeze", "unfreeze", "abolish", "code", "abi", "info")},
}  # fmt: skip
_MALFORMED: Final = (ValueError, RecursionError)
_FAILS: Final = (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError)


class Predictor(Protocol):
    """Where the plan gets its hints from; any answer at all gives the same results of execution."""

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        """What the calls of a block at this height may touch, on the state before it."""
        ...


class SummaryPredictor:
    """Predicts from summaries of the contracts' sources, kept by code hash."""

    def __init__(self, *, hot_calls: int = HOT_CALLS) -> None:
        """`hot_calls`: a method is compiled when it was called so often."""
        self._summaries: dict[bytes, dict[str, Summary | None]] = {}
        self._flattened: dict[tuple[bytes, str], Flattened | None] = {}  # None: not to be compiled
        self._compiled_at: dict[tuple[bytes, str], int] = {}  # height
        self._calls: dict[tuple[bytes, str], int] = {}
        self._hot_calls = hot_calls

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        """Never raises for what transactions or contracts hold."""
        block = _BlockPrediction(self, base, height=height, time_ms=time_ms)
        block.managed = any(call.target == SYSTEM_ADDRESS for call in calls)
        for call in calls:
            block.describe(call)
        return block.table

    def summaries(self, base: BaseState, address: bytes) -> dict[str, Summary | None] | None:
        """Summaries by method, or None where there is no contract yet."""
        raw = base.get(record_key(address))
        if raw is None:
            return None
        code = ContractRecord.of(raw).code_hash
        known = self._summaries.get(code)
        if known is None:
            source = base.get(source_key(code))
            known = self._keep(code, "" if source is None else str(unpack_trusted(source)))
        return known

    def of_source(self, source: str) -> dict[str, Summary | None]:
        """Summaries of a source that a transaction deploys."""
        code = code_hash(source)
        known = self._summaries.get(code)
        if known is not None:
            return known
        return self._keep(code, source) if prescan(source, Findings()) else {}

    def hot(self, target: bytes, method: str) -> bool:
        """Count a call; whether the method is worth compiling by now."""
        name = (target, method)
        if len(self._calls) > 4 * FLATTENED_MAX:
            self._calls.clear()
        count = self._calls[name] = self._calls.get(name, 0) + 1
        return count >= self._hot_calls

    def flattened(self, base: BaseState, target: bytes, method: str, height: int) -> Flattened | None:
        """The compiled method, if there is one that fits the code and the addresses stored now."""
        name = (target, method)
        known = self._flattened.get(name)
        if known is not None and known.fits(base):
            return known
        if name in self._flattened and 0 <= height - self._compiled_at[name] < REST_BLOCKS:
            return None
        if len(self._flattened) >= FLATTENED_MAX:
            self._flattened.clear()
            self._compiled_at.clear()
        self._compiled_at[name] = height
        made: Flattened | None = None
        with suppress(Fleeting, *_FAILS):  # else it stays with what is interpreted
            made = flatten(base, target, method, lambda address: self.summaries(base, address))
        self._flattened[name] = made
        return made

    def _keep(self, code: bytes, source: str) -> dict[str, Summary | None]:
        if len(self._summaries) >= CONTRACTS_MAX:
            self._summaries.clear()
        known = self._summaries[code] = summarise(source)
        return known


class _Unpredictable(Exception):
    """The transaction may touch everything."""


class _Frame:
    """One call on the way: what its expressions are evaluated against; `items` of the loops it is in."""

    __slots__ = ("arguments", "call", "items", "sender", "this")

    def __init__(self, arguments: Sequence[Any], call: Call, sender: bytes, this: bytes) -> None:
        self.arguments = arguments
        self.call = call
        self.sender = sender
        self.this = this
        self.items: dict[int, Any] = {}


class _BlockPrediction:
    """Fills the table of one block."""

    def __init__(self, predictor: SummaryPredictor, base: BaseState, *, height: int, time_ms: int) -> None:
        self._predictor = predictor
        self._base = base
        self._height = height
        self._time_ms = time_ms
        self._calls = 0  # of the transaction being described
        self._rounds = 0  # of its loops
        self._contracts: dict[bytes, dict[str, Summary | None] | None] = {}
        self._runs: dict[tuple[bytes, str], Run] = {}
        self._variables: dict[tuple[bytes, str, str], tuple[bytes, int]] = {}
        self.managed = False  # a transaction of this block may deploy or change contracts
        self.table = AccessTable()

    def describe(self, call: Call) -> None:
        """The next transaction."""
        table = self.table
        try:
            arguments = decode_arguments(call.arguments)
        except _MALFORMED:
            table.end()  # refused by the machine before it touches anything
            return
        name = (call.target, call.method)
        run = self._runs.get(name)
        if run is None:
            run = self._prepare(name)
        try:
            run(arguments, call)
        except (_Unpredictable, *_FAILS):
            if run == self._interpret:
                table.end_unknown()
                return
            table.drop()
            self._again(arguments, call)
            return
        table.end()

    def follow(
        self, address: Any, method: str, arguments: Sequence[Any], sender: bytes, call: Call, depth: int
    ) -> None:
        """A call on the way whose target compiled code does not know beforehand."""
        if type(address) is not bytes:
            raise _Unpredictable
        self._call(address, method, _Frame(arguments, call, sender, address), depth)

    def rounds(self, domain: Any) -> Sequence[Any]:
        """The items of a loop; a single unknown one where they are not known or too many for this transaction."""
        items = rounds_of(domain, ROUNDS_MAX - self._rounds)
        if items is None:
            return (UNKNOWN,)
        self._rounds += len(items)
        return items

    def restart(self) -> None:
        """The loops and calls of the next transaction begin."""
        self._calls = self._rounds = 0

    def check_size(self) -> None:
        """Raises what makes a transaction with too many accesses unknown."""
        if len(self.table.nodes) - self.table.starts[-1] > ACCESSES_PER_TRANSACTION_MAX:
            raise _Unpredictable

    def _prepare(self, name: tuple[bytes, str]) -> Run:
        """What describes calls of this method in this block."""
        if name[0] != SYSTEM_ADDRESS and self._predictor.hot(*name):
            made = self._predictor.flattened(self._base, *name, self._height)
            run: Run = self._interpret
            if made is not None:
                with suppress(*_FAILS):
                    run = made.bind(self, self.table, self._base, self._height, self._time_ms, managed=self.managed)
            self._runs[name] = run
            return run
        return self._interpret

    def _again(self, arguments: Sequence[Any], call: Call) -> None:
        """Compiled code takes arguments as the ABI declares them; others are interpreted."""
        try:
            self._interpret(arguments, call)
        except (_Unpredictable, *_FAILS):
            self.table.end_unknown()
        else:
            self.table.end()

    def _interpret(self, arguments: Sequence[Any], call: Call) -> None:
        self._calls = self._rounds = 0
        self._call(call.target, call.method, _Frame(arguments, call, call.sender, call.target), 0)

    # --- calls ---

    def _call(self, address: bytes, name: str, frame: _Frame, depth: int) -> None:
        if address == SYSTEM_ADDRESS:
            self._system(name, frame, depth)
            return
        table = self.table
        if self.managed:
            table.touch(table.node(record_key(address), EVERYTHING, 0), Mode.READ)
        contracts = self._contracts
        if address not in contracts:
            contracts[address] = self._predictor.summaries(self._base, address)
        summaries = contracts[address]
        if summaries is None or name not in summaries:  # refused by the machine, unless this block makes it
            if self.managed:
                table.touch(table.node(address, EVERYTHING, 1), Mode.BOTH)
            return
        self._method(summaries[name], frame, depth)

    def _method(self, summary: Summary | None, frame: _Frame, depth: int) -> None:
        if summary is None:
            raise _Unpredictable
        self._calls += 1
        if self._calls > CALLS_PER_TRANSACTION_MAX:
            raise _Unpredictable
        if summary.arity == len(frame.arguments):  # else refused by the machine
            self._body(summary, frame, depth)

    def _body(self, body: Summary | Loop, frame: _Frame, depth: int) -> None:
        for access, mode in body.accesses:
            self._access(access, mode, frame)
        self.check_size()
        if body.calls:
            if depth >= CALL_DEPTH_MAX:
                raise _Unpredictable
            for site in body.calls:
                self._follow(site, frame, depth)
        for loop in body.loops:
            for item in self.rounds(self._value(loop.domain, frame)):
                frame.items[loop.id] = item
                self._body(loop, frame, depth)
            frame.items.pop(loop.id, None)

    def _follow(self, site: CallSite, frame: _Frame, depth: int) -> None:
        address = self._value(site.address, frame)
        if type(address) is not bytes:
            raise _Unpredictable
        arguments = [self._value(argument, frame) for argument in site.arguments]
        self._call(address, site.method, _Frame(arguments, frame.call, frame.this, address), depth + 1)

    def _system(self, method: str, frame: _Frame, depth: int) -> None:
        """A call of the system contract: the record of the contract that it is about, or a name."""
        table, arguments = self.table, frame.arguments
        if method in MEMBER_METHODS:
            mode = Mode.READ if MEMBER_METHODS[method][0] == "view" else Mode.BOTH
            table.touch(table.node(MEMBERSHIP_KEY, EVERYTHING, 0), mode)
            return
        kinds = _SYSTEM_METHODS.get(method)
        if kinds is None or len(kinds) != len(arguments):
            return  # refused by the machine
        subject = arguments[0]
        if any(value is UNKNOWN for value in arguments):
            raise _Unpredictable
        if [type(value) for value in arguments] != kinds:
            return
        mode = Mode.READ if method in _SYSTEM_VIEWS else Mode.BOTH
        if method in ("deploy", "resolve"):
            table.touch(table.node(name_key(subject), EVERYTHING, 0), mode)
        if method == "deploy":
            subject = contract_address(frame.call.hash)
            table.touch(table.node(subject, EVERYTHING, 1), mode)
            self._initialise(subject, frame, depth)
        if method != "resolve":
            table.touch(table.node(record_key(subject), EVERYTHING, 0), mode)

    def _initialise(self, address: bytes, frame: _Frame, depth: int) -> None:
        """What `init` of a contract being deployed does beyond its own storage."""
        _, source, packed = frame.arguments
        if "Interface" not in source:
            return  # it calls nobody
        summaries = self._predictor.of_source(source)
        if "init" in summaries:
            arguments = decode_arguments(packed)
            self._method(summaries["init"], _Frame(arguments, frame.call, frame.sender, address), depth)

    # --- keys ---

    def _access(self, access: Access, mode: int, frame: _Frame) -> None:
        prefix, variable = self._variable(frame.this, access)
        table = self.table
        if access.kind == "Map":
            parts = [part_of(self._value(element, frame)) for element in access.key]
            node = table.element(prefix, variable, parts, exact=access.exact)
        elif access.kind == "List":
            index = self._index(access, frame)
            node = variable if index is None else table.node(prefix + index, variable, 0)
        else:
            node = table.node(prefix, variable, 0)
        table.touch(node, mode)

    def _index(self, access: Access, frame: _Frame) -> bytes | None:
        """The last bytes of a list item's key."""
        if not access.exact:
            return None
        return index_of(self._value(access.key[0], frame), self._length(frame.this, access.variable))

    def _variable(self, contract: bytes, access: Access) -> tuple[bytes, int]:
        """(key prefix, node of the variable)."""
        known = self._variables.get((contract, access.variable, access.kind))
        if known is None:
            name = contract + access.variable.encode()
            node = self.table.variable(contract, name)
            prefix = name + (b"\x01" if access.kind == "Length" else b"\x00")
            known = self._variables[contract, access.variable, access.kind] = (prefix, node)
        return known

    # --- values ---

    def _value(self, expression: Expression, frame: _Frame) -> Any:
        """The hint for an expression, or `UNKNOWN`."""
        if expression is None:
            return UNKNOWN
        kind = expression[0]
        if kind == "argument":
            return frame.arguments[expression[1]]
        if kind == "constant":
            return expression[1]
        if kind == "context":
            return self._context(expression[1], frame)
        if kind == "state":
            return self._state(expression, frame)
        if kind == "tuple":
            return tuple([self._value(item, frame) for item in expression[1]])
        if kind == "item":
            return item_of(self._value(expression[1], frame), expression[2])
        if kind == "operation":
            return operate(expression[1], self._value(expression[2], frame), self._value(expression[3], frame))
        if kind == "loop":
            return frame.items.get(expression[1], UNKNOWN)
        if kind == "builtin":
            return call_builtin(expression[1], [self._value(argument, frame) for argument in expression[2]])
        if kind == "length":
            return self._length(frame.this, expression[1])
        if kind == "collect":
            return self._collect(expression, frame)
        return UNKNOWN

    def _collect(self, expression: tuple[Any, ...], frame: _Frame) -> Any:
        """The value of a list comprehension."""
        _, loop, domain, element = expression
        values = []
        for item in self.rounds(self._value(domain, frame)):
            if item is UNKNOWN:
                return UNKNOWN
            frame.items[loop] = item
            values.append(self._value(element, frame))
        return tuple(values)

    def _context(self, name: str, frame: _Frame) -> Any:
        if name == "sender":
            return frame.sender
        if name == "this":
            return frame.this
        if name == "origin":
            return frame.call.sender
        if name == "time_ms":
            return self._time_ms
        if name == "height":
            return self._height
        return frame.call.hash if name == "transaction_hash" else UNKNOWN

    def _length(self, contract: bytes, variable: str) -> int:
        return length_of(self._base.get(contract + variable.encode() + b"\x01"))

    def _state(self, expression: tuple[Any, ...], frame: _Frame) -> Any:
        _, variable, key, default = expression
        parts = [part_of(self._value(element, frame)) for element in key_elements(key)]
        name = stored_key(frame.this + variable.encode() + b"\x00", parts)
        if name is None:
            return UNKNOWN
        stored = self._base.get(name)
        return self._value(default, frame) if stored is None else decode_stored(stored)

"""What the transactions of a block will probably touch: the second half of prediction.

A method's summary (`executor.access`) is filled in with the transaction's arguments and sender, and with values of the
state before the block, which may be stale by the time the transaction runs: a hint needs no correctness. Whatever
fails here means "unknown", and an unknown transaction is taken to touch everything.

Nodes are what can be touched, each inside its parent: everything > a contract > a variable > the elements of a map that
share their first key element > one key.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from chain.codec import pack, tagged_digest, unpack_trusted
from chain.types import ADDRESS_BYTES
from contracts.system.contract import TAG_CONTRACT
from contracts.system.registry import SYSTEM_ADDRESS, ContractRecord, name_key, record_key, source_key
from executor.access import Access, CallSite, Expression, Mode, Summary, summarise
from executor.state import BaseState
from executor.transactions import Call

CALL_DEPTH_MAX: Final = 6
CALLS_PER_TRANSACTION_MAX: Final = 64
ACCESSES_PER_TRANSACTION_MAX: Final = 1_024
CONTRACTS_MAX: Final = 1_024  # contracts whose summaries are kept
EVERYTHING: Final = 0

_UNKNOWN: Final[Any] = object()
_SYSTEM_VIEWS: Final = frozenset({"code", "abi", "resolve", "info"})
_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.floordiv,
    "modulo": operator.mod,
}  # fmt: skip


class AccessTable:
    """Predicted accesses of a block as flat lists of integers.

    Transaction t touches `nodes[i]` with `modes[i]` (READ 1, WRITE 2) for i in `starts[t]..starts[t + 1]`;
    `parents[node]` is the node around it, -1 for `EVERYTHING`; `groups[node]` is 1 where a node may hold others.
    """

    __slots__ = ("_ids", "groups", "modes", "nodes", "parents", "starts")

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self.parents: list[int] = [-1]
        self.groups: list[int] = [1]
        self.starts: list[int] = [0]
        self.nodes: list[int] = []
        self.modes: list[int] = []

    def node(self, name: bytes, parent: int, group: int) -> int:
        """The number of a node; its name is a state key, or the common prefix of a group's keys."""
        known = self._ids.get(name)
        if known is not None:
            return known
        number = self._ids[name] = len(self.parents)
        self.parents.append(parent)
        self.groups.append(group)
        return number

    def touch(self, node: int, mode: int) -> None:
        """An access of the transaction that is being described."""
        self.nodes.append(node)
        self.modes.append(mode)

    def end(self) -> None:
        """The next transaction."""
        self.starts.append(len(self.nodes))

    def end_unknown(self) -> None:
        """The transaction being described may touch everything."""
        del self.nodes[self.starts[-1] :]
        del self.modes[self.starts[-1] :]
        self.touch(EVERYTHING, Mode.BOTH)
        self.end()

    @property
    def count(self) -> int:
        """Transactions described."""
        return len(self.starts) - 1


class Predictor(Protocol):
    """Where the plan gets its hints from; any answer at all gives the same results of execution."""

    def predict(
        self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int
    ) -> AccessTable: ...


class SummaryPredictor:
    """Predicts from summaries of the contracts' sources, kept by code hash."""

    def __init__(self) -> None:
        self._summaries: dict[bytes, dict[str, Summary | None]] = {}

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
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
        code_hash = ContractRecord.of(raw).code_hash
        known = self._summaries.get(code_hash)
        if known is None:
            source = base.get(source_key(code_hash))
            if len(self._summaries) >= CONTRACTS_MAX:
                self._summaries.clear()
            known = self._summaries[code_hash] = {} if source is None else summarise(str(unpack_trusted(source)))
        return known


class _Unpredictable(Exception):
    """The transaction may touch everything."""


class _Frame:
    """One call on the way: what its expressions are evaluated against."""

    __slots__ = ("arguments", "call", "sender", "this")

    def __init__(self, arguments: Sequence[Any], call: Call, sender: bytes, this: bytes) -> None:
        self.arguments = arguments
        self.call = call
        self.sender = sender
        self.this = this


class _Method(NamedTuple):
    """A summary prepared for one contract and one block: what needs no thought per transaction comes first."""

    arity: int
    nodes: list[int]  # touched always, with these modes
    modes: list[int]
    keyed: list[tuple[int, bytes, int, int]]  # (argument that is the key, key prefix, variable's node, mode)
    others: list[tuple[Access, int]]
    calls: tuple[CallSite, ...]


class _BlockPrediction:
    """Fills the table of one block."""

    def __init__(self, predictor: SummaryPredictor, base: BaseState, *, height: int, time_ms: int) -> None:
        self._predictor = predictor
        self._base = base
        self._height = height
        self._time_ms = time_ms
        self._calls = 0  # of the transaction being described
        self._contracts: dict[bytes, dict[str, Summary | None] | None] = {}
        self._methods: dict[tuple[bytes, str], _Method | None] = {}
        self._variables: dict[tuple[bytes, str, str], tuple[bytes, int]] = {}
        self.managed = False  # a transaction of this block may deploy or change contracts
        self.table = AccessTable()

    def describe(self, call: Call) -> None:
        table = self.table
        try:
            arguments = unpack_trusted(call.arguments)
            if type(arguments) is not tuple:
                raise _Unpredictable
            self._calls = 0
            self._call(call.target, call.method, _Frame(arguments, call, call.sender, call.target), 0)
        except (_Unpredictable, ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError):
            table.end_unknown()
        else:
            table.end()

    def _call(self, address: bytes, name: str, frame: _Frame, depth: int) -> None:
        if address == SYSTEM_ADDRESS:
            self._system(name, frame)
            return
        table = self.table
        if self.managed:
            table.touch(table.node(record_key(address), EVERYTHING, 0), Mode.READ)
        try:
            method = self._methods[address, name]
        except KeyError:
            method = self._methods[address, name] = self._prepare(address, name)
        if method is None:  # no such contract or method, unless this block makes it
            if self.managed:
                table.touch(table.node(address, EVERYTHING, 1), Mode.BOTH)
            return
        self._calls += 1
        arguments = frame.arguments
        if method.arity != len(arguments):
            return  # refused by the machine
        table.nodes += method.nodes
        table.modes += method.modes
        for index, prefix, variable, mode in method.keyed:
            key = arguments[index]
            if key is _UNKNOWN or type(key) is tuple:
                self._element(prefix, variable, mode, [key] if key is _UNKNOWN else key, exact=True)
            else:
                table.nodes.append(table.node(prefix + pack(key), variable, 0))
                table.modes.append(mode)
        for access, mode in method.others:
            self._access(access, mode, frame)
        if method.calls:
            if depth >= CALL_DEPTH_MAX or self._calls > CALLS_PER_TRANSACTION_MAX:
                raise _Unpredictable
            if len(table.nodes) - table.starts[-1] > ACCESSES_PER_TRANSACTION_MAX:
                raise _Unpredictable
            for site in method.calls:
                self._follow(site, frame, depth)

    def _prepare(self, address: bytes, name: str) -> _Method | None:
        """The method made ready; None where there is none to call. Raises _Unpredictable: it cannot be followed."""
        contracts = self._contracts
        if address not in contracts:
            contracts[address] = self._predictor.summaries(self._base, address)
        summaries = contracts[address]
        if summaries is None or name not in summaries:
            return None
        summary = summaries[name]
        if summary is None:
            raise _Unpredictable
        method = _Method(summary.arity, [], [], [], [], summary.calls)
        for access, mode in summary.accesses:
            prefix, variable = self._variable(address, access)
            if access.kind in ("Value", "Length"):
                method.nodes.append(self.table.node(prefix, variable, 0))
                method.modes.append(mode)
            elif access.kind == "Map" and access.exact and len(access.key) == 1 and _is_argument(access.key[0]):
                method.keyed.append((access.key[0][1], prefix, variable, mode))  # type: ignore[index]
            else:
                method.others.append((access, mode))
        return method

    def _follow(self, site: CallSite, frame: _Frame, depth: int) -> None:
        address = self._value(site.address, frame)
        if type(address) is not bytes:
            raise _Unpredictable
        arguments = [self._value(argument, frame) for argument in site.arguments]
        self._call(address, site.method, _Frame(arguments, frame.call, frame.this, address), depth + 1)

    def _system(self, method: str, frame: _Frame) -> None:
        """A call of the system contract: the record of the contract that it is about, or a name."""
        table, arguments = self.table, frame.arguments
        subject = arguments[0]
        mode = Mode.READ if method in _SYSTEM_VIEWS else Mode.BOTH
        if method in ("deploy", "resolve"):
            table.touch(table.node(name_key(subject), EVERYTHING, 0), mode)
        if method == "deploy":
            if "Interface" in arguments[1]:
                raise _Unpredictable  # its init may call others
            subject = tagged_digest(TAG_CONTRACT, frame.call.hash)[-ADDRESS_BYTES:]
            table.touch(table.node(subject, EVERYTHING, 1), mode)
        if method != "resolve":
            table.touch(table.node(record_key(subject), EVERYTHING, 0), mode)

    # --- keys ---

    def _access(self, access: Access, mode: int, frame: _Frame) -> None:
        prefix, variable = self._variable(frame.this, access)
        if access.kind == "Map":
            self._element(prefix, variable, mode, self._elements(access.key, frame), exact=access.exact)
            return
        table = self.table
        index = self._value(access.key[0], frame) if access.exact else _UNKNOWN
        exact = type(index) is int and 0 <= index < 2**63
        table.touch(table.node(prefix + index.to_bytes(8, "big"), variable, 0) if exact else variable, mode)

    def _element(self, prefix: bytes, variable: int, mode: int, elements: Sequence[Any], *, exact: bool) -> None:
        """The key of a map with these elements, or, from the first unknown one on, the group it is in."""
        table = self.table
        name, group = prefix, variable
        for position, element in enumerate(elements):
            if element is _UNKNOWN:
                exact = False
                break
            if position == 1:
                group = table.node(name, variable, 1)
            name += pack(element)
        if exact:
            table.touch(table.node(name, group, 0), mode)
        else:
            if group == variable and name != prefix:
                group = table.node(name, variable, 1)  # only the first element is known
            table.touch(group, mode)

    def _variable(self, contract: bytes, access: Access) -> tuple[bytes, int]:
        """(key prefix, node of the variable)."""
        known = self._variables.get((contract, access.variable, access.kind))
        if known is None:
            name = contract + access.variable.encode()
            around = self.table.node(contract, EVERYTHING, 1)
            prefix = name + (b"\x01" if access.kind == "Length" else b"\x00")
            known = self._variables[contract, access.variable, access.kind] = (prefix, self.table.node(name, around, 1))
        return known

    def _elements(self, key: tuple[Expression, ...], frame: _Frame) -> Sequence[Any]:
        """Values of a map key's elements; a single tuple is a key of several elements."""
        values = [self._value(expression, frame) for expression in key]
        if len(values) == 1 and type(values[0]) is tuple:
            return values[0]
        return values

    # --- values ---

    def _value(self, expression: Expression, frame: _Frame) -> Any:
        """The hint for an expression, or `_UNKNOWN`."""
        if expression is None:
            return _UNKNOWN
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
            items = [self._value(item, frame) for item in expression[1]]
            return _UNKNOWN if _UNKNOWN in items else tuple(items)
        if kind == "item":
            value = self._value(expression[1], frame)
            index = expression[2]
            return value[index] if type(value) is tuple and -len(value) <= index < len(value) else _UNKNOWN
        if kind == "operation":
            left, right = self._value(expression[2], frame), self._value(expression[3], frame)
            small = type(left) is int and type(right) is int and left.bit_length() + right.bit_length() <= 256
            return _OPERATIONS[expression[1]](left, right) if small else _UNKNOWN
        return _UNKNOWN

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
        return frame.call.hash if name == "transaction_hash" else _UNKNOWN

    def _state(self, expression: tuple[Any, ...], frame: _Frame) -> Any:
        _, variable, key, default = expression
        name = frame.this + variable.encode() + b"\x00"
        if key is not None:
            for element in self._elements((key,), frame):
                if element is _UNKNOWN:
                    return _UNKNOWN
                name += pack(element)
        stored = self._base.get(name)
        return self._value(default, frame) if stored is None else unpack_trusted(stored)


def _is_argument(expression: Expression) -> bool:
    return expression is not None and expression[0] == "argument"

"""Prediction compiled: one Python function for a method and all that it calls, with every constant worked out.

Addresses that contracts keep in a `Value` are looked up once, so the whole tree of calls becomes one list of keys over
the transaction's arguments and sender: equal keys once, keys without arguments as numbers, each stored value read
once. `Flattened.fits` tells whether code and addresses are still those that were worked in.

The generated text holds names and numbers of our own making only; whatever comes from a contract is bound to a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, Final, NamedTuple

from contracts.system.registry import SYSTEM_ADDRESS, record_key
from executor.evaluate import decode_stored
from executor.generate import HASH, HEIGHT, NOTHING, SENDER, TIME, Fleeting, Run, Runtime, Text, Value
from executor.state import BaseState
from executor.summary import Access, CallSite, Expression, Loop, Mode, Summary, key_elements, merge_modes
from executor.table import EVERYTHING, AccessTable

DEPTH_MAX: Final = 6
CALLS_MAX: Final = 64
CONSTANTS_MAX: Final = 512  # nodes that every call touches

Summaries = Callable[[bytes], "Mapping[str, Summary | None] | None"]


class _Node(NamedTuple):
    """A node that no transaction has a part in: what `AccessTable.element` takes, and its variable."""

    contract: bytes
    variable: bytes
    prefix: bytes
    parts: tuple[bytes | None, ...]
    exact: bool


class Flattened(NamedTuple):
    """A compiled method. `seen` are the keys whose values were worked in."""

    code: CodeType
    names: dict[str, Any]
    seen: tuple[tuple[bytes, bytes | None], ...]
    variables: tuple[tuple[bytes, bytes], ...]
    constants: tuple[tuple[_Node, int], ...]
    contracts: tuple[bytes, ...]
    missing: tuple[bytes, ...]

    def fits(self, base: BaseState) -> bool:
        """Whether the state still holds what was worked in."""
        get = base.get
        return all(get(key) == value for key, value in self.seen)

    def bind(
        self, runtime: Runtime, table: AccessTable, base: BaseState, height: int, time_ms: int, *, managed: bool
    ) -> Run:
        """The function that describes a call of this method in `table`. It raises what bad arguments lead to."""
        constants = [_resolve(table, node) for node, _ in self.constants]
        modes = bytes([mode for _, mode in self.constants])
        if managed:
            constants += [table.node(record_key(contract), EVERYTHING, 0) for contract in self.contracts]
            modes += bytes([Mode.READ]) * len(self.contracts)
            constants += [table.node(contract, EVERYTHING, 1) for contract in self.missing]
            modes += bytes([Mode.BOTH]) * len(self.missing)
        names: dict[str, Any] = {**self.names, "constants": constants, "constant_modes": modes}
        for number, (contract, name) in enumerate(self.variables):
            names[f"V{number}"] = table.variable(contract, name)
        exec(self.code, names)  # noqa: S102
        run: Run = names["bind"](runtime, table, base.get, height, time_ms)
        return run


def _resolve(table: AccessTable, node: _Node) -> int:
    return table.element(node.prefix, table.variable(node.contract, node.variable), node.parts, exact=node.exact)


def flatten(base: BaseState, target: bytes, method: str, summaries: Summaries) -> Flattened:
    """The compiled form of a method on the state that `base` shows.

    Raises:
        Fleeting: there is no point in it.
    """
    return _Flattener(base, summaries).flatten(target, method)


class _Frame(NamedTuple):
    arguments: Sequence[Value]
    sender: Value
    this: bytes
    items: dict[int, Value]
    depth: int


class _Flattener:
    """Walks the tree of calls once and writes the function."""

    def __init__(self, base: BaseState, summaries: Summaries) -> None:
        self._base = base
        self._summaries = summaries
        self._seen: dict[bytes, bytes | None] = {}
        self._variables: dict[tuple[bytes, bytes], int] = {}
        self._constants: dict[_Node, int] = {}
        self._contracts: dict[bytes, None] = {}
        self._missing: dict[bytes, None] = {}
        self._calls = 0
        self._text = Text()

    def flatten(self, target: bytes, method: str) -> Flattened:
        """The compiled method. Raises Fleeting."""
        summary = self._find(target, method)
        text = self._text
        arity: int | None = None
        if summary is not None:
            arity = summary.arity
            arguments = [text.argument(index) for index in range(arity)]
            self._body(summary, _Frame(arguments, SENDER, target, {}, 0))
        if len(self._constants) > CONSTANTS_MAX:
            raise Fleeting
        return Flattened(
            code=compile(text.finish(arity), "<prediction>", "exec", dont_inherit=True),
            names=text.names,
            seen=tuple(self._seen.items()),
            variables=tuple(self._variables),
            constants=tuple(self._constants.items()),
            contracts=tuple(self._contracts),
            missing=tuple(self._missing),
        )

    def _find(self, address: bytes, method: str) -> Summary | None:
        """The summary of a method; None if the machine refuses the call. Raises Fleeting: it may do anything."""
        self._see(record_key(address))
        self._contracts[address] = None
        summaries = self._summaries(address)
        if summaries is None or method not in summaries:
            self._missing[address] = None
            return None
        summary = summaries[method]
        if summary is None:
            raise Fleeting
        return summary

    def _see(self, key: bytes) -> bytes | None:
        value = self._seen[key] = self._base.get(key)
        return value

    def _body(self, body: Summary | Loop, frame: _Frame) -> None:
        for access, mode in body.accesses:
            self._access(access, mode, frame)
        for site in body.calls:
            self._call(site, frame)
        text = self._text
        for loop in body.loops:
            domain = self.value(loop.domain, frame)
            with text.loop(domain) as item:
                frame.items[loop.id] = item
                self._body(loop, frame)
            del frame.items[loop.id]

    def _call(self, site: CallSite, frame: _Frame) -> None:
        address = self._target(site.address, frame)
        arguments = [self.value(argument, frame) for argument in site.arguments]
        self._calls += 1
        if self._calls > CALLS_MAX or frame.depth >= DEPTH_MAX:
            raise Fleeting
        if not address.code and type(address.known) is not bytes:
            raise Fleeting
        if address.code or address.known == SYSTEM_ADDRESS:
            self._text.follow(address, site.method, arguments, frame.this, frame.depth + 1)
            return
        summary = self._find(address.known, site.method)
        if summary is not None and summary.arity == len(arguments):
            this = Value("", frame.this, sure=True)
            self._body(summary, _Frame(arguments, this, address.known, {}, frame.depth + 1))

    def _target(self, expression: Expression, frame: _Frame) -> Value:
        """An address that a `Value` holds is taken as it is stored now."""
        if expression is not None and expression[0] == "state" and expression[2] is None:
            raw = self._see(frame.this + expression[1].encode() + b"\x00")
            if raw is not None:
                return Value("", decode_stored(raw), sure=True)
        return self.value(expression, frame)

    def _access(self, access: Access, mode: int, frame: _Frame) -> None:
        name = frame.this + access.variable.encode()
        prefix = name + (b"\x01" if access.kind == "Length" else b"\x00")
        parts: list[Value] = []
        exact = access.exact
        if access.kind == "Map":
            parts = [self._text.part(self.value(element, frame)) for element in access.key]
        elif access.kind == "List" and exact:
            index = self.value(access.key[0], frame)
            parts = [self._text.index(index, frame.this + access.variable.encode() + b"\x01")]
        if all(not part.code for part in parts):
            node = _Node(frame.this, name, prefix, tuple([part.known for part in parts]), exact)
            known = self._constants.get(node)
            self._constants[node] = mode if known is None else merge_modes(known, mode)
            return
        variable = self._variables.setdefault((frame.this, name), len(self._variables))
        self._text.touch(prefix, variable, parts, mode, exact=exact)

    def value(self, expression: Expression, frame: _Frame) -> Value:
        """The value of an expression, computed in the generated code as far as it is not known."""
        text = self._text
        if expression is None:
            return NOTHING
        kind = expression[0]
        if kind == "argument":
            return frame.arguments[expression[1]]
        if kind == "constant":
            return Value("", expression[1], sure=True)
        if kind == "context":
            return _context(expression[1], frame)
        if kind == "state":
            return self._state(expression, frame)
        if kind == "tuple":
            return Value("tuple", parts=tuple([self.value(item, frame) for item in expression[1]]))
        if kind == "item":
            return text.item(self.value(expression[1], frame), expression[2])
        if kind == "loop":
            return frame.items.get(expression[1], NOTHING)
        if kind == "operation":
            operands = [self.value(operand, frame) for operand in expression[2:]]
            return text.compute("operate", expression[1], operands)
        if kind == "builtin":
            arguments = [self.value(argument, frame) for argument in expression[2]]
            return text.compute("call_builtin", expression[1], arguments)
        if kind == "length":
            return text.stored_length(frame.this + expression[1].encode() + b"\x01")
        raise Fleeting  # a list comprehension whose value is used: seldom, so it is interpreted

    def _state(self, expression: tuple[Any, ...], frame: _Frame) -> Value:
        _, variable, key, default = expression
        prefix = frame.this + variable.encode() + b"\x00"
        parts = [self._text.part(self.value(element, frame)) for element in key_elements(key)]
        return self._text.stored(prefix, parts, self.value(default, frame))


def _context(name: str, frame: _Frame) -> Value:
    if name == "sender":
        return frame.sender
    if name == "this":
        return Value("", frame.this, sure=True)
    return {"origin": SENDER, "transaction_hash": HASH, "height": HEIGHT, "time_ms": TIME}.get(name, NOTHING)

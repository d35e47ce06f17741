"""What a method may touch, as data: the result of access inference, which prediction fills in and developers read.

Expressions are tuples, so that equal ones are found equal; None is a value that nothing is known of.

    ("constant", value)  ("argument", i)  ("context", name)  ("tuple", items)
    ("item", expression, index) or ("item", expression, index, field name)
    ("state", variable, key or None, default)  ("length", variable)  ("operation", name, left, right)
    ("interface", address)  ("builtin", name, arguments)
    ("loop", id): the present item of that loop  ("collect", id, domain, element): a list comprehension
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, NamedTuple, TypeAlias

Expression: TypeAlias = "tuple[Any, ...] | None"


class Mode(IntFlag):
    """How a key is touched."""

    READ = 1
    WRITE = 2
    BOTH = 3
    ADD = 4  # alone: with a read or write of the same key it is BOTH


class Access(NamedTuple):
    """`key` holds the expressions of the key's elements; with `exact` False it is a prefix of them (() is the whole
    variable). `kind` is "Value", "Map", "List", or "Length" for the length of a list."""

    variable: str
    kind: str
    key: tuple[Expression, ...]
    exact: bool


class CallSite(NamedTuple):
    """A call of another contract by an interface."""

    address: Expression
    method: str
    arguments: tuple[Expression, ...]
    interface: str = ""
    line: int = 0


class Loop(NamedTuple):
    """What a method touches once for each item of `domain`: the accesses and calls that name the item."""

    id: int
    domain: Expression
    line: int
    accesses: tuple[tuple[Access, int], ...]
    lines: tuple[int, ...]
    calls: tuple[CallSite, ...]
    loops: tuple[Loop, ...]


class Widening(NamedTuple):
    """Where a key or a target is not known exactly, and why, for the developer. `subject` is the variable or
    "Interface.method" concerned."""

    line: int
    subject: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Summary(NamedTuple):
    """Everything one method may do. `arity` counts parameters without self; `lines[i]` is where `accesses[i]` first
    writes, or first reads if it never writes."""

    arity: int
    accesses: tuple[tuple[Access, int], ...]  # with a `Mode` each
    calls: tuple[CallSite, ...]
    loops: tuple[Loop, ...] = ()
    parameters: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    widenings: tuple[Widening, ...] = ()


def key_elements(key: Expression) -> tuple[Expression, ...]:
    """The elements of a stored value's key: a tuple is one of several, None is the key of a `Value`."""
    if key is None:
        return ()
    return key[1] if key[0] == "tuple" else (key,)


def merge_modes(first: int, second: int) -> int:
    """The mode of two accesses of one key by one transaction."""
    if first == second:
        return first
    return int(Mode.BOTH) if (first | second) & Mode.ADD else first | second

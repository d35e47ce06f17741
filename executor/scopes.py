"""Where access inference puts what it finds: the method as a whole, and each loop whose item a key or a call names."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from executor.summary import Access, CallSite, Expression, Loop, Mode, Summary, Widening, merge_modes
from executor.values import Typed, Why

ACCESSES_MAX: Final = 256  # of a method, with its calls and loops; more and the method counts as unknown
METHOD: Final = -1


class TooComplex(Exception):
    """The method is more than is worth following; the text says what there is too much of."""


@dataclass(slots=True)
class _Scope:
    """What is touched once a round of the loop `id`, or once by the method. `named` are the loops whose items occur."""

    id: int
    domain: Typed
    line: int
    accesses: dict[Access, int] = field(default_factory=dict)
    lines: dict[Access, int] = field(default_factory=dict)
    calls: dict[tuple[Expression, str, tuple[Expression, ...]], CallSite] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    named: set[int] = field(default_factory=set)


class Scopes:
    """The loops around the statement being walked, innermost last, and all that was found."""

    def __init__(self) -> None:
        self._open = [_Scope(METHOD, Typed(None), 0)]
        self._widenings: dict[Widening, None] = {}
        self._found = 0
        self._loops = 0

    def summary(self, parameters: Sequence[str]) -> Summary:
        """Of the method, when all of it was walked."""
        body = self._open[0]
        lines = tuple([body.lines[access] for access in body.accesses])
        return Summary(
            arity=len(parameters),
            accesses=tuple(body.accesses.items()),
            calls=tuple(body.calls.values()),
            loops=tuple(body.loops),
            parameters=tuple(parameters),
            lines=lines,
            widenings=tuple(self._widenings),
        )

    def enter(self, domain: Typed, line: int) -> int:
        """The number of a loop over a known domain, from here to `leave`."""
        self._count("loops")
        self._loops += 1
        self._open.append(_Scope(self._loops, domain, line))
        return self._loops

    def leave(self) -> None:
        """The loop ends; if anything names its item it stands in the innermost loop that it names itself."""
        scope = self._open.pop()
        if not (scope.accesses or scope.calls or scope.loops):
            return
        named = (scope.named | scope.domain.loops) - {scope.id}
        lines = tuple([scope.lines[access] for access in scope.accesses])
        loop = Loop(
            scope.id, scope.domain.expression, scope.line, tuple(scope.accesses.items()), lines,
            tuple(scope.calls.values()), tuple(scope.loops),
        )  # fmt: skip
        self._scope_of(named).loops.append(loop)

    def access(self, access: Access, mode: Mode, node: ast.expr, parts: Sequence[Typed] = ()) -> None:
        """`parts` are the values that the key is made of."""
        scope = self._scope_of(_named(parts))
        before = scope.accesses.get(access)
        if before is None:
            self._count("accesses")
        scope.accesses[access] = int(mode) if before is None else merge_modes(before, mode)
        if before is None or (mode & ~Mode.READ and not before & ~Mode.READ):
            scope.lines[access] = node.lineno
        if None in access.key:
            self._widen(node.lineno, access.variable, "key depends on", parts)

    def call(
        self, interface: str, method: str, node: ast.expr, receiver: Typed, address: Expression, arguments: list[Typed]
    ) -> None:
        """A call of another contract."""
        if address is None:
            self._widen(node.lineno, f"{interface}.{method}", "target of the call is", [receiver])
        values = tuple([argument.expression for argument in arguments])
        scope = self._scope_of(_named([receiver, *arguments]))
        if (address, method, values) not in scope.calls:
            self._count("calls of other contracts")
            scope.calls[address, method, values] = CallSite(address, method, values, interface, node.lineno)

    def _widen(self, line: int, subject: str, text: str, parts: Sequence[Typed]) -> None:
        why = next((part.why for part in parts if part.why is not None), Why("something unknown", line))
        self._widenings[Widening(line, subject, f"{text} {why.at(line)}")] = None

    def _scope_of(self, named: set[int]) -> _Scope:
        """The innermost open loop whose item is named; it then names the others."""
        for scope in reversed(self._open):
            if scope.id in named:
                scope.named |= named
                return scope
        return self._open[0]

    def _count(self, what: str) -> None:
        self._found += 1
        if self._found > ACCESSES_MAX:
            raise TooComplex(f"more than {ACCESSES_MAX} {what}")


def _named(parts: Sequence[Typed]) -> set[int]:
    """The loops whose item these values name."""
    return {loop for part in parts for loop in part.loops}

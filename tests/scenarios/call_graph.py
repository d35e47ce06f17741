"""Call graphs between contracts. Every node is the same contract, which follows a script.

A script is written as nested lists, for instance `[("set", 1), ("try", "b", [("add", 5), ("fail", 7)]), ("get",)]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from contracts.runtime.testing import LocalChain, Result

_NODE = """
class Peer(Interface):
    @external
    def run(self, script: tuple[tuple[str, int, int, int], ...], peers: tuple[Address, ...], first: int,
            end: int) -> tuple[int, ...]: ...
    @view
    def look(self, script: tuple[tuple[str, int, int, int], ...], peers: tuple[Address, ...], first: int,
             end: int) -> tuple[int, ...]: ...

class Marked(Event):
    number: int
    sender: Address

class Node(Contract):
    value: Value[int]
    total: Value[int]
    notes: Map[int, int]

    @external
    def run(self, script: tuple[tuple[str, int, int, int], ...], peers: tuple[Address, ...], first: int,
            end: int) -> tuple[int, ...]:
        return self._follow(script, peers, first, end)

    @view
    def look(self, script: tuple[tuple[str, int, int, int], ...], peers: tuple[Address, ...], first: int,
             end: int) -> tuple[int, ...]:
        return self._follow(script, peers, first, end)

    @view
    def state(self) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        return (self.value.get(0), self.total.get(0), self.notes.scan())

    def _follow(self, script, peers, first, end):
        seen = []
        at = first
        while at < end:
            what, number, start, stop = script[at]
            at += 1
            if what == "set":
                self.value.set(number)
            elif what == "add":
                self.total.add(number, minimum=0)
            elif what == "note":
                self.notes[number] = self.notes.get(number, 0) + 1
            elif what == "mark":
                emit(Marked(number=number, sender=ctx.sender))
            elif what == "get":
                seen.append(self.value.get(0))
            elif what == "sum":
                seen.append(self.total.get(0))
            elif what == "scan":
                seen.append(sum([count for note, count in self.notes.scan()]))
            elif what == "fail":
                revert(f"asked {number}")
            elif what == "burn":
                while True:
                    pass
            else:
                at = stop
                if what == "call":
                    seen.extend(Peer(peers[number]).run(script, peers, start, stop))
                elif what == "look":
                    seen.extend(Peer(peers[number]).look(script, peers, start, stop))
                else:
                    seen.extend(self._try(what, script, peers, number, start, stop))
        return seen

    def _try(self, what, script, peers, number, start, stop):
        try:
            if what == "try":
                return Peer(peers[number]).run(script, peers, start, stop)
            return Peer(peers[number]).look(script, peers, start, stop)
        except CallFailed as failure:
            return (-failure.status,)
"""
NAMES: Final = "abcdefgh"
Script = Sequence[tuple[Any, ...]]


def flat(script: Script) -> tuple[tuple[str, int, int, int], ...]:
    """The rows a node follows: a call's own rows come after it, from `start` to `stop`."""
    rows: list[tuple[str, int, int, int]] = []
    for what, *arguments in script:
        if what in ("call", "try", "look", "trylook"):
            peer, inner = arguments
            inner_rows = flat(inner)
            start = len(rows) + 1
            rows.append((what, NAMES.index(peer), start, start + len(inner_rows)))
            rows += [
                (row[0], row[1], row[2] + start, row[3] + start) if row[3] else row for row in inner_rows
            ]
        else:
            rows.append((what, arguments[0] if arguments else 0, 0, 0))
    return tuple(rows)


class Graph:
    """Some nodes on a chain of their own."""

    def __init__(self, count: int = 4) -> None:
        self.chain = LocalChain()
        self.nodes = [self.chain.deploy(f"node_{name}", _NODE) for name in NAMES[:count]]

    def __getitem__(self, name: str) -> bytes:
        return self.nodes[NAMES.index(name)]

    def run(self, script: Script, *, at: str = "a", method: str = "run", gas_limit: int | None = None) -> Result:
        rows = flat(script)
        return self.chain.call(self[at], method, rows, tuple(self.nodes), 0, len(rows), gas_limit=gas_limit)

    def state(self, name: str) -> tuple[int, int, dict[int, int]]:
        """(value, total, notes) of a node."""
        value, total, notes = self.chain.read(self[name], "state").value
        return value, total, dict(notes)

    def marks(self, result: Result) -> list[tuple[str, int]]:
        """The events: which node, which number."""
        return [
            (NAMES[self.nodes.index(event.contract)], fields["number"])  # type: ignore[arg-type]
            for event, (_, fields) in zip(result.outcome.events, result.events, strict=True)
        ]

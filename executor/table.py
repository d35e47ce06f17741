"""Predicted accesses of a block as flat arrays, and the names behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

EVERYTHING: Final = 0
_BOTH: Final = 3


class AccessTable:
    """Transaction t touches `nodes[i]` with `modes[i]` (`executor.summary.Mode`) for i in `starts[t]..starts[t + 1]`.

    `parents[node]` is the node around it, -1 for `EVERYTHING`; `groups[node]` is 1 where a node may hold others.
    `modes` and `groups` have a byte each.
    """

    __slots__ = ("_ids", "groups", "modes", "nodes", "parents", "starts")

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self.parents: list[int] = [-1]
        self.groups = bytearray(b"\x01")
        self.starts: list[int] = [0]
        self.nodes: list[int] = []
        self.modes = bytearray()

    def node(self, name: bytes, parent: int, group: int) -> int:
        """The number of a node; its name is a state key, or the common prefix of a group's keys."""
        known = self._ids.get(name)
        if known is not None:
            return known
        number = self._ids[name] = len(self.parents)
        self.parents.append(parent)
        self.groups.append(group)
        return number

    def variable(self, contract: bytes, name: bytes) -> int:
        """The node of a variable; its name begins with its contract's."""
        return self.node(name, self.node(contract, EVERYTHING, 1), 1)

    def element(self, prefix: bytes, variable: int, parts: Sequence[bytes | None], *, exact: bool) -> int:
        """The key of a map with these parts, or, from the first unknown one on, the group it is in."""
        name, group = prefix, variable
        for position, part in enumerate(parts):
            if part is None:
                exact = False
                break
            if position == 1:
                group = self.node(name, variable, 1)
            name += part
        if exact:
            return self.node(name, group, 0)
        if group == variable and name != prefix:
            return self.node(name, variable, 1)  # only the first part is known
        return group

    @property
    def names(self) -> list[bytes]:
        """Of the nodes from 1 on; `EVERYTHING` has none."""
        return list(self._ids)

    @property
    def find(self) -> Callable[[bytes], int | None]:
        """The number of a node that is there already."""
        return self._ids.get

    def add_key(self, name: bytes, parent: int) -> int:
        """The number of a key that is not there yet."""
        number = self._ids[name] = len(self.parents)
        self.parents.append(parent)
        self.groups.append(0)
        return number

    def add_grouped(self, name: bytes, group: bytes, variable: int) -> int:
        """The number of a key that is not there yet, in the group of its first part."""
        parents = self.parents
        around = self._ids.get(group)
        if around is None:
            around = self._ids[group] = len(parents)
            parents.append(variable)
            self.groups.append(1)
        number = self._ids[name] = len(parents)
        parents.append(around)
        self.groups.append(0)
        return number

    def touch(self, node: int, mode: int) -> None:
        """An access of the transaction that is being described."""
        self.nodes.append(node)
        self.modes.append(mode)

    def end(self) -> None:
        """The next transaction."""
        self.starts.append(len(self.nodes))

    def drop(self) -> None:
        """Forget what was said about the transaction being described."""
        del self.nodes[self.starts[-1] :]
        del self.modes[self.starts[-1] :]

    def end_unknown(self) -> None:
        """The transaction being described may touch everything."""
        self.drop()
        self.touch(EVERYTHING, _BOTH)
        self.end()

    @property
    def count(self) -> int:
        """Transactions described."""
        return len(self.starts) - 1

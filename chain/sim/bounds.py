"""The replica's memory from outside: every container in it, found by walking, has a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum

from chain.sim.checkers import Violation
from consensus import Succession
from consensus.story import STORY_LINES_MAX

_LEAVES = (int, bytes, str, bool, type(None), Enum)


def containers(thing: object, path: str = "replica") -> Iterator[tuple[str, int]]:
    """(where, how many) of each dict, list, set and tuple held by objects of the core, messages not looked into."""
    if isinstance(thing, _LEAVES):
        return
    if isinstance(thing, dict):
        yield path, len(thing)
        for value in thing.values():
            yield from containers(value, f"{path}[]")
    elif isinstance(thing, list | set | frozenset | tuple | deque):
        yield path, len(thing)
        for value in () if isinstance(thing, deque) else thing:
            yield from containers(value, f"{path}[]")
    elif type(thing).__module__.startswith("consensus.") and not type(thing).__module__.endswith("messages"):
        for name in _attributes(thing):
            yield from containers(getattr(thing, name, None), f"{path}.{name}")


def _attributes(thing: object) -> list[str]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return slots + list(getattr(thing, "__dict__", ()))


def check_bounds(replica: Succession, *, window: int, nodes: int, transactions_max: int, restored_heights: int) -> int:
    """The size of the largest table. Raises Violation("bounded") if one is larger than any honest need.

    Votes are kept for two windows of heights and three types; the proposals of a slot for four digests. After a restart
    the heights that were certified and not stored come on top: how many those are is bounded by the driver.
    """
    bound = max(6 * window + 3 * nodes + 16, transactions_max) + restored_heights
    largest = 0
    for path, size in containers(replica):
        if "_journal" in path:
            continue  # what was read at the start
        if "_story" in path:
            if size > STORY_LINES_MAX:
                raise Violation("bounded", f"{path} holds {size}")
            continue
        largest = max(largest, size)
        if size > bound:
            raise Violation("bounded", f"{path} holds {size}, at most {bound}")
    return largest

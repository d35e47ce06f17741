"""Predictions of every quality, to stand in for what is inferred from the contracts' sources."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from executor.access import Mode
from executor.outcome import ExecutionInput
from executor.plan import PlainPlanner, Plan, Planner
from executor.planners import planner_of
from executor.predict import EVERYTHING, AccessTable
from executor.state import BaseState
from executor.transactions import Call
from tests.blocks.reference import Trace

KINDS: Final = ("inferred", "empty", "everything", "random", "adversarial", "scattered")


class Empty:
    """No transaction touches anything."""

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        table = AccessTable()
        for _ in calls:
            table.end()
        return table


class Everything:
    """Every transaction may touch everything."""

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        table = AccessTable()
        for _ in calls:
            table.end_unknown()
        return table


class Random:
    """Accesses of every mode, of keys, groups and everything, without any relation to the transactions."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        draw, table = self._draw, AccessTable()
        keys, density = draw.choice((2, 6, 40)), draw.choice((0.3, 0.9))
        modes = (Mode.READ, Mode.WRITE, Mode.BOTH, Mode.ADD)
        for _ in calls:
            if draw.random() < 0.01:
                table.end_unknown()
                continue
            while draw.random() < density * 0.6:
                group = table.node(b"group %d" % draw.randrange(3), EVERYTHING, 1)
                key = table.node(b"key %d" % draw.randrange(keys), group if draw.random() < 0.5 else EVERYTHING, 0)
                if draw.random() < 0.1:
                    table.touch(group, Mode.READ)
                else:
                    table.touch(key, draw.choice(modes))
            table.end()
        return table


class Adversarial:
    """Knows what really conflicts and separates exactly that; what is independent it joins.

    Transactions are coloured so that two of one colour never conflict, and each colour becomes one shard.
    """

    def __init__(self) -> None:
        self.traces: Sequence[Trace] = ()  # of the block that is to be predicted

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        table = AccessTable()
        if len(self.traces) != len(calls):  # another block than the one it knows of
            return Empty().predict(calls, base=base, height=height, time_ms=time_ms)
        for colour in colours(self.traces):
            table.touch(table.node(b"colour %d" % colour, EVERYTHING, 0), Mode.BOTH)
            table.end()
        return table


def conflicts(earlier: Trace, later: Trace) -> bool:
    """True if the later one read or scanned what the earlier one wrote."""
    if not later.reads.isdisjoint(earlier.writes):
        return True
    prefixes = tuple(later.scans)
    return bool(prefixes) and any(key.startswith(prefixes) for key in earlier.writes)


def colours(traces: Sequence[Trace]) -> list[int]:
    """For each transaction the first colour in which nothing conflicts with it."""
    found: list[int] = []
    for later, trace in enumerate(traces):
        taken = {found[earlier] for earlier in range(later) if conflicts(traces[earlier], trace)}
        found.append(next(colour for colour in range(later + 1) if colour not in taken))
    return found


class Scattered:
    """No prediction at all: every transaction goes to any executor."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._planner = PlainPlanner(Empty())

    def plan(self, block: ExecutionInput, *, base: BaseState, executors: int, head_start: float) -> Plan:
        shares: list[list[int]] = [[] for _ in range(executors)]
        weights = [self._draw.choice((0, 1, 10)) for _ in range(executors)]
        if not any(weights):
            weights[-1] = 1
        for position in range(len(block.transactions)):
            self._draw.choices(shares, weights)[0].append(position)
        made = self._planner.plan(block, base=base, executors=executors, head_start=head_start)
        return made._replace(shares=shares, loads=[len(share) for share in shares])

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        pass


class Foresight:
    """A planner of one of `KINDS`; the adversary is told of every block what it will really do."""

    def __init__(self, kind: str, draw: random.Random) -> None:
        self._adversary = Adversarial()
        self.planner: Planner
        match kind:
            case "inferred":
                self.planner = planner_of("summary")
            case "empty":
                self.planner = PlainPlanner(Empty())
            case "everything":
                self.planner = PlainPlanner(Everything())
            case "random":
                self.planner = PlainPlanner(Random(draw))
            case "adversarial":
                self.planner = PlainPlanner(self._adversary)
            case "scattered":
                self.planner = Scattered(draw)
            case _:
                raise ValueError(f"prediction {kind!r}, known: {KINDS}")

    def tell(self, traces: Sequence[Trace]) -> None:
        """What the transactions of the next block will see and do."""
        self._adversary.traces = traces

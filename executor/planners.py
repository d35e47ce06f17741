"""Which planner the lead uses, by name."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from chain.errors import InvariantError
from executor.plan import PlainPlanner, Planner, find_shards
from executor.predict import EVERYTHING, AccessTable, SummaryPredictor
from executor.state import BaseState
from executor.transactions import Call

PREDICTORS: Final = ("summary", "empty", "everything", "random", "splitting")
_RANDOM_NODES: Final = 64
_SPLIT: Final = 32  # groups into which the adversary tears shards


class FixedPredictor:
    """Predicts the same of every transaction: that it touches nothing, or everything."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        table = AccessTable()
        for _ in calls:
            if self._everything:
                table.end_unknown()
            else:
                table.end()
        return table


class RandomPredictor:
    """Hints without any relation to the transactions; equal for equal seeds and heights."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        draw, table = random.Random(self._seed + height), AccessTable()
        for _ in calls:
            table.touch(table.node(b"%d" % draw.randrange(_RANDOM_NODES), EVERYTHING, 0), draw.choice((1, 2, 3, 4)))
            table.end()
        return table


class SplittingPredictor:
    """The adversary: neighbours of a true shard are said to have nothing to do with each other, and strangers to
    belong together, so that as many true conflicts as can be lie across executors."""

    def __init__(self) -> None:
        self._honest = SummaryPredictor()

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        shard_of, _ = find_shards(self._honest.predict(calls, base=base, height=height, time_ms=time_ms))
        seen: Counter[int] = Counter()
        table = AccessTable()
        for shard in shard_of:
            table.touch(table.node(b"%d" % (seen[shard] % _SPLIT), EVERYTHING, 0), 3)
            table.end()
            seen[shard] += 1
        return table


def planner_of(predictor: str) -> Planner:
    """The planner for a name of `PREDICTORS`: "summary" is the one for use, the others are for tests and benchmarks.

    Raises:
        InvariantError: no such name.
    """
    if predictor == "summary":
        return _fastest()
    if predictor in ("empty", "everything"):
        return PlainPlanner(FixedPredictor(everything=predictor == "everything"))
    if predictor == "random":
        return PlainPlanner(RandomPredictor())
    if predictor == "splitting":
        return PlainPlanner(SplittingPredictor())
    raise InvariantError(f"predictor is {predictor!r}, must be one of {', '.join(PREDICTORS)}")


def _fastest() -> Planner:
    """The planner with kernels, compiled or loaded from the cache; where there is no numba that works here, plain
    Python plans the same, more slowly."""
    try:
        from executor.template import KernelPlanner

        KernelPlanner.warm_up()
    except Exception as error:  # noqa: BLE001  numba raises whatever its compiler or a read-only folder makes it raise
        sys.stderr.write(f"executor: planning without kernels: {error!r}\n")
        return PlainPlanner(SummaryPredictor())
    return KernelPlanner()

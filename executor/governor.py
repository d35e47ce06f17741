"""Whether a block is worth planning for. The choice is local and changes no result, only the time it takes."""

from __future__ import annotations

from typing import Final, Literal

from executor.outcome import ExecutionStats
from executor.plan import Plan

TRANSACTIONS_MIN: Final = 48  # below, the messages cost more than the work they share out
LOAD_MAX: Final = 0.80  # of a block's weight on one executor: sharing out the rest gains too little
REEXECUTED_MAX: Final = 0.25  # of a block's transactions: predictions are worth little
REST_BLOCKS_MIN: Final = 4
REST_BLOCKS_MAX: Final = 64
PROBE_BLOCKS: Final = 64  # a serial block once in so many, to know what it costs
SMOOTHING: Final = 0.3

Mode = Literal["parallel", "serial", "forced"]


class Governor:
    """Decides block by block. "forced" shares out whatever can be; "serial" nothing."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._rest = 0  # blocks to go before planning is tried again
        self._rest_blocks = REST_BLOCKS_MIN
        self._rest_reason = ""
        self._since_probe = PROBE_BLOCKS
        self._cost: dict[str, float] = {}  # mode -> wall ns a unit of gas, smoothed

    def before(self, *, transactions: int, executors: int) -> str | None:
        """Why the block should run as one unit without a plan, or None."""
        if self._mode == "serial":
            return "configured"
        if executors < 2:
            return "one_executor"
        if self._mode == "forced":
            return None
        if transactions < TRANSACTIONS_MIN:
            return "tiny"
        if self._rest > 0:
            self._rest -= 1
            return self._rest_reason
        self._since_probe += 1
        if self._since_probe > PROBE_BLOCKS:
            self._since_probe = 0
            return "probe"
        return None

    def planned(self, plan: Plan) -> str | None:
        """Why the planned block should run as one unit nevertheless, or None."""
        if self._mode == "forced":
            return None
        total = sum(plan.loads)
        if plan.shards <= 1 or max(plan.loads) > LOAD_MAX * total:
            self._rest_for("single_shard")
            return "single_shard"
        return None

    def observe(self, stats: ExecutionStats, *, transactions: int, gas_used: int, wall_ns: int) -> None:
        """Learn from a block that has run."""
        if self._mode != "parallel" or transactions < TRANSACTIONS_MIN or stats.executors_lost:
            return
        cost = wall_ns / max(gas_used, 1)
        known = self._cost.get(stats.mode, cost)
        self._cost[stats.mode] = known + SMOOTHING * (cost - known)
        if stats.mode != "parallel":
            return
        if stats.reexecuted > REEXECUTED_MAX * transactions:
            self._rest_for("mispredicted")
        elif self._cost["parallel"] > self._cost.get("serial", float("inf")):
            self._rest_for("slower")
            del self._cost["parallel"]  # judged afresh when it is tried again
        else:
            self._rest_blocks = REST_BLOCKS_MIN

    def _rest_for(self, reason: str) -> None:
        self._rest = self._rest_blocks
        self._rest_reason = reason
        self._rest_blocks = min(2 * self._rest_blocks, REST_BLOCKS_MAX)

"""Whether a block is worth planning for, and how much of it the lead should run. Local choices: they change no result,
only the time it takes."""

from __future__ import annotations

from typing import Final, Literal

from executor.plan import Plan

TRANSACTIONS_MIN: Final = 48  # below, the messages cost more than the work they share out
SHARD_MAX: Final = 0.80  # of a block's weight in one shard: sharing out the rest gains too little
REEXECUTED_MAX: Final = 0.25  # of a block's transactions: predictions are worth little
REST_BLOCKS_MIN: Final = 4
REST_BLOCKS_MAX: Final = 64
PROBE_BLOCKS: Final = 32  # a serial block once in so many, to know what it costs
PROBE_CHANGE: Final = 1.5  # ... and when the gas a transaction needs has changed by this factor
PROBE_PAUSE: Final = 8  # ... but at most once in so many, or alternating loads would be probed all the time
SMOOTHING: Final = 0.3
HEAD_START: Final = 0.15  # of a block's weight, before anything is known
IMBALANCE_MAX: Final = 0.5  # a larger one was an accident of the machine
_STEP: Final = 0.4  # of the imbalance seen is put right in the next block

Mode = Literal["parallel", "serial", "forced"]


class Governor:
    """Decides block by block. "forced" shares out whatever can be; "serial" nothing."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._rest = 0  # blocks to go before planning is tried again
        self._rest_blocks = REST_BLOCKS_MIN
        self._rest_reason = ""
        self._since_probe = PROBE_BLOCKS
        self._probe_gas = 0.0  # gas a transaction when serial execution was measured last
        self._cost: dict[str, float] = {}  # mode -> wall ns a unit of gas, smoothed
        self._head_start = HEAD_START
        self._executors = 2

    @property
    def head_start(self) -> float:
        """The part of a block's weight that the lead's other work is worth; negative where the others are slower."""
        most = 0.9 / max(self._executors - 1, 1)  # with the whole of it the lead would run nothing
        return min(max(self._head_start, -most), most)

    def before(self, *, transactions: int, executors: int) -> str | None:
        """Why the block should run as one unit without a plan, or None."""
        self._executors = executors
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
        if plan.shards <= 1 or plan.heaviest_shard > SHARD_MAX * sum(plan.loads):
            self._rest_for("single_shard")
            return "single_shard"
        return None

    def observe_serial(self, *, transactions: int, gas_used: int, wall_ns: int) -> None:
        """Learn from a block that ran as one unit."""
        if self._mode == "parallel" and transactions >= TRANSACTIONS_MIN:
            self._smooth("serial", wall_ns / max(gas_used, 1))
            self._probe_gas = gas_used / transactions

    def observe_parallel(
        self, *, transactions: int, gas_used: int, wall_ns: int, reexecuted: int, imbalance: float
    ) -> None:
        """Learn from a planned block whose executors all answered. `imbalance`: how much longer the slowest of the
        others took than the lead, as a part of what running the whole block takes one executor."""
        self._head_start = self.head_start - _STEP * min(max(imbalance, -IMBALANCE_MAX), IMBALANCE_MAX)
        if self._mode != "parallel":
            return
        parallel = self._smooth("parallel", wall_ns / max(gas_used, 1))
        gas = gas_used / max(transactions, 1)
        changed = not self._probe_gas / PROBE_CHANGE <= gas <= self._probe_gas * PROBE_CHANGE
        if reexecuted > REEXECUTED_MAX * transactions:
            self._rest_for("mispredicted")
        elif changed and self._since_probe >= PROBE_PAUSE:  # not what serial execution was measured on
            self._since_probe = PROBE_BLOCKS
            self._cost.clear()
            self._probe_gas = gas
        elif parallel > self._cost.get("serial", float("inf")):
            self._rest_for("slower")
            del self._cost["parallel"]  # judged afresh when it is tried again
        else:
            self._rest_blocks = max(self._rest_blocks - 1, REST_BLOCKS_MIN)

    def observe_lost(self) -> None:
        """Learn from a planned block that lost executors."""
        if self._mode == "parallel":
            self._rest_for("executor_lost")

    def _smooth(self, mode: str, cost: float) -> float:
        known = self._cost.get(mode, cost)
        result = self._cost[mode] = known + SMOOTHING * (cost - known)
        return result

    def _rest_for(self, reason: str) -> None:
        self._rest = self._rest_blocks
        self._rest_reason = reason
        self._rest_blocks = min(2 * self._rest_blocks, REST_BLOCKS_MAX)
        self._head_start = HEAD_START

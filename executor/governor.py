"""Whether a block is worth planning for, and how much of it the lead should run. Local choices: they change no result,
only the time it takes.

What serial execution would have cost is estimated twice: from the CPU time of the very block that ran in parallel,
since machines change their speed from one moment to the next and blocks their contents; and from blocks that lately ran
as one unit, since cores that work side by side may slow each other down. Planning must be worth it by both.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final, Literal

from executor.plan import Plan

TRANSACTIONS_MIN: Final = 48  # below, the messages cost more than the work they share out
SHARD_MAX: Final = 0.80  # of a block's weight in one shard: sharing out the rest gains too little
REEXECUTED_MAX: Final = 0.25  # of a block's transactions: predictions are worth little
LOSS_MAX: Final = 1.25  # times serial execution: so clear a loss needs no second block to be believed
REST_BLOCKS_MIN: Final = 8
REST_BLOCKS_MAX: Final = 128
BESIDE_MAX: Final = 1.1  # times what other blocks took as one unit; less is within what a machine varies by itself
PROBE_BLOCKS: Final = 16  # one block in so many runs as one unit, to know what that costs
PLANNED_KEPT: Final = 5  # planned blocks that are judged together; their median, for a machine stumbles now and then
SERIAL_KEPT: Final = 3  # blocks that ran as one unit, of these likewise
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
        self._ratios: deque[float] = deque(maxlen=PLANNED_KEPT)  # time of planned blocks over that of serial ones
        self._planned: deque[float] = deque(maxlen=PLANNED_KEPT)  # wall ns a unit of gas of planned blocks
        self._serial: deque[float] = deque(maxlen=SERIAL_KEPT)  # ... of blocks that ran as one unit
        self._since_probe = 0
        self._head_start = HEAD_START
        self._executors = 2

    @property
    def head_start(self) -> float:
        """The part of a block's weight that the lead's other work is worth; negative where the others are slower.

        The lead is always left a share, however many executors there are.
        """
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

    def observe_serial(self, *, transactions: int, gas_used: int, wall_ns: float) -> None:
        """Learn from a block that ran as one unit."""
        if transactions >= TRANSACTIONS_MIN:
            self._serial.append(wall_ns / max(gas_used, 1))

    def observe(
        self,
        *,
        transactions: int,
        reexecuted: int,
        gas_used: int,
        wall_ns: float,
        serial_ns: float,
        imbalance: float,
    ) -> None:
        """Learn from a planned block whose executors all answered.

        `serial_ns` is what it would have taken as one unit. `imbalance`: how much longer the slowest of the others took
        than the lead, as a part of what running the whole block takes one executor.
        """
        self._head_start = self.head_start - _STEP * min(max(imbalance, -IMBALANCE_MAX), IMBALANCE_MAX)
        if self._mode != "parallel":
            return
        self._ratios.append(wall_ns / max(serial_ns, 1.0))
        self._planned.append(wall_ns / max(gas_used, 1))
        if reexecuted > REEXECUTED_MAX * transactions:
            self._rest_for("mispredicted")
        elif self._loses():
            self._rest_for("slower")
        elif median(self._ratios) < 1.0:
            self._rest_blocks = max(self._rest_blocks - 1, REST_BLOCKS_MIN)

    def _loses(self) -> bool:
        """Whether planned blocks take longer than serial execution."""
        if len(self._ratios) == 1:
            return self._ratios[0] > LOSS_MAX
        beside = self._serial and median(self._planned) > BESIDE_MAX * median(self._serial)
        return median(self._ratios) > 1.0 or bool(beside)

    def observe_lost(self) -> None:
        """Learn from a planned block that lost executors."""
        if self._mode == "parallel":
            self._rest_for("executor_lost")

    def _rest_for(self, reason: str) -> None:
        self._rest = self._rest_blocks
        self._rest_reason = reason
        self._rest_blocks = min(2 * self._rest_blocks, REST_BLOCKS_MAX)
        self._head_start = HEAD_START
        self._ratios.clear()  # judged afresh when it is tried again
        self._planned.clear()

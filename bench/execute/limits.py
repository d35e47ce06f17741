"""What the speed-ups are held against: the promise of docs/parallel-execution.md, as numbers."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

NEVER_SLOWER: Final = 0.95  # of serial speed, over a run of blocks, with inferred predictions
ADVERSARIAL: Final = 1 / 2.2  # with the worst predictions
OF_THE_BOX: Final = 0.9  # of what two independent processes gain, for work without conflicts
GOALS: Final = MappingProxyType({"smallbank_uniform": 1.4, "credit_order": 1.5})
FREE_WORK: Final = frozenset({"cpu_heavy", "cpu_heavy_one_contract"})


def least_speedup(result: dict[str, Any]) -> float:
    """What a result's speed-up on two executors must reach."""
    if result["predictions"] != "inferred":
        return ADVERSARIAL
    if result["workload"] in FREE_WORK:
        return OF_THE_BOX * float(result["two_processes_gain"])
    return GOALS.get(result["workload"], NEVER_SLOWER)

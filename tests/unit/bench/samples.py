"""Outputs, statistics and reports made by hand."""

from __future__ import annotations

from typing import Any

from bench.execute.figures import SERIAL, BlockSample, Repeat, summarize
from executor.outcome import ExecutionOutput, ExecutionStats

BOX = {
    "processor": "Abacus", "cores": 2, "memory_gib": 4.0, "system": "Linux", "python": "3.11.7", "versions": {},
    "commit": "abc1234", "calibration": {},
}  # fmt: skip


def stats(
    *, mode: str = "parallel", reason: str = "planned", reexecuted: int = 0, cpu_us: int = 1_000
) -> ExecutionStats:
    return ExecutionStats(
        mode=mode, reason=reason, shards=7, largest_shard=3, shard_sizes=(3, 1), conflicts_predicted=4,
        conflicts_actual=5, reexecuted=reexecuted, executors_lost=0, busy_us=(10, 20), plan_us=200, validate_us=100,
        wall_us=2_000, cpu_us=cpu_us,
    )  # fmt: skip


SERIALLY = stats(mode="serial", reason="configured")


def output(height: int = 1) -> ExecutionOutput:
    """Of a serial engine."""
    return ExecutionOutput(
        height=height, transaction_root=b"t", receipt_root=b"r", state_root=b"s", gas_used=9, receipts=(),
        writes=b"w", stats=SERIALLY,
    )  # fmt: skip


def repeat(serial: list[float], two: list[float], *, reexecuted: int = 0, equal: bool = True) -> Repeat:
    """Wall times by block, microseconds."""
    unit = [BlockSample(wall, True, SERIALLY) for wall in serial]
    return Repeat(
        {
            SERIAL: unit,
            "1": unit,
            "2": [BlockSample(wall, equal, stats(reexecuted=reexecuted, cpu_us=1_500)) for wall in two],
        },
        alone_us=[sum(serial)],
        both_us=[sum(serial) * 1.25],
    )


def report_of(workload: str = "smallbank_uniform", **changed: Any) -> dict[str, Any]:
    """A whole report, as `run_execute` makes them."""
    figures = summarize([repeat([100.0, 100.0], [80.0, 50.0])], transactions=10)
    return {
        "workload": workload, "title": workload, "transactions": 20, "predictor": "summary", **figures, "blocks": 2,
        "transactions_per_block": 10, "repeats": 1, "warmup_blocks": 0, "setup_transactions": 0, "mode": "parallel",
        "predictions": "inferred", "by_predictor": {}, "seed": 1,
        "transaction_cpu_us": {"serial": 11.0, "tracked": 12.0},
        "model": {"speedup": {"1": 1.0, "2": 1.6, "4": 2.5}, "planned": {"1": 1.0, "2": 1.6, "4": 2.5}},
        "machine": BOX, "seconds": 1.0, **changed,
    }  # fmt: skip

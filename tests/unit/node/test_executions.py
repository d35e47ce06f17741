"""How recent blocks were executed, and what the metrics say of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from chain.node.executions import HEIGHTS_KEPT, Executions
from chain.node.metrics import NodeCollector
from chain.node.node import Node
from chain.pipeline.ahead import AheadStats
from executor import ExecutionStats
from executor.engine import EngineStats


def stats(**changes: Any) -> ExecutionStats:
    fields: dict[str, Any] = {
        "mode": "parallel", "reason": "planned", "shards": 3, "largest_shard": 5, "shard_sizes": (5, 2, 1),
        "conflicts_predicted": 4, "conflicts_actual": 6, "reexecuted": 1, "executors_lost": 0,
        "busy_us": (1_000, 2_000), "plan_us": 10, "validate_us": 20, "wall_us": 2_500, "cpu_us": 3_000,
    }  # fmt: skip
    return ExecutionStats(**{**fields, **changes})


def test_recent_heights_are_given_ascending_and_bounded() -> None:
    executions = Executions()
    for height in range(1, HEIGHTS_KEPT + 11):
        executions.add(height, 8, stats())
    assert [entry.height for entry in executions.recent(0, 3)] == [11, 12, 13]
    assert [entry.height for entry in executions.recent(HEIGHTS_KEPT + 9, 100)] == [HEIGHTS_KEPT + 9, HEIGHTS_KEPT + 10]
    assert executions.recent(HEIGHTS_KEPT + 11, 100) == []
    assert executions.transactions == 8 * (HEIGHTS_KEPT + 10)


def test_totals_are_kept_by_decision_and_executor() -> None:
    executions = Executions()
    executions.add(1, 8, stats())
    executions.add(2, 8, stats(mode="serial", reason="tiny", shards=1, busy_us=(500,), reexecuted=0))
    executions.add(3, 8, stats(shards=5_000))
    assert executions.decisions == {("parallel", "planned"): 2, ("serial", "tiny"): 1}
    assert executions.busy_us == {0: 2_500, 1: 4_000}
    assert (executions.reexecuted, executions.conflicts_predicted, executions.conflicts_actual) == (2, 12, 18)
    assert sum(executions.shard_counts) == 2
    assert executions.shard_counts[-1] == 1


class _Execution(Collector):
    """The part of the node's metrics that is about execution."""

    def __init__(self, node: SimpleNamespace) -> None:
        self._collector = NodeCollector(cast(Node, node))

    def collect(self) -> list[Metric]:
        return list(self._collector._execution())


def test_metrics_of_execution() -> None:
    executions = Executions()
    executions.add(1, 8, stats())
    executions.add(2, 4, stats(mode="serial", reason="tiny", shards=1, busy_us=(500,), reexecuted=0))
    node = SimpleNamespace(
        executions=executions,
        engine=SimpleNamespace(stats=EngineStats(executors_lost=2, lead_restarts=1, discarded=3)),
        execute_stage=SimpleNamespace(stats=AheadStats(speculated=9, kept=7, discarded=2)),
    )
    registry = CollectorRegistry()
    registry.register(_Execution(node))
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        'headrace_executor_blocks_total{mode="parallel",reason="planned"} 1.0',
        'headrace_executor_blocks_total{mode="serial",reason="tiny"} 1.0',
        "headrace_executor_transactions_total 12.0",
        "headrace_executor_reexecuted_transactions_total 1.0",
        'headrace_executor_conflicts_total{kind="predicted"} 8.0',
        'headrace_executor_conflicts_total{kind="actual"} 12.0',
        'headrace_executor_shards_bucket{le="2.0"} 0.0',
        'headrace_executor_shards_bucket{le="4.0"} 1.0',
        'headrace_executor_shards_bucket{le="+Inf"} 1.0',
        "headrace_executor_shards_sum 3.0",
        'headrace_executor_busy_seconds_total{executor="0"} 0.0015',
        'headrace_executor_busy_seconds_total{executor="1"} 0.002',
        'headrace_executor_speculated_heights_total{outcome="kept"} 7.0',
        'headrace_executor_speculated_heights_total{outcome="discarded"} 2.0',
        "headrace_executor_discarded_blocks_total 3.0",
        "headrace_executor_lost_processes_total 2.0",
        "headrace_executor_lead_restarts_total 1.0",
    ):
        assert line in lines, line

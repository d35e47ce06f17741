"""The node's metrics in the Prometheus text format, read off the running parts at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from chain.node.executions import SHARD_BOUNDS, Executions
from chain.node.members import Role
from chain.node.node import Node
from chain.pipeline.spans import summarize
from chain.types import Height

SUMMARY_HEIGHTS = 100


class NodeCollector(Collector):
    """Names follow headrace_<package>_<noun>_<unit>."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        yield from self._consensus()
        yield from self._pool()
        yield from self._pipeline()
        yield from self._execution()
        yield from self._network()
        yield from self._processes()

    def _consensus(self) -> Iterator[Metric]:
        replica, last = self._node.replica, self._node.last_header
        views_entered = self._node.consensus.views_entered
        yield _gauge("headrace_consensus_view", "The current view", replica.view)
        yield _gauge("headrace_consensus_changing", "1 while a view change is under way", replica.is_changing)
        yield _gauge("headrace_consensus_ordered_height", "Highest ordered height", replica.ordered_height)
        yield _gauge("headrace_consensus_certified_height", "Highest certified height", replica.certified_height)
        yield _gauge("headrace_consensus_diverged", "1 if this node stopped voting", bool(self._node.diverged))
        yield _gauge("headrace_consensus_validators", "Validators in force", len(self._node.validators))
        is_validator = self._node.members.role is Role.VALIDATOR
        yield _gauge("headrace_consensus_is_validator", "1 if this node is one of them", is_validator)
        expires = self._node.members.certificate_expires()
        if expires is not None:
            name = "headrace_net_certificate_expiry_timestamp_seconds"
            yield _gauge(name, "End of the node's certificate", expires.timestamp())
        yield _counter("headrace_consensus_view_changes", "Views entered by a view change", views_entered)
        yield _gauge("headrace_store_height", "Highest stored height", last.height)
        yield _counter(
            "headrace_store_transactions", "Executed transactions since genesis", self._node.transactions_total
        )

    def _pool(self) -> Iterator[Metric]:
        pool = self._node.pool
        yield _gauge("headrace_pool_transactions", "Transactions in the pool", len(pool))
        yield _gauge("headrace_pool_waiting_transactions", "Of these, in no proposal", pool.waiting_count)
        yield _gauge("headrace_pool_bytes", "Bytes in the pool", pool.bytes_held)
        refused = CounterMetricFamily(
            "headrace_pool_refused_transactions", "Transactions refused, by reason", labels=["reason"]
        )
        for reason, count in sorted(self._node.intake.refused.items()):
            refused.add_metric([reason], count)
        yield refused

    def _pipeline(self) -> Iterator[Metric]:
        node = self._node
        depth = GaugeMetricFamily("headrace_pipeline_stage_depth_items", "Items waiting per stage", labels=["stage"])
        for stage in node.stages:
            depth.add_metric([stage.name], stage.depth)
        yield depth
        cpu = CounterMetricFamily(
            "headrace_pipeline_cpu_seconds", "CPU of this process and its executors, by kind of work", labels=["work"]
        )
        for work, spent_us in sorted(node.cpu_by_work().items()):
            cpu.add_metric([work], spent_us / 1e6)
        yield cpu
        summary = summarize(node.spans.recent(Height(max(0, node.last_header.height - SUMMARY_HEIGHTS)), 10_000))
        mean = GaugeMetricFamily(
            "headrace_pipeline_stage_seconds", "Mean time of a height in a stage, last 100 heights", labels=["stage"]
        )
        for stage_name, value in summary.mean_ms.items():
            mean.add_metric([stage_name], value / 1_000)
        yield mean
        yield _gauge("headrace_pipeline_overlap_ratio", "Summed stage time over time any was busy", summary.overlap)

    def _execution(self) -> Iterator[Metric]:
        done, engine = self._node.executions, self._node.engine.stats
        blocks = CounterMetricFamily(
            "headrace_executor_blocks", "Executed blocks, by mode and why that mode", labels=["mode", "reason"]
        )
        for (mode, reason), count in sorted(done.decisions.items()):
            blocks.add_metric([mode, reason], count)
        yield blocks
        yield _counter("headrace_executor_transactions", "Executed transactions", done.transactions)
        yield _counter("headrace_executor_reexecuted_transactions", "Of these, run twice", done.reexecuted)
        conflicts = CounterMetricFamily(
            "headrace_executor_conflicts", "Reads after writes within blocks, planned for and met", labels=["kind"]
        )
        conflicts.add_metric(["predicted"], done.conflicts_predicted)
        conflicts.add_metric(["actual"], done.conflicts_actual)
        yield conflicts
        yield _shards(done)
        busy = CounterMetricFamily(
            "headrace_executor_busy_seconds", "Time each executor spent running transactions", labels=["executor"]
        )
        for executor, busy_us in sorted(done.busy_us.items()):
            busy.add_metric([str(executor)], busy_us / 1e6)
        yield busy
        ahead = self._node.execute_stage.stats
        heights = CounterMetricFamily(
            "headrace_executor_speculated_heights",
            "Heights that executors were given before they were ordered, and what became of them",
            labels=["outcome"],
        )
        heights.add_metric(["kept"], ahead.kept)
        heights.add_metric(["discarded"], ahead.discarded)
        yield heights
        yield _counter("headrace_executor_discarded_blocks", "Blocks whose execution was taken back", engine.discarded)
        yield _counter("headrace_executor_lost_processes", "Executors that died or failed", engine.executors_lost)
        yield _counter("headrace_executor_lead_restarts", "Times the first executor was replaced", engine.lead_restarts)

    def _network(self) -> Iterator[Metric]:
        node = self._node
        yield _gauge("headrace_net_connected_peers", "Connected validators", len(node.gateway.connected()))
        yield _counter("headrace_sync_fetched_blocks", "Blocks fetched from peers", node.fetcher.fetched)
        faults = CounterMetricFamily("headrace_net_peer_faults", "Protocol faults of peers", labels=["peer"])
        for peer, count in sorted(node.faults.items()):
            faults.add_metric([peer.hex()], count)
        yield faults

    def _processes(self) -> Iterator[Metric]:
        process = psutil.Process()
        times = process.cpu_times()
        yield _counter("headrace_node_cpu_seconds", "CPU of the node process", times.user + times.system)
        yield _gauge("headrace_node_resident_bytes", "Resident memory of the node process", process.memory_info().rss)
        yield _counter(
            "headrace_executor_cpu_seconds", "CPU of the executor processes", self._node.executor_cpu_us() / 1e6
        )
        yield _gauge("headrace_executor_alive_processes", "Executor processes alive", self._node.engine.executors_alive)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _shards(done: Executions) -> HistogramMetricFamily:
    """The number of shards of blocks that ran in parallel, as a histogram."""
    cumulated = list(accumulate(done.shard_counts))
    bounds = [*(str(float(bound)) for bound in SHARD_BOUNDS), "+Inf"]
    family = HistogramMetricFamily("headrace_executor_shards", "Shards of a block that ran in parallel")
    family.add_metric([], list(zip(bounds, cumulated, strict=True)), done.shards_total)
    return family


def render_metrics(node: Node) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node))
    return generate_latest(registry)

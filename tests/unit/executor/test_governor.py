"""When a block is planned for: by size, by shape, by what it cost before."""

from __future__ import annotations

from executor.governor import PROBE_BLOCKS, REST_BLOCKS_MAX, REST_BLOCKS_MIN, TRANSACTIONS_MIN, Governor
from executor.outcome import ExecutionStats
from executor.plan import Plan

BALANCED = Plan(shares=[[0], [1]], loads=[50, 50], shards=10, largest_shard=5)
LOPSIDED = Plan(shares=[[0], [1]], loads=[90, 10], shards=2, largest_shard=90)


def stats(mode: str, *, reexecuted: int = 0, lost: int = 0) -> ExecutionStats:
    return ExecutionStats(
        mode=mode, reason="", shards=1, largest_shard=1, reexecuted=reexecuted, executors_lost=lost, busy_us=(),
        plan_us=0, validate_us=0, cpu_us=0,
    )  # fmt: skip


def before(governor: Governor, transactions: int = 1_000, executors: int = 2) -> str | None:
    return governor.before(transactions=transactions, executors=executors)


def past_probe(governor: Governor) -> Governor:
    assert before(governor) == "probe"
    return governor


def test_modes_and_sizes() -> None:
    assert before(Governor("serial")) == "configured"
    assert before(Governor("forced"), executors=1) == "one_executor"
    assert before(Governor("forced"), transactions=1) is None
    assert Governor("forced").planned(LOPSIDED) is None
    governor = Governor("parallel")
    assert before(governor, transactions=TRANSACTIONS_MIN - 1) == "tiny"
    assert before(past_probe(governor)) is None


def test_a_block_that_is_one_shard_rests_planning_longer_each_time() -> None:
    governor = past_probe(Governor("parallel"))
    rest = REST_BLOCKS_MIN
    for _ in range(6):
        while (reason := before(governor)) == "probe":
            pass
        assert reason is None
        assert governor.planned(LOPSIDED) == "single_shard"
        assert [before(governor) for _ in range(rest)] == ["single_shard"] * rest
        rest = min(2 * rest, REST_BLOCKS_MAX)
    assert rest == REST_BLOCKS_MAX


def test_mispredicted_and_slower_blocks_rest_planning() -> None:
    governor = past_probe(Governor("parallel"))
    governor.observe(stats("serial"), transactions=1_000, gas_used=1_000, wall_ns=1_000)
    assert before(governor) is None
    governor.observe(stats("parallel", reexecuted=600), transactions=1_000, gas_used=1_000, wall_ns=500)
    assert before(governor) == "mispredicted"
    governor = past_probe(Governor("parallel"))
    governor.observe(stats("serial"), transactions=1_000, gas_used=1_000, wall_ns=1_000)
    governor.observe(stats("parallel"), transactions=1_000, gas_used=1_000, wall_ns=1_200)
    assert before(governor) == "slower"


def test_a_block_that_gains_keeps_planning_and_forgets_rests() -> None:
    governor = past_probe(Governor("parallel"))
    governor.observe(stats("serial"), transactions=1_000, gas_used=1_000, wall_ns=1_000)
    for _ in range(PROBE_BLOCKS):
        assert before(governor) is None
        assert governor.planned(BALANCED) is None
        governor.observe(stats("parallel"), transactions=1_000, gas_used=1_000, wall_ns=600)
    assert before(governor) == "probe"


def test_a_block_with_a_lost_executor_teaches_nothing() -> None:
    governor = past_probe(Governor("parallel"))
    governor.observe(stats("serial"), transactions=1_000, gas_used=1_000, wall_ns=1_000)
    governor.observe(stats("parallel", lost=1), transactions=1_000, gas_used=1_000, wall_ns=10**9)
    assert before(governor) is None

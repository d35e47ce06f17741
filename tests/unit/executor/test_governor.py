"""When a block is planned for: by size, by shape, by what it cost before; and how much of it the lead runs."""

from __future__ import annotations

import pytest

from executor.governor import (
    HEAD_START,
    IMBALANCE_MAX,
    PROBE_BLOCKS,
    PROBE_CHANGE,
    PROBE_PAUSE,
    REEXECUTED_MAX,
    REST_BLOCKS_MAX,
    REST_BLOCKS_MIN,
    SHARD_MAX,
    TRANSACTIONS_MIN,
    Governor,
)
from executor.plan import NO_HOME, Load, Plan, assign

COUNT = 1_000  # transactions of a block here
GAS = 50  # of each


def plan_of(heaviest: int, *, shards: int = 10) -> Plan:
    """A plan of weight 100."""
    return Plan(
        shares=[[0], [1]], loads=[50, 50], shards=shards, heaviest_shard=heaviest, shard_sizes=(5, 5), conflicts=0,
        methods=(),
    )  # fmt: skip


BALANCED = plan_of(5)
LOPSIDED = plan_of(100, shards=1)


def before(governor: Governor, transactions: int = COUNT, executors: int = 2) -> str | None:
    return governor.before(transactions=transactions, executors=executors)


def serial(governor: Governor, cost: float = 1.0, *, transactions: int = COUNT, gas: float = GAS) -> None:
    """A block ran as one unit, at so many nanoseconds a unit of gas."""
    gas_used = int(transactions * gas)
    governor.observe_serial(transactions=transactions, gas_used=gas_used, wall_ns=int(cost * gas_used))


def parallel(
    governor: Governor, cost: float = 0.6, *, gas: float = GAS, reexecuted: int = 0, imbalance: float = 0.0
) -> None:
    gas_used = int(COUNT * gas)
    governor.observe_parallel(
        transactions=COUNT, gas_used=gas_used, wall_ns=int(cost * gas_used), reexecuted=reexecuted, imbalance=imbalance
    )


def probed(mode: str = "parallel", cost: float = 1.0) -> Governor:
    """A governor that knows what serial execution costs."""
    governor = Governor(mode)
    assert before(governor) == "probe"
    serial(governor, cost)
    return governor


def rest_of(governor: Governor) -> list[str]:
    """The reasons until the next block that is planned or a probe."""
    reasons: list[str] = []
    while (reason := before(governor)) not in (None, "probe"):
        assert reason is not None
        reasons.append(reason)
    return reasons


# --- modes and sizes ---


def test_modes_and_sizes() -> None:
    assert before(Governor("serial")) == "configured"
    assert before(Governor("serial"), transactions=0, executors=1) == "configured"
    assert before(Governor("forced"), executors=1) == "one_executor"
    assert before(Governor("parallel"), executors=1) == "one_executor"
    assert before(Governor("forced"), transactions=1) is None
    assert Governor("forced").planned(LOPSIDED) is None
    governor = probed()
    assert before(governor, transactions=TRANSACTIONS_MIN - 1) == "tiny"
    assert before(governor, transactions=TRANSACTIONS_MIN) is None


def test_forced_never_rests() -> None:
    governor = Governor("forced")
    for _ in range(3 * PROBE_BLOCKS):
        assert before(governor) is None
        serial(governor, 0.1)
        parallel(governor, 9.0, reexecuted=COUNT)


def test_tiny_blocks_neither_rest_nor_probe_nor_teach() -> None:
    governor = probed()
    governor.planned(LOPSIDED)
    for _ in range(2 * PROBE_BLOCKS):
        assert before(governor, transactions=1) == "tiny"
        serial(governor, 0.001, transactions=TRANSACTIONS_MIN - 1, gas=1)
    assert rest_of(governor) == ["single_shard"] * REST_BLOCKS_MIN
    parallel(governor, 0.9)  # cheaper than serial as it was measured, dearer than the tiny blocks
    assert before(governor) is None


def test_a_heavy_shard_is_no_plan() -> None:
    limit = round(100 * SHARD_MAX)
    assert probed().planned(plan_of(limit)) is None
    assert probed().planned(plan_of(limit + 1)) == "single_shard"
    assert probed().planned(plan_of(1, shards=1)) == "single_shard"


# --- probes ---


def test_one_block_in_so_many_is_a_probe() -> None:
    governor = Governor("parallel")
    reasons = []
    for _ in range(3 * (PROBE_BLOCKS + 1)):
        reasons.append(before(governor))
        if reasons[-1] is None:
            assert governor.planned(BALANCED) is None
            parallel(governor)
        else:
            serial(governor)
    assert reasons == ["probe", *[None] * PROBE_BLOCKS] * 3


@pytest.mark.parametrize("factor", [PROBE_CHANGE * 1.01, 1 / (PROBE_CHANGE * 1.01)])
def test_another_workload_is_probed_before_it_is_judged(factor: float) -> None:
    """What was measured of short transactions says nothing of long ones."""
    governor = probed(cost=0.1)
    for _ in range(PROBE_PAUSE - 1):
        assert before(governor) is None
        parallel(governor, 0.05)
    assert before(governor) is None
    parallel(governor, 1.0, gas=GAS * factor)  # ten times dearer than serial was, but for other transactions
    assert before(governor) == "probe"
    serial(governor, 2.0, gas=GAS * factor)
    assert before(governor) is None
    parallel(governor, 1.0, gas=GAS * factor)
    assert before(governor) is None  # it gains


def test_alternating_workloads_are_not_probed_all_the_time() -> None:
    governor = probed()
    probes = 0
    for block in range(10 * PROBE_PAUSE):
        gas = GAS * (1 + 3 * (block % 2))
        if before(governor) == "probe":
            probes += 1
            serial(governor, gas=gas)
        else:
            parallel(governor, gas=gas)
    assert 1 <= probes <= 10


def test_the_same_workload_is_judged_by_the_last_probe() -> None:
    governor = probed(cost=0.1)
    assert before(governor) is None
    parallel(governor, 1.0, gas=GAS * PROBE_CHANGE * 0.99)
    assert before(governor) == "slower"


# --- rests ---


def test_a_rest_doubles_while_its_reason_repeats() -> None:
    governor = probed()
    rest = REST_BLOCKS_MIN
    for _ in range(7):
        while before(governor) == "probe":
            serial(governor)
        assert governor.planned(LOPSIDED) == "single_shard"
        assert rest_of(governor) == ["single_shard"] * rest
        rest = min(2 * rest, REST_BLOCKS_MAX)
    assert rest == REST_BLOCKS_MAX


def test_blocks_that_gain_make_the_next_rest_short() -> None:
    governor = probed()
    for _ in range(3):
        assert governor.planned(LOPSIDED) == "single_shard"
        rest_of(governor)
    for _ in range(8 * REST_BLOCKS_MIN):
        parallel(governor)
    assert governor.planned(LOPSIDED) == "single_shard"
    assert len(rest_of(governor)) == REST_BLOCKS_MIN


def test_a_block_that_loses_executors_rests_planning() -> None:
    governor = probed()
    governor.observe_lost()
    assert rest_of(governor) == ["executor_lost"] * REST_BLOCKS_MIN
    governor.observe_lost()
    assert len(rest_of(governor)) == 2 * REST_BLOCKS_MIN


def test_mispredicted_blocks_rest_planning() -> None:
    governor = probed()
    limit = round(REEXECUTED_MAX * COUNT)
    assert before(governor) is None
    parallel(governor, reexecuted=limit)
    assert before(governor) is None
    parallel(governor, reexecuted=limit + 1)
    assert rest_of(governor) == ["mispredicted"] * REST_BLOCKS_MIN


def test_slower_blocks_rest_planning_and_are_judged_afresh() -> None:
    governor = probed()
    assert before(governor) is None
    parallel(governor, 1.01)
    assert rest_of(governor) == ["slower"] * REST_BLOCKS_MIN
    parallel(governor, 0.99)  # alone, without what the slow ones cost
    assert before(governor) is None


def test_one_slow_block_among_fast_ones_is_no_reason() -> None:
    governor = probed()
    for _ in range(3):
        parallel(governor, 0.5)
    parallel(governor, 1.9)
    assert before(governor) is None
    parallel(governor, 1.9)
    assert before(governor) == "slower"


def test_without_a_measurement_nothing_is_slower() -> None:
    """The probe may have been lost with an executor, or the lead is new."""
    governor = Governor("forced")
    parallel(governor, 100.0)
    assert before(governor) is None


# --- the lead's part ---


def test_the_head_start_moves_against_the_imbalance() -> None:
    governor = probed()
    assert governor.head_start == HEAD_START
    parallel(governor, imbalance=0.1)  # the others took longer, so they get less
    assert governor.head_start < HEAD_START
    lower = governor.head_start
    parallel(governor, imbalance=-0.2)
    assert governor.head_start > HEAD_START > lower
    for _ in range(3):
        at = governor.head_start
        parallel(governor, imbalance=0.0)
        assert governor.head_start == at


def test_the_head_start_settles_where_nobody_waits() -> None:
    """The lead's other work is worth 0.4 of a block; with two executors the imbalance is what is left of that."""
    governor = probed()
    for _ in range(30):
        parallel(governor, imbalance=governor.head_start - 0.4)
    assert governor.head_start == pytest.approx(0.4, abs=0.01)


def test_an_accident_moves_the_head_start_a_little() -> None:
    for sign in (1, -1):
        known, accident = probed(), probed()
        parallel(known, imbalance=sign * IMBALANCE_MAX)
        parallel(accident, imbalance=sign * 1_000.0)
        assert accident.head_start == known.head_start
        assert abs(accident.head_start - HEAD_START) < 0.5


@pytest.mark.parametrize("executors", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("imbalance", [-1_000.0, 1_000.0])
def test_no_head_start_leaves_an_executor_without_work(executors: int, imbalance: float) -> None:
    """Whatever happened, a block of equal shards is still shared out, so that there is something to learn from."""
    governor = Governor("parallel")
    assert before(governor, executors=executors) == "probe"
    serial(governor)
    for _ in range(50):
        assert before(governor, executors=executors) in (None, "probe")
        weight = COUNT * GAS
        load = Load([GAS] * COUNT, [0] * COUNT, [NO_HOME], int(governor.head_start * weight))
        plan = assign(range(COUNT), load, executors)
        assert governor.planned(plan) is None
        assert min(plan.loads) > 0
        parallel(governor, imbalance=imbalance)


def test_the_head_start_fits_the_executors_there_are() -> None:
    """Others join while it stands at what two executors may have."""
    governor = probed()
    for _ in range(50):
        parallel(governor, imbalance=-IMBALANCE_MAX)
    assert governor.head_start == pytest.approx(0.9)
    before(governor, executors=16)
    assert governor.head_start == pytest.approx(0.06)


def test_a_rest_forgets_the_head_start() -> None:
    governor = probed()
    parallel(governor, imbalance=-0.5)
    assert governor.head_start != HEAD_START
    governor.planned(LOPSIDED)
    assert governor.head_start == HEAD_START


def test_the_head_start_is_learnt_when_planning_is_forced() -> None:
    governor = Governor("forced")
    parallel(governor, imbalance=-0.1)
    assert governor.head_start > HEAD_START

"""When a block is planned for: by size, by shape, by what it cost before; and how much of it the lead runs."""

from __future__ import annotations

import pytest

from executor.governor import (
    HEAD_START,
    IMBALANCE_MAX,
    LOSS_MAX,
    PLANNED_KEPT,
    PROBE_BLOCKS,
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
SERIAL_NS = 1e7  # what the block would have taken as one unit


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


def parallel(governor: Governor, ratio: float = 0.6, *, reexecuted: int = 0, imbalance: float = 0.0) -> None:
    """A planned block took so many times what serial execution takes."""
    governor.observe(
        transactions=COUNT, reexecuted=reexecuted, gas_used=COUNT * GAS, wall_ns=ratio * SERIAL_NS, serial_ns=SERIAL_NS,
        imbalance=imbalance,
    )  # fmt: skip


def serial(governor: Governor, ratio: float = 1.0, *, transactions: int = COUNT) -> None:
    """A block ran as one unit and took so many times what was estimated."""
    governor.observe_serial(
        transactions=transactions, gas_used=transactions * GAS, wall_ns=ratio * SERIAL_NS * transactions / COUNT
    )


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
    governor = Governor("parallel")
    assert before(governor, transactions=TRANSACTIONS_MIN - 1) == "tiny"
    assert before(governor, transactions=TRANSACTIONS_MIN) is None


def test_forced_never_rests() -> None:
    governor = Governor("forced")
    for _ in range(100):
        assert before(governor) is None
        parallel(governor, 9.0, reexecuted=COUNT)


def test_tiny_blocks_do_not_rest() -> None:
    governor = Governor("parallel")
    governor.planned(LOPSIDED)
    for _ in range(2 * REST_BLOCKS_MIN):
        assert before(governor, transactions=1) == "tiny"
    assert rest_of(governor) == ["single_shard"] * REST_BLOCKS_MIN


def test_a_heavy_shard_is_no_plan() -> None:
    limit = round(100 * SHARD_MAX)
    assert Governor("parallel").planned(plan_of(limit)) is None
    assert Governor("parallel").planned(plan_of(limit + 1)) == "single_shard"
    assert Governor("parallel").planned(plan_of(1, shards=1)) == "single_shard"


# --- rests ---


def test_a_rest_doubles_while_its_reason_repeats() -> None:
    governor = Governor("parallel")
    rest = REST_BLOCKS_MIN
    for _ in range(7):
        assert before(governor) is None
        assert governor.planned(LOPSIDED) == "single_shard"
        assert rest_of(governor) == ["single_shard"] * rest
        rest = min(2 * rest, REST_BLOCKS_MAX)
    assert rest == REST_BLOCKS_MAX


def test_blocks_that_gain_make_the_next_rest_short() -> None:
    governor = Governor("parallel")
    for _ in range(3):
        assert governor.planned(LOPSIDED) == "single_shard"
        rest_of(governor)
    for _ in range(8 * REST_BLOCKS_MIN):
        parallel(governor)
    assert governor.planned(LOPSIDED) == "single_shard"
    assert len(rest_of(governor)) == REST_BLOCKS_MIN


def test_a_block_that_loses_executors_rests_planning() -> None:
    governor = Governor("parallel")
    governor.observe_lost()
    assert rest_of(governor) == ["executor_lost"] * REST_BLOCKS_MIN
    governor.observe_lost()
    assert len(rest_of(governor)) == 2 * REST_BLOCKS_MIN


def test_mispredicted_blocks_rest_planning() -> None:
    governor = Governor("parallel")
    limit = round(REEXECUTED_MAX * COUNT)
    assert before(governor) is None
    parallel(governor, reexecuted=limit)
    assert before(governor) is None
    parallel(governor, reexecuted=limit + 1)
    assert rest_of(governor) == ["mispredicted"] * REST_BLOCKS_MIN


def test_slower_blocks_rest_planning_and_are_judged_afresh() -> None:
    governor = Governor("parallel")
    for _ in range(2):
        assert before(governor) is None
        parallel(governor, 1.01)
    assert rest_of(governor) == ["slower"] * REST_BLOCKS_MIN
    parallel(governor, 0.99)  # alone, without what the slow ones cost
    assert before(governor) is None


def test_a_clear_loss_is_believed_at_once_a_small_one_is_not() -> None:
    clear, small = Governor("parallel"), Governor("parallel")
    parallel(clear, LOSS_MAX * 1.01)
    parallel(small, LOSS_MAX * 0.99)
    assert (before(clear), before(small)) == ("slower", None)


def test_a_few_slow_blocks_among_fast_ones_are_no_reason() -> None:
    """The machine stumbled: what counts is the median of the last planned blocks."""
    governor = Governor("parallel")
    for _ in range(PLANNED_KEPT):
        parallel(governor, 0.5)
    for _ in range(PLANNED_KEPT // 2):
        parallel(governor, 1.9)
        assert before(governor) is None
    parallel(governor, 1.9)
    assert before(governor) == "slower"


def test_one_block_in_so_many_is_a_probe() -> None:
    governor = Governor("parallel")
    reasons = []
    for _ in range(2 * (PROBE_BLOCKS + 1)):
        reasons.append(before(governor))
        if reasons[-1] is None:
            parallel(governor)
        else:
            serial(governor)
    assert reasons == [*[None] * PROBE_BLOCKS, "probe"] * 2


def test_cores_that_slow_each_other_down_are_found_out() -> None:
    """By its own CPU time the planned block gains; blocks that ran as one unit take less."""
    governor = Governor("parallel")
    serial(governor, 0.5)
    parallel(governor, 0.6)
    assert before(governor) is None  # one block says little
    parallel(governor, 0.6)
    assert rest_of(governor) == ["slower"] * REST_BLOCKS_MIN
    for _ in range(9):
        serial(governor, 0.9)
    parallel(governor, 0.6)
    parallel(governor, 0.6)
    assert before(governor) is None


def test_tiny_blocks_do_not_tell_what_serial_execution_costs() -> None:
    governor = Governor("parallel")
    serial(governor, 0.01, transactions=TRANSACTIONS_MIN - 1)
    for _ in range(3):
        parallel(governor, 0.6)
    assert before(governor) is None


def test_a_load_that_loses_costs_little_over_fifty_blocks() -> None:
    """Planned it would take 1.9 times as long."""
    governor, wall = Governor("parallel"), 0.0
    for _ in range(50):
        if before(governor) is None:
            wall += 1.9
            parallel(governor, 1.9)
        else:
            wall += 1.0
    assert 50 / wall >= 0.94


# --- the lead's part ---


def test_the_head_start_moves_against_the_imbalance() -> None:
    governor = Governor("parallel")
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
    governor = Governor("parallel")
    for _ in range(30):
        parallel(governor, imbalance=governor.head_start - 0.4)
    assert governor.head_start == pytest.approx(0.4, abs=0.01)


def test_an_accident_moves_the_head_start_a_little() -> None:
    for sign in (1, -1):
        known, accident = Governor("parallel"), Governor("parallel")
        parallel(known, imbalance=sign * IMBALANCE_MAX)
        parallel(accident, imbalance=sign * 1_000.0)
        assert accident.head_start == known.head_start
        assert abs(accident.head_start - HEAD_START) < 0.5


@pytest.mark.parametrize("executors", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("imbalance", [-1_000.0, 1_000.0])
def test_no_head_start_leaves_an_executor_without_work(executors: int, imbalance: float) -> None:
    """Whatever happened, a block of equal shards is still shared out, so that there is something to learn from."""
    governor = Governor("parallel")
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
    governor = Governor("parallel")
    for _ in range(50):
        parallel(governor, imbalance=-IMBALANCE_MAX)
    assert governor.head_start == pytest.approx(0.9)
    before(governor, executors=16)
    assert governor.head_start == pytest.approx(0.06)


def test_a_rest_forgets_the_head_start() -> None:
    governor = Governor("parallel")
    parallel(governor, imbalance=-0.5)
    assert governor.head_start != HEAD_START
    governor.planned(LOPSIDED)
    assert governor.head_start == HEAD_START


def test_the_head_start_is_learnt_when_planning_is_forced() -> None:
    governor = Governor("forced")
    parallel(governor, imbalance=-0.1)
    assert governor.head_start > HEAD_START

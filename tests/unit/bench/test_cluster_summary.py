"""From observations to figures: what lies in the window, CPU between two looks at nodes, which heights are shown."""

from __future__ import annotations

import numpy as np
import pytest

from bench.cluster.measure import NodeSample
from bench.cluster.records import Records
from bench.cluster.summary import SPANS_SHOWN, Window, cpu_of, heights_between, ordered_in, spans_of, stages_of
from chain.pipeline.spans import HeightSpans
from chain.types import Height

EPOCH_US = 1_000_000_000


def looked(at_s: float, cpu_s: float, verify_s: float) -> NodeSample:
    return NodeSample(
        at_s=at_s, cpu_s=cpu_s, work_s={"verify": verify_s}, resident_bytes=0, height=0, pool=0, depths={}
    )  # fmt: skip


def window(before: list[NodeSample | None], after: list[NodeSample | None]) -> Window:
    """From second 10 to 20 of a load that began at 100 on the monotonic clock."""
    return Window(
        start_s=100.0, epoch_us=EPOCH_US, first=10.0, last=20.0, before=before, after=after, memory=[], disk=None
    )  # fmt: skip


def certified_at(times: list[float]) -> Records:
    nothing = np.zeros(len(times))
    return Records(
        due=nothing, answered=nothing, codes=nothing.astype(np.int32), certified=np.array(times),
        statuses=nothing.astype(np.uint16),
    )  # fmt: skip


def test_cpu_is_shared_by_what_was_certified_between_the_two_looks() -> None:
    seen = window([looked(110, 1.0, 0.5), looked(112, 1.0, 0.5)], [looked(120, 3.0, 1.5), looked(122, 5.0, 0.5)])
    cpu = cpu_of(seen, certified_at([10.9, 11.0, 15.0, 20.9, 21.0]))
    assert cpu is not None
    assert cpu.us_per_tx_per_node == pytest.approx(6e6 / 3 / 2)
    assert cpu.by_work_us == {"verify": pytest.approx(1e6 / 3 / 2, abs=0.1)}
    assert cpu.busy_share == {"verify": 0.05}
    assert cpu.cores_per_node == 0.3


def test_cpu_is_unknown_if_a_node_was_away_or_nothing_was_certified() -> None:
    here = looked(110, 1.0, 0.5)
    assert cpu_of(window([here, None], [here, here]), certified_at([15.0])) is None
    assert cpu_of(window([here], [looked(120, 2.0, 1.0)]), certified_at([5.0])) is None


def heights(count: int) -> list[HeightSpans]:
    """One a second from second 0 on: ordered at the half, stored at the end; ten transactions each."""
    return [
        HeightSpans(
            Height(at),
            10,
            {},
            {
                "consensus": (EPOCH_US + at * 1_000_000, EPOCH_US + at * 1_000_000 + 500_000),
                "store": (EPOCH_US + at * 1_000_000 + 500_000, EPOCH_US + at * 1_000_000 + 1_000_000),
            },
        )
        for at in range(count)
    ]


def test_heights_belong_to_the_window_in_which_they_ended() -> None:
    seen = window([], [])
    inside = heights_between(heights(30), seen)
    assert [entry.height for entry in inside] == list(range(9, 19))
    assert ordered_in(heights(30), seen) == 100
    assert stages_of(inside, seen).overlap == 1.0
    assert stages_of(inside, seen).busy_share == {"consensus": 0.5, "store": 0.5}


def test_heights_shown_are_consecutive_and_from_the_middle() -> None:
    shown = spans_of(heights(101), window([], []))
    assert [span.height for span in shown] == list(range(40, 40 + SPANS_SHOWN))
    assert shown[0].stages["store"] == (30_500_000, 31_000_000)
    assert len(spans_of(heights(3), window([], []))) == 3

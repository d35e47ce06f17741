"""Stage times and their overlap."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.pipeline.spans import HEIGHTS_KEPT, CpuMeter, Spans, merge, summarize
from chain.types import Height

INTERVALS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 50)).map(lambda pair: (pair[0], sum(pair))), max_size=20
)


def test_stages_one_after_the_other_do_not_overlap() -> None:
    spans = Spans()
    spans.record("pack", Height(1), 0, 10)
    spans.record("consensus", Height(1), 10, 30)
    spans.record("execute", Height(1), 30, 40)
    assert summarize(spans.recent(Height(0), 10)).overlap == 1.0


def test_two_stages_at_work_all_the_time_overlap_twofold() -> None:
    spans = Spans()
    for height in range(1, 5):
        spans.record("consensus", Height(height), 10 * height, 10 * height + 10)
        spans.record("execute", Height(height), 10 * height, 10 * height + 10)
    summary = summarize(spans.recent(Height(0), 10))
    assert summary.overlap == 2.0
    assert summary.busy_us == {"consensus": 40, "execute": 40}


def test_heights_of_one_stage_at_the_same_time_count_once() -> None:
    """Several heights in consensus at once are one busy stage, not an overlap of stages."""
    spans = Spans()
    for height in range(1, 5):
        spans.record("consensus", Height(height), 0, 100)
    assert summarize(spans.recent(Height(0), 10)).overlap == 1.0


def test_memory_is_bounded() -> None:
    spans = Spans()
    for height in range(HEIGHTS_KEPT + 50):
        spans.begin("pack", Height(height))
    kept = spans.recent(Height(0), 10**6)
    assert len(kept) == HEIGHTS_KEPT
    assert kept[0].height == 50


@given(INTERVALS)
def test_merge_covers_exactly_the_same_points(intervals: list[tuple[int, int]]) -> None:
    merged = list(merge(intervals))
    points = {point for start, end in intervals for point in range(start, end)}
    assert {point for start, end in merged for point in range(start, end)} == points
    assert all(one[1] < other[0] for one, other in pairwise(merged))


def test_of_many_short_works_a_sample_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0

    def reads_ns() -> int:
        nonlocal clock
        clock += 1_000_000  # so every measured work takes a millisecond
        return clock

    monkeypatch.setattr(time, "thread_time_ns", reads_ns)
    meter = CpuMeter()
    for work in ("store", "accept", "consensus"):
        for _ in range(2 * 13 * 7):
            with meter.measure(work):
                pass
    assert meter.spent_us == dict.fromkeys(("store", "accept", "consensus"), 2 * 13 * 7 * 1000)
    assert clock == 2 * 1_000_000 * (2 * 13 * 7 + 2 * 7 + 2 * 13)

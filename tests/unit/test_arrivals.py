"""Unit tests of chain.arrivals."""

from __future__ import annotations

import pytest

from chain.arrivals import MEMORY_S, Arrivals


def test_a_steady_stream_is_expected_to_go_on() -> None:
    arrivals = Arrivals()
    for tick in range(1_000):
        arrivals.add(5, 100 + tick / 500)
    assert arrivals.expected(0.01) == pytest.approx(25, rel=0.05)


def test_what_came_long_ago_is_forgotten() -> None:
    arrivals = Arrivals()
    arrivals.add(1_000_000, 1.0)
    assert arrivals.expected(MEMORY_S) == 1_000_000
    arrivals.add(1, 4.0)
    assert arrivals.expected(MEMORY_S) == pytest.approx(1)


def test_nothing_is_expected_before_anything_came() -> None:
    assert Arrivals().expected(1.0) == 0

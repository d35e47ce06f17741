"""Keeps `--benchmark-json` small enough to compare: figures, not every single time."""

from __future__ import annotations

from typing import Any


def pytest_benchmark_update_json(config: object, benchmarks: object, output_json: dict[str, Any]) -> None:
    """A fast benchmark has some 100,000 rounds, and the report would hold the time of each."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)

"""Keeps `--benchmark-json` small enough to compare: figures, not every single time."""

from __future__ import annotations

from typing import Any, Final

PARAMETERS_CHARS_MAX: Final = 1_000


def pytest_benchmark_update_json(config: object, benchmarks: object, output_json: dict[str, Any]) -> None:
    """A fast benchmark has some 100,000 rounds, and the report would hold the time of each, and parameters in full."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
        if len(str(benchmark["params"])) > PARAMETERS_CHARS_MAX:
            benchmark["params"] = None  # its name has what tells it apart

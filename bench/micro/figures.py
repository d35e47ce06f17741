"""What the benchmarks here share: CPU as the time that is measured, and figures by the unit that matters."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest

# All times of a benchmark with this mark are CPU of this process, all its threads, and not wall time.
CPU: Final = pytest.mark.benchmark(timer=time.process_time, max_time=0.5)


def note_cpu(benchmark: Any, **counts: int) -> None:
    """Of a benchmark with the mark `CPU`: microseconds in its median round, by so many of each unit in a round.

    `note_cpu(benchmark, transaction=200, block=1)` gives `cpu_us_per_transaction` and `cpu_us_per_block`.
    """
    if benchmark.stats is not None:
        for unit, count in counts.items():
            benchmark.extra_info[f"cpu_us_per_{unit}"] = round(benchmark.stats.stats.median / count * 1e6, 2)

"""From samples to the fields of the report: pure arithmetic, no clock.

A *lane* is an engine that ran all blocks: "serial", or a number of executors as text. All times are microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from executor.outcome import ExecutionOutput, ExecutionStats

SERIAL: Final = "serial"


@dataclass(frozen=True, slots=True)
class BlockSample:
    """One block on one lane: wall time, how it was executed, and whether its bytes were those of the serial run."""

    wall_us: float
    equal: bool
    stats: ExecutionStats


@dataclass(frozen=True, slots=True)
class Repeat:
    """One pass over all blocks. `both_us[g]` is how long group g took on two serial engines at once, each running all
    of it; `alone_us[g]` on one."""

    lanes: Mapping[str, Sequence[BlockSample]]
    alone_us: Sequence[float]
    both_us: Sequence[float]


def same_bytes(one: ExecutionOutput, other: ExecutionOutput) -> bool:
    """True if two outputs agree in everything that nodes must agree on."""
    return all(
        getattr(one, field) == getattr(other, field)
        for field in one.__struct_fields__
        if field != "stats"
    )


def summarize(repeats: Sequence[Repeat], *, transactions: int) -> dict[str, Any]:
    """The measured fields; `transactions` are those of one block.

    A speed-up is serial wall time over the lane's, all consecutive blocks of a repeat together; on both sides the
    fastest repeat counts, because what makes the others slower is the rest of the machine. The median of the ratios is
    there as well. Wall times of a block are medians over the repeats, so that one hiccup of the box is no result.
    """
    names = [name for name in repeats[0].lanes if name != SERIAL]
    serial = _walls(repeats, SERIAL)
    speedups = {name: _speedups(repeats, name) for name in names}
    last = names[-1]
    return {
        "serial_us_per_tx": round(min(_totals(repeats, SERIAL)) / len(serial) / transactions, 2),
        "speedup": {
            name: round(min(_totals(repeats, SERIAL)) / min(_totals(repeats, name)), 3) for name in names
        },
        "speedup_median": {name: round(median(values), 3) for name, values in speedups.items()},
        "reexecuted": _reexecuted(repeats, last),
        "equal": all(sample.equal for repeat in repeats for name in names for sample in repeat.lanes[name]),
        "two_processes_gain": round(
            2 * min([sum(repeat.alone_us) for repeat in repeats]) / min([sum(repeat.both_us) for repeat in repeats]), 3
        ),
        "two_processes_gain_of_repeats": [round(_gain(repeat), 3) for repeat in repeats],
        "serial": _lane(repeats, SERIAL, transactions),
        "by_executors": {
            name: {
                **_lane(repeats, name, transactions),
                "speedup_of_repeats": [round(value, 3) for value in speedups[name]],
                "worst_block_speedup": round(
                    min(one / other for one, other in zip(serial, _walls(repeats, name), strict=True)), 3
                ),
                **_planning(repeats, name, transactions),
            }
            for name in names
        },
    }


def _speedups(repeats: Sequence[Repeat], name: str) -> list[float]:
    return [
        one / other for one, other in zip(_totals(repeats, SERIAL), _totals(repeats, name), strict=True)
    ]


def _totals(repeats: Sequence[Repeat], name: str) -> list[float]:
    return [sum(sample.wall_us for sample in repeat.lanes[name]) for repeat in repeats]


def _walls(repeats: Sequence[Repeat], name: str) -> list[float]:
    """Per block the median over the repeats."""
    columns = zip(*[repeat.lanes[name] for repeat in repeats], strict=True)
    return [median([sample.wall_us for sample in column]) for column in columns]


def _gain(repeat: Repeat) -> float:
    """How much more two processes get done at once than one: 2 on two free cores, 1 on one core."""
    return 2 * sum(repeat.alone_us) / sum(repeat.both_us)


def _all(repeats: Sequence[Repeat], name: str) -> list[ExecutionStats]:
    return [sample.stats for repeat in repeats for sample in repeat.lanes[name]]


def _reexecuted(repeats: Sequence[Repeat], name: str) -> int:
    """Of the repeat that had most."""
    return max(sum(sample.stats.reexecuted for sample in repeat.lanes[name]) for repeat in repeats)


def _lane(repeats: Sequence[Repeat], name: str, transactions: int) -> dict[str, Any]:
    walls = _walls(repeats, name)
    stats = _all(repeats, name)
    return {
        "wall_us_per_block": {
            "min": round(min(walls)), "median": round(median(walls)), "max": round(max(walls)),
        },
        "cpu_us_per_tx": round(sum(item.cpu_us for item in stats) / len(stats) / transactions, 2),
    }  # fmt: skip


def _planning(repeats: Sequence[Repeat], name: str, transactions: int) -> dict[str, Any]:
    stats = _all(repeats, name)
    planned = [item for item in stats if item.mode == "parallel"]
    result: dict[str, Any] = {
        "decisions": decisions(stats),
        "reexecuted": _reexecuted(repeats, name),
        "executors_lost": sum(item.executors_lost for item in stats),
    }
    if planned:
        result |= {
            "shards": round(median([item.shards for item in planned])),
            "largest_shard": max(item.largest_shard for item in planned),
            "conflicts_per_block": {
                "predicted": round(median([item.conflicts_predicted for item in planned])),
                "actual": round(median([item.conflicts_actual for item in planned])),
            },
            "plan_us_per_tx": round(median([item.plan_us for item in planned]) / transactions, 2),
            "validate_us_per_tx": round(median([item.validate_us for item in planned]) / transactions, 2),
        }
    return result


def decisions(stats: Sequence[ExecutionStats]) -> list[dict[str, Any]]:
    """How many blocks of all repeats were executed how and why, the commonest first."""
    counts = Counter((item.mode, item.reason) for item in stats)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"mode": mode, "reason": reason, "blocks": blocks} for (mode, reason), blocks in ordered]

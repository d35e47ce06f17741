"""The picture of the results: what was measured, and what the model makes of more cores.

matplotlib is an extra; it is imported here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchError
from bench.execute.limits import NEVER_SLOWER
from bench.execute.report import executors_text, label, provenance

HOW_TO_INSTALL: Final = "a plot needs matplotlib, which is an extra: pip install 'headrace[plots]'"
INK: Final = "#22303c"
SOFT: Final = "#8a97a3"
GRID: Final = "#e6eaee"
BAND: Final = "#f3c969"
BAND_INK: Final = "#8a6d1b"
BARS: Final = ("#b8c7d6", "#2f6d9e", "#174a73", "#0c2c47")  # few executors light, many dark
LINES: Final = (
    "#174a73", "#3d8fcc", "#2a9d6f", "#e07a2f", "#8b5fbf", "#c23b4e", "#b08900", "#d16ba5", "#3aa6a6", "#5b6bb5",
)  # fmt: skip
FLAT: Final = 1.04  # a curve that stays below is one of those that gain nothing
LABEL_GAP: Final = 0.05  # between labels at the right edge, of the axis
BAR_ROOM: Final = 0.76  # of a row
MARGIN_INCHES: Final = 2.8  # above and below the axes
LEGEND_INCHES: Final = 0.52  # below the axes
THIN: Final = 0.012  # least width of the band, so that it can be seen


def draw(results: Sequence[dict[str, Any]], output: Path) -> None:
    """Write the plot of these results; the suffix of `output` says the format.

    Raises:
        BenchError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise BenchError(HOW_TO_INSTALL) from None
    modelled = [result for result in results if result["model"]]
    layout = ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.14, wspace=0.03, rect=(0, 0.04, 1, 0.96))
    size = (15.5 if modelled else 8.5, MARGIN_INCHES + max(0.54 * len(results), 3.4))
    figure = Figure(figsize=size, dpi=130, layout=layout)
    FigureCanvasAgg(figure)
    if modelled:
        measured, model = figure.subplots(1, 2, width_ratios=(1, 1))
        _draw_model(model, modelled)
    else:
        measured = figure.subplots()
    _draw_measured(measured, results)
    figure.text(0.012, 0.014, provenance(results[0]), fontsize=8.5, color=SOFT)
    try:
        figure.savefig(output)
    except (OSError, ValueError) as error:
        raise BenchError(f"{output}: cannot be drawn: {error}") from None


def _frame(axes: Any, title: str, explained: str) -> None:
    axes.set_title(title, loc="left", fontsize=13.5, color=INK, pad=30, fontweight="bold")
    axes.text(0, 1.022, explained, transform=axes.transAxes, fontsize=9.5, color=SOFT, va="bottom")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(colors=INK, labelsize=10)
    axes.xaxis.label.set_color(INK)
    axes.set_axisbelow(True)


# --- measured ---


def _draw_measured(axes: Any, results: Sequence[dict[str, Any]]) -> None:
    """Bars by workload and number of executors, and behind them what the box gains from two processes."""
    counts = list(results[0]["by_executors"])
    axes.axvline(1.0, color=INK, lw=1.3, zorder=3, label="serial execution = 1")
    axes.axvline(NEVER_SLOWER, color=INK, lw=0.9, ls=(0, (2, 3)), zorder=3, label=f"{NEVER_SLOWER}: the promise")
    top = 1.0
    for number, result in enumerate(results):
        gains = result["two_processes_gain_of_repeats"]
        low, high = min(gains), max(gains)
        middle = (low + high) / 2
        width = max(high - low, THIN)
        axes.barh(
            number, width, 1.0, left=middle - width / 2, color=BAND, alpha=0.6, lw=0, zorder=1,
            label="two independent serial processes" if number == 0 else None,
        )  # fmt: skip
        top = max(top, high, _draw_bars(axes, number, result, counts))
    axes.set_yticks(range(len(results)), [label(result) for result in results])
    axes.set_ylim(len(results) - 0.45, -0.55)
    axes.set_xlim(0, top + 0.12)
    axes.set_xlabel("speed-up: wall time of serial execution / wall time, all blocks together")
    axes.xaxis.grid(color=GRID)
    axes.tick_params(axis="y", length=0)
    _frame(axes, "Measured", "parallel against serial execution of the same blocks; thin bars: all repeats")
    below = LEGEND_INCHES / (axes.figure.get_figheight() - MARGIN_INCHES)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.42, -below), frameon=False, fontsize=9.5, ncols=3, labelcolor=INK
    )


def _draw_bars(axes: Any, number: int, result: dict[str, Any], counts: Sequence[str]) -> float:
    """One workload's row; how far to the right it reaches."""
    height = BAR_ROOM / len(counts)
    top = 0.0
    for at, count in enumerate(counts):
        value, spread = result["speedup"][count], result["by_executors"][count]["speedup_of_repeats"]
        y = number + (at + 0.5) * height - BAR_ROOM / 2
        color = BARS[min(at + (len(counts) == 1), len(BARS) - 1)]
        name = executors_text(count)
        axes.barh(y, value, height * 0.9, color=color, zorder=2, label=name if number == 0 else None)
        axes.plot([min(spread), max(spread)], [y, y], color=INK, lw=1.2, zorder=4, solid_capstyle="butt")
        ink = "white" if at or len(counts) == 1 else INK
        axes.text(0.015, y, f"{value:.2f}", va="center", fontsize=9, zorder=5, color=ink)
        top = max(top, value, *spread)
    return top


# --- model ---


def _draw_model(axes: Any, results: Sequence[dict[str, Any]]) -> None:
    """A curve for each workload over the number of executors, with the measured points on it."""
    largest = max(int(count) for result in results for count in result["model"]["speedup"])
    axes.plot([1, largest], [1, largest], color=SOFT, lw=1, ls=(0, (4, 4)), zorder=1)
    axes.text(largest * 0.5, largest * 0.6, "ideal", fontsize=9, color=SOFT, ha="right")
    ends: list[tuple[float, str, str]] = []
    flat: list[str] = []
    for number, result in enumerate(results):
        curve = {int(count): value for count, value in result["model"]["speedup"].items()}
        is_flat = max(curve.values()) < FLAT
        color = SOFT if is_flat else LINES[number % len(LINES)]
        axes.plot(list(curve), list(curve.values()), color=color, lw=1.9, zorder=2 if is_flat else 3)
        points = {int(count): value for count, value in result["speedup"].items()}
        axes.plot(
            list(points), list(points.values()), "o", ms=5, mfc="white", mec=color, mew=1.5, zorder=4, clip_on=False
        )
        if is_flat:
            flat.append(label(result))
        else:
            ends.append((curve[max(curve)], f"{label(result)}  {curve[max(curve)]:.1f}", color))
    if flat:
        ends.append((1.0, "\n".join(["1.0:", *flat]) if len(flat) > 1 else f"{flat[0]}  1.0", SOFT))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    ticks = [2**power for power in range(int(math.log2(largest)) + 1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.93, largest * 1.04)
    axes.set_ylim(0.72, largest * 1.04)
    axes.grid(color=GRID)
    axes.set_xlabel("executors, logarithmic")
    axes.set_ylabel("speed-up over serial execution, logarithmic", color=INK)
    _label_ends(axes, ends, largest)
    _frame(
        axes, "Model: more cores than there are here",
        "from measured CPU times, a core for each executor, no contention; circles: measured here",
    )


def _label_ends(axes: Any, ends: Sequence[tuple[float, str, str]], largest: int) -> None:
    """Names at the right edge, moved apart where curves end close to each other."""
    low, high = (math.log2(limit) for limit in axes.get_ylim())
    heights = [(math.log2(value) - low) / (high - low) for value, _, _ in ends]
    taken = spread_out(heights, LABEL_GAP)
    for (value, text, color), y in zip(ends, taken, strict=True):
        axes.annotate(
            text, xy=(largest, value), xytext=(1.05, y), textcoords="axes fraction",
            va="top" if "\n" in text else "center", fontsize=9.5, color=color, annotation_clip=False, linespacing=1.25,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.7, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
            if "\n" not in text
            else None,
        )  # fmt: skip


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, in the same order from below, moved up until none is nearer than `gap` to the next."""
    result = list(heights)
    at = -math.inf
    for index in sorted(range(len(heights)), key=lambda index: (heights[index], -index)):
        at = result[index] = max(heights[index], at + gap)
    return result

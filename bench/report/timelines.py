"""Pictures over time: who works on which height when, throughput second by second, growth over transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bench.cluster.results import HeightSpan, Point
from bench.report.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PAPER,
    RED,
    SERIES,
    SHADE,
    SKY,
    SOFT,
    STAGES,
    Chart,
    frame,
    legend,
    on,
    thousands,
)
from bench.report.readings import MEGABYTE, Case, certified_until, counted, middle

HEIGHTS_MAX: Final = 20
LANES_MAX: Final = 12
THINNEST: Final = 0.0025  # of the axis: a shorter span is drawn this long, so that it can be seen
LABELLED: Final = 0.026  # of the axis: a span at least this long carries its height
LONG_RUN: Final = 100_000  # transactions, from which on a run of several is worth a picture of its own


def gantt(name: str, cases: Sequence[Case], *, more: bool = False) -> Chart | None:
    """Consecutive blocks of one run, or of two side by side on the same scale; None: nobody saw the stages."""
    drawn = [(case, middle(counted(case.run)).spans[:HEIGHTS_MAX]) for case in cases]
    drawn = [(case, spans) for case, spans in drawn if any(span.stages for span in spans)]
    if not drawn:
        return None
    length = min(_end(spans) - _start(spans) for _, spans in drawn) / 1_000
    shown = [(case, _within(spans, length)) for case, spans in drawn]
    stages = [stage for stage in STAGES if any(stage in span.stages for _, spans in shown for span in spans)]
    stages += sorted({stage for _, spans in shown for span in spans for stage in span.stages} - set(stages))
    colors = {stage: STAGES.get(stage, SERIES[at % len(SERIES)]) for at, stage in enumerate(stages)}
    most = max(len(spans) for _, spans in shown)
    lanes = {stage: max(len(_lanes(spans, stage)) for _, spans in shown) for stage in stages}
    below = sum(lanes.values()) + 0.4 * len(lanes)

    def paint(figure: Any) -> None:
        grid = figure.subplots(2, len(shown), squeeze=False, sharex=True, height_ratios=(most + 1, 0.72 * below + 1))
        for column, (case, spans) in enumerate(shown):
            zero = _start(spans) / 1_000
            title = f"{case.label}: by height" if len(shown) > 1 else "By height: where it was when"
            _by_height(grid[0][column], spans, zero, colors, length)
            frame(grid[0][column], title, y="height (transactions)" if column == 0 else "", grid="x")
            grid[0][column].set_ylim(most - 0.4, -0.6)
            _by_stage(grid[1][column], spans, zero, colors, lanes, length, LABELLED * len(shown))
            frame(grid[1][column], "By stage: which heights it worked on", x="milliseconds", grid="x")
            grid[1][column].set_xlim(0, length)
            grid[0][column].tick_params(axis="y", labelsize=8, length=0)
            grid[1][column].tick_params(axis="y", length=0)
        handles = _patches(colors)
        legend(figure, handles, loc="outside lower left", ncols=len(handles), handlelength=1)

    return Chart(
        name=f"{name}_stages", title="Who works on which height when", height=1.7 + 0.2 * (most + 0.72 * below),
        paint=paint, more=more,
        explained="Consecutive blocks from the middle of the measured window, on one node: the same spans by height "
        "and by stage. One colour over another is both at once: a block is executed before it is ordered for good. A "
        "stage with several heights at once has a line for each; bars carry the last two digits."
        + (" Both runs on the same scale." if len(shown) > 1 else ""),
    )  # fmt: skip


def _start(spans: Sequence[HeightSpan]) -> int:
    return min(begin for span in spans for begin, _ in span.stages.values())


def _end(spans: Sequence[HeightSpan]) -> int:
    return max(end for span in spans for _, end in span.stages.values())


def _within(spans: Sequence[HeightSpan], length_ms: float) -> list[HeightSpan]:
    """Those that begin within so many milliseconds from the first on."""
    last = _start(spans) + length_ms * 1_000
    return [span for span in spans if span.stages and min(begin for begin, _ in span.stages.values()) < last]


def _by_height(
    axes: Any, spans: Sequence[HeightSpan], zero: float, colors: dict[str, str], length: float
) -> None:
    for row, span in enumerate(spans):
        for stage, (begin, end) in span.stages.items():
            width = max((end - begin) / 1_000, THINNEST * length)
            axes.barh(row, width, 0.74, left=begin / 1_000 - zero, color=colors[stage], ec=PAPER, lw=0.4, zorder=3)
    axes.set_yticks(range(len(spans)), [f"{span.height:,} ({span.transactions:,})" for span in spans])


def _by_stage(
    axes: Any, spans: Sequence[HeightSpan], zero: float, colors: dict[str, str], rows: dict[str, int], length: float,
    labelled: float,
) -> None:  # fmt: skip
    y, ticks = 0.0, []
    for stage, count in rows.items():
        for lane, entries in enumerate(_lanes(spans, stage)):
            for height, begin, end in entries:
                left, width = begin / 1_000 - zero, (end - begin) / 1_000
                axes.barh(
                    y + lane, max(width, THINNEST * length), 0.8, left=left, color=colors[stage], ec=PAPER, lw=0.5,
                    alpha=1 if height % 2 else 0.8, zorder=3,
                )  # fmt: skip
                inside = min(length, left + width) - max(0.0, left)
                if inside > labelled * length:
                    axes.text(
                        max(0.0, left) + inside / 2, y + lane, f"{height % 100:02d}", ha="center", va="center",
                        fontsize=7.2, color=on(colors[stage]), zorder=4,
                    )  # fmt: skip
        ticks.append((y + (count - 1) / 2, stage))
        y += count + 0.4
    axes.set_yticks([at for at, _ in ticks], [stage for _, stage in ticks])
    axes.set_ylim(y - 0.6, -0.7)


def _lanes(spans: Sequence[HeightSpan], stage: str) -> list[list[tuple[int, int, int]]]:
    """(height, begin, end) in as few lines as it takes for none to overlap; beyond LANES_MAX they do."""
    lanes: list[list[tuple[int, int, int]]] = []
    for begin, end, height in sorted((*span.stages[stage], span.height) for span in spans if stage in span.stages):
        free = next((lane for lane in lanes if lane[-1][2] <= begin), None)
        if free is None and len(lanes) < LANES_MAX:
            free = []
            lanes.append(free)
        (free if free is not None else lanes[-1]).append((height, begin, end))
    return lanes


def _patches(colors: dict[str, str]) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=color, label=stage) for stage, color in colors.items()]


# --- throughput over time ---


def over_time(name: str, case: Case, *, more: bool = False) -> Chart | None:
    """Accepted and certified by second, and throughput by slices; None: the series is too short for a curve."""
    point = middle(counted(case.run))
    if len(point.series.certified) < 3:
        return None
    sliced = point.slices is not None and len(point.slices.tps) > 1

    def paint(figure: Any) -> None:
        panels = np.atleast_1d(figure.subplots(1, 2 if sliced else 1, **({"width_ratios": (1.7, 1)} if sliced else {})))
        _seconds(panels[0], point)
        if sliced:
            _slices(panels[1], point)

    return Chart(
        name=f"{name}_over_time", title="Throughput over time", height=3.5, paint=paint, more=more,
        explained="Left: each second of the load; shaded: outside the measured window."
        + (" Right: slices of as many certified transactions." if sliced else "")
        + (" In an open loop below the knee this is the offered rate." if not point.closed_loop else ""),
    )  # fmt: skip


def _seconds(axes: Any, point: Point) -> None:
    accepted, certified = point.series.accepted, point.series.certified
    if not point.closed_loop:
        axes.axhline(point.offered_tps, color=INK, lw=1, ls=(0, (4, 3)), zorder=2, label="offered")
    for counts, color, width, label in ((accepted, SKY, 1.4, "accepted"), (certified, BLUE, 1.9, "certified")):
        axes.stairs(counts, np.arange(len(counts) + 1), baseline=None, color=color, lw=width, zorder=4, label=label)
    end = len(certified)
    axes.axvspan(0, point.warmup_s, color=SHADE, lw=0, zorder=0)
    axes.axvspan(min(end, point.warmup_s + point.seconds), end, color=SHADE, lw=0, zorder=0)
    most = max(*accepted, *certified, 1)
    for fault in point.faults:
        back = fault.end_s if fault.end_s is not None else end
        axes.axvspan(fault.start_s, back, color=RED, alpha=0.16, lw=0, zorder=1)
        axes.text(fault.start_s, most * 1.13, f" {fault.kind} {fault.node}", fontsize=8.5, color=RED, va="center")
    frame(axes, "Transactions by second", x="seconds from the start of the load", grid="y")
    axes.set_xlim(0, end)
    axes.set_ylim(0, most * 1.2)
    thousands(axes.yaxis)
    legend(axes, loc="upper left", bbox_to_anchor=(0, -0.17), ncols=3)


def _slices(axes: Any, point: Point) -> None:
    assert point.slices is not None
    tps, size = point.slices.tps, point.slices.transactions
    axes.bar(range(1, len(tps) + 1), tps, 0.8, color=GREEN, zorder=2)
    axes.axhline(tps[0], color=INK, lw=1, ls=(0, (4, 3)), zorder=3)
    frame(axes, f"By slices of {size:,}: last / first {point.slices.last_against_first:.1%}", grid="y",
          x="slice", y="certified, transactions a second")  # fmt: skip
    axes.set_ylim(0, max(tps) * 1.15)
    thousands(axes.yaxis)


# --- growth ---


def growth(name: str, case: Case) -> Chart | None:
    """Memory and disk over certified transactions; None: nobody measured either."""
    point = middle(counted(case.run))
    measured = [entry for entry in point.memory if entry.pss_without_lmdb is not None]
    if not (measured or point.samples) and point.disk is None:
        return None

    def paint(figure: Any) -> None:
        memory, disk = figure.subplots(1, 2)
        _memory(memory, point)
        if point.disk is not None:
            edges = [certified_until(point, at) for at in (point.warmup_s, point.warmup_s + point.seconds)]
            sizes = [point.disk.bytes_start / MEGABYTE, point.disk.bytes_end / MEGABYTE]
            disk.plot(edges, sizes, color=ORANGE, marker="s", ms=5, lw=1.8)
            disk.set_ylim(0, max(sizes) * 1.2 or 1)
            disk.set_xlim(0, max(edges) * 1.05 or 1)
            disk.locator_params(axis="x", nbins=5)
            frame(disk, f"Disk of a mean node: {point.disk.bytes_per_tx:,.0f} bytes a transaction", y="MB",
                  x="certified transactions since the start of the load")  # fmt: skip
            thousands(disk.yaxis)
            thousands(disk.xaxis)
        else:
            disk.set_axis_off()
            disk.text(0, 0.5, "disk: not measured", color=SOFT, fontsize=9)

    return Chart(
        name=f"{name}_growth", title="Memory and disk over transactions", height=3.6, paint=paint,
        explained="PSS of all processes of a node without the pages of its databases' files, which the kernel takes "
        "back when it needs memory; in grey what each node's main process has resident.",
    )  # fmt: skip


def _memory(axes: Any, point: Point) -> None:
    highest = 1.0
    by_node: dict[int, list[tuple[float, float]]] = {}
    for sample in point.samples:
        by_node.setdefault(sample.node, []).append(
            (certified_until(point, sample.at_s), sample.resident / MEGABYTE)
        )
    for at, (_, found) in enumerate(sorted(by_node.items())):
        axes.plot(
            [x for x, _ in found], [y for _, y in found], color=GREY, lw=1, marker=".", ms=3, zorder=2,
            label="main process of each node, resident" if at == 0 else None,
        )  # fmt: skip
        highest = max(highest, *(y for _, y in found))
    for read, color, marker, size, dashes, label in (  # the second over the first, which shows between its dashes
        ("pss_without_lmdb_max", RED, "^", 8, "-", "PSS without LMDB, largest node"),
        ("pss_without_lmdb", BLUE, "o", 4, (0, (4, 4)), "PSS without LMDB, mean node"),
    ):
        known = [(certified_until(point, one.at_s), value / MEGABYTE) for one in point.memory
                 if (value := getattr(one, read)) is not None]  # fmt: skip
        if known:
            axes.plot([x for x, _ in known], [y for _, y in known], color=color, marker=marker, ms=size, lw=1.8,
                      ls=dashes, zorder=3, label=label)  # fmt: skip
            highest = max(highest, *(y for _, y in known))
    axes.set_ylim(0, highest * 1.15)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=5)
    frame(axes, "Memory of a node", y="MB", x="certified transactions since the start of the load")
    thousands(axes.xaxis)
    thousands(axes.yaxis)
    legend(axes, loc="upper left", bbox_to_anchor=(0, -0.17))

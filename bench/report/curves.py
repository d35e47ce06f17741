"""Pictures of how much comes through and how long it takes: saturation, latency, what CPU went into, ablations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from bench.cluster.results import Point, Run
from bench.report import readings
from bench.report.look import (
    BLUE,
    DASHES,
    INK,
    MARKERS,
    ORANGE,
    PAPER,
    SERIES,
    SOFT,
    WORKS,
    Chart,
    frame,
    legend,
    on,
    thousands,
)
from bench.report.readings import Ablation, Case, counted, mean, middle, swept, values

CURVES_MAX: Final = 8  # in one picture
CDF_SHARES: Final = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
CDF_TOP: Final = 4.2  # nines
LABEL_SHARE: Final = 0.045  # of the axis: a narrower part of a bar has no number in it
OTHER: Final = "other"
OTHER_MIN: Final = 0.5  # microseconds
ROOM: Final = 1.1  # beyond the longest bar, for its number
BARS: Final = (BLUE, ORANGE, *SERIES[1:3], *SERIES[4:])


def saturation(name: str, cases: Sequence[Case]) -> Chart | None:
    """Offered against certified, and against latency; None: no run was a sweep."""
    shown = [case for case in cases if swept(case.run)][:CURVES_MAX]
    if not shown:
        return None

    def paint(figure: Any) -> None:
        certified, latency = figure.subplots(1, 2)
        most = 0.0
        for at, case in enumerate(shown):
            rates = swept(case.run)
            most = max(most, *rates)
            _saturation_of(certified, latency, at, case, rates)
        certified.plot([0, most], [0, most], color=SOFT, lw=1, ls=(0, (4, 4)), zorder=1)
        certified.text(most * 0.3, most * 0.33, "all of it", color=SOFT, fontsize=8.5, ha="right", va="bottom")
        frame(certified, "Certified, transactions a second", x="offered, transactions a second")
        frame(latency, "Latency, milliseconds, logarithmic", x="offered, transactions a second")
        latency.set_yscale("log")
        thousands(latency.yaxis)
        _few_log_ticks(latency)
        for axes in (certified, latency):
            axes.set_xlim(0, most * 1.06)
            thousands(axes.xaxis)
        certified.set_ylim(0, most * 1.1)
        thousands(certified.yaxis)
        legend(latency, _saturation_key(shown), loc="upper left")

    return Chart(
        name=f"{name}_saturation", title="Saturation", height=4.4, paint=paint,
        explained="What was offered and what came of it. A ring is the knee: the highest rate that was sustained. "
        "A diamond is the soak at a share of it. Thin bars reach from the lowest to the highest of all repeats.",
    )  # fmt: skip


def _saturation_of(certified: Any, latency: Any, at: int, case: Case, rates: dict[float, list[Point]]) -> None:
    color, marker = SERIES[at], MARKERS[at]
    offered = list(rates)
    tps = [values(points, "certified") for points in rates.values()]
    certified.plot(offered, [mean(one) for one in tps], color=color, marker=marker, ms=5, lw=1.8, zorder=3)
    _ranges(certified, offered, tps, color)
    for figure, dashes, fill in (("p99", "-", color), ("p50", (0, (2, 1.5)), PAPER)):
        found = [(rate, values(points, figure)) for rate, points in rates.items() if values(points, figure)]
        xs, ys = [rate for rate, _ in found], [one for _, one in found]
        latency.plot(
            xs, [mean(one) for one in ys], color=color, marker=marker, ms=5, lw=1.8, ls=dashes, mfc=fill, zorder=3
        )
        _ranges(latency, xs, ys, color)
    knee = readings.knee_of(case.run)
    if knee is not None:
        certified.plot(*knee, marker="o", ms=13, mfc="none", mec=INK, mew=1.4, zorder=4)
        certified.annotate(
            f"knee {knee[1]:,.0f}/s", knee, xytext=(-12, 4), textcoords="offset points", fontsize=8.8, color=INK,
            ha="right", va="bottom",
        )  # fmt: skip
    soaks = [point for point in case.run.points if point.role == "soak"]
    if soaks:
        offered_tps = sum(point.offered_tps for point in soaks) / len(soaks)
        diamond = {"marker": "D", "ms": 7, "mfc": PAPER, "mec": color, "mew": 1.8, "ls": "", "zorder": 5}
        certified.plot([offered_tps], [mean(values(soaks, "certified"))], **diamond)
        if p99 := mean(values(soaks, "p99")):
            latency.plot([offered_tps], [p99], **diamond)


def _ranges(axes: Any, xs: Sequence[float], all_values: Sequence[Sequence[float]], color: str) -> None:
    for x, found in zip(xs, all_values, strict=True):
        if len(found) > 1:
            axes.plot([x, x], [min(found), max(found)], color=color, lw=1.1, zorder=2)


def _saturation_key(shown: Sequence[Case]) -> list[Any]:
    from matplotlib.lines import Line2D

    named = [
        Line2D([], [], color=SERIES[at], marker=MARKERS[at], lw=1.8, label=case.label) for at, case in enumerate(shown)
    ]
    return [
        *(named if len(shown) > 1 else []),
        Line2D([], [], color=SERIES[0], lw=1.8, marker="o", ms=5, label="p99"),
        Line2D([], [], color=SERIES[0], lw=1.8, ls=(0, (2, 1.5)), marker="o", mfc=PAPER, ms=5, label="p50"),
    ]


def _few_log_ticks(axes: Any) -> None:
    """1, 2, 5, 10 ... where there is less than two decades, else the decades alone; the lower end a tick below."""
    low, high = axes.get_ylim()
    ticks = [lead * 10.0**power for power in range(-1, 6) for lead in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) < 2:
        low = max(tick for tick in ticks if tick <= low)
        high = min(tick for tick in ticks if tick >= high)
        inside = [tick for tick in ticks if low <= tick <= high]
    axes.set_ylim(low, high * 1.05)
    axes.set_yticks(inside)
    axes.minorticks_off()


# --- latency ---


def latency(name: str, cases: Sequence[Case]) -> Chart | None:
    """The distribution of latency of each run; None: none has any."""
    shown = [(case, middle(counted(case.run))) for case in cases]
    drawn = [(case, point) for case, point in shown if len(point.cdf) > 1][:CURVES_MAX]
    if not drawn:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for at, (case, point) in enumerate(drawn):
            curve = [(ms, _nines(share)) for ms, share in point.cdf]
            axes.step(
                [ms for ms, _ in curve], [nines for _, nines in curve], where="post", color=SERIES[at], lw=1.9,
                ls=DASHES[at % len(DASHES)], label=_latency_label(case, point), zorder=3,
            )  # fmt: skip
        low = min(next((ms for ms, share in point.cdf if ms > 0), 1.0) for _, point in drawn)
        high = max(point.cdf[-1][0] for _, point in drawn)
        frame(axes, "Latency from the intended send time to the certified block", x="milliseconds, logarithmic")
        axes.set_xscale("log")
        axes.set_xlim(low * 0.9, high * 1.1)
        ticks = [lead * 10.0**power for power in range(-2, 6) for lead in (1, 2, 5)]
        inside = [tick for tick in ticks if low * 0.9 <= tick <= high * 1.1]
        axes.set_xticks(inside, [f"{tick:,g}" for tick in inside])
        axes.minorticks_off()
        axes.set_yticks([_nines(share) for share in CDF_SHARES], [f"{share * 100:g} %" for share in CDF_SHARES])
        axes.set_ylim(0, CDF_TOP)
        axes.set_ylabel("of all transactions are certified by then", color=SOFT, fontsize=9)
        legend(axes, loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=2)

    return Chart(
        name=f"{name}_latency", title="Latency", height=4.6 + 0.2 * math.ceil(len(drawn) / 2), paint=paint,
        explained="Each step up the axis is ten times rarer. Of several repeats, the one with the median p99."
        + (f" The first {CURVES_MAX} runs." if len(shown) > CURVES_MAX else ""),
    )  # fmt: skip


def _nines(share: float) -> float:
    return min(CDF_TOP, -math.log10(max(1e-9, 1 - share)))


def _latency_label(case: Case, point: Point) -> str:
    found = point.latency_ms
    load = "closed loop" if point.closed_loop else f"{point.offered_tps:,.0f}/s"
    return f"{case.label}, {load}" + (f": p50 {found.p50:,.0f}, p99 {found.p99:,.0f} ms" if found else "")


# --- CPU ---


def cpu(name: str, cases: Sequence[Case]) -> Chart | None:
    """What a transaction costs each node, by kind of work; None: nobody measured it."""
    rows = [(case.label, works) for case in cases if (works := works_of(case.run))]
    return cpu_bars(f"{name}_cpu", rows) if rows else None


def works_of(run: Run) -> dict[str, float]:
    """CPU microseconds a transaction and node by kind of work, means over the repeats; empty: not measured. They add
    up to the whole: what the nodes' own account leaves out of their processes' time is `other`."""
    points = [point.cpu for point in counted(run) if point.cpu is not None]
    names = sorted({work for one in points for work in one.by_work_us})
    works = {work: sum(one.by_work_us.get(work, 0.0) for one in points) / len(points) for work in names}
    beyond = sum(one.us_per_tx_per_node for one in points) / len(points) - sum(works.values()) if points else 0.0
    return {**works, OTHER: beyond} if beyond > OTHER_MIN else works


def cpu_bars(name: str, rows: Sequence[tuple[str, dict[str, float]]]) -> Chart:
    """Stacked bars, one a row of (label, microseconds by work)."""
    known = {work for _, works in rows for work in works}
    order = [work for work in WORKS if work in known] + sorted(known - set(WORKS))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        most = max(sum(works.values()) for _, works in rows) * ROOM
        for at, (_, works) in enumerate(rows):
            left = 0.0
            for number, work in enumerate(order):
                value, color = works.get(work, 0.0), WORKS.get(work, SERIES[number % len(SERIES)])
                axes.barh(at, value, 0.68, left=left, color=color, ec=PAPER, lw=0.7, zorder=3)
                if value > LABEL_SHARE * most:
                    axes.text(
                        left + value / 2, at, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=on(color),
                        zorder=4,
                    )  # fmt: skip
                left += value
            total, beside = f"{left:.0f}", left + most * 0.008
            axes.text(beside, at, total, va="center", fontsize=9.5, color=INK, fontweight="bold", zorder=4)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(0, most)
        frame(axes, "CPU of a transaction in each node", x="microseconds of one core", grid="x")
        axes.tick_params(axis="y", length=0)
        legend(figure, _patches(order), loc="outside lower left", ncols=len(order), handlelength=1, columnspacing=1.2)

    return Chart(
        name=name, title="CPU by kind of work", height=1.75 + 0.42 * len(rows), paint=paint,
        explained="User and system time of the node and its executors. “rest” is what no meter covers: network, TLS, "
        "gossip, collection of garbage; “other” is time of its processes that the node does not account for.",
    )  # fmt: skip


def _patches(order: Sequence[str]) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=WORKS.get(work, SERIES[at % len(SERIES)]), label=work) for at, work in enumerate(order)]


# --- ablations ---

_PANELS: Final = (
    ("certified", "Certified, transactions a second"),
    ("p99", "p99 latency, milliseconds"),
    ("cpu", "CPU, µs a transaction and node"),
)


def ablation(name: str, found: Ablation) -> Chart:
    """Bars for each group of runs that differ in nothing but the switch."""
    headed = any(group.given for group in found.groups)
    rows: list[tuple[float, str, Case]] = []
    heads: list[tuple[float, str]] = []
    y = 0.0
    for group in found.groups:
        y += 0.95 if headed else 0.35
        heads.append((y, group.given))
        for setting, case in group.cases:
            rows.append((y, setting, case))
            y += 1.0
    colors = {setting: BARS[at % len(BARS)] for at, setting in enumerate(found.settings)}

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(_PANELS), sharey=True)
        for axes, (figure_name, title) in zip(panels, _PANELS, strict=True):
            most = max((max(values(counted(case.run), figure_name), default=0.0) for _, _, case in rows), default=0.0)
            for at, setting, case in rows:
                _bar(axes, at, values(counted(case.run), figure_name), colors[setting], most)
            frame(axes, title, grid="x")
            axes.set_xlim(0, most * 1.28 or 1)
            axes.locator_params(axis="x", nbins=4)
            thousands(axes.xaxis)
            axes.tick_params(axis="y", length=0)
        for at, given in heads:
            panels[0].text(0, at - 0.56, given, fontsize=8.8, color=INK, fontweight="bold", va="bottom")
        panels[0].set_yticks(
            [at for at, _, _ in rows],
            [setting + (" (unsafe)" if case.unsafe else "") for _, setting, case in rows],
        )
        panels[0].set_ylim(y - 0.4, -0.4 if headed else -0.25)

    slug = "".join(letter if letter.isalnum() else "_" for letter in found.switch.lower()).strip("_")
    while "__" in slug:
        slug = slug.replace("__", "_")
    open_loop = any(not point.closed_loop for _, _, case in rows for point in counted(case.run))
    return Chart(
        name=f"{name}_by_{slug}", title=f"By {found.switch}", height=1.0 + 0.31 * y, paint=paint,
        explained="Bars under one heading differ in nothing but this. Thin lines reach from the lowest to the highest "
        "repeat." + (" In an open loop certified is what was offered, while the nodes keep up." if open_loop else ""),
    )  # fmt: skip


def _bar(axes: Any, at: float, found: Sequence[float], color: str, most: float) -> None:
    value = mean(found)
    if value is None:
        axes.text(most * 0.01, at, "not measured", va="center", fontsize=8.5, color=SOFT)
        return
    axes.barh(at, value, 0.78, color=color, zorder=2)
    if len(found) > 1:
        axes.plot([min(found), max(found)], [at, at], color=INK, lw=1.3, zorder=3)
    axes.text(max(value, *found) + most * 0.02, at, f"{value:,.0f}", va="center", fontsize=8.8, color=INK, zorder=4)

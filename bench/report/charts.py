"""Which pictures a report has: one list for the page, for the PNGs and for the document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bench.report import curves, timelines
from bench.report.look import Chart
from bench.report.readings import Ablation, Case, ablations, cases_of, counted, gain_of, middle, swept
from bench.report.sources import Source

GAIN_LEAST: Final = 1.7  # of two busy processes against one; below, a picture of wall times says so


def charts_of(source: Source) -> list[Chart]:
    """Of one result, the telling ones first."""
    name, cases = slug(source.label), cases_of(source)
    varied = ablations(cases)
    main = main_cases(cases, varied)
    sweeps = [case for case in cases if swept(case.run)]
    bars = [(curves.ablation(name, one), [case for group in one.groups for _, case in group.cases]) for one in varied]
    found: list[Chart | None] = [
        cautioned(curves.saturation(name, cases), sweeps, [source]),
        *[cautioned(chart, shown, [source]) for chart, shown in bars],
        cautioned(curves.latency(name, cases), cases if len(cases) > 1 else [], [source]),
        cautioned(curves.cpu(name, cases), cases if len(cases) > 1 else [], []),
        cautioned(timelines.gantt(name, main), [], [source]),
    ]
    for case in cases:
        own = f"{name}_{slug(case.run.name)}" if len(cases) > 1 else name
        told = len(cases) == 1 or _is_long(case)
        if len(cases) > 1:
            found.append(cautioned(timelines.gantt(own, [case], more=True), [], [source]))
        found.append(cautioned(timelines.over_time(own, case, more=not told), [], [source]))
        if told:
            found.append(timelines.growth(own, case))
    return [chart for chart in found if chart is not None]


def cautioned(chart: Chart | None, cases: Sequence[Case], timed: Sequence[Source]) -> Chart | None:
    """The picture with a word of caution: of `cases` that it sets side by side if one has but one repeat, and of wall
    times in it that were `timed` while others used the machine."""
    if chart is None:
        return None
    words = []
    single = [case for case in cases if len(counted(case.run)) == 1]
    if single:
        some = "one repeat" if len(single) == len(cases) else "one repeat of some runs"
        words.append(f"Only {some}: differences may be chance.")
    gains = [gain for source in timed if (gain := gain_of(source)) is not None and gain < GAIN_LEAST]
    if gains:
        words.append(
            f"Measured while others used the machine (two processes gain {min(gains):g}): rates and times say as much "
            "about them."
        )
    if chart.name.endswith("_cpu") and len({"urls" in case.run.plan for case in cases}) > 1:
        words.append("Of networks that ran already CPU is what their nodes say, of others what the system says.")
    return replace(chart, caution=" ".join(words))


def compared(sources: Sequence[Source]) -> list[list[Source]]:
    """Results that are compared: those of one plan; if there are just two, of two plans, these if they share a run."""
    by_name: dict[str, list[Source]] = {}
    for source in sources:
        by_name.setdefault(source.result.name, []).append(source)
    groups = [group for group in by_name.values() if len(group) > 1]
    if groups or len(sources) != 2:
        return groups
    first, second = ({run.name for run in source.result.runs} for source in sources)
    return [list(sources)] if first & second else []


def charts_between(group: Sequence[Source]) -> list[Chart]:
    """Runs that several results have, in one picture."""
    shared = shared_cases(group)
    if not shared:
        return []
    name = "compared_" + slug(group[0].result.name)
    sweeps = [case for case in shared if swept(case.run)]
    found = [
        cautioned(curves.saturation(name, shared), sweeps, group),
        cautioned(curves.latency(name, shared), shared, group),
        cautioned(curves.cpu(name, shared), shared, []),
    ]
    return [chart for chart in found if chart is not None]


def shared_cases(group: Sequence[Source]) -> list[Case]:
    """Those whose names more than one result has, or, if each result has one run, these; named after their result."""
    every = [cases_of(source, prefix=True) for source in group]
    if all(len(cases) == 1 for cases in every):
        return [case for cases in every for case in cases]
    names = [case.run.name for cases in every for case in cases]
    found = [case for cases in every for case in cases if names.count(case.run.name) > 1]
    return sorted(found, key=lambda case: names.index(case.run.name))


def main_cases(cases: Sequence[Case], varied: Sequence[Ablation]) -> list[Case]:
    """What stands for a result: the pipeline on and off that are furthest apart, if it has both; else the first."""
    pairs = [
        [case for _, case in group.cases]
        for one in varied if one.switch == "pipeline"
        for group in one.groups if len(group.cases) == 2
    ]  # fmt: skip
    if not pairs:
        return [cases[0]]
    return max(pairs, key=lambda pair: middle(counted(pair[0].run)).tps / max(1.0, middle(counted(pair[1].run)).tps))


def _is_long(case: Case) -> bool:
    return sum(middle(counted(case.run)).series.certified) >= timelines.LONG_RUN


def slug(text: str) -> str:
    """A name that is safe for files and for the fragment of an address."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower() or "result"

"""Which pictures a report has: one list for the page, for the PNGs and for the document."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.report import curves, timelines
from bench.report.look import Chart
from bench.report.readings import Ablation, Case, ablations, cases_of, counted, middle
from bench.report.sources import Source


def charts_of(source: Source) -> list[Chart]:
    """Of one result, the telling ones first."""
    name, cases = slug(source.label), cases_of(source)
    varied = ablations(cases)
    main = main_cases(cases, varied)
    found: list[Chart | None] = [
        curves.saturation(name, cases),
        *[curves.ablation(name, one) for one in varied],
        curves.latency(name, cases),
        curves.cpu(name, cases),
        timelines.gantt(name, main),
    ]
    for case in cases:
        own = f"{name}_{slug(case.run.name)}" if len(cases) > 1 else name
        told = len(cases) == 1 or _is_long(case)
        if len(cases) > 1:
            found.append(timelines.gantt(own, [case], more=True))
        found.append(timelines.over_time(own, case, more=not told))
        if told:
            found.append(timelines.growth(own, case))
    return [chart for chart in found if chart is not None]


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
    found = [curves.saturation(name, shared), curves.latency(name, shared), curves.cpu(name, shared)]
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

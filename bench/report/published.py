"""Runs the published plans and makes of them the report, the pictures and the document."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from bench.cluster import results
from bench.cluster.command import PLANS, run_to_end
from bench.cluster.plan import PlanFile, load_plan
from bench.cluster.results import Result
from bench.cluster.run import Say, run_cluster
from bench.report.charts import charts_between, charts_of, compared
from bench.report.document import budget_chart, document_of, load_remarks, save_document
from bench.report.look import Chart, save_png
from bench.report.page import save_page
from bench.report.sources import Budgets, Source, load_folder
from chain.errors import ConfigError, HeadraceError


class Measure(Protocol):
    """What runs a plan: `run_cluster`."""

    def __call__(self, plan: PlanFile, say: Say, *, keep: Callable[[Result], None]) -> Coroutine[Any, Any, Result]: ...


SET_UP_S: Final = 12.0  # of a network and its workload, about
FAILED: Final = ".failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A plan of bench/plans, and how it is cut to be part of a quarter of an hour: `short` settings and `runs` (empty:
    all). `long` plans are only run in full."""

    plan: str
    short: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    long: bool = False


_BRIEF: Final = {"seconds": 10, "warmup_s": 4, "repeats": 1}
PUBLISHED: Final = (
    Published(plan="sustained", short={"repeats": 1}, runs=("four_nodes_2500", "four_nodes_5000", "one_node_12000")),
    Published(
        plan="send_payment",
        short={**_BRIEF, "seconds": 15, "sweep": [5000, 6000, 7000, 8000, 9000], "soak_seconds": 30},
    ),
    Published(plan="latency_50", short={"seconds": 20, "warmup_s": 5, "repeats": 1}),
    Published(
        plan="pipeline_on_off",
        short=_BRIEF,
        runs=(
            "on_20_blocks_of_100", "off_20_blocks_of_100", "on_20_blocks_of_500", "off_20_blocks_of_500",
            "off_20_blocks_of_4000", "on_0_free", "on_20_free", "off_20_free",
        ),
    ),
    Published(
        plan="single_node",
        short={**_BRIEF, "seconds": 15, "sweep": [10000, 12000, 14000, 16000], "soak_seconds": 0},
    ),
    Published(plan="leader_killed"),
    Published(
        plan="batch_sizes", short=_BRIEF, runs=("blocks_of_100", "blocks_of_500", "blocks_of_2000"),
    ),
    Published(plan="executors", short=_BRIEF, runs=("serial_cpu_heavy", "1_cpu_heavy", "2_cpu_heavy")),
    Published(plan="fsync", short=_BRIEF),
    Published(plan="signature_pool", short=_BRIEF),
    Published(plan="workloads", short={"seconds": 6, "warmup_s": 2}),
    Published(plan="million", long=True),
)  # fmt: skip


def chosen(names: Sequence[str], *, full: bool) -> list[tuple[Published, PlanFile]]:
    """The plans to run, checked before any of them starts; without names all, the long ones only if `full`.

    Raises:
        ConfigError: no published plan is called so, or a plan cannot be run.
    """
    known = {entry.plan: entry for entry in PUBLISHED}
    for name in names:
        if name not in known:
            raise ConfigError(f"--plan is {name!r}, must be one of {', '.join(known)}")
    entries = [known[name] for name in dict.fromkeys(names)] if names else PUBLISHED
    return [
        (entry, load_plan(PLANS / f"{entry.plan}.toml", *(({}, ()) if full else (entry.short, entry.runs))))
        for entry in entries
        if full or names or not entry.long
    ]


def seconds_of(plan: PlanFile) -> float:
    """How long it takes, about; a rising sweep is counted as eight rates."""
    total = 0.0
    for run in plan.runs:
        loads = 1 if run.sweep is None else len(run.sweep.rates) or 8
        each = run.warmup_s + run.measured_s
        soak = run.soak_seconds + run.warmup_s if run.soak_seconds else 0.0
        total += run.repeats * (SET_UP_S + loads * each + soak)
    return total


def measure_all(
    plans: Sequence[PlanFile], folder: Path, say: Say, *, measure: Measure = run_cluster
) -> list[str]:
    """Run them one after the other, each result into a file of its own in the folder; what failed, in words.

    A plan that fails leaves the others' results and its own of earlier times as they are; what it has measured is in
    NAME.json.failed. Ctrl-C and SIGTERM end the plan that is running, with all its processes, and everything.
    """
    failures = []
    for at, plan in enumerate(plans, 1):
        say(f"plan {at} of {len(plans)}: {plan.name}, about {seconds_of(plan) / 60:.0f} min")
        partial = folder / f"{plan.name}.json{FAILED}"

        def keep(result: Result, partial: Path = partial) -> None:
            results.save(result, partial)

        try:
            finished = run_to_end(measure(plan, say, keep=keep))
            results.save(finished, folder / f"{plan.name}.json")
            partial.unlink(missing_ok=True)
        except (HeadraceError, OSError, TimeoutError) as error:
            failures.append(f"{plan.name}: {error}")
            say(f"plan {plan.name} failed: {error}")
    return failures


def write_all(folder: Path, document: Path | None, say: Say) -> None:
    """The page, the pictures and the document, from the results in the folder.

    Raises:
        BenchError: there are none, or something cannot be drawn or written.
    """
    sources, budgets = load_folder(folder)
    for path in draw_all(sources, budgets, folder):
        say(f"wrote {path}")
    save_page(sources, folder / "report.html")
    say(f"wrote {folder / 'report.html'}")
    if document is not None:
        save_document(document_of(sources, budgets, load_remarks(), folder=folder, into=document), document)
        say(f"wrote {document}")


def draw_all(sources: Sequence[Source], budgets: Sequence[Budgets], folder: Path, *, more: bool = False) -> list[Path]:
    """Each chart as a PNG; those of every single run only with `more`."""
    charts: list[Chart | None] = [chart for group in compared(sources) for chart in charts_between(group)]
    for source in sources:
        charts += [chart for chart in charts_of(source) if more or not chart.more]
    if budgets:
        charts.append(budget_chart({source.result.name: source for source in sources}, budgets))
    return [save_png(chart, folder) for chart in charts if chart is not None]

"""docs/benchmarks.md: written whole from results, budgets and remarks, the same text for the same files."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.errors import BenchError
from bench.report import readings
from bench.report.charts import charts_of
from bench.report.curves import OTHER, cpu_bars, works_of
from bench.report.look import WORKS, Chart
from bench.report.page import RATIO_FIGURES, number, ratio_text
from bench.report.readings import UNSAFE, Case, cases_of, counted, pairs_of, ratios, values
from bench.report.sources import Budget, Budgets, Source
from bench.report.targets import NODES, TARGETS, Lasting, Published, Reading, Target, Verdict, lasting

REMARKS: Final = Path(__file__).with_name("remarks.toml")
BUDGET_PICTURE: Final = "budget_cpu"
_FIGURE: Final = re.compile(r"closed loop$|[*≥≤–]* ?\d*[\d.,]*( [×x%µa-zA-Z/]+)?( \([\d. to]+\))?( / [\d.,–]+)?\**$")
NEAR: Final = 0.05  # two offered rates that differ by less are the same
_TOLD: Final[dict[Verdict, str]] = {
    "then": "**yes, both**", "first": "**yes**, the aim not", "short": "no", "not measured": "not measured",
}  # fmt: skip


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What others measured: lowest and highest throughput, and the rest as they stated it."""

    system: str
    tps: list[float]
    cpu: str = ""
    latency: str = ""


class Remarks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words by hand: of a figure by its key, of a plan by its name."""

    figures: dict[str, str] = {}
    plans: dict[str, str] = {}
    elsewhere: list[Elsewhere] = []


def load_remarks(path: Path = REMARKS) -> Remarks:
    """Raises BenchError: the file cannot be read, has an unknown key, or remarks on no known figure."""
    try:
        remarks = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), type=Remarks)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BenchError(f"{path}: holds no remarks: {error}") from None
    known = [target.key for target in TARGETS]
    for key in remarks.figures:
        if key not in known:
            raise BenchError(f"{path}: figures.{key}: must be one of {', '.join(known)}")
    return remarks


def document_of(
    sources: Sequence[Source], budgets: Sequence[Budgets], remarks: Remarks, *, folder: Path, into: Path
) -> str:
    """The whole document. Pictures are those of the results' `folder` that exist, by their path from `into`."""
    published = {source.result.name: source for source in sources}
    pictures = Path(os.path.relpath(folder.resolve(), into.resolve().parent))
    parts = [_OPENING, *_reached(published, remarks), *_others(published, remarks), *_budget(published, budgets)]
    parts += _picture(folder, pictures, BUDGET_PICTURE, "CPU of a transaction by kind of work, before and now")
    parts.append("## The published plans")
    for source in sources:
        parts += _plan(source, remarks, folder, pictures)
    parts += _machines(sources)
    return "\n\n".join(parts) + "\n"


def save_document(text: str, path: Path) -> None:
    """Raises BenchError: it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}") from None


_MEANT: Final = """Four nodes (one, where it says so) and the load on one 2-core machine, real signatures, mutual TLS,
durable commits. “First” is what had to be reached, “aim” what is wanted. CPU is user and system time of a node and its
executors. MB is 10^6 bytes, of the largest node."""
_STATED: Final = """Measured by others of the project on a machine of this kind (2 cores, everything on it), not by this
command."""
_FISCO: Final = """FISCO BCOS states for itself, on other machines: in its paper 7.4 x the throughput of BIDL and 28.4 x
that of Hyperledger Fabric at half the latency, and 3.6 x by its pipeline; in its guide 9,712 tx/s by four nodes on a
10-core M1 Max, with at most 257 CPU microseconds a transaction and node. Throughput is a machine’s; only CPU a
transaction may be set beside figures from another one."""
_CPU: Final = """Microseconds of one core that a transaction takes in each of four nodes, by kind of work. Larger blocks
share more between transactions, so compare columns of the same rate."""
_BOXES: Final = """Seeds, plans and versions of all packages are in the files. “Two processes gain” below 1.8: others
used the machine meanwhile, and throughput says as much about them."""
_OPENING: Final = """# Benchmarks

Written by `headrace bench document` from the files in `bench/results`; do not edit it. `make bench` measures everything
anew (shorter and once; `make bench-long` with every repeat and a million transactions), draws and writes it. How it is
measured and what the figures mean: [benchmarking.md](benchmarking.md). All pictures and runs on one page:
`bench/results/report.html`."""


# --- what is to be reached ---


def _reached(published: Published, remarks: Remarks) -> list[str]:
    rows, words = [], []
    for target in TARGETS:
        found = target.read(published)
        verdict = target.verdict(found)
        rows.append(_target_row(target, found, verdict))
        if target.key in remarks.figures:
            words.append(f"**{target.figure}.** {remarks.figures[target.key].strip()}")
        elif verdict in ("short", "first"):
            aim = target.first if verdict == "short" else target.then
            words.append(f"**{target.figure}.** {_beyond(target, found, aim)}")
    heads = ("figure", "first", "aim", "reached", "is it", "beside it", "plan: run", "machine, commit")
    parts = ["## What is to be reached", _MEANT, _table(heads, rows)]
    return [*parts, "### What falls short, and why", *words] if words else parts


def _target_row(target: Target, found: Reading | None, verdict: Verdict) -> list[str]:
    sign = "≥" if target.least else "≤"
    bounds = [f"{sign} {bound:g} {target.unit}" for bound in (target.first, target.then)]
    if found is None:
        return [target.figure, *bounds, "–", _TOLD[verdict], "", f"`{target.plan}`", ""]
    value = f"**{_value(found.value)} {target.unit}**"
    ran = f"`{found.source.result.name}`: {found.ran}"
    return [target.figure, *bounds, value, _TOLD[verdict], found.beside, ran, _machine(found.source)]


def _beyond(target: Target, found: Reading | None, aim: float) -> str:
    assert found is not None
    return f"{_value(found.value)} {target.unit}, {aim:g} {target.unit} is wanted: {found.value / aim:.2f} of it."


def _value(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _machine(source: Source) -> str:
    box = source.result.machine
    return f"{box.get('processor', 'unknown')}, {box.get('cores', '?')} cores, {box.get('commit', 'unknown')}"


def _others(published: Published, remarks: Remarks) -> list[str]:
    """Other systems, as stated."""
    if not remarks.elsewhere:
        return []
    ours = lasting(published, nodes=NODES)
    rows = []
    for entry in remarks.elsewhere:
        against = f"{ours[-1].tps / max(entry.tps):.1f} x" if ours else "–"
        stated = " to ".join(f"{value:g}" for value in entry.tps)
        rows.append([entry.system, stated, against, entry.cpu or "–", entry.latency or "–"])
    text = _STATED
    if ours:
        text += f" The ratio is of Headrace’s {ours[-1].tps:,.0f} tx/s, sustained for 60 s, to the highest figure."
    heads = ("system", "valid tx/s", "Headrace against it", "CPU", "p50 / p99 at 50 a second")
    return ["## Beside other systems", text, _table(heads, rows), _FISCO]


# --- budget ---


def budget_columns(published: Published, budgets: Sequence[Budgets]) -> list[Budget]:
    """What was measured before, then now: each rate that four nodes hold for a minute, rising."""
    now = [budget for entry in lasting(published, nodes=NODES) if (budget := _budget_of(entry)) is not None]
    return [*[budget for one in budgets for budget in one.budgets], *now]


def _budget_of(entry: Lasting) -> Budget | None:
    run = msgspec.structs.replace(entry.run, points=list(entry.points), knees=[])
    works, total = works_of(run), readings.of(run, "cpu")
    if total is None:
        return None
    return Budget(
        label=f"now, {entry.offered_tps:,.0f}/s", commit=str(entry.source.result.machine.get("commit", "unknown")),
        offered_tps=entry.offered_tps, us_per_tx_per_node=total, by_work_us=works, tps=entry.tps,
        p50_ms=readings.mean(values(entry.points, "p50")), p99_ms=readings.mean(values(entry.points, "p99")),
    )  # fmt: skip


def budget_chart(published: Published, budgets: Sequence[Budgets]) -> Chart | None:
    """Bars of the columns that are known by kind of work; None: there are no two of them."""
    columns = [one for one in budget_columns(published, budgets) if one.by_work_us]
    rows = [(f"{one.label}\n({one.commit})", _whole(one)) for one in columns]
    return cpu_bars(BUDGET_PICTURE, rows) if len(rows) > 1 else None


def _whole(budget: Budget) -> dict[str, float]:
    """By kind of work, with what is missing to the whole as `other`."""
    works = dict(budget.by_work_us)
    works[OTHER] = budget.us_per_tx_per_node - sum(value for work, value in works.items() if work != OTHER)
    return {work: value for work, value in works.items() if work != OTHER or value > 0}


def _budget(published: Published, budgets: Sequence[Budgets]) -> list[str]:
    columns = budget_columns(published, budgets)
    if not columns:
        return []
    known = {work for one in columns for work in one.by_work_us}
    order = [work for work in WORKS if work in known] + sorted(known - set(WORKS))
    wholes = [_whole(one) if one.by_work_us else {} for one in columns]
    order += [OTHER] if OTHER not in order and any(OTHER in one for one in wholes) else []
    rows = [[f"`{work}`", *[_cell(one.get(work)) for one in wholes]] for work in order]
    rows.append(["**all**", *[f"**{one.us_per_tx_per_node:.1f}**" for one in columns]])
    rows.append(["certified, tx/s", *[number(one.tps) for one in columns]])
    rows.append(["p50 / p99, ms", *[f"{number(one.p50_ms)} / {number(one.p99_ms)}" for one in columns]])
    heads = ("work", *[f"{one.label} ({one.commit})" for one in columns])
    parts = ["## Where the CPU goes", _CPU, _table(heads, rows)]
    for now in columns:
        same = [one for one in columns if one.label.startswith("before") and _near(one, now)]
        if now.label.startswith("now") and same:
            share = now.us_per_tx_per_node / same[-1].us_per_tx_per_node
            parts.append(f"At {now.offered_tps:,.0f}/s a transaction takes {share:.2f} of what it took before.")
    return parts + [f"Before: {one.measured}" for one in budgets]


def _near(one: Budget, other: Budget) -> bool:
    return abs(one.offered_tps - other.offered_tps) < NEAR * other.offered_tps


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


# --- plans ---

_COLUMNS: Final = (
    "run", "offered/s", "certified/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs", "without verify", "overlap", "failed",
    "repeats",
)  # fmt: skip


def _plan(source: Source, remarks: Remarks, folder: Path, pictures: Path) -> list[str]:
    cases = cases_of(source)
    parts = [f"### {source.label}"]
    parts += list(dict.fromkeys(case.run.question for case in cases if case.run.question))
    parts.append(f"`headrace bench cluster --plan {source.result.name}`")
    if any(case.unsafe for case in cases):
        parts.append(f"**Runs marked so are {UNSAFE}.**")
    parts.append(_table(_COLUMNS, map(_run_row, cases)))
    for case in cases:
        knee = readings.knee_of(case.run)
        if knee is not None:
            parts.append(f"Knee of `{case.run.name}`: {knee[0]:,.0f}/s offered, {knee[1]:,.0f}/s certified.")
    rows = _ratio_rows(cases)
    if rows:
        parts.append(_table(("ratio", "given", "certified", "p99", "CPU"), rows))
    for chart in charts_of(source):
        if not chart.more:
            parts += _picture(folder, pictures, chart.name, f"{source.label}: {chart.title}")
    if source.result.name in remarks.plans:
        parts.append(remarks.plans[source.result.name].strip())
    return parts


def _run_row(case: Case) -> list[str]:
    run, points = case.run, counted(case.run)
    role = "" if points[0].role == "run" else f" ({points[0].role})"
    offered = "closed loop" if points[0].closed_loop else number(sum(one.offered_tps for one in points) / len(points))
    figures = [number(readings.of(run, figure)) for figure in ("certified", "p50", "p99", "p999")]
    costs = [number(readings.of(run, figure), 1) for figure in ("cpu", "cpu_without_verify")]
    return [
        f"`{case.label}`{role}" + (" **unsafe**" if case.unsafe else ""), offered, *figures, *costs,
        number(readings.of(run, "overlap"), 2), number(sum(values(points, "failed"))), str(len(points)),
    ]  # fmt: skip


def _ratio_rows(cases: Sequence[Case]) -> list[list[str]]:
    return [
        [what, given or "all else equal", *map(ratio_text, ratios(base, other, RATIO_FIGURES))]
        for what, given, base, other in pairs_of(cases)
    ]


def _picture(folder: Path, pictures: Path, name: str, title: str) -> list[str]:
    found = (folder / f"{name}.png").exists()
    return [f"![{_plain(title)}]({(pictures / f'{name}.png').as_posix()})"] if found else []


def _machines(sources: Sequence[Source]) -> list[str]:
    rows = []
    for source in sources:
        box = source.result.machine
        speed = box.get("calibration", {})
        rows.append(
            [
                f"`{source.path.name}`", source.result.created, str(box.get("commit", "unknown")),
                f"{box.get('processor', 'unknown')}, {box.get('cores', '?')} cores, {box.get('memory_gib', '?')} GiB",
                str(box.get("python", "unknown")), str(speed.get("sha256_200_bytes_us", "–")),
                f"{speed.get('ed25519_verify_us', '–')} / {speed.get('ed25519_verify_lanes_us') or '–'}",
                str(speed.get("two_processes_gain", "–")),
            ]
        )  # fmt: skip
    heads = (
        "file", "measured", "commit", "machine", "Python", "SHA-256 of 200 bytes, µs",
        "Ed25519 check by library / lanes, µs", "two processes gain",
    )  # fmt: skip
    return ["## Machine and versions of each result", _BOXES, _table(heads, rows)]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of figures stand to the right, others to the left."""
    lines = [list(row) for row in rows]
    figures = [all(_FIGURE.match(line[at]) for line in lines) for at in range(len(heads))]
    rule = ["---:" if right else "---" for right in figures]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in (heads, rule, *lines))


def _plain(text: str) -> str:
    """What would end a cell or begin a tag is written so that it does not."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

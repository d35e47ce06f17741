"""The report as one page that asks nobody for anything: style and pictures are inside, and there is no script."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.cluster.compare import Difference, compare
from bench.cluster.report import nodes_in_words
from bench.cluster.results import Knee
from bench.errors import BenchError
from bench.report import readings
from bench.report.charts import charts_between, charts_of, compared, slug
from bench.report.look import Chart, svg_of
from bench.report.readings import UNSAFE, Case, Ratio, cases_of, counted, pairs_of, ratios, values
from bench.report.sources import Source

RATIO_FIGURES: Final = ("certified", "p99", "cpu")
STYLE: Final = Path(__file__).with_name("page.css")
Rows = Iterable[Sequence[str]]

_HEADS: Final = (
    "run", "offered /s", "certified /s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs", "without verify", "tx a block",
    "overlap", "MB a node", "failed", "repeats",
)  # fmt: skip
_HEADS_NOTE: Final = (
    "Means over repeats. CPU is microseconds a transaction and node. Overlap 1.0: the stages worked one after the "
    "other. MB: of the largest node at the end, PSS over all its processes, LMDB’s pages aside. Failed: of all repeats."
)


def page_of(sources: Sequence[Source]) -> str:
    """The whole page. Raises BenchError: matplotlib is not installed."""
    parts = [_head(sources), _section("how", "How to read this"), _HOW]
    groups = compared(sources)
    if groups:
        parts.append(_section("compared", "Compared"))
    for group in groups:
        parts += _compared(group)
    for source in sources:
        parts += _result(source)
    title = "Benchmark of Headrace: " + ", ".join(source.label for source in sources)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def save_page(sources: Sequence[Source], path: Path) -> None:
    """Raises BenchError: it cannot be drawn or written."""
    text = page_of(sources)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}") from None


_HOW: Final = """<p>Latency counts from the moment at which a transaction was due, not from when it was really sent;
in a closed loop from the sending. Certified means: a process outside the nodes saw the block with its certificate. CPU
is user and system time of a node and its executors over certified transactions, of a mean node; it travels between
machines better than throughput does. “Two processes gain” near 2 says that nobody else used the machine; below 1.8
compare CPU, not throughput.</p>"""


def _head(sources: Sequence[Source]) -> str:
    links = [("how", "How to read"), *([("compared", "Compared")] if compared(sources) else [])]
    links += [(f"result-{slug(source.label)}", source.label) for source in sources]
    items = "".join(f'<li><a href="#{name}">{_safe(text)}</a></li>' for name, text in links)
    newest = max(source.result.created for source in sources)
    return (
        f'<h1>Benchmark of Headrace</h1>\n<p class="lead">{len(sources)} result{"s" if len(sources) > 1 else ""}, '
        f"the newest of {_safe(newest)}</p>\n<nav><ul>{items}</ul></nav>"
    )


def _section(name: str, title: str) -> str:
    return f'<h2 id="{name}">{_safe(title)}</h2>'


# --- one result ---


def _result(source: Source) -> list[str]:
    cases = cases_of(source)
    questions = list(dict.fromkeys(case.run.question for case in cases if case.run.question))
    parts = [_section(f"result-{slug(source.label)}", source.label)]
    parts += [f"<p>{_safe(question)}</p>" for question in questions]
    box = source.result.machine
    parts.append(
        f'<p class="note">{_safe(source.result.created)}, commit {_safe(box.get("commit", "unknown"))}, '
        f"{_safe(box.get('processor', 'unknown'))}, {_safe(box.get('cores', '?'))} cores, "
        f"{source.result.seconds:,.0f} s in all; from {_safe(source.path.name)}</p>"
    )
    if any(case.unsafe for case in cases):
        parts.append(f'<p class="unsafe">Some runs are {UNSAFE}. They show what durability costs, and no more.</p>')
    parts += ["<h3>Runs</h3>", _table(_HEADS, map(_row, cases)), f'<p class="note">{_HEADS_NOTE}</p>']
    parts += [
        f'<p class="note">{_safe(case.label)} loaded a network that ran already: '
        f"{_safe(nodes_in_words(case.run.plan))}.</p>"
        for case in cases if "urls" in case.run.plan
    ]  # fmt: skip
    parts += _knees(cases)
    charts = charts_of(source)
    parts += [_figure(chart) for chart in charts if not chart.more]
    parts += _ratios(cases)
    parts += _failures(cases)
    parts += _folded("Stages, throughput and growth of every run", [_figure(chart) for chart in charts if chart.more])
    parts += _provenance(source)
    return parts


def _row(case: Case) -> list[str]:
    run, points = case.run, counted(case.run)
    closed = points[0].closed_loop
    offered = sum(point.offered_tps for point in points) / len(points)
    name = f'{_safe(case.label)} <small class="unsafe">unsafe</small>' if case.unsafe else _safe(case.label)
    role = "" if points[0].role == "run" else f" <small>{points[0].role}</small>"
    return [
        name + role,
        "<small>closed loop</small>" if closed else number(offered),
        number(readings.of(run, "certified")),
        *[number(readings.of(run, figure)) for figure in ("p50", "p99", "p999")],
        number(readings.of(run, "cpu"), 1),
        number(readings.of(run, "cpu_without_verify"), 1),
        number(readings.of(run, "block")),
        number(readings.of(run, "overlap"), 2),
        number(readings.of(run, "memory")),
        number(sum(values(points, "failed"))),
        str(len(points)),
    ]


def _knees(cases: Sequence[Case]) -> list[str]:
    rows = [
        [_safe(case.label), str(knee.repeat + 1), _knee(knee), number(knee.tps),
         f"{knee.certified_share_min:.0%} certified, p99 at most {knee.p99_ms_max:,.0f} ms"]
        for case in cases for knee in case.run.knees
    ]  # fmt: skip
    if not rows:
        return []
    return ["<h3>Knee</h3>", _table(("run", "repeat", "offered /s", "certified /s", "kept up means"), rows)]


def _knee(knee: Knee) -> str:
    return "below the first rate" if knee.offered_tps is None else number(knee.offered_tps)


def _ratios(cases: Sequence[Case]) -> list[str]:
    """Of runs that differ in one switch."""
    rows = [
        [_safe(what), _safe(given or "all else equal"), *map(ratio_text, ratios(base, other, RATIO_FIGURES))]
        for what, given, base, other in pairs_of(cases)
    ]
    if not rows:
        return []
    heads = ("switch", "given", "certified", "p99", "CPU")
    note = (
        '<p class="note">In brackets the 95 % bootstrap interval, where both have at least three repeats. Without one '
        "a difference may be chance.</p>"
    )
    return ["<h3>Ratios</h3>", _table(heads, rows, text=(1,)), note]


def _failures(cases: Sequence[Case]) -> list[str]:
    reasons = sorted({reason for case in cases for point in case.run.points for reason in point.failed_by_reason})
    title = "<h3>Failures by reason</h3>"
    if not reasons:
        return [title, "<p>No transaction failed in any run.</p>"]
    rows = []
    for case in cases:
        points = case.run.points
        counts = [sum(point.failed_by_reason.get(reason, 0) for point in points) for reason in reasons]
        if any(counts):
            rows.append([_safe(case.label), *[number(count) for count in counts], number(sum(counts))])
    note = '<p class="note">Of all loads of a run, those of a sweep beyond the knee too.</p>'
    return [title, _table(("run", *map(_safe, reasons), "all"), rows), note]


def _provenance(source: Source) -> list[str]:
    box = source.result.machine
    speed = box.get("calibration", {})
    rows = [
        ("processor", f"{box.get('processor', 'unknown')}, {box.get('cores', '?')} cores"),
        ("memory, GiB", box.get("memory_gib", "unknown")),
        ("system", f"{box.get('system', 'unknown')}, Python {box.get('python', 'unknown')}"),
        ("commit", box.get("commit", "unknown")),
        ("load average before", box.get("load_average", "unknown")),
        ("SHA-256 of 200 bytes, µs", speed.get("sha256_200_bytes_us", "unknown")),
        ("Ed25519 check by library, µs", speed.get("ed25519_verify_us", "unknown")),
        ("Ed25519 check by lanes kernel, µs", speed.get("ed25519_verify_lanes_us") or "no such processor"),
        ("two processes gain", speed.get("two_processes_gain", "unknown")),
        ("versions", ", ".join(f"{name} {version}" for name, version in box.get("versions", {}).items()) or "unknown"),
        ("seeds", ", ".join(str(seed) for seed in _seeds(source))),
    ]
    loads = [
        [_safe(case.label), str(load.processes), number(load.send_us_per_tx, 1), number(load.watch_us_per_tx, 1),
         number(load.sign_us_per_tx, 1), number(load.behind_ms_max, 1)]
        for case in cases_of(source) for load in [readings.middle(counted(case.run)).load]
    ]  # fmt: skip
    plans = json.dumps({run.name: run.plan for run in source.result.runs}, indent=1, ensure_ascii=False)
    load_heads = ("run", "processes", "sending µs", "watching µs", "signing before µs", "at most late, ms")
    missing = sorted({text for run in source.result.runs for point in run.points for text in point.missing})
    return [
        "<h3>Machine, versions, seeds</h3>",
        _table(("", ""), [(_safe(name), _safe(value)) for name, value in rows], text=(1,)),
        *[f'<p class="note">Not measured: {_safe(text)}</p>' for text in missing],
        *_folded("What the load itself cost, CPU a transaction", [_table(load_heads, loads)]),
        *_folded("Plan of every run", [f"<pre>{_safe(plans)}</pre>"]),
    ]


def _seeds(source: Source) -> list[int]:
    return sorted({point.seed for run in source.result.runs for point in run.points})


# --- several results ---


def _compared(group: Sequence[Source]) -> list[str]:
    """Every other result against the first, and the pictures of what they share."""
    parts = [_figure(chart) for chart in charts_between(group)]
    first = group[0]
    for other in group[1:]:
        try:
            found = compare(first.result, other.result)
        except BenchError:
            parts.append(f"<p>{_safe(first.label)} and {_safe(other.label)} have no run in common.</p>")
            continue
        parts.append(f"<h3>{_safe(first.label)} (A) and {_safe(other.label)} (B)</h3>")
        parts += [f'<p class="note">{_safe(note)}</p>' for note in found.notes]
        heads = ("run", "figure", "A", "B", "B / A", "B − A", "95 % interval of B − A", "")
        parts.append(_table(heads, map(_difference, found.differences), text=(1,)))
    return parts


def _difference(entry: Difference) -> list[str]:
    bounds = "–" if entry.low is None or entry.high is None else f"{entry.low:+,.4g} to {entry.high:+,.4g}"
    verdict = {None: "", True: "differs", False: "may be chance"}[entry.differs]
    ratio = f"{entry.b / entry.a:.3f}" if entry.a else "–"
    change = [ratio, f"{entry.b - entry.a:+,.4g}", bounds, verdict]
    return [
        _safe(entry.run if entry.role == "run" else f"{entry.run} {entry.role}"),
        _safe(entry.figure), f"{entry.a:,.5g}", f"{entry.b:,.5g}",
        *(change if entry.comparable else ["–", "–", "–", "measured differently"]),
    ]  # fmt: skip


# --- pieces ---


def number(value: float | None, digits: int = 0) -> str:
    """With commas between thousands; small ones keep two digits."""
    if value is None:
        return "–"
    if digits == 0 and value != round(value) and abs(value) < 100:
        digits = 1
    return f"{value:,.{digits}f}"


def ratio_text(found: Ratio | None) -> str:
    """For instance "2.10 × (2.01 to 2.22)"."""
    if found is None:
        return "–"
    bounds = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f} ×{bounds}"


def _figure(chart: Chart) -> str:
    caution = f' <span class="caution">{_safe(chart.caution)}</span>' if chart.caution else ""
    return (
        f'<h3 id="chart-{_safe(chart.name)}">{_safe(chart.title)}</h3>\n<figure>{svg_of(chart)}'
        f"<figcaption>{_safe(chart.explained)}{caution}</figcaption></figure>"
    )


def _table(heads: Sequence[str], rows: Rows, text: Sequence[int] = ()) -> str:
    """Cells are HTML already. The columns `text` are for reading: left, and broken into lines."""
    kind = dict.fromkeys(text, ' class="text"')
    top = "".join(f"<th{kind.get(at, '')}>{head}</th>" for at, head in enumerate(heads))
    lines = ("".join(f"<td{kind.get(at, '')}>{cell}</td>" for at, cell in enumerate(row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    head = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    return f'<div class="wide"><table>{head}<tbody>\n{body}</tbody></table></div>'


def _folded(title: str, parts: Sequence[str]) -> list[str]:
    return [f"<details><summary>{_safe(title)}</summary>", *parts, "</details>"] if parts else []


def _safe(text: Any) -> str:
    return html.escape(str(text))



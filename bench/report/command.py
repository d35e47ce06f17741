"""The commands `headrace bench report`, `document` and `publish`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.report import published
from bench.report.document import document_of, load_remarks, save_document
from bench.report.page import save_page
from bench.report.sources import load_folder, load_results
from bench.told import say, told
from chain.errors import ConfigError

RESULTS = Path(__file__).resolve().parents[1] / "results"

Folder = Annotated[Path, typer.Option("--results", help="Folder with results of bench cluster.")]


def report(
    result: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="Files that bench cluster wrote.")],
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    png: Annotated[Path | None, typer.Option(help="Also every picture as a PNG into this folder.")] = None,
) -> None:
    """Write one HTML page about results, with everything in it: it needs no network and no script.

    \b
    Examples:
      headrace bench report mine.json --output mine.html
      headrace bench report before.json after.json --output both.html --png pictures
    """
    with told():
        sources = load_results(result)
        if png is not None:
            _make(png)
        save_page(sources, output)
        written = published.draw_all(sources, [], png, more=True) if png is not None else []
    print("\n".join(map(str, [output, *written])))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--png is {str(folder)!r}, must be a folder: {error.strerror}") from None


def document(
    folder: Folder = RESULTS,
    into: Annotated[Path, typer.Option(help="The document, written anew.")] = Path("docs/benchmarks.md"),
) -> None:
    """Write the document about the published results: what was to be reached, what was, and on which machine.

    Example: headrace bench document --results bench/results --into docs/benchmarks.md
    """
    with told():
        sources, budgets = load_folder(folder)
        save_document(document_of(sources, budgets, load_remarks(), folder=folder, into=into), into)
    print(into)


def publish(
    folder: Folder = RESULTS,
    into: Annotated[Path | None, typer.Option(help="Also write this document.")] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Only this published plan; may be repeated.")] = None,
    full: Annotated[bool, typer.Option("--full", help="With every run and repeat, and the long plans: hours.")] = False,
    only_write: Annotated[bool, typer.Option("--only-write", help="Measure nothing, only write.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Only say what would be run, and for how long.")] = False,
) -> None:
    """Run the published plans, and write their results, the report, the pictures and the document.

    A plan that fails leaves the results of the others; the exit code is then 1.

    \b
    Examples:
      headrace bench publish --into docs/benchmarks.md
      headrace bench publish --plan send_payment --plan latency_50 --full
    """
    with told():
        if not folder.is_dir():
            raise ConfigError(f"--results is {str(folder)!r}, must be a folder that exists")
        plans = [] if only_write else [found for _, found in published.chosen(plan or [], full=full)]
        for found in plans:
            say(f"{found.name}: {len(found.runs)} runs, about {published.seconds_of(found) / 60:.1f} min")
        if plans:
            say(f"about {sum(map(published.seconds_of, plans)) / 60:.0f} minutes in all")
        if dry:
            return
        failures = published.measure_all(plans, folder, say)
        published.write_all(folder, into, say)
    if failures:
        print("\n".join(f"headrace bench: plan {failure}" for failure in failures), file=sys.stderr)
        raise typer.Exit(1)

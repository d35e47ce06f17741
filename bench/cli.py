"""`headrace bench`: added to the command line through the entry point `headrace.commands`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from bench.chaos import liveness
from bench.chaos import run as chaos_run
from bench.chaos.faults import KINDS
from bench.cluster import command
from bench.execute import report
from bench.execute.plan import ALL, INFERRED, PREDICTIONS, ExecutePlan, executors_named, workloads_named
from bench.execute.plot import draw
from bench.execute.run import run_execute
from bench.execute.workloads import WORKLOADS
from bench.machine import machine
from bench.report import command as report_command
from bench.sync import run as sync_run
from bench.told import say, told
from chain.errors import ConfigError
from executor.governor import Mode

EXECUTE = "execute"

app = typer.Typer(help="Benchmarks of real nodes, with the figures of this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Benchmarks of real nodes, with the figures of this machine."""


app.command()(command.cluster)
app.command()(command.compare)
app.command()(report_command.report)
app.command()(report_command.document)
app.command()(report_command.publish)


@app.command()
def execute(
    workload: Annotated[str, typer.Option(help=f"{', '.join(WORKLOADS)}; several with commas, or {ALL}.")] = ALL,
    executors: Annotated[str, typer.Option(help="Numbers of executor processes to compare, with commas.")] = "1,2",
    blocks: Annotated[int, typer.Option(help="Consecutive blocks that count.")] = 50,
    transactions: Annotated[int, typer.Option(help="Transactions of a block.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the transactions.")] = 1,
    predictions: Annotated[str, typer.Option(help=f"What planning is told: {', '.join(PREDICTIONS)}.")] = INFERRED,
    mode: Annotated[str, typer.Option(help="parallel: planned where it pays, as a node does; forced: always.")] = (
        "parallel"
    ),
    repeats: Annotated[int, typer.Option(help="Passes over all blocks; the median counts.")] = 3,
    warmup: Annotated[int, typer.Option(help="Blocks before those that count.")] = 10,
    model: Annotated[bool, typer.Option(help="Also model up to 32 executors from measured times.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write JSON here; into a folder: a file a workload.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the results into this file, a .png or .svg.")] = None,
) -> None:
    """Execute the same blocks serially and in parallel on this machine; speed-up, CPU, and whether all bytes agree.

    \b
    Examples:
      headrace bench execute --workload smallbank_uniform --executors 1,2 --json
      headrace bench execute --output bench/results --plot execute.png
      headrace bench execute --workload hot_counter_rmw --predictions adversarial
    """
    with told():
        counts = executors_named(executors)
        plans = [
            ExecutePlan(
                workload=name, executors=counts, blocks=blocks, transactions=transactions, warmup=warmup,
                repeats=repeats, seed=seed, predictions=predictions, mode=cast(Mode, mode), model=model,
            )
            for name in workloads_named(workload)
        ]  # fmt: skip
        box = machine()
        results = []
        for plan in plans:
            results.append(run_execute(plan, say, box=box))
            if output is not None:  # what has been measured stays, whatever becomes of the rest
                report.save(results, output)
        if plot is not None:
            draw(results, plot)
    print(json.dumps(report.merged(results)) if as_json else report.render(results))
    if not all(result["equal"] for result in results):
        print("headrace bench: bytes differ from the serial run; this is a bug of Headrace", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def sync(
    blocks: Annotated[int, typer.Option(help="How far the late node is behind at first.")] = 10_000,
    interval: Annotated[int, typer.Option(help="Snapshot interval; 0: a tenth of the blocks.")] = 0,
    seconds_max: Annotated[float, typer.Option(help="For each way of catching up; then the run fails.")] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Catch up with a chain that goes on growing, by blocks and by snapshot: blocks a second, and what serving costs.

    Example: headrace bench sync --blocks 10000 --json
    """
    with told():
        plan = sync_run.SyncPlan(blocks=blocks, interval=interval, seconds_max=seconds_max)
        result = asyncio.run(sync_run.run_sync(plan, say))
    print(json.dumps(result) if as_json else sync_run.render(result))


@app.command()
def chaos(
    seconds: Annotated[float, typer.Option(help="Length of the load; starting and checking come on top.")] = 60.0,
    nodes: Annotated[int, typer.Option(help="Validators, all on this machine.")] = 4,
    seed: Annotated[int, typer.Option(help="Decides faults, nodes, times and what sessions do.")] = 1,
    sessions: Annotated[int, typer.Option(help="Clients; each does one thing after the other.")] = 12,
    faults: Annotated[str, typer.Option(help="Kinds to draw from, with commas.")] = ",".join(KINDS),
    scenario: Annotated[
        str | None, typer.Option(help=f"Measure liveness instead: {', '.join(liveness.SCENARIOS)}.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Of a scenario, each time with a fresh network.")] = 1,
    rate: Annotated[float, typer.Option(help="Of a scenario: offered transactions a second.")] = liveness.RATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Load real nodes while processes, links, disks and clocks fail; check afterwards what clients were told.

    Exit code 1 if a promise was broken, or a figure not reached.

    \b
    Examples:
      headrace bench chaos --seconds 120 --seed 7 --json
      headrace bench chaos --faults kill,partition
      headrace bench chaos --scenario leader-killed --repeats 3
    """
    if scenario is not None:
        _liveness(scenario, nodes, seed, repeats, rate, as_json=as_json)
        return
    with told():
        plan = chaos_run.ChaosPlan(
            nodes=nodes, seconds=seconds, seed=seed, sessions=sessions,
            faults=tuple(kind for kind in faults.split(",") if kind),
        )  # fmt: skip
        result = asyncio.run(chaos_run.run_chaos(plan, say))
    print(json.dumps(result) if as_json else chaos_run.render(result))
    if result["violations"]:
        raise typer.Exit(1)


def _liveness(scenario: str, nodes: int, seed: int, repeats: int, rate: float, *, as_json: bool) -> None:
    with told():
        plan = liveness.LivenessPlan(
            scenario=cast(liveness.Scenario, scenario), nodes=nodes, seed=seed, repeats=repeats, rate=rate
        )
        result = asyncio.run(liveness.run_liveness(plan, say))
    print(json.dumps(result) if as_json else liveness.render(result))
    if not result["reached"]:
        raise typer.Exit(1)


Results = Annotated[Path, typer.Option(help=f"Folder with {report.FILE_PATTERN}.")]
What = Annotated[str, typer.Argument(metavar="WHAT", help=f"Whose results: {EXECUTE}.")]


@app.command()
def plot(
    what: What = EXECUTE,
    results: Results = report.RESULTS,
    output: Annotated[Path, typer.Option(help="The picture, a .png or .svg.")] = Path("execute.png"),
) -> None:
    """Draw results that were written before.

    Example: headrace bench plot execute --output execute.png
    """
    with told():
        _check_what(what)
        draw(report.load_folder(results), output)
    print(output)


@app.command()
def table(
    what: What = EXECUTE,
    results: Results = report.RESULTS,
    into: Annotated[Path | None, typer.Option(help="Put it between the marks in this document.")] = None,
) -> None:
    """Print results that were written before as a Markdown table, or put it into a document.

    Example: headrace bench table execute --into docs/parallel-execution.md
    """
    with told():
        _check_what(what)
        text = report.markdown(report.load_folder(results))
        if into is not None:
            report.put_into(into, text)
    print(text if into is None else into)


def _check_what(what: str) -> None:
    if what != EXECUTE:
        raise ConfigError(f"there are no tables or plots of {what!r}, only of {EXECUTE}")

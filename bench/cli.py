"""`headrace bench`: added to the command line through the entry point `headrace.commands`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, cast

import typer

from bench.chaos import liveness
from bench.chaos import run as chaos_run
from bench.chaos.faults import KINDS
from bench.cluster.report import render
from bench.cluster.run import ClusterPlan, run_cluster
from bench.execute import report
from bench.execute.plan import ALL, INFERRED, PREDICTIONS, ExecutePlan, executors_named, workloads_named
from bench.execute.plot import draw
from bench.execute.run import run_execute
from bench.execute.workloads import WORKLOADS
from bench.machine import machine
from bench.sync import run as sync_run
from chain.errors import ConfigError, HeadraceError
from executor.governor import Mode

EXECUTE = "execute"

app = typer.Typer(help="Benchmarks of real nodes, with the figures of this machine.", no_args_is_help=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors become one line and an exit code: 2 for what was asked wrongly, 1 for what went wrong, 130 for Ctrl-C."""
    try:
        yield
    except HeadraceError as error:
        print(f"headrace bench: {error}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    except KeyboardInterrupt:
        print("stopped; every process it started has ended", file=sys.stderr)
        raise typer.Exit(130) from None


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


@app.callback()
def bench() -> None:
    """Benchmarks of real nodes, with the figures of this machine."""


@app.command()
def cluster(
    workload: Annotated[str, typer.Option(help="What to send: send_payment.")] = "send_payment",
    seconds: Annotated[float, typer.Option(help="Length of the measured window.")] = 60.0,
    rate: Annotated[float, typer.Option(help="Offered transactions a second, open loop.")] = 1_000.0,
    warmup: Annotated[float, typer.Option(help="Seconds of load before the window.")] = 10.0,
    nodes: Annotated[int, typer.Option(help="Validators, all on this machine.")] = 4,
    executors: Annotated[int, typer.Option(help="Executor processes of each node.")] = 1,
    link_delay_ms: Annotated[int, typer.Option(help="Delay added to every message between nodes.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the workload.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON report to this file.")] = None,
) -> None:
    """Load a fresh network of real nodes and report throughput, latency and CPU per transaction.

    Example: headrace bench cluster --workload send_payment --seconds 60 --json
    """
    with _told():
        plan = ClusterPlan(
            workload=workload, nodes=nodes, executors=executors, rate=rate, seconds=seconds, warmup_s=warmup, seed=seed,
            link_delay_ms=link_delay_ms,
        )  # fmt: skip
        result = asyncio.run(run_cluster(plan, _say))
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if as_json else render(result))


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
    with _told():
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
            results.append(run_execute(plan, _say, box=box))
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
    with _told():
        plan = sync_run.SyncPlan(blocks=blocks, interval=interval, seconds_max=seconds_max)
        result = asyncio.run(sync_run.run_sync(plan, _say))
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
    with _told():
        plan = chaos_run.ChaosPlan(
            nodes=nodes, seconds=seconds, seed=seed, sessions=sessions,
            faults=tuple(kind for kind in faults.split(",") if kind),
        )  # fmt: skip
        result = asyncio.run(chaos_run.run_chaos(plan, _say))
    print(json.dumps(result) if as_json else chaos_run.render(result))
    if result["violations"]:
        raise typer.Exit(1)


def _liveness(scenario: str, nodes: int, seed: int, repeats: int, rate: float, *, as_json: bool) -> None:
    with _told():
        plan = liveness.LivenessPlan(
            scenario=cast(liveness.Scenario, scenario), nodes=nodes, seed=seed, repeats=repeats, rate=rate
        )
        result = asyncio.run(liveness.run_liveness(plan, _say))
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
    with _told():
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
    with _told():
        _check_what(what)
        text = report.markdown(report.load_folder(results))
        if into is not None:
            report.put_into(into, text)
    print(text if into is None else into)


def _check_what(what: str) -> None:
    if what != EXECUTE:
        raise ConfigError(f"there are no tables or plots of {what!r}, only of {EXECUTE}")

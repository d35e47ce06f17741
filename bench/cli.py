"""`headrace bench`: added to the command line through the entry point `headrace.commands`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cluster.report import render
from bench.cluster.run import ClusterPlan, run_cluster
from chain.errors import HeadraceError

app = typer.Typer(help="Benchmarks of real nodes, with the figures of this machine.", no_args_is_help=True)


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
    try:
        plan = ClusterPlan(
            workload=workload, nodes=nodes, executors=executors, rate=rate, seconds=seconds, warmup_s=warmup, seed=seed,
            link_delay_ms=link_delay_ms,
        )  # fmt: skip
        result = asyncio.run(run_cluster(plan, lambda text: print(f"  {text}", file=sys.stderr, flush=True)))
    except HeadraceError as error:
        print(f"headrace bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("stopped; every process it started has ended", file=sys.stderr)
        raise typer.Exit(130) from None
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if as_json else render(result))

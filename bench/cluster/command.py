"""The commands `headrace bench cluster` and `headrace bench compare`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from bench.cluster import compare as comparison
from bench.cluster import results
from bench.cluster.plan import PlanFile, joined, load_plan, parse_plan, setting_of
from bench.cluster.report import render
from bench.cluster.run import run_cluster
from bench.cluster.target import Remote
from bench.told import say, told
from bench.workloads import WORKLOADS
from chain.errors import ConfigError
from chain.node.consortium import load_account

T = TypeVar("T")
PLANS = Path(__file__).resolve().parents[1] / "plans"


def cluster(
    plan: Annotated[Path | None, typer.Option(help="A plan, TOML; or the name of a published one.")] = None,
    run: Annotated[list[str] | None, typer.Option(help="Only this run of the plan; may be repeated.")] = None,
    workload: Annotated[str | None, typer.Option(help=f"What to send: {', '.join(WORKLOADS)}.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of the measured window (default 60).")] = None,
    rate: Annotated[float | None, typer.Option(help="Offered transactions a second (default 1000).")] = None,
    sweep: Annotated[str | None, typer.Option(help='Rising rates "1000,1500,2000", or the first one: "1000".')] = None,
    soak_seconds: Annotated[float | None, typer.Option(help="After a sweep, at 80 % of the knee.")] = None,
    transactions: Annotated[int | None, typer.Option(help="Send so many, warm-up included, not `seconds`.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Seconds of load before the window (default 10).")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes, all on this machine: 1, or 4 and more.")] = None,
    executors: Annotated[int | None, typer.Option(help="Executor processes of each node.")] = None,
    link_delay_ms: Annotated[int | None, typer.Option(help="Delay added to every message between nodes.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Each on a network of its own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the workload; each repeat takes the next.")] = None,
    load_processes: Annotated[int | None, typer.Option(help="Processes that send, each a share of the load.")] = None,
    in_flight_max: Annotated[int | None, typer.Option(help="Closed loop: so many wait for certificates.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of a plan; may be repeated.")] = None,
    url: Annotated[list[str] | None, typer.Option(help="A node that runs already; once for each.")] = None,
    key: Annotated[Path | None, typer.Option(help="With --url: file of an account that may deploy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON result here, point by point.")] = None,
) -> None:
    """Load real nodes and report throughput, latency, CPU, memory and disk per transaction.

    Without --url on a fresh network of this machine. Options change every run of the plan.

    \b
    Examples:
      headrace bench cluster --workload send_payment --seconds 60 --json
      headrace bench cluster --plan pipeline_on_off --run off_20 --output off.json
      headrace bench cluster --sweep 1000,1500,2000,2500 --seconds 20 --soak-seconds 60
      headrace bench cluster --rate 2000 --set node.consensus.block_interval_ms=100 --set parameters.window=4
      headrace bench cluster --url http://10.0.0.1:20000 --url http://10.0.0.2:20000 \\
          --key NETWORK/accounts/operator.json
    """
    changes: dict[str, Any] = {
        "workload": workload, "seconds": seconds, "rate": rate, "soak_seconds": soak_seconds,
        "transactions": transactions, "warmup_s": warmup, "nodes": nodes, "executors": executors,
        "link_delay_ms": link_delay_ms, "repeats": repeats, "seed": seed, "load_processes": load_processes,
        "in_flight_max": in_flight_max,
    }  # fmt: skip
    with told():
        given = {name: value for name, value in changes.items() if value is not None}
        if sweep is not None:
            given["sweep"] = _sweep(sweep)
        given = joined(given, *[setting_of(text) for text in set_ or []])
        chosen = _plan(plan, given, run or [])
        remote = _remote(url, key)
        result = run_to_end(run_cluster(chosen, say, remote=remote, keep=_keeper(output)))
    print(msgspec.json.encode(result).decode() if as_json else render(result))


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A result of bench cluster.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one; B - A is shown.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """What differs between two results, run by run, with confidence intervals over their repeats.

    \b
    Examples:
      headrace bench compare before.json after.json
      headrace bench compare bench/results/send_payment.json mine.json --json
    """
    with told():
        found = comparison.compare(results.load(first), results.load(second))
    print(msgspec.json.encode(found).decode() if as_json else comparison.render(found))


def _plan(path: Path | None, given: dict[str, Any], only: list[str]) -> PlanFile:
    if path is None:
        if only:
            raise ConfigError(f"--run is {only[0]!r}, must go with --plan")
        return parse_plan(given, name="cluster")
    if not path.exists() and path.suffix == "" and path.parent == Path():
        published = PLANS / f"{path.name}.toml"
        if not published.exists():
            known = ", ".join(sorted(known.stem for known in PLANS.glob("*.toml")))
            raise ConfigError(f"--plan is {path.name!r}, must be a file or one of {known}")
        path = published
    return load_plan(path, given, only)


def _sweep(text: str) -> Any:
    try:
        rates = [float(rate) for rate in text.split(",")]
    except ValueError:
        raise ConfigError(f'--sweep is {text!r}, must be rates, like "1000,1500,2000"') from None
    return rates if len(rates) > 1 else {"start": rates[0]}


def _remote(urls: list[str] | None, key: Path | None) -> Remote | None:
    if not urls:
        if key is not None:
            raise ConfigError("--key is given, must go with --url")
        return None
    for url in urls:
        if not url.startswith("http://"):
            raise ConfigError(f"--url is {url!r}, must be http://HOST:PORT")
    if key is None:
        raise ConfigError(
            "--key is missing, must be the file of an account that may deploy: NETWORK/accounts/operator.json"
        )
    return Remote(urls=tuple(urls), key=load_account(key), key_path=key)


def _keeper(output: Path | None) -> Callable[[results.Result], None]:
    """Writes what there is after each point, so that a run cut short leaves what it measured."""
    if output is None:
        return lambda _: None
    if not output.parent.is_dir():
        raise ConfigError(f"--output is {str(output)!r}, must be in a folder that exists")
    return lambda result: results.save(result, output)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """`work`, ended in order by SIGTERM too, as by Ctrl-C."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        print("stopped; every process it started has ended", file=sys.stderr)
        raise typer.Exit(143) from None

"""`python -m chain.sim --seeds 0..2000 --nodes 4,7`: run seeds, show progress, exit with 1 if any promise broke.

A failing seed prints the one command that replays it; `--seed N --story` prints what happened, a line each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TextIO

from chain.sim.world import Report, run_seed

Job = tuple[int, int, bool]  # seed, nodes, cut short


def say(text: str, to: TextIO | None = None) -> None:
    stream = to or sys.stdout
    stream.write(text + "\n")
    stream.flush()


def parse_range(text: str) -> range:
    """`A..B`, both ends in it, or one number."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def run_job(job: Job) -> Report:
    seed, nodes, cut_short = job
    report, _ = run_seed(seed, nodes=nodes, cut_short=cut_short)
    return report


def reports(jobs: list[Job], workers: int) -> Iterator[Report]:
    if workers <= 1:
        yield from map(run_job, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(run_job, jobs, chunksize=4)


def replay_command(report: Report) -> str:
    small = " --small" if report.cut_short else ""
    return f"python -m chain.sim --seed {report.seed} --nodes {report.nodes}{small} --story"


def summarise(done: Iterable[Report], *, wall_s: float) -> dict[str, object]:
    """What a batch of runs covered, as JSON."""
    runs = list(done)
    strikes: dict[str, int] = {}
    for run in runs:
        for kind, count in run.strikes.items():
            strikes[kind] = strikes.get(kind, 0) + count
    return {
        "seeds": len(runs),
        "failed": [f"{run.seed}/{run.nodes}" for run in runs if run.problem],
        "heights": sum(run.height for run in runs),
        "transactions": sum(run.transactions for run in runs),
        "speculated": sum(run.speculated for run in runs),
        "kept": sum(run.kept for run in runs),
        "discarded": sum(run.discarded for run in runs),
        "steps": sum(run.steps for run in runs),
        "messages": sum(run.messages for run in runs),
        "messages_lost": sum(run.lost for run in runs),
        "crashes": sum(run.crashes for run in runs),
        "strikes": dict(sorted(strikes.items())),
        "byzantine_runs": sum(1 for run in runs if run.byzantine),
        "view_max": max((run.view for run in runs), default=0),
        "recovery_ms_max": max((run.recovery_ms for run in runs), default=0),
        "virtual_s": sum(run.virtual_ms for run in runs) // 1_000,
        "wall_s": round(wall_s, 1),
    }


def tell_story(job: Job, *, tail: int) -> int:
    seed, nodes, cut_short = job
    report, world = run_seed(seed, nodes=nodes, cut_short=cut_short, story=True)
    say(str(world.plan))
    for line in world.trace.lines[-tail:] if tail else world.trace.lines:
        say(line)
    say(report.problem or "every promise held")
    return 1 if report.problem else 0


def run_batch(jobs: list[Job], *, workers: int, as_json: bool) -> int:
    done: list[Report] = []
    start = time.monotonic()
    shown = start
    for report in reports(jobs, workers):
        done.append(report)
        if report.problem:
            say(f"seed {report.seed} nodes {report.nodes}: {report.problem}", to=sys.stderr)
            say(f"  replay: {replay_command(report)}", to=sys.stderr)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            failed = sum(1 for run in done if run.problem)
            say(f"{len(done)} of {len(jobs)} runs, {failed} failed", to=sys.stderr)
    summary = summarise(done, wall_s=time.monotonic() - start)
    if as_json:
        say(json.dumps({"summary": summary, "runs": [dataclasses.asdict(run) for run in done]}))
    else:
        for key, value in summary.items():
            say(f"{key:>16}  {value}")
    return 1 if summary["failed"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chain.sim", description=__doc__)
    parser.add_argument("--seeds", default="0..99", help="A..B, both ends in it")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--nodes", default="4,7", help="cluster sizes, comma between them")
    parser.add_argument("--story", action="store_true", help="print the trace of one seed")
    parser.add_argument("--small", action="store_true", help="runs cut short, as in the test suite")
    parser.add_argument("--tail", type=int, default=0, help="only the last lines of the story")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    sizes = [int(size) for size in options.nodes.split(",")]
    if options.story:
        if options.seed is None:
            parser.error("--story needs --seed")
        return tell_story((options.seed, sizes[0], options.small), tail=options.tail)
    seeds = range(options.seed, options.seed + 1) if options.seed is not None else parse_range(options.seeds)
    jobs = [(seed, size, options.small) for seed in seeds for size in sizes]
    return run_batch(jobs, workers=options.workers, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.blocks --blocks 10000 --seed 0`: random blocks, executed every way, compared with the reference.

A failing seed prints the one command that replays it, the smallest blocks that still fail and what differs first in
them. The last line says where the next run goes on. Exit code 1 if any promise broke.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TextIO

from tests.blocks.checking import EXECUTORS, Report
from tests.blocks.runner import run_seed

CHUNK = 8  # seeds that a worker takes at once

Job = tuple[int, tuple[int, ...], bool, bool]  # seed, executors, every, shrink


def say(text: str, to: TextIO | None = None) -> None:
    stream = to or sys.stdout
    stream.write(text + "\n")
    stream.flush()


def replay_command(seed: int, executors: Sequence[int] = EXECUTORS, *, every: bool = False) -> str:
    """What replays a seed."""
    counts = ",".join(map(str, executors))
    return f"python -m tests.blocks --seed {seed} --executors {counts}{' --every' if every else ''}"


def run_chunk(jobs: list[Job]) -> list[Report]:
    return [run_job(job) for job in jobs]


def run_job(job: Job) -> Report:
    seed, executors, every, shrink = job
    return run_seed(seed, executors=executors, every=every, shrink=shrink)


def reports(first: int, how: tuple[tuple[int, ...], bool, bool], workers: int) -> Iterator[Report]:
    """Reports of the seeds from `first` on, in order, without an end; `how` is what follows the seed in a `Job`."""
    if workers <= 1:
        for seed in itertools.count(first):
            yield run_job((seed, *how))
    chunks = ([(seed, *how) for seed in range(at, at + CHUNK)] for at in itertools.count(first, CHUNK))
    with ProcessPoolExecutor(workers) as pool:
        running = [pool.submit(run_chunk, next(chunks)) for _ in range(2 * workers)]
        try:
            while True:
                done = running.pop(0)
                running.append(pool.submit(run_chunk, next(chunks)))
                yield from done.result()
        finally:
            for future in running:
                future.cancel()


def summarise(done: Sequence[Report], *, wall_s: float) -> dict[str, object]:
    """What a batch covered."""
    statuses: Counter[int] = Counter()
    worlds: Counter[str] = Counter()
    for report in done:
        statuses.update(report.statuses)
        worlds[report.world] += report.blocks
    return {
        "seeds": len(done),
        "blocks": sum(report.blocks for report in done),
        "transactions": sum(report.transactions for report in done),
        "worlds": dict(sorted(worlds.items())),
        "statuses": dict(sorted(statuses.items())),
        "executed_blocks": sum(report.executed_blocks for report in done),
        "executions": sum(report.executions for report in done),
        "reexecuted": sum(report.reexecuted for report in done),
        "conflicts": sum(report.conflicts for report in done),
        "executors_lost": sum(report.executors_lost for report in done),
        "discarded": sum(report.discarded for report in done),
        "failed": [report.seed for report in done if report.problem],
        "wall_s": round(wall_s, 1),
    }


def tell(report: Report, command: str) -> None:
    """Why a seed failed."""
    say(f"seed {report.seed} ({report.world}), {report.way}: {report.problem}", to=sys.stderr)
    for index, block in enumerate(report.smallest):
        for line in block:
            say(f"    block {index}: {line}", to=sys.stderr)
    say(f"  replay: {command}", to=sys.stderr)


def run(options: argparse.Namespace) -> int:
    executors = tuple(int(count) for count in options.executors.split(","))
    start = shown = time.monotonic()
    done: list[Report] = []
    blocks = 0
    how = (executors, options.every, not options.stop)
    for report in reports(options.seed, how, options.workers):
        done.append(report)
        blocks += report.blocks
        if report.problem:
            tell(report, replay_command(report.seed, executors, every=options.every))
        now = time.monotonic()
        if now - shown > 10:
            shown = now
            failed = sum(1 for one in done if one.problem)
            say(f"{blocks} of {options.blocks} blocks, {failed} seeds failed, {now - start:.0f} s", to=sys.stderr)
        if report.problem and options.stop:
            break
        if blocks >= options.blocks or (options.minutes and now - start > 60 * options.minutes):
            break
    summary = summarise(done, wall_s=time.monotonic() - start)
    if options.json:
        say(json.dumps({"summary": summary, "runs": [dataclasses.asdict(report) for report in done]}))
    else:
        for key, value in summary.items():
            say(f"{key:>16}  {value}")
        say(f"goes on with --seed {done[-1].seed + 1}")
    return 1 if summary["failed"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.blocks", description=__doc__)
    parser.add_argument("--blocks", type=int, default=1, help="stop after so many random blocks")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; a seed makes one to four blocks")
    parser.add_argument("--executors", default=",".join(map(str, EXECUTORS)), help="numbers of executors")
    parser.add_argument("--every", action="store_true", help="each prediction on each number of executors")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so much wall time, whatever was done")
    parser.add_argument("--workers", type=int, default=1, help="processes, at most the number of processors")
    parser.add_argument("--stop", action="store_true", help="stop at the first seed that fails, and do not shrink it")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    options.workers = max(1, min(options.workers, os.cpu_count() or 1))
    return run(options)


if __name__ == "__main__":
    sys.exit(main())

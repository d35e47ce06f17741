"""`python -m chain.sim`: what `headrace sim` does with seeds, for scripts that need no more; see there."""

from __future__ import annotations

import argparse
import json
import os
import sys

from chain.sim.batch import Job, Kind, jobs_of, parse_range, run_batch, say, tell_story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chain.sim", description=__doc__)
    parser.add_argument("--seeds", "--seed", default="0..99", help="A..B, both ends in it, or one number")
    parser.add_argument("--nodes", default="4,7", help="cluster sizes, comma between them")
    parser.add_argument("--whole", action="store_true", help="whole nodes instead of their cores")
    parser.add_argument("--story", action="store_true", help="print the trace of one seed")
    parser.add_argument("--small", action="store_true", help="runs cut short, as in the test suite")
    parser.add_argument("--tail", type=int, default=0, help="only the last lines of the story")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    kind: Kind = "whole" if options.whole else "core"
    try:
        sizes = [int(size) for size in options.nodes.split(",")]
        seeds = parse_range(options.seeds)
    except ValueError as error:
        parser.error(str(error))
    if options.story:
        return tell_story(Job(kind, seeds[0], sizes[0], options.small), tail=options.tail)
    jobs = jobs_of((kind,), seeds, sizes, small=options.small)
    tally, interrupted = run_batch(jobs, workers=options.workers, note=lambda text: say(text, to=sys.stderr))
    summary = tally.summary(interrupted=interrupted)
    if options.json:
        say(json.dumps({"summary": summary, "runs": [done.report for done in tally.done]}))
    else:
        for key, value in summary.items():
            say(f"{key:>16}  {value}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())

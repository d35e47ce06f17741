"""`python -m chain.sim.explore --minutes 5`: explore every plan, or `--plan NAME`; exit with 1 if a promise broke.

The minutes are for all plans together: a plan that is exhausted sooner leaves its share to those after it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from chain.sim.explore.bounds import Bounds
from chain.sim.explore.liar import Manner
from chain.sim.explore.search import Result, Search

# Smallest first.
PLANS: Final[dict[str, Bounds]] = {
    "silent, 1 height, 1 view": Bounds(manner=Manner.SILENT, heights=1, timeouts=False),
    "silent, 1 height, 1 view, checkpoint votes": Bounds(
        manner=Manner.SILENT, heights=1, timeouts=False, checkpoints=True
    ),
    "leads view 1, 1 height, 1 view": Bounds(manner=Manner.LEADS_NEXT, heights=1, timeouts=False),
    "leads view 0, 1 height, 1 view": Bounds(manner=Manner.LEADS_FIRST, heights=1, timeouts=False),
    "silent, 2 heights, 1 view": Bounds(manner=Manner.SILENT, heights=2, timeouts=False),
    "silent, 1 height, 2 views": Bounds(manner=Manner.SILENT, heights=1),
    "leads view 1, 2 heights, 1 view": Bounds(manner=Manner.LEADS_NEXT, heights=2, timeouts=False),
    "leads view 0, 1 height, 1 view, 1 restart of each": Bounds(
        manner=Manner.LEADS_FIRST, heights=1, timeouts=False, restarts=1
    ),
    "silent, 1 height, 2 views, 1 message lost by each": Bounds(manner=Manner.SILENT, heights=1, losses=1),
    "silent, 1 height, 2 views, 1 restart of each": Bounds(manner=Manner.SILENT, heights=1, restarts=1),
    "leads view 0, 1 height, 2 views": Bounds(manner=Manner.LEADS_FIRST, heights=1),
    "leads view 1, 1 height, 2 views": Bounds(manner=Manner.LEADS_NEXT, heights=1),
    "silent, 2 heights, 1 view, 1 restart of each": Bounds(
        manner=Manner.SILENT, heights=2, timeouts=False, restarts=1
    ),
    "silent, 2 heights, 2 views": Bounds(manner=Manner.SILENT),
    "leads view 0, 2 heights, 1 view": Bounds(manner=Manner.LEADS_FIRST, heights=2, timeouts=False),
    "leads view 1, 1 height, 2 views, 1 restart of each": Bounds(manner=Manner.LEADS_NEXT, heights=1, restarts=1),
    "leads view 0, 1 height, 2 views, 1 restart of each": Bounds(manner=Manner.LEADS_FIRST, heights=1, restarts=1),
    "silent, 2 heights, 2 views, 1 message lost by each": Bounds(manner=Manner.SILENT, losses=1),
    "leads view 1, 2 heights, 2 views": Bounds(manner=Manner.LEADS_NEXT),
    "leads view 0, 2 heights, 2 views": Bounds(manner=Manner.LEADS_FIRST),
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


LEGEND: Final = """states: situations of the three honest replicas and of what is between them, each visited once
steps: what was tried from these: a message taken in or lost, a timeout, a restart, a word of the liar
states of a replica: different ones that a single replica was in, of all three together
MB: of the process, at most so far
exhausted: nothing is left to try within the plan's bounds; not exhausted: the time or --states ended first"""


def row(name: str, result: Result) -> str:
    end = result.problem or ("exhausted" if result.exhausted else "not exhausted")
    counts = f"{result.states:>9} states {result.transitions:>10} steps {result.replica_states:>7} states of a replica"
    return f"{counts}  {result.seconds:>7.1f} s {result.memory_mb:>5} MB  {name}: {end}"


def conclusion(results: Mapping[str, Result], *, seconds: float) -> str:
    """The last line: what broke, and how much was tried."""
    broke = sum(bool(result.problem) for result in results.values())
    done = sum(result.exhausted for result in results.values())
    plans = f"{len(results)} plan{'s' if len(results) != 1 else ''}"
    first = f"A PROMISE BROKE in {broke} of {plans}" if broke else "no promise broke"
    return f"{first}; {done} of {plans} exhausted in {seconds / 60:.1f} min"


def explore(names: Sequence[str], *, minutes: float, reduced: bool, states_max: int | None) -> dict[str, Result]:
    """The plans one after the other. What is not used of a plan's share of the time goes to those after it."""
    end = time.monotonic() + 60 * minutes
    results: dict[str, Result] = {}
    for at, name in enumerate(names):
        share = max(0.0, end - time.monotonic()) / (len(names) - at) / 60
        bounds = PLANS[name]
        results[name] = Search(bounds, reduced=reduced, states_max=states_max).run(minutes=share)
    return results


def parser(program: str) -> argparse.ArgumentParser:
    """`program` as it was called."""
    plans, legend = ("\n".join(f"  {line}" for line in lines) for lines in (PLANS, LEGEND.splitlines()))
    parser = argparse.ArgumentParser(
        prog=program, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Every state that three honest replicas and a liar can reach within a plan's bounds. The minutes\n"
        "are for all plans together: one that is exhausted sooner leaves its share to those after it.",
        epilog=f"plans, smallest first (give one in quotes):\n{plans}\n\nwhat is printed of each:\n{legend}\n\n"
        "exit code: 0 every promise held in all states reached, 1 one broke, 2 wrong usage",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=1.0, help="of wall time, for all plans together")
    parser.add_argument(
        "--plan", action="append", type=_plan, metavar="PLAN", help="only this one of those below; may be repeated"
    )
    parser.add_argument("--unreduced", action="store_true", help="take every step from every state")
    parser.add_argument("--states", type=int, help="at most some so many states a plan (of 8 bytes each)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _plan(name: str) -> str:
    if name not in PLANS:
        raise argparse.ArgumentTypeError("\n  ".join([f"{name!r} is no plan, must be one of", *PLANS]))
    return name


def main(argv: Sequence[str] | None = None, *, program: str = "python -m chain.sim.explore") -> int:
    """0: every promise held in all states reached; 1: one broke; 2: bad arguments."""
    options = parser(program).parse_args(argv)
    begin = time.monotonic()
    names = options.plan or list(PLANS)
    results = explore(names, minutes=options.minutes, reduced=not options.unreduced, states_max=options.states)
    problems = {name: result.problem for name, result in results.items() if result.problem}
    if options.json:
        plans = {name: {**asdict(result), "bounds": _plain(result.bounds)} for name, result in results.items()}
        totals = {
            "states": sum(result.states for result in results.values()),
            "transitions": sum(result.transitions for result in results.values()),
            "exhausted": [name for name, result in results.items() if result.exhausted],
            "problems": problems,
        }
        say(json.dumps({**totals, "plans": plans}))
        return 1 if problems else 0
    for name, result in results.items():
        say(row(name, result))
        for line in result.story:
            say(f"    {line}")
    say("")
    say(LEGEND)
    say(conclusion(results, seconds=time.monotonic() - begin))
    return 1 if problems else 0


def _plain(bounds: Bounds) -> dict[str, object]:
    return {**asdict(bounds), "manner": bounds.manner.value}


if __name__ == "__main__":
    sys.exit(main())

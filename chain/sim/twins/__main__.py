"""`python -m chain.sim.twins --minutes 10`: play Twins scenarios, add them up, exit with 1 if a promise broke.

Without `--minutes` the numbers `--from` and `--count` are played and nothing is kept, unless `--state` is given.
`--scenario N --story` replays one, a line for each event and message.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from chain.errors import ConfigError
from chain.sim.twins.generator import scenario_of
from chain.sim.twins.run import run
from chain.sim.twins.session import CHUNK, Job, State, Totals, default_state_file, played

DISAGREEMENT: Final = frozenset({"agreement"})
COUNT: Final = 1_000
ENDLESS: Final = 2**62


def say(text: str, to: TextIO | None = None) -> None:
    stream = to or sys.stdout
    stream.write(text + "\n")
    stream.flush()


def parser(program: str) -> argparse.ArgumentParser:
    """`program` as it was called."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--minutes", type=float, help="go on for so long, from where the state file ends")
    parser.add_argument("--state", type=Path, help="the file in which scenarios add up; by default in the user's cache")
    parser.add_argument("--from", type=int, dest="first", help="the first scenario's number")
    parser.add_argument("--count", type=int, help=f"how many numbers; {COUNT} if there is no --minutes")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--nodes", default="4,7", help="play only scenarios of these sizes, comma between them")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--stop", action="store_true", help="end at the first broken promise")
    parser.add_argument("--only-agreement", action="store_true", help="nothing else counts")
    parser.add_argument("--scenario", type=int, help="play this one and show it")
    parser.add_argument("--story", action="store_true", help="with --scenario: every event and message")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def show(number: int, *, seed: int, story: bool, only: frozenset[str] | None) -> int:
    scenario = scenario_of(number, seed=seed)
    lines: list[str] = []
    outcome = run(scenario, story=lines if story else None, only=only)
    for line in [*scenario.lines(), *lines]:
        say(line)
    say(outcome.problem or f"every promise held; {outcome.ordered} heights ordered, view {outcome.views}")
    return 1 if outcome.problem else 0


def chunks(first: int, count: int, *, template: Job, until: float) -> Iterator[Job]:
    for start in range(first, first + count, CHUNK):
        if time.monotonic() >= until:
            return
        last = min(start + CHUNK, first + count)
        yield Job(first=start, last=last, seed=template.seed, nodes=template.nodes, only=template.only)


def summary(done: Totals, state: State | None, *, next_number: int, wall_s: float) -> dict[str, object]:
    total = done if state is None else state.totals
    result: dict[str, object] = {
        "scenarios": done.scenarios,
        "total": total.scenarios,
        "views": total.views,
        "heights_ordered": total.heights_ordered,
        "heights_certified": total.heights_certified,
        "steps": total.steps,
        "messages": total.messages,
        "crashes": total.crashes,
        "healed": total.healed,
        "healing_rounds_max": total.healing_rounds_max,
        "violations": total.violations,
        "failed": [f"{number}: {problem}" for number, problem in total.failed],
        "next": next_number,
        "scenarios_per_s": round(done.scenarios / max(wall_s, 1e-9), 1),
        "scenarios_per_cpu_s": round(done.scenarios / max(done.cpu_s, 1e-9), 1),
    }
    if state is not None:
        result["total_of_this_core"] = state.of_this_core
    return result


def main(argv: Sequence[str] | None = None, *, program: str = "python -m chain.sim.twins") -> int:
    """0: every promise held; 1: one broke; 2: bad arguments."""
    options = parser(program).parse_args(argv)
    only = DISAGREEMENT if options.only_agreement else None
    if options.scenario is not None:
        return show(options.scenario, seed=options.seed, story=options.story, only=only)
    nodes = tuple(int(size) for size in options.nodes.split(","))
    try:
        keeps = options.minutes is not None or options.state is not None
        path = options.state or default_state_file()
        state = State(path, seed=options.seed, nodes=nodes) if keeps else None
    except ConfigError as error:
        say(str(error), to=sys.stderr)
        return 2
    first = options.first if options.first is not None else 0 if state is None else state.next
    count = options.count or (COUNT if options.minutes is None else ENDLESS)
    start = time.monotonic()
    until = start + 60 * options.minutes if options.minutes is not None else float("inf")
    jobs = chunks(first, count, template=Job(first=0, last=0, seed=options.seed, nodes=nodes, only=only), until=until)
    done, reached, shown = Totals(), first, start
    try:
        for job, totals in played(jobs, options.workers):
            done.add(totals)
            reached = job.last
            if state is not None:
                state.add(job, totals)
            for number, problem in totals.failed:
                replay = f"python -m chain.sim.twins --scenario {number} --seed {options.seed} --story"
                say(f"scenario {number}: {problem}\n  replay: {replay}", to=sys.stderr)
            if options.stop and done.violations:
                break
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                say(f"{done.scenarios} scenarios, {done.violations} broke a promise", to=sys.stderr)
    except KeyboardInterrupt:
        say("interrupted; what was done is kept", to=sys.stderr)
    finally:
        if state is not None:
            state.save()
    result = summary(done, state, next_number=reached, wall_s=time.monotonic() - start)
    if options.json:
        say(json.dumps(result))
    else:
        for key, value in result.items():
            say(f"{key:>20}  {value}")
    return 1 if done.violations else 0


if __name__ == "__main__":
    sys.exit(main())

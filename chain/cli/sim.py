"""`headrace sim`: seeded simulation of consortiums under a virtual clock, for anyone who wants to see it break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

import chain
from chain.cli.common import JsonOption, note
from chain.sim.batch import Job, Kind, Tally, jobs_of, parse_range, run_batch, tell_story

EXIT_HELD: Final = 0
EXIT_BROKEN: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
NODES_MIN: Final = 4
NODES_MAX: Final = 31
SEEDS_WITHOUT_END: Final = 10**9
SETTINGS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
OTHERS: Final = {"twins": "chain.sim.twins.__main__", "explore": "chain.sim.explore.__main__"}
HELP_MORE: Final = "--help-more"


class SimCommand(TyperCommand):
    """`--help` beside --twins or --explore is about these, which have options of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(f"--{name}" in args for name in OTHERS):
            args = [HELP_MORE if word == "--help" else word for word in args]
        return super().parse_args(ctx, args)


def sim(
    context: typer.Context,
    seeds: Annotated[
        str | None, typer.Option(metavar="A..B", help="Seeds, both ends included, or one. [default: 0..99]")
    ] = None,
    nodes: Annotated[str, typer.Option(metavar="N,N", help="Validators of each consortium.")] = "4,7",
    whole: Annotated[bool, typer.Option("--whole", help="Only whole nodes.")] = False,
    core: Annotated[bool, typer.Option("--core", help="Only the consensus core of each node.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Both; what happens anyway.")] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, metavar="M", help="Go on for so long; without --seeds from 0 on.")
    ] = None,
    story: Annotated[bool, typer.Option("--story", help="Tell one seed, a line for each thing that happens.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Only so many last lines of the story; 0: all.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="Runs cut short, as in the test suite.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes. [default: one a CPU]")] = None,
    planted: Annotated[
        bool, typer.Option("--planted", help="Plant known bugs, and see that tests notice (source checkout).")
    ] = False,
    twins: Annotated[
        bool, typer.Option("--twins", help="Validators that are two processes each; see --twins --help.")
    ] = False,
    explore: Annotated[
        bool, typer.Option("--explore", help="Every order of a few messages; see --explore --help.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Consortiums under a virtual clock, struck by whatever the seed draws; every promise is checked all the time.

    \b
    A run is decided by its seed alone: loss, delay, partitions, crashes at any moment, slow and full disks,
    clocks that are wrong, validators that lie. After each step the promises of safety are checked. In the end
    all faults heal, and everything must become final everywhere, and then silent.
    `whole` is the node itself, with its stores, its pool and its sync, on a simulated network and disk; `core`
    the consensus core of each node, thousands of runs an hour.
    \b
    Exit code: 0 every promise held, 1 one broke (its seed and how to replay it are shown), 2 wrong usage,
    130 interrupted (what was done so far is shown).
    \b
    Examples:
      headrace sim --seeds 0..199 --nodes 4,7,10
      headrace sim --whole --minutes 10 --json
      headrace sim --whole --seeds 17 --nodes 4 --story
      headrace sim --twins --minutes 5
      headrace sim --planted --json
    """
    chosen = [name for name, wanted in (("planted", planted), ("twins", twins), ("explore", explore)) if wanted]
    if len(chosen) > 1:
        _refuse(f"--{chosen[0]} and --{chosen[1]} are different things; give one of them")
    if chosen and chosen[0] in OTHERS:
        raise typer.Exit(_run_other(chosen[0], _given(context) + context.args))
    if context.args:
        _refuse(f"{context.args[0]} is no option of this command; --help shows what there is")
    if planted:
        raise typer.Exit(_run_planted(workers=workers, as_json=as_json))
    if sum((whole, core, both)) > 1:
        _refuse("--whole, --core and --both exclude each other")
    kinds: tuple[Kind, ...] = ("whole",) if whole else ("core",) if core else ("core", "whole")
    sizes = _sizes(nodes)
    wanted_seeds = _seeds(seeds, endless=minutes is not None)
    if story:
        if len(wanted_seeds) > 1:
            _refuse("--story tells one seed: give --seeds N")
        if as_json:
            _refuse("--story is text, a line for each thing that happens; it has no --json")
        raise typer.Exit(tell_story(Job(kinds[-1], wanted_seeds[0], sizes[0], small), tail=tail))
    tally, interrupted = run_batch(
        jobs_of(kinds, wanted_seeds, sizes, small=small), workers=workers or os.cpu_count() or 1, minutes=minutes,
        note=note,
    )  # fmt: skip
    _show(tally, interrupted=interrupted, as_json=as_json)
    raise typer.Exit(EXIT_BROKEN if tally.failures else EXIT_INTERRUPTED if interrupted else EXIT_HELD)


def _refuse(text: str) -> None:
    note(f"headrace sim: {text}")
    raise typer.Exit(EXIT_USAGE)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(NODES_MIN <= size <= NODES_MAX for size in sizes):
        _refuse(f"--nodes is {text!r}, must be numbers from {NODES_MIN} to {NODES_MAX} with commas between them")
    return sizes


def _seeds(text: str | None, *, endless: bool) -> range:
    try:
        return parse_range(text if text is not None else f"0..{SEEDS_WITHOUT_END}" if endless else "0..99")
    except ValueError:
        _refuse(f"--seeds is {text!r}, must be like 0..99, or one number from 0 on")
        raise AssertionError("refused") from None


def _show(tally: Tally, *, interrupted: bool, as_json: bool) -> None:
    summary = tally.summary(interrupted=interrupted)
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    if interrupted:
        print("interrupted; so far:")
    failures = summary.pop("failures")
    for key, value in summary.items():
        print(f"{key:>16}  {_in_words(value)}")
    for failure in failures:
        print(f"BROKEN  {failure['problem']}\n        {failure['replay']}")
    if not failures and tally.done:
        print("every promise held")


def _in_words(value: object) -> str:
    """A number as it is; what is counted by kind as a list: `crash 2, restart 3`, `core: 3 runs, 209 heights`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, dict):
        return str(value)
    if any(isinstance(part, dict) for part in value.values()):
        groups = [", ".join(f"{count} {what}" for what, count in part.items()) for part in value.values()]
        return "; ".join(f"{kind}: {group}" for kind, group in zip(value, groups, strict=True))
    return ", ".join(f"{kind} {count}" for kind, count in value.items()) or "none"


# --- what others do ---


def _given(context: typer.Context) -> list[str]:
    """Options of this command that were given and mean the same to the others."""
    words: list[str] = []
    for name in ("nodes", "minutes", "workers", "story", "as_json"):
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value: Any = context.params[name]
        option = "--json" if name == "as_json" else f"--{name}"
        words += [option] if value is True else [option, str(value)]
    return words


def _run_other(name: str, arguments: Sequence[str]) -> int:
    """Hand the rest of the command line to a simulator of its own."""
    passed = ["--help" if word == HELP_MORE else word for word in arguments]
    try:
        code: int = import_module(OTHERS[name]).main(passed, program=f"headrace sim --{name}")
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else EXIT_USAGE
    return code


def _run_planted(*, workers: int | None, as_json: bool) -> int:
    """In a source checkout: `python -m tests.planted`, which says how many bugs were planted and how many killed."""
    root = next((place for place in (Path.cwd(), Path(chain.__path__[0]).parent) if _has_tests(place)), None)
    if root is None:
        note(
            "headrace sim: --planted needs a source checkout: it changes a copy of the sources and runs their tests. "
            "Neither this folder nor the one of the installed package has tests/planted"
        )
        return EXIT_USAGE
    command = [sys.executable, "-m", "tests.planted"]
    command += ["--workers", str(workers)] if workers else []
    command += ["--json"] if as_json else []
    with subprocess.Popen(command, cwd=root) as running:
        try:
            return running.wait()
        except KeyboardInterrupt:  # the other one has heard it too, and clears up
            running.wait()
            return EXIT_INTERRUPTED


def _has_tests(place: Path) -> bool:
    return (place / "tests" / "planted" / "__main__.py").is_file()

"""`python -m tests.sim.twins.planted`: plants one bug after the other in a copy of the core; Twins must notice each.

The bugs stand in `tests/sim/twins/bugs.py`. For each, scenarios are played from number 0 until a promise breaks, and
once more until two proposals are ordered at one height, whatever else breaks before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.sim.twins.bugs import BUGS, EXPLORED, Bug

ROOT: Final = Path(__file__).resolve().parents[3]
PARTS: Final = ("chain", "consensus")
TIMEOUT_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one bug: after how many scenarios a promise broke and which, and when agreement itself did."""

    name: str
    killed_after: int | None
    how: str
    disagreed_after: int | None


def sources(root: Path = ROOT) -> dict[str, list[str]]:
    """What is wrong with the corpus itself, by bug: a text that is not there exactly once, a change that is none."""
    wrong: dict[str, list[str]] = {}
    for bug in BUGS:
        problems = []
        for file, old, new in bug.changes:
            text = (root / file).read_text(encoding="utf-8")
            if text.count(old) != 1 or old == new:
                problems.append(f"{file} has {old!r} {text.count(old)} times")
                continue
            try:
                compile(text.replace(old, new), file, "exec")
            except SyntaxError as error:
                problems.append(f"does not compile: {error}")
        if problems:
            wrong[bug.name] = problems
    return wrong


def plant(bug: Bug, tree: Path) -> None:
    """A copy of the core and of what plays it, with the bug in it."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in bug.changes:
        path = tree / file
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def output(tree: Path, module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a program of the tree says in JSON. Raises RuntimeError: it could not be run at all."""
    command = [sys.executable, "-m", module, "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if not done.stdout.startswith("{"):
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def first_broken(tree: Path, arguments: Sequence[str]) -> tuple[int | None, str]:
    """(after how many scenarios a promise broke, which one)."""
    failed: list[str] = output(tree, "chain.sim.twins", ["--stop", *arguments])["failed"]
    if not failed:
        return None, ""
    number, _, problem = failed[0].partition(": ")
    return int(number) + 1, problem


def judge(bug: Bug, count: int, agreement: int) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as folder:
        tree = Path(folder)
        plant(bug, tree)
        killed_after, how = first_broken(tree, ["--count", str(count)])
        disagreed_after = None
        if agreement:
            disagreed_after, _ = first_broken(tree, ["--count", str(agreement), "--only-agreement"])
    return Verdict(bug.name, killed_after, how, disagreed_after)


def explored(bug: Bug, plan: str, *, minutes: float = 5.0) -> tuple[int | None, str]:
    """(after how many states the search found the bug, which promise broke)."""
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as folder:
        plant(bug, Path(folder))
        arguments = ["--plan", plan, "--minutes", str(minutes)]
        result = output(Path(folder), "chain.sim.explore", arguments)["plans"][plan]
    return (result["states"], result["problem"]) if result["problem"] else (None, "")


def explore_all(only: str) -> int:
    survivors = 0
    bugs = {bug.name: bug for bug in BUGS}
    for name, plan in EXPLORED:
        if only in name:
            states, how = explored(bugs[name], plan)
            survivors += states is None
            sys.stdout.write(f"| {name} | {plan} | {states or '-'} | {how.partition(':')[0]} |\n")
            sys.stdout.flush()
    return 1 if survivors else 0


def table(verdicts: Sequence[Verdict]) -> str:
    """As a table in Markdown."""
    rows = [
        f"| {verdict.name} | {verdict.killed_after or '-'} | {verdict.how.partition(':')[0]} "
        f"| {verdict.disagreed_after or '-'} |\n"
        for verdict in verdicts
    ]
    head = "| bug | noticed after | by | two proposals ordered after |\n|---|---:|---|---:|\n"
    return head + "".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.twins.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--count", type=int, default=20_000, help="scenarios for each bug, at most")
    parser.add_argument("--agreement", type=int, default=2_000, help="... with only agreement counting")
    parser.add_argument("--explore", action="store_true", help="have the explicit-state search find some instead")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    wrong = sources()
    if wrong:
        sys.stderr.write(f"the corpus does not fit the sources: {json.dumps(wrong, indent=1)}\n")
        return 2
    if options.explore:
        return explore_all(options.only)
    bugs = [bug for bug in BUGS if options.only in bug.name]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        for verdict in pool.map(lambda bug: judge(bug, options.count, options.agreement), bugs):
            verdicts.append(verdict)
            after = f"{verdict.killed_after!s:>7} {verdict.disagreed_after!s:>7}"
            sys.stderr.write(f"{after}  {verdict.name}: {verdict.how}\n")
            sys.stderr.flush()
    survivors = [verdict.name for verdict in verdicts if verdict.killed_after is None]
    if options.json:
        sys.stdout.write(json.dumps({"survivors": survivors, "bugs": [asdict(verdict) for verdict in verdicts]}) + "\n")
    else:
        sys.stdout.write(table(verdicts))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

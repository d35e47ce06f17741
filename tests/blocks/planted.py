"""`python -m tests.blocks.planted`: plants one bug after the other in a copy of the tree and sees the tests catch it.

The bugs stand in `tests/blocks/bugs.py`. A bug is a text in a file, which must be there exactly once, and what to put
in its place. It is killed if what it names (random blocks, or a test) fails with it and passes without it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.blocks.bugs import BLOCKS, BUGS, Bug

ROOT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = ("chain", "consensus", "executor", "contracts", "bench", "tests", "docs", "pyproject.toml")
TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one bug."""

    name: str
    file: str
    killer: str
    killed: bool
    seconds: float
    how: str  # the last line that the killer printed


def sources(root: Path = ROOT) -> dict[str, list[str]]:
    """What is wrong with the corpus itself, by bug: a text that is not there exactly once, a change that is none."""
    wrong: dict[str, list[str]] = {}
    for bug in BUGS:
        problems = []
        text = (root / bug.file).read_text(encoding="utf-8")
        if text.count(bug.old) != 1:
            problems.append(f"{bug.file} has its text {text.count(bug.old)} times")
        else:
            try:
                compile(text.replace(bug.old, bug.new), bug.file, "exec")
            except SyntaxError as error:
                problems.append(f"does not compile: {error}")
        if bug.old == bug.new:
            problems.append("changes nothing")
        if problems:
            wrong[bug.name] = problems
    return wrong


def table() -> str:
    """The bugs and their killers as a table in Markdown."""
    rows = [f"| {bug.name} | `{bug.file}` | {_killer(bug.killer)} |\n" for bug in BUGS]
    return "| bug | planted in | killed by |\n|---|---|---|\n" + "".join(rows)


def _killer(killer: str) -> str:
    if not killer.startswith("blocks "):
        return f"`{killer.rpartition('::')[2]}`"
    return "blocks" if killer == BLOCKS else f"`python -m tests.{killer}`"


def copy_tree(target: Path) -> None:
    """The part of the tree that tests need, with what is compiled: kernels take long."""
    ignore = shutil.ignore_patterns("results")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=ignore)
        else:
            shutil.copy(source, target / part)


def fails(tree: Path, killer: str) -> tuple[bool, str]:
    """(True if the killer fails on this tree, what it said at last).

    Raises:
        RuntimeError: it could not be run at all.
    """
    if killer.startswith("blocks "):
        command = [sys.executable, "-m", "tests.blocks", *killer.split()[1:], "--json", "--stop"]
    else:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:randomly", killer]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if killer.startswith("blocks "):
        if not done.stdout.startswith("{"):
            raise RuntimeError(f"{killer}: {done.stderr[-2000:]}")
        run = json.loads(done.stdout)
        failed = [report for report in run["runs"] if report["problem"]]
        said = f"seed {failed[0]['seed']}: {failed[0]['problem'].splitlines()[0]}" if failed else "nothing"
        return bool(failed), said
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{killer}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "E  "))]
    return done.returncode == 1, (lines or ["passed"])[-1][:160]


def judge(bug: Bug) -> Verdict:
    """Plant one bug in a copy of its own and run its killer there."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        path = tree / bug.file
        path.write_text(path.read_text(encoding="utf-8").replace(bug.old, bug.new), encoding="utf-8")
        killed, how = fails(tree, bug.killer)
    return Verdict(bug.name, bug.file, bug.killer, killed, round(time.monotonic() - start, 1), how)


def healthy(killers: Sequence[str]) -> list[str]:
    """Those that fail without any bug planted."""
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        return [killer for killer in killers if fails(tree, killer)[0]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.blocks.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--list", action="store_true", help="only the table of bugs and killers, as in docs/testing.md")
    options = parser.parse_args()
    if options.list:
        sys.stdout.write(table())
        return 0
    wrong = sources()
    if wrong:
        sys.stderr.write(f"the corpus does not fit the sources: {json.dumps(wrong, indent=1)}\n")
        return 2
    bugs = [bug for bug in BUGS if options.only in bug.name]
    sick = healthy(sorted({bug.killer for bug in bugs}))
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        for verdict in pool.map(judge, bugs):
            verdicts.append(verdict)
            mark = "killed" if verdict.killed else "SURVIVED"
            sys.stderr.write(f"{mark:>8}  {verdict.seconds:5.1f} s  {verdict.name}: {verdict.how}\n")
            sys.stderr.flush()
    survivors = [verdict.name for verdict in verdicts if not verdict.killed]
    summary = {"planted": len(verdicts), "killed": len(verdicts) - len(survivors), "survivors": survivors}
    summary["failing_without_a_bug"] = sick
    if options.json:
        sys.stdout.write(json.dumps({**summary, "bugs": [asdict(verdict) for verdict in verdicts]}) + "\n")
    else:
        sys.stdout.write("".join(f"{key:>22}  {value}\n" for key, value in summary.items()))
    return 1 if survivors or sick else 0


if __name__ == "__main__":
    sys.exit(main())

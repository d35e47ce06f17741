"""Plants one bug after the other in a copy of the tree and sees its killer fail."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.planted.bug import Bug
from tests.planted.corpus import BUGS
from tests.planted.tree import ROOT, copy_tree, environment

TIMEOUT_S: Final = 120.0
_PYTEST: Final = ("-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one bug."""

    name: str
    file: str
    killer: str
    killed: bool
    seconds: float
    how: str  # the last line that the killer printed


def misfits(root: Path = ROOT, bugs: Sequence[Bug] = BUGS) -> dict[str, str]:
    """What is wrong with the corpus itself, by bug: a text that is not there exactly once, a change that is none."""
    wrong: dict[str, str] = {}
    texts: dict[str, str] = {}
    for bug in bugs:
        text = texts.setdefault(bug.file, (root / bug.file).read_text(encoding="utf-8"))
        if text.count(bug.old) != 1:
            wrong[bug.name] = f"{bug.file} has its text {text.count(bug.old)} times"
        elif bug.old == bug.new:
            wrong[bug.name] = "changes nothing"
        else:
            try:
                compile(text.replace(bug.old, bug.new), bug.file, "exec")
            except SyntaxError as error:
                wrong[bug.name] = f"does not compile: {error}"
    return wrong


def fails(tree: Path, killer: str, *, is_liveness: bool = False) -> tuple[bool, str]:
    """(True if the killer fails in this tree, what it said at last).

    Raises:
        RuntimeError: it could not be run at all, or did not come to an end and `is_liveness` is not set.
    """
    arguments = ("-m", "chain.sim", "--workers", "1", *killer.split()[1:]) if is_sim(killer) else (*_PYTEST, killer)
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tree, env=environment(tree), capture_output=True, text=True,
            timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        if is_liveness:
            return True, f"no end after {TIMEOUT_S:.0f} s"
        raise RuntimeError(f"{killer}: no end after {TIMEOUT_S:.0f} s") from None
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{killer}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    told = (done.stderr if is_sim(killer) else done.stdout).splitlines()
    lines = [line for line in told if line.startswith(("FAILED", "E  ", "seed"))]
    return done.returncode == 1, (lines or ["passed"])[-1][:160]


def is_sim(killer: str) -> bool:
    return killer.startswith("sim ")


def judge(bug: Bug, tree: Path) -> Verdict:
    """Plant one bug in the copy `tree`, run its killer, and take the bug out again."""
    start = time.monotonic()
    path = tree / bug.file
    sound = path.read_bytes()
    path.write_text(sound.decode().replace(bug.old, bug.new), encoding="utf-8")
    try:
        killed, how = fails(tree, bug.killer, is_liveness=bug.is_liveness)
    except RuntimeError as error:
        killed, how = False, str(error)[:160]
    finally:
        path.write_bytes(sound)
    return Verdict(bug.name, bug.file, bug.killer, killed, round(time.monotonic() - start, 1), how)


def judge_all(bugs: Sequence[Bug], *, workers: int, tell: Callable[[Verdict], None]) -> tuple[list[Verdict], list[str]]:
    """The verdicts, and the killers that fail without any bug."""
    workers = max(1, min(workers, len(bugs)))
    with tempfile.TemporaryDirectory(prefix="headrace-planted-") as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            tree = Path(folder) / str(number)
            tree.mkdir()
            copy_tree(tree)
            trees.put(tree)

        def work(bug: Bug) -> Verdict:
            tree = trees.get()
            try:
                return judge(bug, tree)
            finally:
                trees.put(tree)

        verdicts: list[Verdict] = []
        with ThreadPoolExecutor(workers) as pool:
            for verdict in pool.map(work, bugs):
                verdicts.append(verdict)
                tell(verdict)
        return verdicts, _sick(sorted({bug.killer for bug in bugs}), trees.get())


def _sick(killers: Sequence[str], tree: Path) -> list[str]:
    """Those that fail without any bug; the tests among them in one run, as there are many."""
    nodes = [killer for killer in killers if not is_sim(killer)]
    sick = [killer for killer in killers if is_sim(killer) and fails(tree, killer)[0]]
    if nodes:
        command = [sys.executable, *(part for part in _PYTEST if part != "-x"), "-rfE", "--no-header", *nodes]
        done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=False)
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if done.returncode:
            sick += [line.split(" ", 2)[1] for line in failed] or [f"exit code {done.returncode}"]
    return sick

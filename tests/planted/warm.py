"""Tries changes of source against the tests in one warm process: a fork for each change, no new interpreter.

The process collects the tests once (a pytest plugin, in the place of pytest's own loop), runs each once alone to learn
which lines it reaches and what it costs, and then, for each change, forks: the child puts the changed code into the
functions that are loaded and runs the tests that reach the changed lines, cheap ones first, until one fails.
"""

from __future__ import annotations

import ast
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import msgspec
import pytest
from _pytest.runner import runtestprotocol

CPU_S: Final = 20.0  # for all tests of one change; what did not fail by then has survived
WALL_S: Final = 600.0  # the same
ENDLESS: Final = 20  # times what a test needs without the change, and a second: it does not come to its end
Lines = dict[str, set[int]]  # by file, those that ran


@dataclass(frozen=True, slots=True)
class Change:
    """A changed module, and the lines (first, last) of the original that it touches."""

    key: str
    file: str
    tree: ast.Module
    lines: tuple[int, int]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a change: killed by `killer`, or survived `tried` tests."""

    key: str
    verdict: str  # killed, endless (stopped by the limit), survived, unreached (no test gets there)
    killer: str = ""
    tried: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Known:
    """What is known of one test."""

    item: pytest.Item
    cost_s: float
    lines: dict[str, frozenset[int]]


@dataclass(slots=True)
class Warm:
    """A pytest plugin: `work` is given this object, once everything is collected and measured."""

    root: Path
    files: Sequence[str]
    work: Callable[[Warm], None]
    tell: Callable[[str], None]
    cpu_s: float = CPU_S
    is_measured: bool = True  # False: every test is tried, whatever it reaches, in the order of `judge`'s `places`
    known: list[_Known] = field(default_factory=list)
    sick: list[str] = field(default_factory=list)  # tests that fail without any change
    _config: pytest.Config | None = None
    _functions: dict[tuple[str, str, int], list[FunctionType]] = field(default_factory=dict)
    _kills: dict[tuple[str, int], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))  # by line

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        signal.signal(signal.SIGTERM, _end)
        self._config = session.config
        self._index()
        if self.is_measured:
            self._measure(session.items)
        else:
            self.known = [_Known(item, 1.0, {}) for item in session.items]
        gc.collect()
        gc.freeze()
        self.work(self)
        return True

    def _index(self) -> None:
        """The loaded functions of the files in question."""
        paths = {str(self.root / file): file for file in self.files}
        for thing in gc.get_objects():
            if isinstance(thing, FunctionType) and thing.__code__.co_filename in paths:
                code = thing.__code__
                at = (paths[code.co_filename], code.co_qualname, code.co_firstlineno)
                self._functions.setdefault(at, []).append(thing)

    # --- what each test reaches ---

    def _measure(self, items: Sequence[pytest.Item]) -> None:
        start = time.monotonic()
        at = 0
        while at < len(items):  # one child runs as many as it survives
            done, text = self._fork(partial(self._measure_some, items[at:]), 10 * WALL_S)
            rows = [msgspec.json.decode(line) for line in text.splitlines()]
            for row, item in zip(rows, items[at:], strict=False):
                if row["failed"]:
                    self.sick.append(item.nodeid)
                else:
                    lines = {file: frozenset(seen) for file, seen in row["lines"].items()}
                    self.known.append(_Known(item, row["cost_s"], lines))
            at += len(rows)
            if at < len(items) and done != 0:
                self.sick.append(items[at].nodeid)
                at += 1
        seconds = time.monotonic() - start
        self.tell(f"{len(items)} tests measured in {seconds:.0f} s, {len(self.sick)} fail by themselves")

    def _measure_some(self, items: Sequence[pytest.Item], out: Callable[[bytes], None]) -> None:
        paths = {str(self.root / file): file for file in self.files}
        for item in items:
            start = time.process_time()
            with _watch(paths) as lines:
                failed = _fails(item)
            cost_s = time.process_time() - start
            reached = {file: sorted(seen) for file, seen in lines.items()}
            out(msgspec.json.encode({"failed": failed, "cost_s": cost_s, "lines": reached}) + b"\n")

    # --- changes ---

    def judge(self, change: Change, places: Sequence[str] = ("",)) -> Outcome:
        """Fork, change, run what reaches the change until something fails: only tests whose id begins with one of
        `places`, those of the first place first."""
        start = time.monotonic()
        ranks = {known.item.nodeid: _rank(known.item.nodeid, places) for known in self.known}
        reached = [
            known
            for known in self.known
            if ranks[known.item.nodeid] < len(places)
            and (not self.is_measured or _reaches(known.lines.get(change.file, frozenset()), change.lines))
        ]
        if not reached:
            return Outcome(key=change.key, verdict="unreached")
        kills = self._kills[change.file, change.lines[0]]
        reached.sort(key=lambda known: (-kills.get(known.item.nodeid, 0), ranks[known.item.nodeid], known.cost_s))
        status, text = self._fork(partial(self._try, change, reached), WALL_S)
        lines = text.splitlines()
        last = msgspec.json.decode(lines[-1]) if lines else {"at": 0, "failed": False}
        verdict = "killed" if last["failed"] else "survived" if status == 0 else "endless"
        killer = reached[last["at"] - 1 if last["failed"] else min(last["at"], len(reached) - 1)].item.nodeid
        if verdict == "killed":
            kills[killer] = kills.get(killer, 0) + 1
        return Outcome(
            key=change.key, verdict=verdict, killer="" if verdict == "survived" else killer, tried=last["at"],
            seconds=round(time.monotonic() - start, 2),
        )  # fmt: skip

    def _try(self, change: Change, reached: Sequence[_Known], out: Callable[[bytes], None]) -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process
        self._swap(change)
        end = time.process_time() + self.cpu_s
        for at, known in enumerate(reached, 1):
            signal.setitimer(signal.ITIMER_PROF, 1 + ENDLESS * known.cost_s)
            failed = _fails(known.item)
            out(msgspec.json.encode({"at": at, "failed": failed}) + b"\n")
            if failed or time.process_time() > end:
                return

    def _swap(self, change: Change) -> None:
        path = str(self.root / change.file)
        for code in _codes(compile(change.tree, path, "exec")):
            for function in self._functions.get((change.file, code.co_qualname, code.co_firstlineno), ()):
                if function.__code__ != code:
                    function.__code__ = code

    # --- forks ---

    def _fork(self, body: Callable[[Callable[[bytes], None]], None], wall_s: float) -> tuple[int, bytes]:
        """Run `body` in a child. (Its exit status, 0 if it came to its end; all that it said)."""
        reader, writer = os.pipe()
        folder = tempfile.mkdtemp(prefix="headrace-warm-")
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reader)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _quiet()
                os.setpgid(0, 0)
                tempfile.tempdir = folder
                self._set_basetemp(Path(folder) / "pytest")
                body(lambda data: _write(writer, data))
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        try:
            text = _read(reader, wall_s)
        finally:  # also if this process is told to end
            _stop(child)
            _, status = os.waitpid(child, 0)
            shutil.rmtree(folder, ignore_errors=True)
        return status, text

    def _set_basetemp(self, folder: Path) -> None:
        folder.mkdir()
        factory: Any = getattr(self._config, "_tmp_path_factory", None)
        if factory is not None:
            factory._basetemp = folder


def _rank(nodeid: str, places: Sequence[str]) -> int:
    return next((rank for rank, place in enumerate(places) if nodeid.startswith(place)), len(places))


def _reaches(lines: frozenset[int], touched: tuple[int, int]) -> bool:
    return any(line in lines for line in range(touched[0], touched[1] + 1))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _fails(item: pytest.Item) -> bool:
    """Run one test with its fixtures, and take all of them down."""
    reports = runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)


@contextmanager
def _watch(paths: dict[str, str]) -> Iterator[Lines]:
    """Notes the lines of the files that run meanwhile, in any thread; a function seen whole is watched no more."""
    lines: Lines = {file: set() for file in paths.values()}
    whole: dict[CodeType, frozenset[int]] = {}

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        file = paths.get(code.co_filename)
        if file is None:
            return None
        every = whole.get(code)
        if every is None:
            every = whole[code] = frozenset(line for _, _, line in code.co_lines() if line is not None)
        seen = lines[file]
        seen.add(frame.f_lineno)
        if every <= seen:
            return None

        def step(frame: FrameType, event: str, argument: object) -> Any:
            seen.add(frame.f_lineno)
            return step

        return step

    threading.settrace(enter)
    sys.settrace(enter)
    try:
        yield lines
    finally:
        sys.settrace(None)
        threading.settrace(None)


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _quiet() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _read(pipe: int, wall_s: float) -> bytes:
    """What the child says until it closes the pipe or the time is over."""
    parts: list[bytes] = []
    deadline = time.monotonic() + wall_s
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([pipe], [], [], left)
        if not ready:
            break
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        parts.append(part)
    os.close(pipe)
    return b"".join(parts)


def _stop(child: int) -> None:
    """End the child if it still runs, and what it started."""
    for _ in range(200):  # it has closed its pipe, and ends
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.005)
    for end in (os.killpg, os.kill):
        try:
            end(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue

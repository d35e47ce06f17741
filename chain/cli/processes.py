"""Node processes of a network on this machine: started, watched, stopped, killed; the demo and benchmarks use it too.

Every node runs in a session of its own (a Ctrl-C at the terminal reaches only whoever started it, who then stops the
nodes in order), writes to its `node.log`, and is known by `node.pid`: process id and start time, so that a stale file
never names a stranger's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from chain.cli.hints import command_hint
from chain.config import load_node_config
from chain.errors import ConfigError, HeadraceError
from chain.node.consortium import NetworkInfo, NodeInfo

READY_TIMEOUT_MS: Final = 60_000
STOP_TIMEOUT_MS: Final = 15_000
KILL_TIMEOUT_MS: Final = 5_000
POLL_S: Final = 0.05
ALONE_MS: Final = 3_000  # a node that is no member and that nobody has talked to for so long will not become ready
START_TIME_SLACK_S: Final = 1.0  # psutil derives start times from the boot time, which the clock may move
LOG_TAIL_LINES: Final = 15
LOG_TAIL_BYTES: Final = 64 * 1024


class ProcessError(HeadraceError):
    """A node cannot be started or stopped; the text says which, why, and what to do."""


class NodeExited(ProcessError):
    """A node ended by itself while it was waited for; `log` is the end of its log."""

    def __init__(self, node: NodeInfo, code: int | None, log: Sequence[str]) -> None:
        ending = "" if code is None else f" with exit code {code}"
        text = "\n  ".join(log) or "(it wrote nothing)"
        super().__init__(f"node {node.name} ended{ending}. The end of {node.folder / 'node.log'}:\n  {text}")
        self.name = node.name
        self.code = code
        self.log = tuple(log)


@dataclass(frozen=True, slots=True)
class Running:
    """A live node process, recognised by id and start time."""

    pid: int
    started_s: float


class NetworkProcesses:
    """The processes of one network's nodes. Methods take node names and act on all nodes without one.

    Instances may come and go: what runs is read from the pid files. Only the instance that started a process knows its
    exit code. `command` makes the command line of a node.
    """

    def __init__(self, network: NetworkInfo, *, command: Callable[[NodeInfo], list[str]] | None = None) -> None:
        self.network = network
        self._command = command or _node_command
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._log_start: dict[str, int] = {}  # where in its log a node that was started here begins

    # --- looking ---

    def running(self, name: str) -> Running | None:
        """The live process of a node, or None (a pid file that is stale counts as none)."""
        node = self.network.node(name)
        known = _recorded(node.folder)
        return known if known is not None and _is_alive(known) else None

    def running_names(self) -> list[str]:
        return [node.name for node in self.network.nodes if self.running(node.name) is not None]

    def exit_code(self, name: str) -> int | None:
        """Exit code of a node that this instance started (negative: the signal); None: runs, or not known."""
        child = self._children.get(name)
        return None if child is None else child.poll()

    def log_tail(self, name: str, lines: int = LOG_TAIL_LINES) -> list[str]:
        """The last lines of a node's log; of one that was started here, since that start."""
        path = self.network.node(name).folder / "node.log"
        try:
            with path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start.get(name, 0), end - LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return list(deque(text.splitlines(), lines))

    # --- starting ---

    def start(self, name: str) -> Running:
        """Start a node and return at once; `wait_ready` waits for it.

        Raises:
            ProcessError: it runs already, or cannot be started.
        """
        node = self.network.node(name)
        with self._lock():
            known = self.running(name)
            if known is not None:
                raise ProcessError(f"node {name} runs already (process {known.pid}); stop it first")
            if (holder := data_holder(node.folder)) is not None:
                raise _held_by(node, holder)
            if (ended := self._children.get(name)) is not None:
                ended.wait()  # killed by somebody else: reap it
            command = self._command(node)
            try:
                with (node.folder / "node.log").open("ab") as log:
                    self._log_start[name] = log.tell()
                    child = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
            except OSError as error:
                raise ProcessError(f"node {name} cannot be started: {error}") from None
            self._children[name] = child
            running = Running(child.pid, _start_time(child.pid))
            _write_pid(node.folder, running)
        return running

    async def start_all(
        self, names: Iterable[str] | None = None, *, timeout_ms: int = READY_TIMEOUT_MS,
        progress: Callable[[str, str], None] | None = None,
    ) -> None:  # fmt: skip
        """Start nodes and wait until all are ready; `progress` is told the name of each as it becomes ready, and
        "ready". One that is no member becomes as ready as it gets when nobody talks to it: told is its role instead.

        If one does not get there, those started here are stopped again.

        Raises:
            ProcessError: something of the network runs already, or a node ended or was not ready in time.
        """
        wanted = self._names(names)
        already = [name for name in wanted if self.running(name) is not None]
        if already:
            down = [name for name in wanted if name not in already]
            hint = command_hint(f"network start {' '.join(down)}" if down else "network stop", self.network.path)
            what = f"this starts {', '.join(down)}" if down else "this stops the network"
            raise ProcessError(f"running already: {', '.join(already)}; {what}: {hint}")
        started: list[str] = []
        try:
            for name in wanted:
                self.start(name)
                started.append(name)
            await self.wait_ready(started, timeout_ms=timeout_ms, progress=progress)
        except BaseException:
            await asyncio.shield(self.stop(started))
            raise

    async def wait_ready(
        self, names: Iterable[str] | None = None, *, timeout_ms: int = READY_TIMEOUT_MS,
        progress: Callable[[str, str], None] | None = None,
    ) -> None:  # fmt: skip
        """Until every node says it is ready. An answer counts only if the node's own process holds its data folder:
        another process may listen on the port.

        Raises:
            NodeExited: one ended. ProcessError: the time is over, or another process holds its data folder.
        """
        waiting = dict.fromkeys(self._names(names))
        deadline = time.monotonic() + timeout_ms / 1_000
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while True:
                for name in list(waiting):
                    node = self.network.node(name)
                    state = await _ready_state(session, node)
                    known, holder = self.running(name), data_holder(node.folder)
                    if holder is not None and (known is None or not _is_of(holder, known)):
                        raise _held_by(node, holder)
                    if known is None:
                        raise NodeExited(node, self.exit_code(name), self.log_tail(name))
                    if state and holder is not None:
                        del waiting[name]
                        if progress is not None:
                            progress(name, state)
                if not waiting:
                    return
                if time.monotonic() >= deadline:
                    late = ", ".join(waiting)
                    tail = "\n  ".join(self.log_tail(next(iter(waiting))))
                    raise ProcessError(f"not ready after {timeout_ms} ms: {late}. The first one's log ends:\n  {tail}")
                await asyncio.sleep(POLL_S)

    def hang_up(self, name: str) -> bool:
        """Tell a node to read its certificates again (SIGHUP); False if it does not run."""
        known = self.running(name)
        if known is not None:
            _signal(known.pid, signal.SIGHUP)
        return known is not None

    # --- stopping ---

    async def stop(
        self, names: Iterable[str] | None = None, *, timeout_ms: int = STOP_TIMEOUT_MS
    ) -> dict[str, int | None]:
        """Ask nodes to stop (SIGTERM); after the time, kill them. The exit code of each that ran, where it is known.

        Raises:
            ProcessError: one cannot even be killed.
        """
        stopping = {name: known for name in self._names(names) if (known := self.running(name)) is not None}
        for known in stopping.values():
            _signal(known.pid, signal.SIGTERM)
        left = await self._wait_gone(stopping, timeout_ms)
        for name in left:
            self._kill_group(stopping[name].pid)
        left = await self._wait_gone({name: stopping[name] for name in left}, KILL_TIMEOUT_MS)
        if left:
            raise ProcessError(f"cannot be killed: {', '.join(left)}")
        for name in stopping:
            _pid_path(self.network.node(name)).unlink(missing_ok=True)
        return {name: self.exit_code(name) for name in stopping}

    async def kill(self, name: str) -> None:
        """End a node and its executors at once, as a power failure would (SIGKILL). No-op if it does not run."""
        known = self.running(name)
        if known is None:
            return
        self._kill_group(known.pid)
        if await self._wait_gone({name: known}, KILL_TIMEOUT_MS):
            raise ProcessError(f"node {name} (process {known.pid}) cannot be killed")
        _pid_path(self.network.node(name)).unlink(missing_ok=True)

    async def _wait_gone(self, processes: dict[str, Running], timeout_ms: int) -> list[str]:
        """Names of those that still run when the time is over."""
        deadline = time.monotonic() + timeout_ms / 1_000
        while True:
            left = []
            for name in processes:
                self.exit_code(name)  # reaps our own child
                if self.running(name) == processes[name]:
                    left.append(name)
                elif (child := self._children.get(name)) is not None and child.pid == processes[name].pid:
                    child.wait()  # it is gone or a zombie: reap it
            if not left or time.monotonic() >= deadline:
                return left
            await asyncio.sleep(POLL_S)

    @staticmethod
    def _kill_group(pid: int) -> None:
        """The node and what it started: it leads a session and a process group of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _names(self, names: Iterable[str] | None) -> list[str]:
        if names is None:
            return [node.name for node in self.network.nodes]
        return [self.network.node(name).name for name in names]

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Two commands at once do not both start a node."""
        path = self.network.path / "network.lock"
        try:
            with path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise ProcessError(f"{path}: {error.strerror or error}") from None


def _node_command(node: NodeInfo) -> list[str]:
    return [sys.executable, "-P", "-m", "chain.cli.main", "node", "run", "--config", str(node.config_path)]


async def _ready_state(session: aiohttp.ClientSession, node: NodeInfo) -> str:
    """ "ready"; the role of a node that is no member and will not become ready; empty: not yet."""
    try:
        async with session.get(f"{node.rpc_url}/health/ready") as response:
            if response.status == 200:
                return "ready"
        request = {"jsonrpc": "2.0", "id": 1, "method": "status", "params": {}}
        async with session.post(node.rpc_url, json=request) as response:
            status = (await response.json())["result"]
        alone = status["peers_connected"] == 0 and status["uptime_ms"] >= ALONE_MS
        role = str(status["consensus"]["role"])
        return role if alone and role in ("stranger", "removed") else ""
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        return ""


@contextlib.contextmanager
def claimed_pid(config_path: Path) -> Iterator[None]:
    """Says in `node.pid` that this process runs the node, however it was started, so that it is found and stopped.

    Nothing is written while another process holds the data folder: this one will not get it. If both start at once,
    the one that ends without it gives back the entry it replaced.
    """
    folder = config_path.absolute().parent
    own = Running(os.getpid(), _start_time(os.getpid()))
    before = _recorded(folder)
    if data_holder(folder) is None:
        _write_pid(folder, own)
    try:
        yield
    finally:
        replaced = before is not None and before.pid != own.pid and _is_alive(before)
        if replaced and before is not None and _recorded(folder) == own:
            _write_pid(folder, before)


def data_holder(folder: Path) -> int | None:
    """The live process that has a node's data folder open (`chain.store.lock`), or None.

    It is not asked by trying the lock: that would make a node that starts at this moment fail.
    """
    try:
        path = load_node_config(folder / "node.toml").path("data") / "lock"
    except ConfigError:
        path = folder / "data" / "lock"
    try:
        process = psutil.Process(int(path.read_text(encoding="ascii")))
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        try:
            holds = any(file.path == str(path.resolve()) for file in process.open_files())
        except psutil.AccessDenied:  # of another user: then at least no later process with the same id
            holds = process.create_time() <= path.stat().st_mtime + START_TIME_SLACK_S
    except (OSError, ValueError, psutil.Error):
        return None
    return process.pid if holds else None


def _is_of(pid: int, known: Running) -> bool:
    """A process is the known one, or was started by it as the leader of its group (a wrapper of the node)."""
    try:
        return known.pid in (pid, os.getpgid(pid))
    except ProcessLookupError:
        return False


def _held_by(node: NodeInfo, pid: int) -> ProcessError:
    return ProcessError(
        f"node {node.name} is not started: process {pid}, which {node.folder / 'node.pid'} does not name, holds its "
        f"data folder. Stop that one first: kill {pid}"
    )


def _recorded(folder: Path) -> Running | None:
    """What `node.pid` says; None: there is none, or it is damaged."""
    try:
        record = json.loads((folder / "node.pid").read_text(encoding="utf-8"))
        return Running(int(record["pid"]), float(record["started_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(known: Running) -> bool:
    try:
        process = psutil.Process(known.pid)
        same = abs(process.create_time() - known.started_s) <= START_TIME_SLACK_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return False


def _pid_path(node: NodeInfo) -> Path:
    return node.folder / "node.pid"


def _write_pid(folder: Path, running: Running) -> None:
    path = folder / "node.pid"
    temporary = path.with_suffix(f".pid.{os.getpid()}")  # the node and who starts it may both write
    temporary.write_text(json.dumps({"pid": running.pid, "started_s": running.started_s}) + "\n", encoding="utf-8")
    temporary.replace(path)


def _start_time(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return time.time()  # it is gone already; wait_ready will say so


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

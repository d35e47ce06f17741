"""Node processes: started in order, recognised by start time, stopped, killed; small stand-ins for nodes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from chain.cli.network import run_in_foreground
from chain.cli.processes import NetworkProcesses, NodeExited, ProcessError, claimed_pid, data_holder
from chain.node.consortium import NetworkInfo, NodeInfo, create_network
from chain.store.lock import FolderLock

pytestmark = pytest.mark.slow

# Serves /health/ready and holds its data folder as a node does. argv: port, how to behave, data folder.
STAND_IN = """
import http.server, os, pathlib, signal, subprocess, sys
behaviour = sys.argv[2]
if behaviour == "exits":
    print("the database is damaged")
    sys.exit(7)
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if behaviour == "parent":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid, flush=True)
if behaviour != "holds nothing":
    data = pathlib.Path(sys.argv[3])
    data.mkdir(exist_ok=True)
    lock = (data / "lock").open("w")
    print(os.getpid(), file=lock, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if behaviour == "never" else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def network(tmp_path: Path) -> NetworkInfo:
    return create_network(tmp_path / "net", name="test")


def _processes(network: NetworkInfo, behaviours: dict[str, str] | None = None) -> NetworkProcesses:
    def command(node: NodeInfo) -> list[str]:
        behaviour = (behaviours or {}).get(node.name, "good")
        return [sys.executable, "-c", STAND_IN, str(node.rpc_port), behaviour, str(node.folder / "data")]

    return NetworkProcesses(network, command=command)


@asynccontextmanager
async def _running(processes: NetworkProcesses) -> AsyncIterator[NetworkProcesses]:
    try:
        yield processes
    finally:
        for name in processes.running_names():
            await processes.kill(name)


def test_start_stop_and_a_second_start_is_refused(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network)) as processes:
            told: list[tuple[str, str]] = []
            await processes.start_all(progress=lambda name, state: told.append((name, state)))
            assert sorted(told) == sorted((node.name, "ready") for node in network.nodes)
            elsewhere = _processes(network)  # another command, later
            assert elsewhere.running_names() == [node.name for node in network.nodes]
            with pytest.raises(ProcessError, match="running already: regulator, harbour-bank"):
                await elsewhere.start_all()
            with pytest.raises(ProcessError, match="regulator runs already"):
                elsewhere.start("regulator")
            assert await processes.stop() == {node.name: 0 for node in network.nodes}
            assert processes.running_names() == []
            assert await processes.stop() == {}
            assert not list(network.path.glob("nodes/*/node.pid"))

    asyncio.run(scenario())


def test_one_that_ends_stops_the_start_and_shows_its_log(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network, {"delta-bank": "exits"})) as processes:
            with pytest.raises(NodeExited, match="the database is damaged") as caught:
                await processes.start_all()
            assert (caught.value.name, caught.value.code) == ("delta-bank", 7)
            assert processes.running_names() == []

    asyncio.run(scenario())


def test_one_that_is_never_ready_is_named(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network, {"regulator": "never"})) as processes:
            with pytest.raises(ProcessError, match="not ready after 1500 ms: regulator"):
                await processes.start_all(["regulator", "delta-bank"], timeout_ms=1_500)
            assert processes.running_names() == []

    asyncio.run(scenario())


def test_one_that_does_not_listen_is_killed(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network, {"regulator": "deaf"})) as processes:
            await processes.start_all(["regulator"])
            assert await processes.stop(timeout_ms=100) == {"regulator": -signal.SIGKILL}

    asyncio.run(scenario())


def test_kill_takes_the_whole_node_with_its_executors(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network, {"regulator": "parent"})) as processes:
            await processes.start_all(["regulator", "delta-bank"])
            (line,) = [line for line in processes.log_tail("regulator") if line.startswith("child")]
            child = psutil.Process(int(line.split()[1]))
            await processes.kill("regulator")
            assert processes.running_names() == ["delta-bank"]
            assert processes.exit_code("regulator") == -signal.SIGKILL
            async with asyncio.timeout(10):
                while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
                    await asyncio.sleep(0.01)
            await processes.kill("regulator")  # nothing to do
            processes.start("regulator")
            await processes.wait_ready(["regulator", "delta-bank"])

    asyncio.run(scenario())


@pytest.mark.parametrize("content", ["", "5", "{}", '{"pid": 1}', "not JSON", '{"pid": -1, "started_s": 0}', "[1, 2]"])
def test_a_stale_or_damaged_pid_file_names_nobody(network: NetworkInfo, content: str) -> None:
    path = network.node("regulator").folder / "node.pid"
    path.write_text(content, encoding="utf-8")
    assert _processes(network).running("regulator") is None


def test_a_stranger_with_the_same_id_is_left_alone(network: NetworkInfo) -> None:
    async def scenario() -> None:
        path = network.node("regulator").folder / "node.pid"
        ours = psutil.Process(os.getpid())
        path.write_text(json.dumps({"pid": ours.pid, "started_s": ours.create_time() - 1_000}), encoding="utf-8")
        processes = _processes(network)
        assert processes.running("regulator") is None
        assert await processes.stop(["regulator"]) == {}  # we are still here

    asyncio.run(scenario())


def test_who_holds_a_data_folder(network: NetworkInfo) -> None:
    folder = network.node("regulator").folder
    assert data_holder(folder) is None
    lock = FolderLock(folder / "data")
    assert data_holder(folder) == os.getpid()
    lock.release()
    assert data_holder(folder) is None, "the file still names us"
    for content in ("", "-1", "not a number", str(os.getppid())):
        lock.path.write_text(content, encoding="ascii")
        assert data_holder(folder) is None


def test_a_node_that_was_started_otherwise_keeps_its_pid_file(network: NetworkInfo) -> None:
    """A second `node run` on one folder must not hide the node that runs from `network stop`."""

    async def scenario() -> None:
        async with _running(_processes(network)) as processes:
            node = network.node("regulator")
            known = processes.start("regulator")
            await processes.wait_ready(["regulator"])
            with claimed_pid(node.config_path):
                assert processes.running("regulator") == known
            (node.folder / "data/lock").rename(node.folder / "data/other")  # as if both started at once
            with claimed_pid(node.config_path):
                assert processes.running("regulator") != known
            assert processes.running("regulator") == known
            (node.folder / "data/other").rename(node.folder / "data/lock")

    asyncio.run(scenario())


def test_an_orphan_is_named_and_never_taken_for_the_node(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network)) as processes:
            node = network.node("regulator")
            orphan = processes.start("regulator")
            await processes.wait_ready(["regulator"])
            record = (node.folder / "node.pid").rename(node.folder / "record")
            try:
                named = f"process {orphan.pid}.*holds its data folder.*kill {orphan.pid}"
                with pytest.raises(ProcessError, match=named):
                    await _processes(network).start_all(["regulator"])
                with pytest.raises(ProcessError, match=f"process {orphan.pid}"):
                    await _processes(network).wait_ready(["regulator"])
            finally:
                record.rename(node.folder / "node.pid")  # so that it is ended

    asyncio.run(scenario())


def test_an_answer_of_a_process_that_holds_no_data_folder_is_not_ready(network: NetworkInfo) -> None:
    async def scenario() -> None:
        async with _running(_processes(network, {"regulator": "holds nothing"})) as processes:
            with pytest.raises(ProcessError, match="not ready after 1500 ms: regulator"):
                await processes.start_all(["regulator"], timeout_ms=1_500)

    asyncio.run(scenario())


def test_in_the_foreground_ctrl_c_stops_the_nodes_in_order(
    network: NetworkInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        async with _running(_processes(network)) as processes:
            staying = asyncio.create_task(run_in_foreground(network, processes, None, 30_000))
            async with asyncio.timeout(30):
                while len(processes.running_names()) < len(network.nodes) or "Ctrl-C stops" not in _told(capsys):
                    await asyncio.sleep(0.01)
            await processes.kill("delta-bank")  # the others go on
            async with asyncio.timeout(10):
                while "delta-bank ended with exit code -9" not in _told(capsys):
                    await asyncio.sleep(0.01)
            assert not staying.done()
            os.kill(os.getpid(), signal.SIGINT)
            await staying
            assert processes.running_names() == []
            assert {processes.exit_code(node.name) for node in network.nodes} == {0, -9}

    heard: list[str] = []

    def _told(capsys: pytest.CaptureFixture[str]) -> str:
        heard.append(capsys.readouterr().err)
        return "".join(heard)

    asyncio.run(scenario())

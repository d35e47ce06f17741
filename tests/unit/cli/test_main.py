"""The command line as a user meets it: help, results, JSON, errors and exit codes, against a node on a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from chain.cli.checkup import Asked, check_running
from chain.cli.common import why
from chain.cli.examination import Examination
from chain.cli.main import app, main
from chain.cli.members import _change_lines, _holds_from, _member_lines
from chain.cli.processes import NetworkProcesses
from chain.cli.sim import _in_words, _show
from chain.client import NodesUnreachable
from chain.config import load_node_config
from chain.node.consortium import NetworkInfo, create_network, load_account
from chain.rpc import RpcServer
from chain.sim.batch import Tally
from tests.unit.rpc.fake_node import ECHO, ECHO_NAME, FakeNode

COMMANDS = [
    "network", "network init", "network start", "network stop", "network status", "network logs", "node",
    "node run", "account", "account new", "account list", "deploy", "send", "call", "receipt", "contract",
    "contract check", "contract access", "block", "block show",
    "block execution", "block trace", "status", "proof", "proof receipt", "proof value", "verify-proof", "demo",
    "network add-node", "network renew-certificate", "members", "members list", "members changes", "members card",
    "members propose-add", "members propose-observer", "members propose-promotion", "members propose-remove",
    "members propose-weight", "members approve", "members withdraw", "members endpoint", "members rotate-key",
]  # fmt: skip


class Backend:
    """A fake node served by a thread of its own; makes a block as soon as something is in its pool."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.url = ""
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = RpcServer(self.node)
        await server.start()
        self.url = server.url
        producing = asyncio.create_task(self._produce())
        self._ready.set()
        await self._stop.wait()
        producing.cancel()
        await server.stop()

    async def _produce(self) -> None:
        while True:
            if self.node.pool:
                await self.node.make_block()
            await asyncio.sleep(0.002)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = Backend()
    backend.start()
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_network(tmp_path_factory.mktemp("cli") / "net", name="test").path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, backend: Backend, folder: Path) -> None:
    monkeypatch.setenv("HEADRACE_NETWORK", str(folder))
    monkeypatch.setenv("HEADRACE_URL", backend.url)


def _json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == code
    out = capsys.readouterr().out
    document = json.loads(out)
    assert isinstance(document, dict)
    return document


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    assert captured.out == "" or code == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("command", [pytest.param("", marks=pytest.mark.slow), *COMMANDS])
def test_every_level_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "headrace" in text
    if command and command not in ("network", "node", "account", "proof", "members"):
        assert "Example" in text, command


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("headrace 0.")


def test_wrong_usage_is_2_and_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nothing-like-that"], ["send"], ["block", "x"], ["send", "a", "b", "--no-such-option"]):
        assert "Error" in _fails(capsys, *arguments, code=2)


def test_send_and_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    sent = _json(capsys, "send", ECHO_NAME, "say", "--account", "harbour-bank")
    assert (sent["status"], sent["error"], sent["value"]) == (0, "", [])
    assert sent["events"][0]["fields"]["words"] == "say"
    again = _json(capsys, "receipt", str(sent["hash"]))
    assert again["height"] == sent["height"]
    assert main(["receipt", str(sent["hash"])[2:]]) == 0
    assert "ok, height" in capsys.readouterr().out
    assert main(["send", ECHO_NAME, "say"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("transaction 0x")
    assert "event  Said" in captured.out


def test_reads_signed_and_unsigned(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert _json(capsys, "call", ECHO_NAME, "look", "hello")["value"] == ["0x" + "00" * 20, False, ["hello"]]
    signed = _json(capsys, "call", ECHO_NAME, "look", "hello", "--account", "delta-bank")
    account = load_account(folder / "accounts" / "delta-bank.json")
    assert signed["value"] == ["0x" + account.address.hex(), True, ["hello"]]
    operator = str(folder / "accounts" / "operator.json")
    by_file = _json(capsys, "call", "0x" + ECHO.hex(), "look", "x", "--account", operator)
    assert by_file["signed"] is True


def test_looking_at_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    _json(capsys, "send", ECHO_NAME, "say")
    block = _json(capsys, "block", "1", "--full")
    assert block["header"]["height"] == 1
    assert main(["block", "1"]) == 0
    assert "signed by 1 validators" in capsys.readouterr().out
    assert _json(capsys, "status")["name"] == "node-0"
    assert main(["status"]) == 0
    assert "leader node-0" in capsys.readouterr().out


def test_how_blocks_were_executed(capsys: pytest.CaptureFixture[str]) -> None:
    _json(capsys, "send", ECHO_NAME, "say")
    heights = _json(capsys, "block", "execution", "--last", "1000")["heights"]
    assert heights[0]["height"] == 1
    one = _json(capsys, "block", "execution", "1")
    assert one == heights[0]
    assert (one["mode"], one["shard_sizes"], one["busy_us"]) == ("parallel", [2, 1, 1], [1_500, 700])
    assert main(["block", "execution"]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["height", "transactions", "mode", "reason"]
    assert first.split()[2:] == ["parallel", "planned", "3", "2", "1", "2", "1", "1.5", "0.7"]
    assert main(["block", "execution", "1"]) == 0
    assert "3, of 2, 1, 1 transactions" in capsys.readouterr().out
    assert "no block 999999 is certified here" in _fails(capsys, "block", "execution", "999999")
    assert "block 0 is the genesis" in _fails(capsys, "block", "execution", "0")


def test_a_negative_number_is_an_argument_and_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("-5",), ("--", "-5"), ("-5", "--json"), ("--json", "-12")):
        assert "1 arguments given, say() takes 0" in _fails(capsys, "send", ECHO_NAME, "say", *words)
    assert "No such option" in _fails(capsys, "send", ECHO_NAME, "say", "-x", code=2)
    assert "No such option" in _fails(capsys, "call", ECHO_NAME, "say", "--no-such", code=2)


def test_the_summary_of_simulations_is_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    _show(tally, interrupted=False, as_json=False)
    assert "by  none" in capsys.readouterr().out
    assert _in_words({"core": {"runs": 3, "failed": 0}, "whole": {"runs": 1, "failed": 1}}) == (
        "core: 3 runs, 0 failed; whole: 1 runs, 1 failed"
    )
    assert _in_words({"crash": 2, "heal": 3}) == "crash 2, heal 3"
    assert (_in_words(True), _in_words(1.5)) == ("yes", "1.5")


def test_members_are_listed_for_a_block_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "height": 8, "from_height": 0, "validators": [], "total_weight": 4, "quorum_weight": 3, "scheduled": None,
        "observers": [], "changes": [],
    }  # fmt: skip
    assert _member_lines(document, None)[0] == (
        "for block 8, which is next, the set is in force that came with the genesis"
    )
    assert _member_lines({**document, "from_height": 5}, 8)[0] == (
        "at height 8 the set is in force that came with height 5"
    )


def test_doctor_asks_which_node(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = _fails(capsys, "doctor", code=2)
    assert "say which node" in text and "doctor --node regulator" in text
    monkeypatch.setenv("HEADRACE_NETWORK", "/nowhere")
    assert "say which node" in _fails(capsys, "doctor", code=2)


def test_a_block_is_shown_with_and_without_the_word(capsys: pytest.CaptureFixture[str]) -> None:
    _json(capsys, "send", ECHO_NAME, "say")
    assert _json(capsys, "block", "1") == _json(capsys, "block", "show", "1")
    assert _json(capsys, "block")["header"]["height"] >= 1


def test_proofs_are_fetched_and_a_bad_one_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    sent = _json(capsys, "send", ECHO_NAME, "say")
    out = tmp_path / "proof.json"
    assert main(["proof", "receipt", str(sent["hash"]), "-o", str(out)]) == 0
    capsys.readouterr()
    assert json.loads(out.read_text(encoding="utf-8"))["kind"] == "receipt"
    assert main(["proof", "value", ECHO_NAME, "log", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == (ECHO + b"log\x00" + (3).to_bytes(8, "big")).hex()
    assert "stores log, not 'x'" in _fails(capsys, "proof", "value", ECHO_NAME, "x")
    refused = _json(capsys, "verify-proof", str(out), code=1)
    assert refused["valid"] is False
    assert "format" in str(refused["reason"])
    assert "cannot be read" in _fails(capsys, "verify-proof", str(tmp_path / "nothing.json"))


def test_accounts(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    made = _json(capsys, "account", "new", "alice", "--scheme", "secp256k1")
    path = folder / "accounts" / "alice.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert made["address"] == "0x" + load_account(path).address.hex()
    listed = _json(capsys, "account", "list")
    assert {"name": "alice", "address": made["address"], "scheme": "secp256k1"} in listed["accounts"]
    assert "exists" in _fails(capsys, "account", "new", "alice")
    assert "must be letters" in _fails(capsys, "account", "new", "../evil")
    assert "must be one of ed25519" in _fails(capsys, "account", "new", "bob", "--scheme", "rsa")


@pytest.mark.slow
def test_errors_say_what_is_wrong_and_what_would_be_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no contract is named" in _fails(capsys, "call", "no.such", "look")
    assert "has no method 'x'; it has look, say" in _fails(capsys, "call", ECHO_NAME, "x")
    assert "look(words: str) takes 1" in _fails(capsys, "call", ECHO_NAME, "look")
    assert "must be one of" in _fails(capsys, "send", ECHO_NAME, "say", "--account", "nobody")
    assert "64 hex digits" in _fails(capsys, "receipt", "0x12")
    assert "not_found" in _fails(capsys, "receipt", "0x" + "ab" * 32)
    assert "cannot be read" in _fails(capsys, "deploy", "a.b", str(tmp_path / "nothing.py"))
    assert "no node answers" in _fails(capsys, "status", "--url", "http://127.0.0.1:9")
    assert "must be one of regulator" in _fails(capsys, "status", "--node", "nobody")
    monkeypatch.setenv("HEADRACE_NETWORK", str(tmp_path / "empty"))
    assert "headrace network init" in _fails(capsys, "network", "status")


def test_nodes_that_cannot_be_reached_have_a_short_line_each(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    error = _fails(capsys, "status", "--network", str(folder), "--node", "regulator")
    assert "ssl:" not in error and "Connector" not in error
    assert ": cannot connect\n" in error
    failures = {
        "http://no.such": "ClientConnectorDNSError: Cannot connect to host no.such:80 ssl:default [Name not known]",
        "http://slow": "TimeoutError: nothing in 5 s",
    }
    lines = ["no node answers", "  http://no.such: cannot connect: Name not known"]
    assert why(NodesUnreachable(failures)).splitlines() == [*lines, "  http://slow: TimeoutError: nothing in 5 s"]


def test_a_story_is_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no --json" in _fails(capsys, "sim", "--whole", "--seeds", "1", "--story", "--json", code=2)


def test_a_node_that_does_not_answer_is_healthy_only_where_nobody_expects_it_to_run() -> None:
    own = Asked(url="http://127.0.0.1:9", status=None, error="cannot connect", clock_ms=None)
    (check,) = check_running(own, start="headrace network start regulator")
    assert (check.state, check.advice) == ("problem", "start it: headrace network start regulator")
    (check,) = check_running(own)
    assert check.state == "unknown"


def test_doctor_of_a_stopped_node(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def examine(folder: Path, _peers: object, _tell: object, *, start: str) -> Examination:
        own = Asked(url="http://127.0.0.1:9", status=None, error="cannot connect", clock_ms=None)
        checks = tuple(check_running(own, start=start))
        return Examination(node={"folder": str(folder)}, running=False, checks=checks, difference=None, advice=())

    monkeypatch.setattr("chain.cli.examination.examine_folder", examine)
    assert main(["doctor", "--node", "regulator"]) == 1
    text = capsys.readouterr().out
    assert "network start regulator" in text and text.endswith("problems found\n")
    assert main(["doctor", "--node", "regulator", "--offline"]) == 0
    assert capsys.readouterr().out.endswith("healthy on disk; not running\n")
    assert main(["doctor", "somewhere"]) == 0
    assert capsys.readouterr().out.endswith("healthy on disk; not running\n")
    assert main(["doctor", "--url", "http://127.0.0.1:9", "--offline"]) == 2


def test_debug_lets_the_traceback_through(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="holds no network"):
        main(["--debug", "network", "status", "--network", str(tmp_path)])


def test_a_contract_is_checked_before_it_is_sent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, backend: Backend
) -> None:
    source = tmp_path / "bad.py"
    source.write_text("import os\n", encoding="utf-8")
    before = len(backend.node.where)
    error = _fails(capsys, "deploy", "demo.bad", str(source))
    assert "bad.py is no contract" in error
    assert "line 1" in error or ":1" in error
    assert len(backend.node.where) == before


def test_network_init_status_and_logs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "made")
    made = _json(capsys, "network", "init", "--network", target, "--name", "mine")
    assert len(made["nodes"]) == 4
    assert "not empty" in _fails(capsys, "network", "init", "--network", target)
    other = str(tmp_path / "other")
    assert "NAME:ORGANISATION:ROLE" in _fails(capsys, "network", "init", "--network", other, "--node", "x")
    assert "must be 4..100, or 1" in _fails(capsys, "network", "init", "--network", other, "--nodes", "3")
    assert "in two ways" in _fails(capsys, "network", "init", "--network", other, "--nodes", "4", "--node", "a:A:bank")
    assert "TABLE.FIELD=VALUE" in _fails(capsys, "network", "init", "--network", other, "--set", "executor.count")
    error = _fails(capsys, "network", "init", "--network", other, "--set", "executor.count=two")
    assert "executor.count is 'two', must be a whole number" in error
    settings = ("--set", "executor.count=2", "--set", "log.level=debug")
    assert len(_json(capsys, "network", "init", "--network", other, "--nodes", "1", *settings)["nodes"]) == 1
    config = load_node_config(tmp_path / "other/nodes/regulator/node.toml")
    assert (config.executor.count, config.log.level) == (2, "debug")
    status = _json(capsys, "network", "status", "--network", target)
    assert {node["problem"] for node in status["nodes"]} == {"not running"}
    assert main(["network", "status", "--network", target]) == 0
    assert capsys.readouterr().out.count("down") == 4
    assert "never started" in _fails(capsys, "network", "logs", "regulator", "--network", target)
    log = tmp_path / "made/nodes/regulator/node.log"
    log.write_text("".join(f"line {number}\n" for number in range(9)), encoding="utf-8")
    assert main(["network", "logs", "regulator", "-n", "2", "--network", target]) == 0
    assert capsys.readouterr().out == "line 7\nline 8\n"
    assert _json(capsys, "network", "stop", "--network", target) == {"stopped": []}


@pytest.mark.slow
def test_a_node_that_cannot_start_is_told_and_nothing_is_left_running(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    network: NetworkInfo = create_network(tmp_path / "net", name="test")
    network.node("regulator").config_path.write_text("nonsense = 1\n", encoding="utf-8")
    error = _fails(capsys, "network", "start", "--network", str(network.path))
    assert "node regulator ended with exit code 1" in error
    assert "node.toml" in error
    assert NetworkProcesses(network).running_names() == []


def test_commands_of_other_packages_are_added_and_a_broken_one_is_only_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        EntryPoint("extra", "tests.unit.cli.plugin:app", "headrace.commands"),
        EntryPoint("broken", "tests.unit.cli.no_such_module:app", "headrace.commands"),
        EntryPoint("send", "tests.unit.cli.plugin:app", "headrace.commands"),  # never replaces one of our own
    ]
    monkeypatch.setattr("chain.cli.main.entry_points", lambda group: points)
    groups = list(app.registered_groups)
    try:
        assert main(["extra", "hello"]) == 0
        captured = capsys.readouterr()
        assert captured.out == "hello from a plug-in\n"
        assert "the command 'broken'" in captured.err
        assert main(["--help"]) == 0
        assert "extra" in capsys.readouterr().out
    finally:
        app.registered_groups[:] = groups


def test_commands_have_no_duplicates() -> None:
    names = [command.name for command in app.registered_commands] + [group.name for group in app.registered_groups]
    assert len(names) == len(set(names))


def test_members_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    document = _json(capsys, "members", "list")
    assert [item["name"] for item in document["validators"]] == [f"node-{at}" for at in range(4)]
    assert (document["quorum_weight"], document["scheduled"], document["changes"]) == (3, None, [])
    assert main(["members", "list"]) == 0
    assert "weight 4, a quorum weighs 3" in capsys.readouterr().out
    assert main(["members", "changes"]) == 0
    assert "no change is open" in capsys.readouterr().out
    assert "not certain" in _fails(capsys, "members", "list", "--height", "1000000")


def test_a_change_shows_whom_it_is_about() -> None:
    change = {
        "number": 1, "kind": "remove", "name": "b", "id": "0xb", "weight": 0, "endpoint": "", "approvals": ["0xa"],
        "approved_weight": 1, "quorum_weight": 3,
    }  # fmt: skip
    members = [{"id": "0xa", "name": "a", "endpoint": "h:1"}, {"id": "0xb", "name": "b", "endpoint": "h:2"}]
    _, line = _change_lines({"changes": [change], "validators": members, "observers": []})
    assert line.split() == ["1", "remove", "b", "0xb", "h:2", "-", "1", "3", "a"]


def test_a_rotation_that_is_resumed_knows_from_when_it_holds() -> None:
    scheduled = {"from_height": 900, "validators": [{"id": "0xb"}, {"id": "0xc"}]}
    members = {"from_height": 700, "validators": [{"id": "0xa"}, {"id": "0xb"}], "scheduled": scheduled}
    assert [_holds_from(members, who) for who in ("0xa", "0xb", "0xc", "0xd")] == [700, 700, 900, None]
    assert _holds_from({**members, "scheduled": None}, "0xc") is None


def test_wrong_names_of_members_are_told(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert "names nobody; validators: node-0, node-1" in _fails(
        capsys, "members", "propose-weight", "nobody", "2", "--as", "regulator"
    )
    assert "node is 'nobody', must be one of regulator" in _fails(
        capsys, "members", "propose-add", "delta-bank", "--as", "nobody"
    )
    assert "cannot be read" in _fails(capsys, "members", "approve", "1", "--as", str(folder / "no.key"))
    assert "Missing option" in _fails(capsys, "members", "approve", "1", code=2)
    card = _json_text(capsys, "members", "card", "delta-bank")
    assert card["format"] == "headrace-node-card-1" and card["name"] == "delta-bank"


def _json_text(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(list(arguments)) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document

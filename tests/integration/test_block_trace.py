"""`headrace block trace` on a network's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chain.cli.main import main
from chain.model.genesis import Genesis
from chain.node.consortium import NetworkInfo, create_network, load_network_genesis
from contracts.sources import load_source
from tests.integration.stored_chain import StoredChainMaker
from tests.integration.test_replay import RECEIPTS, more_gas, tamper
from tests.unit.executor.workbench import deployment, hash_of, transaction

PAYMENTS = 8


class Network:
    """A network whose first node has three blocks."""

    def __init__(self, path: Path) -> None:
        self.info: NetworkInfo = create_network(path, name="test", open_deployment=True)
        self.genesis: Genesis = load_network_genesis(self.info)
        self.data = self.info.nodes[0].folder / "data"
        maker = StoredChainMaker(self.data, self.genesis)
        deploy, bank = deployment(1, "demo.bank", load_source("library/smallbank"))
        self.payments = [transaction(at, bank, "send_payment", (at % 2, 5, 7)) for at in range(PAYMENTS)]
        maker.add([deploy])
        maker.add([transaction(1, bank, "create_accounts", (0, 10, 500, 500))])
        maker.add(self.payments)
        maker.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network(tmp_path_factory.mktemp("trace") / "net")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    monkeypatch.setenv("HEADRACE_NETWORK", str(network.info.path))


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(["block", "trace", *arguments]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", code=code)[0])


@pytest.mark.slow
def test_a_block_that_agrees(capsys: pytest.CaptureFixture[str], network: Network) -> None:
    text, _ = run(capsys, "3")
    assert text.splitlines()[-1].startswith("AGREES")
    assert "8 transactions" in text
    document = as_json(capsys, "3", "--executors", "3", "--node", network.info.nodes[0].name)
    assert document["agrees"] is document["parallel_equals_serial"] is True
    assert {check["what"] for check in document["checks"]} == {
        "transaction_root", "receipt_root", "state_root", "gas_used", "transaction hashes", "receipts",
        "write set",
    }  # fmt: skip
    assert document["execution"]["parallel"]["shard_sizes"] == [PAYMENTS]
    assert document["execution"]["serial"]["mode"] == "serial"
    assert document["differences"] == []


def test_a_transaction_by_position_and_by_hash(capsys: pytest.CaptureFixture[str], network: Network) -> None:
    text, _ = run(capsys, "3", "--transaction", "4")
    assert "demo.bank.send_payment(source=0, destination=5, amount=7)  gas " in text
    assert "checking[5] = 528  (written by transaction 3 of this block)" in text
    assert "        self.checking[source] = balance - amount" in text
    assert text.splitlines()[-1].startswith("AGREES")
    by_hash = as_json(capsys, "3", "-t", "0x" + hash_of(network.payments[4]).hex())
    assert by_hash == as_json(capsys, "3", "-t", hash_of(network.payments[4]).hex())
    assert by_hash["position"] == 4
    assert by_hash["agrees"] is True
    assert by_hash["gas_used"] == by_hash["call_gas"] + sum(source["gas"] for source in by_hash["sources"])


def test_wrong_questions_are_answered(
    capsys: pytest.CaptureFixture[str], network: Network, tmp_path: Path
) -> None:
    for arguments, text in (
        (["0"], "block 0 is genesis"),
        (["4"], "the highest is 3"),
        (["3", "-t", "8"], "positions are 0..7"),
        (["3", "-t", "xyz"], "must be a position in the block (0, 1, ...) or 64 hex digits"),
        (["3", "-t", "ab" * 32], "is stored here"),
        (["3", "--node", "nobody"], "must be one of"),
        (["3", "--node", network.info.nodes[1].name], "no blocks environment here"),
        (["3", "--network", str(tmp_path)], "holds no network"),
        (["3", "--config", str(tmp_path / "node.toml")], "cannot be read"),
    ):
        out, error = run(capsys, *arguments, code=1)
        assert out == ""
        assert text in error, arguments
    for wrong in (["x"], [], ["3", "--executors", "1"], ["3", "--executors", "65"]):
        assert "Error" in run(capsys, *wrong, code=2)[1]


def test_a_node_without_a_network_folder(capsys: pytest.CaptureFixture[str], network: Network) -> None:
    config = network.info.nodes[0].config_path
    assert as_json(capsys, "2", "-t", "0", "--config", str(config))["agrees"] is True


def test_blocks_whose_bodies_are_gone(
    capsys: pytest.CaptureFixture[str], network: Network, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    shutil.copytree(network.info.path, folder)
    tamper(folder / "nodes" / network.info.nodes[0].name / "data", "journal", b"digests", None)
    assert "no longer in" in run(capsys, "3", "-t", "0", "--network", str(folder), code=1)[1]


@pytest.mark.slow
def test_a_changed_receipt_is_reported_with_exit_code_1(
    capsys: pytest.CaptureFixture[str], network: Network, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    shutil.copytree(network.info.path, folder)
    tamper(folder / "nodes" / network.info.nodes[0].name / "data", "blocks", b"blocks", (3, RECEIPTS, more_gas))
    text, _ = run(capsys, "3", "--network", str(folder), code=1)
    assert f"first difference, transaction 4 0x{hash_of(network.payments[4]).hex()}: gas_used" in text
    verdict = "DIFFERS in receipts: what is stored is damaged, or was made by other code than this"
    assert text.splitlines()[-1] == verdict
    assert as_json(capsys, "3", "-t", "4", "--network", str(folder), code=1)["agrees"] is False
    assert as_json(capsys, "3", "-t", "5", "--network", str(folder))["agrees"] is True

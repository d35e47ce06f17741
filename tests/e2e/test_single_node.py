"""One validator alone, for development and measurements; and the switches that take a node apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from chain.cli.main import main
from chain.cli.processes import NetworkProcesses
from chain.client import Client
from chain.errors import ConfigError
from chain.model.genesis import ChainParameters
from chain.node.consortium import NetworkInfo, create_network, load_account, load_network, some_nodes
from chain.offline import ProofError, verify_proof
from contracts.sources import load_source

pytestmark = pytest.mark.slow
BLOCK = 5  # transactions
PAYMENTS = 60


def operator(network: NetworkInfo) -> Client:
    return Client([node.rpc_url for node in network.nodes], key=load_account(network.account_path("operator")))


async def pay(client: Client, bank: bytes, count: int) -> list[int]:
    """So many payments, all at once; their statuses."""
    transactions = [await client.sign(bank, "send_payment", at % 10, 20, 1) for at in range(count)]
    first = client.height + 1
    refused = [item for item in await client.submit(transactions) if item.code]
    assert not refused
    found = await client.wait_for_receipts([item.hash for item in transactions], from_height=first)
    return [found[item.hash].status for item in transactions]


def test_a_chain_of_one_validator_certifies_restarts_and_proves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "net"
    setting = "consensus.block_interval_ms=7"
    assert main(["network", "init", "--network", str(folder), "--nodes", "1", "--set", setting]) == 0
    network = load_network(folder)
    processes = NetworkProcesses(network)
    genesis = json.loads(network.genesis_path.read_text(encoding="utf-8"))

    async def first_life() -> tuple[bytes, str]:
        await processes.start_all()
        async with operator(network) as client:
            status = await client.status()
            assert status["ready"] and status["problems"] == [] and status["peers_total"] == 0
            bank = await client.deploy("bank", load_source("library/smallbank"))
            await client.send(bank, "create_accounts", 0, 30, 1_000, 1_000)
            assert await pay(client, bank, PAYMENTS) == [0] * PAYMENTS
            receipt = await client.send(bank, "send_payment", 1, 2, 30)
            return bank, receipt.hash.hex()

    async def second_life(bank: bytes, paid: str) -> None:
        await processes.start_all()
        async with operator(network) as client:
            proof = (await client.rpc("get_receipt_proof", hash=bytes.fromhex(paid)))["proof"]
            verdict = verify_proof(proof, genesis)
            assert (verdict.claim["transaction_hash"], len(verdict.signers)) == (paid, 1)
            with pytest.raises(ProofError):
                verify_proof(without_signature(proof), genesis)
            assert await pay(client, bank, PAYMENTS) == [0] * PAYMENTS

    try:
        bank, paid = asyncio.run(first_life())
        asyncio.run(processes.stop())
        asyncio.run(second_life(bank, paid))
        capsys.readouterr()
        assert main(["doctor", "--network", str(folder), "--node", network.nodes[0].name]) == 0
        assert "the only validator" in capsys.readouterr().out
        assert main(["network", "add-node", "--network", str(folder), "second:Second Bank:bank"]) == 0
        name = network.nodes[0].name
        assert main(["members", "propose-add", "second", "--as", name, "--network", str(folder)]) == 1
        assert "set_size: 2 validators would be left, must be 4..100" in capsys.readouterr().err
    finally:
        asyncio.run(processes.stop())


def without_signature(proof: dict[str, Any]) -> dict[str, Any]:
    return proof | {"signatures": []}


def test_switched_off_stages_work_in_turn_and_the_pool_of_processes_ends_with_its_node(tmp_path: Path) -> None:
    network = create_network(
        tmp_path / "net", name="test", nodes=some_nodes(1), parameters=ChainParameters(block_transactions_max=BLOCK),
        overrides={
            "ablation.pipeline": "off", "ablation.fsync": False, "ablation.unsafe": True, "crypto.checker": "process",
            "crypto.kernel": "never", "crypto.threads": 2, "executor.mode": "serial",
        },
    )  # fmt: skip
    processes = NetworkProcesses(network)

    async def scenario() -> tuple[list[dict[str, Any]], list[psutil.Process]]:
        await processes.start_all()
        async with operator(network) as client:
            assert [text.split()[0] for text in (await client.status())["problems"]] == [
                "ablation.fsync", "ablation.pipeline"
            ]  # fmt: skip
            bank = await client.deploy("bank", load_source("library/smallbank"))
            await client.send(bank, "create_accounts", 0, 30, 1_000, 1_000)
            assert await pay(client, bank, PAYMENTS) == [0] * PAYMENTS
            heights = (await client.rpc("get_stages", from_height=3, limit=100))["heights"]
        running = processes.running(network.nodes[0].name)
        assert running is not None
        return heights, psutil.Process(running.pid).children(recursive=True)

    try:
        heights, children = asyncio.run(scenario())
        assert sum("chain.crypto.verify_pool" in child.cmdline() for child in children) == 2
    finally:
        asyncio.run(processes.stop())
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert_in_turn(heights)
    log = (network.nodes[0].folder / "node.log").read_text(encoding="utf-8")
    assert '"event": "ablation"' in log and '"level": "warning"' in log


def assert_in_turn(heights: Sequence[dict[str, Any]]) -> None:
    """No stage begins while another one works, over all heights."""
    assert len(heights) >= PAYMENTS // BLOCK
    spans = [{span["stage"]: span for span in entry["spans"]} for entry in heights]
    for here, after in pairwise(spans):
        assert here["execute"]["start_us"] >= here["consensus"]["end_us"]
        assert after["pack"]["start_us"] >= here["store"]["end_us"]


def test_no_fsync_has_to_be_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ablation\.fsync is False, must be true, or ablation\.unsafe true as well"):
        create_network(tmp_path / "net", name="test", nodes=some_nodes(1), overrides={"ablation.fsync": False})

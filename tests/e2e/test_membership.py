"""From 4 validators to 7 to 5 under load, one key rotated, one certificate renewed: nothing lost, all agree."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.cli.main import main
from chain.cli.members import rotate
from chain.cli.processes import NetworkProcesses
from chain.client import Client, NodesUnreachable, Receipt, TransactionRefused
from chain.config import CryptoConfig, load_node_config, save_node_config
from chain.crypto import PrivateKey
from chain.crypto.certificates import certificate_sha256
from chain.node.consortium import NetworkInfo, NodeSpec, create_network, load_account, load_network
from chain.offline import ProofError, verify_proof
from contracts.sources import load_source
from tests.e2e.test_network import certified, reached, until

pytestmark = pytest.mark.slow
FIRST = [NodeSpec(name=f"node-{at}", organisation=f"Bank {at}", role="bank") for at in range(1, 5)]
ALL = [f"node-{at}" for at in range(1, 8)]
PACE_S = 0.15
STEADY = ["node-2", "node-3", "node-4"]  # clients stay with these


async def done(value: bool) -> bool:
    return value


class Consortium:
    """A network that grows and shrinks; every step is a command of the operator's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.receipts: list[Receipt] = []
        self.stop = asyncio.Event()
        self._processes = NetworkProcesses(self.info)

    @property
    def info(self) -> NetworkInfo:
        return load_network(self.path)

    @property
    def processes(self) -> NetworkProcesses:
        self._processes.network = self.info
        return self._processes

    @property
    def operator(self) -> PrivateKey:
        return load_account(self.info.account_path("operator"))

    def client(self, *names: str) -> Client:
        return Client([self.info.node(name).rpc_url for name in names], key=self.operator)

    async def command(self, *words: str) -> None:
        code = await asyncio.to_thread(main, [*words, "--network", str(self.path), "--json"])
        assert code == 0, words

    async def decide(self, *words: str, by: tuple[str, ...]) -> None:
        """Propose, approve by each, and wait until it is in force on the nodes that clients talk to."""
        signers = [word for name in by for word in ("--as", name)]
        await self.command("members", *words, *signers)

        async def settled() -> bool:
            answers = [await self.members(name) for name in STEADY]
            return all(answer["scheduled"] is None and not answer["changes"] for answer in answers)

        await until(settled, " ".join(words))

    async def members(self, name: str) -> dict[str, Any]:
        async with self.client(name) as client:
            return await client.rpc("get_validators")

    async def pay(self, address: bytes) -> None:
        """The load: a payment after the other, at a rate that two cores can bear for seven nodes."""
        async with self.client(*STEADY) as client:
            while not self.stop.is_set():
                receipt = await client.send(address, "send_payment", 1, 2, 1, timeout_ms=60_000)
                assert receipt.ok
                self.receipts.append(receipt)
                await asyncio.sleep(PACE_S)

    async def paid(self, count: int) -> None:
        before = len(self.receipts)
        await until(lambda: done(len(self.receipts) >= before + count), f"{count} more payments")


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    info = create_network(tmp_path / "net", name="test", nodes=FIRST, mode="serial")
    for node in info.nodes:  # seven nodes' kernels would take longer to load than all that is done with them
        config = load_node_config(node.config_path)
        save_node_config(node.config_path, replace(config, crypto=CryptoConfig(kernel="never")))
    made = Consortium(tmp_path / "net")
    try:
        yield made
    finally:
        asyncio.run(made.processes.stop())


def test_four_to_seven_to_five_validators_under_load(consortium: Consortium) -> None:
    async def scenario() -> None:
        await consortium.processes.start_all()
        async with consortium.client(*STEADY) as client:
            address = await client.deploy("bank", load_source("library/smallbank"))
            await client.send(address, "create_accounts", 0, 50, 1_000_000, 1_000_000)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consortium.pay(address))
            await consortium.paid(3)
            await _grow(consortium)
            await _rotate_and_renew(consortium)
            await _shrink(consortium)
            await consortium.paid(3)
            consortium.stop.set()
        await _check(consortium)

    asyncio.run(scenario())


async def _grow(consortium: Consortium) -> None:
    for at in (5, 6, 7):
        await consortium.command("network", "add-node", f"node-{at}:Bank {at}:bank")
    await consortium.decide("propose-observer", "node-5", by=("node-1", "node-2", "node-3"))
    for name in ("node-5", "node-6", "node-7"):
        consortium.processes.start(name)
    async with consortium.client("node-5") as observer:

        async def follows() -> bool:
            try:
                standing = (await observer.status())["consensus"]
            except NodesUnreachable:
                return False
            return (standing["role"], standing["is_validator"]) == ("observer", False)

        await until(follows, "node-5 follows the chain as an observer")
    await consortium.decide("propose-promotion", "node-5", by=("node-1", "node-2", "node-3"))
    await consortium.decide("propose-add", "node-6", by=("node-1", "node-2", "node-3", "node-4"))
    await consortium.decide("propose-add", "node-7", by=("node-1", "node-2", "node-3", "node-4", "node-5"))
    await consortium.processes.wait_ready(ALL)

    async def all_in_force() -> bool:
        return [item["name"] for item in (await consortium.members("node-7"))["validators"]] == ALL

    await until(all_in_force, "node-7 knows that it is a validator")
    await consortium.paid(3)


async def _rotate_and_renew(consortium: Consortium) -> None:
    """Both while the node runs: its process stays the same."""
    processes = consortium.processes
    before = {name: processes.running(name) for name in ("node-4", "node-6")}
    rotated = await rotate(consortium.info, "node-4", timeout_s=60)
    assert rotated["old"] != rotated["new"] == consortium.info.node("node-4").validator
    await consortium.command("network", "renew-certificate", "node-6", "--new-key")
    log = consortium.info.node("node-6").folder / "node.log"
    await until(lambda: done("certificates_reloaded" in log.read_text(encoding="utf-8")), "the certificate is reloaded")
    node = consortium.info.node("node-6")
    shown = await asyncio.to_thread(ssl.get_server_certificate, (node.host, node.gateway_port))
    assert certificate_sha256(shown.encode()) == certificate_sha256((node.folder / "tls.crt").read_bytes())
    assert {name: processes.running(name) for name in before} == before
    await consortium.paid(3)


async def _shrink(consortium: Consortium) -> None:
    await consortium.decide("propose-remove", "node-7", by=("node-1", "node-2", "node-3", "node-4", "node-5"))
    await consortium.decide("propose-remove", "node-1", by=("node-2", "node-3", "node-4", "node-5", "node-6"))


async def _check(consortium: Consortium) -> None:
    members = await consortium.members("node-2")
    left = [item["name"] for item in members["validators"]]
    assert left == ["node-2", "node-3", "node-4", "node-5", "node-6"]
    height = max(receipt.height for receipt in consortium.receipts)
    clients = {name: consortium.client(name) for name in left}
    try:
        for name, client in clients.items():
            await until(lambda client=client: reached(client, height), f"{name} at height {height}")  # type: ignore[misc]
            for receipt in consortium.receipts:
                assert (await client.receipt(receipt.hash)).raw == receipt.raw
        for at in range(height + 1):
            answers = [await client.rpc("get_header", height=at) for client in clients.values()]
            assert len({answer["hash"] for answer in answers}) == 1, f"height {at}"
        await _check_proof(consortium, clients["node-6"])
    finally:
        for client in clients.values():
            await client.close()
    for name in ("node-1", "node-7"):
        await _check_removed(consortium, name, await _height(consortium))


async def _height(consortium: Consortium) -> int:
    async with consortium.client("node-2") as client:
        return await certified(client)


async def _check_proof(consortium: Consortium, client: Client) -> None:
    """The genesis alone is enough to check what the seventh set of validators certified."""
    last = max(consortium.receipts, key=lambda receipt: receipt.height)
    proof = (await client.rpc("get_receipt_proof", hash=last.hash))["proof"]
    genesis = json.loads(consortium.info.genesis_path.read_text(encoding="utf-8"))
    verdict = verify_proof(proof, genesis)
    assert verdict.claim["transaction_hash"] == last.hash.hex()
    assert len(proof["changes"]) == 6 and "node-1" not in verdict.signers
    with pytest.raises(ProofError):
        verify_proof(proof | {"changes": proof["changes"][:-1]}, genesis)


async def _check_removed(consortium: Consortium, name: str, height: int) -> None:
    """Nobody talks to it any more, it says so, and it takes no transactions that it cannot pass on."""
    async with consortium.client(name) as client:

        async def alone() -> bool:
            status = await client.status()
            return bool(status["consensus"]["role"] == "removed" and status["peers_connected"] == 0)

        await until(alone, f"{name} is alone")
        assert await certified(client) <= height
        assert any("no validator any more" in problem for problem in (await client.status())["problems"])
        with pytest.raises(TransactionRefused):
            await client.send(b"\x00" * 20, "nothing", timeout_ms=5_000)

"""A node made to execute wrongly stops voting and says so; `headrace doctor` names the height, the transaction and the
key; the written recovery brings it, and a chain without a quorum of equal headers, back."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chain.cli.checkup import check_blocks
from chain.cli.main import main
from chain.cli.processes import NetworkProcesses
from chain.client import Client, Receipt
from chain.codec import decode, encode, pack
from chain.errors import BadInput, StoreError
from chain.model.block import Certificate
from chain.model.genesis import genesis_header
from chain.model.validators import ValidatorSet
from chain.node.consortium import create_network, load_network_genesis
from chain.node.rebuild import rebuild_state
from chain.rpc.state_keys import entry_key
from chain.store import StoredChain
from chain.store.blocks import BLOCKS_MAP_BYTES
from chain.store.environment import open_environment
from chain.store.layout import height_key, pack_parts, unpack_parts
from chain.store.state import STATE_MAP_BYTES
from chain.types import Address
from contracts.sources import load_source
from tests.e2e.conftest import RunningNetwork
from tests.e2e.test_network import same_headers, until

pytestmark = pytest.mark.slow
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """With one executor a node: nodes are started twelve times here."""
    info = create_network(tmp_path_factory.mktemp("network") / "net", name="test", mode="serial")
    processes = NetworkProcesses(info)
    asyncio.run(processes.start_all())
    try:
        yield RunningNetwork(info, processes)
    finally:
        asyncio.run(processes.stop())


def plant(data: Path, key: bytes, value: bytes) -> None:
    """Another value in the state of a stopped node: what a failing disk or a wrong program leaves behind."""
    state = open_environment(data / "state", kind="state", databases=(b"state",), map_bytes=STATE_MAP_BYTES)
    try:
        with state.write() as txn:
            assert txn.put(key, value, db=state.database(b"state"))
    finally:
        state.close()


def spoil_certificate(data: Path, height: int) -> None:
    """A stored block of which one signature is wrong."""
    names = (b"blocks", b"transactions", b"events", b"history")
    blocks = open_environment(data / "blocks", kind="blocks", databases=names, map_bytes=BLOCKS_MAP_BYTES)
    try:
        with blocks.write() as txn:
            header, encoded, *rest = unpack_parts(txn.get(height_key(height), db=blocks.database(b"blocks")) or b"")
            certificate = decode(Certificate, encoded)
            first, *others = certificate.signatures
            wrong = (msgspec.structs.replace(first, signature=bytes(64)), *others)
            spoilt = encode(msgspec.structs.replace(certificate, signatures=wrong))
            txn.put(height_key(height), pack_parts([header, spoilt, *rest]), db=blocks.database(b"blocks"))
    finally:
        blocks.close()


def doctor(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["doctor", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out or "{}")


async def deploy(network: RunningNetwork) -> Address:
    async with Client(list(network.urls.values()), key=network.account()) as client:
        address = await client.deploy("bank", load_source("library/smallbank"))
        await client.send(address, "create_accounts", 0, 10, 1_000, 1_000)
        return address


async def restart_with(network: RunningNetwork, name: str, key: bytes, value: int) -> None:
    await network.processes.stop([name])
    plant(network.info.node(name).folder / "data", key, pack(value))
    network.processes.start(name)
    await network.processes.wait_ready([name])


async def diverged(url: str) -> bool:
    async with Client(url) as client:
        return bool((await client.rpc("get_consensus_status"))["diverged"])


async def wait_same(network: RunningNetwork) -> None:
    async with Client(list(network.urls.values()), key=network.account()) as client:
        await client.status()
        await same_headers(network, client.height)


def test_doctor_names_the_planted_fault_and_the_recovery_works(
    network: RunningNetwork, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    victim, *others = network.urls
    node = network.info.node(victim)
    address = asyncio.run(deploy(network))
    asyncio.run(wait_same(network))

    # healthy: by its folder, and by its API
    code, found = doctor(capsys, node.folder)
    assert (code, found["healthy"], found["divergence"]) == (0, True, None), found
    assert {check["name"] for check in found["checks"]} >= {"blocks", "state", "certificates", "disk", "clock", "peers"}
    assert doctor(capsys, "--url", network.urls[victim], "--peer", network.urls[others[0]])[0] == 0
    assert doctor(capsys)[0] == 2
    assert doctor(capsys, node.folder.parent)[0] == 3
    assert doctor(capsys, "rebuild", node.folder)[0] == 3, "the node runs"

    # one balance is wrong: the node comes to another header, and says so everywhere
    key = entry_key(address, "checking", [3])

    async def fault() -> Receipt:
        await restart_with(network, victim, key, 5_000)
        async with Client([network.urls[name] for name in others], key=network.account()) as client:
            await client.send(address, "send_payment", 1, 2, 5)  # touches other keys: nobody notices
            receipt = await client.send(address, "send_payment", 3, 4, 7)
        await until(lambda: diverged(network.urls[victim]), "the node notices")
        return receipt

    receipt = asyncio.run(fault())
    with urllib.request.urlopen(network.urls[victim] + "/metrics") as answer:
        assert b"headrace_consensus_diverged 1" in answer.read()
    assert any('"event": "diverged"' in line for line in network.processes.log_tail(victim))
    assert (node.folder / "data" / "divergence.json").exists()

    code, found = doctor(capsys, node.folder)
    assert code == 1
    where = found["divergence"]
    assert (where["height"], where["reason"]) == (receipt.height, "header_differs")
    assert where["headers"]["peer_certified"]
    assert where["header_fields"] == ["state_root"]
    assert (where["transaction"]["position"], where["transaction"]["exact"]) == (receipt.position, True)
    assert where["transaction"]["hash"] == "0x" + receipt.hash.hex()
    assert (where["transaction"]["contract_name"], where["transaction"]["method"]) == ("bank", "send_payment")
    assert (where["key"]["state_key"], where["key"]["name"]) == ("0x" + key.hex(), "bank checking[3]")
    assert (where["key"]["own"], where["key"]["peer"]) == (4_993, 993)
    assert where["cause"]["kind"] == "stored_state"
    wrong = [(item["name"], item["own"], item["certified"]) for item in where["cause"]["wrong_keys"]]
    assert wrong == [("bank checking[3]", 5_000, 1_000)]
    assert [(len(entry["validators"]), entry["quorum"]) for entry in where["signed"]] == [(3, True), (1, False)]
    assert (where["signed"][1]["validators"], where["own_in_minority"]) == ([victim], True)
    code, by_url = doctor(capsys, "--url", network.urls[victim], "--peer", network.urls[others[0]])
    assert (code, by_url["divergence"]["height"]) == (1, receipt.height)
    assert by_url["divergence"]["key"]["state_key"] == "0x" + key.hex()

    # a block that is not certified is no ground for a state, whatever it is that doctor rebuilds
    asyncio.run(network.processes.stop([victim]))
    genesis = load_network_genesis(network.info)
    shutil.copytree(node.folder / "data", tmp_path / "data")
    spoil_certificate(tmp_path / "data", 2)
    with StoredChain(tmp_path / "data", genesis_header(genesis)) as stored:
        check = check_blocks(stored, [ValidatorSet(genesis.validators)])
    assert (check.state, check.detail[:8]) == ("problem", "block 2:")
    with pytest.raises(StoreError, match="the certificate of block 2 is wrong"):
        rebuild_state(tmp_path / "data", genesis)
    with pytest.raises(BadInput, match="is stored"):
        rebuild_state(node.folder / "data", genesis, take_back_vote=receipt.height - 1)

    # the recovery that doctor names
    code, done = doctor(capsys, "rebuild", node.folder, "--take-back-vote", receipt.height)
    assert code == 0
    assert done["votes_taken_back"] in (0, 1), "0: the others' certificate was here before it had executed"
    network.processes.start(victim)
    asyncio.run(network.processes.wait_ready([victim]))
    asyncio.run(wait_same(network))
    deadline = time.monotonic() + DEADLINE_S  # connections to all peers come back one after the other
    while (answer := doctor(capsys, node.folder))[0] and time.monotonic() < deadline:
        pass
    code, found = answer
    problems = [check for check in found["checks"] if check["state"] != "ok"]
    assert (code, found["divergence"], problems) == (0, None, [])


def test_a_chain_without_a_quorum_of_equal_headers_is_brought_back(
    network: RunningNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(network.urls)
    wrong = names[:2]

    async def halt() -> Address:
        async with Client(list(network.urls.values()), key=network.account()) as client:
            address = await client.deploy("bank.two", load_source("library/smallbank"))
            await client.send(address, "create_accounts", 0, 10, 1_000, 1_000)
            await same_headers(network, client.height)
            for name in wrong:
                await restart_with(network, name, entry_key(address, "checking", [3]), 5_000)
            transaction = await client.sign(address, "send_payment", 3, 4, 7)
            await client.rpc("send_transaction", raw=transaction.raw, wait="accepted")
        for name in names:
            await until(lambda name=name: diverged(network.urls[name]), f"{name} stops")  # type: ignore[misc]
        return address

    address = asyncio.run(halt())
    reports = {name: doctor(capsys, network.info.node(name).folder)[1]["divergence"] for name in (names[0], names[3])}
    height = reports[names[0]]["height"]
    for name, where in reports.items():
        assert (where["height"], where["reason"]) == (height, "no_quorum_can_form")
        assert where["own_in_minority"] is None
        assert [entry["weight"] for entry in where["signed"]] == [2, 2]
        assert (where["cause"]["kind"] == "stored_state") == (name in wrong)

    async def recover() -> Any:
        await network.processes.stop()
        for name in wrong:
            code, done = doctor(capsys, "rebuild", "--network", network.info.path, "--node", name,
                                "--take-back-vote", height)  # fmt: skip
            assert (code, done["height"]) == (0, height - 1)
            assert done["votes_taken_back"] in (0, 1)
        await network.processes.start_all()
        async with Client(list(network.urls.values()), key=network.account()) as client:
            await client.send(address, "send_payment", 5, 6, 1, timeout_ms=60_000)
            await same_headers(network, client.height)
            return await client.call(address, "balance", 3)

    assert asyncio.run(recover()) == (1_000, 993)

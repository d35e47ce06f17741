"""Keys whose files come late, nodes that were away while theirs was replaced, and nodes that are no members."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from chain.cli.main import main
from chain.cli.network import _start
from chain.cli.processes import NetworkProcesses
from chain.client import SYSTEM_ADDRESS, Client, NodesUnreachable
from chain.config import CryptoConfig, load_node_config, save_node_config
from chain.crypto import PrivateKey, Scheme
from chain.model.signing import ValidatorKey
from chain.node.consortium import NetworkInfo, create_network, load_network, load_validator_key
from chain.node.expansion import prepare_rotation
from contracts.system.members import possession_digest
from tests.e2e.test_network import until

pytestmark = pytest.mark.slow
NEXT = ("validator.next.key", "tls.next.key", "tls.next.crt")


def account(key: ValidatorKey) -> PrivateKey:
    return PrivateKey.from_secret(Scheme.ED25519, key.secret)


async def call(info: NetworkInfo, key: ValidatorKey, method: str, *arguments: object) -> int:
    """By way of the first two nodes; what the method returns."""
    async with Client([node.rpc_url for node in info.nodes[:2]], key=account(key), retry_ms=1_000) as client:
        receipt = await client.send(SYSTEM_ADDRESS, method, *arguments, timeout_ms=60_000)  # type: ignore[arg-type]
        assert receipt.ok, receipt.error
        value = receipt.value
        assert isinstance(value, int)

        async def in_force() -> bool:
            members = await client.rpc("get_validators")
            return members["scheduled"] is None and members["height"] >= value

        if value > receipt.height:
            await until(in_force, f"{method} is in force")
        return value


async def rotate(info: NetworkInfo, name: str, aside: Path | None = None) -> ValidatorKey:
    """The transaction only: nobody waits for the node. The files go to `aside` before, if that is given."""
    folder = info.node(name).folder
    old = load_validator_key(folder / "validator.key")
    new = prepare_rotation(info, name)
    if aside is not None:
        for file in NEXT:
            shutil.move(folder / file, aside / file)
    digest = possession_digest(chain_id=info.chain_id, public_key=new.public_key, replaces=old.validator_id)
    await call(info, old, "rotate_key", new.public_key, new.sign(digest))
    return new


async def votes_as(info: NetworkInfo, name: str, key: ValidatorKey) -> None:
    async with Client(info.node(name).rpc_url, retry_ms=0) as client:

        async def speaks() -> bool:
            try:
                status = await client.status()
            except NodesUnreachable:
                return False
            wanted = "0x" + key.validator_id.hex()
            return bool(status["validator_id"] == wanted and status["consensus"]["is_validator"] and status["ready"])

        await until(speaks, f"{name} votes with its new key")


def test_keys_that_come_late_and_nodes_that_come_back_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net"
    for node in create_network(path, name="test", mode="serial").nodes:
        config = load_node_config(node.config_path)
        save_node_config(node.config_path, replace(config, crypto=CryptoConfig(kernel="never")))
    processes = NetworkProcesses(load_network(path))

    async def scenario() -> None:
        info = load_network(path)
        names = [node.name for node in info.nodes]
        third, fourth = names[2:]
        await processes.start_all()
        # The files of a key come when its set is in force: told by SIGHUP, the same process votes with it.
        before = processes.running(third)
        folder, aside = info.node(third).folder, tmp_path / "aside"
        aside.mkdir()
        new = await rotate(info, third, aside)
        for file in NEXT:
            shutil.move(aside / file, folder / file)
        assert processes.hang_up(third)
        await votes_as(info, third, new)
        assert processes.running(third) == before
        # A node is away while its key is replaced, and the set changes once more.
        await processes.stop([fourth])
        late = await rotate(info, fourth)
        others = [load_validator_key(info.node(name).folder / "validator.key") for name in names[:2]]
        number = await call(info, others[0], "propose_weight", late.validator_id, 2)
        for key in (others[1], new):
            await call(info, key, "approve", number)
        processes.start(fourth)
        await votes_as(info, fourth, late)

    try:
        asyncio.run(scenario())
        # A node that nobody has approved runs, and is not called ready.
        assert main(["network", "add-node", "newcomer:New Bank:bank", "--network", str(path), "--json"]) == 0
        capsys.readouterr()
        processes.network = load_network(path)
        assert asyncio.run(_start(processes.network, processes, ["newcomer"], 60_000)) == {"newcomer": "stranger"}
        told = capsys.readouterr().err
        assert "newcomer         stranger" in told and "ready" not in told
    finally:
        asyncio.run(processes.stop())

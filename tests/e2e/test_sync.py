"""Real processes: a node joins a grown chain by snapshot, takes part, and agrees on the next snapshot."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bench.sync.chain import ChainMaker, SmallBlocks
from chain.cli.processes import NetworkProcesses
from chain.client import Client, RpcFailed
from chain.model.block import SNAPSHOT_LAG
from chain.model.genesis import ChainParameters
from chain.model.transaction import Transaction
from chain.node.consortium import NetworkInfo, create_network, load_account, load_network_genesis, load_validator_key

INTERVAL, LIFETIME = 50, 60
MADE = 205  # above the snapshot height 200, below the height that commits to it
DEADLINE_S = 90.0


def make_network(folder: Path) -> tuple[NetworkInfo, SmallBlocks, Transaction]:
    """Three nodes with a chain and one with nothing; the first one has lost its snapshots."""
    parameters = ChainParameters(snapshot_interval=INTERVAL, lifetime_max=LIFETIME)
    network = create_network(folder / "network", name="sync", parameters=parameters, created_ms=1_700_000_000_000)
    keys = [load_validator_key(node.folder / "validator.key") for node in network.nodes]
    first = network.nodes[0].folder / "data"
    maker = ChainMaker(first, load_network_genesis(network), keys)
    payments = SmallBlocks(maker, load_account(network.account_path("operator")), accounts=250, payments=1)
    payments.add(190 - maker.tip.height)
    executed = payments.payment()
    maker.add([executed])
    payments.add(MADE - maker.tip.height)
    maker.close()
    for node in network.nodes[1:3]:
        shutil.copytree(first, node.folder / "data", dirs_exist_ok=True)
    for file in (first / "snapshots").iterdir():
        file.unlink()
    return network, payments, executed


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.05)


async def height_of(client: Client) -> int:
    """-1 while it does not answer, as when it is opened again."""
    try:
        return int((await client.status())["certified_height"])
    except Exception:  # noqa: BLE001 - whatever a node that starts makes of a request
        return -1


async def grow(client: Client, payments: SmallBlocks, height: int) -> None:
    """Until the chain has this height."""
    while (now := await height_of(client)) < height:
        await client.submit([payments.payment(expiry=now + LIFETIME).raw])
        await asyncio.sleep(0.01)


@pytest.mark.slow
def test_a_node_joins_by_snapshot_and_takes_part(tmp_path: Path) -> None:
    network, payments, executed = make_network(tmp_path)
    processes = NetworkProcesses(network)
    names = [node.name for node in network.nodes]
    urls = [node.rpc_url for node in network.nodes]

    async def header(client: Client, height: int) -> Any:
        found = await client.rpc("get_header", height=height)
        return found["hash"], found["snapshot_root"]

    async def scenario() -> None:
        await processes.start_all(names[:3])
        async with Client(urls[1:3]) as chain, Client(urls[:1]) as first, Client(urls[3:]) as late:
            await grow(chain, payments, 200 + SNAPSHOT_LAG + 2)
            commit = await header(chain, 200 + SNAPSHOT_LAG)
            assert len(commit[1]) == 66
            await until(lambda: reached(first, 200 + SNAPSHOT_LAG), "the node without a snapshot makes it again")
            assert await header(first, 200 + SNAPSHOT_LAG) == commit

            processes.start(names[3])
            await until(lambda: reached(late, 200 + SNAPSHOT_LAG), "the late node joins")
            assert await header(late, 200 + SNAPSHOT_LAG) == commit
            assert '"snapshot_loaded"' in "\n".join(processes.log_tail(names[3], 200))
            for height in (1, 200 - LIFETIME - 1):
                with pytest.raises(RpcFailed, match="joined by snapshot"):
                    await header(late, height)
            assert (await header(late, 200 - LIFETIME)) == await header(chain, 200 - LIFETIME)
            [again] = await late.submit([executed])
            assert again.message == "the transaction is executed already", "before the snapshot, and known here"

            await processes.stop([names[2]])  # now nothing is certified without the late node
            async with Client(urls[1:2]) as second:
                await grow(second, payments, 250 + SNAPSHOT_LAG + 1)
                following = await header(second, 250 + SNAPSHOT_LAG)
                assert len(following[1]) == 66
                await until(lambda: reached(late, 250 + SNAPSHOT_LAG), "the late node keeps up")
                assert await header(late, 250 + SNAPSHOT_LAG) == following

    async def reached(client: Client, height: int) -> bool:
        return await height_of(client) >= height

    async def run() -> None:
        try:
            await scenario()
        finally:
            await asyncio.shield(processes.stop())

    asyncio.run(run())

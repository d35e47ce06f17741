"""Four real nodes: agreement, crash of the leader under load, return of a killed node, restart of all."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from chain.cli.processes import ProcessError
from chain.client import Client, Receipt
from chain.codec import pack
from chain.crypto import PrivateKey, Scheme
from contracts.sources import load_source
from tests.e2e.conftest import RunningNetwork

pytestmark = pytest.mark.slow
DEADLINE_S = 60.0


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        await asyncio.sleep(0.1)


async def certified(client: Client) -> int:
    return int((await client.status())["certified_height"])


async def same_headers(network: RunningNetwork, height: int) -> None:
    """All nodes reach the height and hold equal headers up to it."""
    clients = [Client([url]) for url in network.urls.values()]
    try:
        for client in clients:
            await until(lambda client=client: reached(client, height), f"{client.url} at height {height}")  # type: ignore[misc]
        for at in range(height + 1):
            answers = [await client.rpc("get_header", height=at) for client in clients]
            assert len({answer["hash"] for answer in answers}) == 1, f"height {at}"
    finally:
        for client in clients:
            await client.close()


async def reached(client: Client, height: int) -> bool:
    return await certified(client) >= height


async def deploy_bank(network: RunningNetwork, name: str) -> bytes:
    async with Client(list(network.urls.values()), key=network.account()) as client:
        address = await client.deploy(name, load_source("library/smallbank"))
        await client.send(address, "create_accounts", 0, 50, 1_000, 1_000)
        return address


def test_a_receipt_returned_by_one_node_is_the_receipt_of_all(network: RunningNetwork) -> None:
    async def scenario() -> None:
        address = await deploy_bank(network, "bank.one")
        first, *others = network.urls.values()
        async with Client([first], key=network.account()) as client:
            receipt = await client.send(address, "send_payment", 1, 2, 30)
            assert receipt.ok
            height = client.height
        for url in others:
            async with Client([url], key=network.account()) as client:
                assert (await client.receipt(receipt.hash, timeout_ms=10_000)).raw == receipt.raw
        await same_headers(network, height)

    asyncio.run(scenario())


def test_the_chain_goes_on_when_its_leader_is_killed_and_loses_nothing_certified(network: RunningNetwork) -> None:
    async def scenario() -> None:
        address = await deploy_bank(network, "bank.two")
        names = list(network.urls)
        async with Client([network.urls[names[0]]]) as client:
            leader = (await client.status())["consensus"]["leader_name"]
        alive = [network.urls[name] for name in names if name != leader]
        receipts: list[Receipt] = []
        stop = asyncio.Event()

        async def pay(at: int) -> None:
            async with Client([*alive[at:], *alive[:at]], key=network.account()) as client:
                while not stop.is_set():
                    receipts.append(await client.send(address, "send_payment", at, at + 10, 1, timeout_ms=60_000))

        async with asyncio.TaskGroup() as tasks:
            for at in range(3):
                tasks.create_task(pay(at))
            await until(lambda: done(len(receipts) >= 5), "first payments")
            await network.processes.kill(leader)
            before = len(receipts)
            await until(lambda: done(len(receipts) >= before + 10), "payments after the leader is gone")
            stop.set()
        network.processes.start(leader)
        await network.processes.wait_ready([leader])
        async with Client([network.urls[leader]]) as client:
            height = max(receipt.height for receipt in receipts)
            await until(lambda: reached(client, height), "the killed node catches up")
            for receipt in receipts:
                assert (await client.receipt(receipt.hash)).raw == receipt.raw
        await same_headers(network, height)

    async def done(condition: bool) -> bool:
        return condition

    asyncio.run(scenario())


def test_all_nodes_killed_at_once_come_back_with_everything_certified(network: RunningNetwork) -> None:
    async def scenario() -> None:
        address = await deploy_bank(network, "bank.three")
        async with Client(list(network.urls.values()), key=network.account()) as client:
            receipts = [await client.send(address, "send_payment", 3, 4, 1) for _ in range(3)]
        await asyncio.gather(*[network.processes.kill(name) for name in network.urls])
        await network.processes.start_all()
        async with Client(list(network.urls.values()), key=network.account()) as client:
            for receipt in receipts:
                assert (await client.receipt(receipt.hash, timeout_ms=20_000)).raw == receipt.raw
            after = await client.send(address, "send_payment", 3, 4, 1, timeout_ms=60_000)
            assert after.ok
        await same_headers(network, after.height)

    asyncio.run(scenario())


def test_an_executor_killed_under_load_changes_nothing(network: RunningNetwork) -> None:
    async def scenario() -> None:
        address = await deploy_bank(network, "bank.four")
        victim = next(iter(network.urls))
        running = network.processes.running(victim)
        assert running is not None
        executors = psutil.Process(running.pid).children(recursive=True)
        assert executors
        os.kill(executors[0].pid, signal.SIGKILL)
        async with Client(list(network.urls.values()), key=network.account()) as client:
            receipts = [await client.send(address, "send_payment", 5, 6, 1) for _ in range(3)]
        await same_headers(network, receipts[-1].height)

    asyncio.run(scenario())


def test_a_second_start_of_a_running_network_is_refused(network: RunningNetwork) -> None:
    with pytest.raises(ProcessError, match="running already"):
        asyncio.run(network.processes.start_all())


def test_no_process_outlives_a_killed_node(network: RunningNetwork) -> None:
    """Only the node process is killed, not its group: its executors see the pipe close and end."""
    name = list(network.urls)[-1]
    running = network.processes.running(name)
    assert running is not None
    executors = psutil.Process(running.pid).children(recursive=True)
    os.kill(running.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(executors, timeout=20)
    assert alive == []
    asyncio.run(network.processes.kill(name))
    network.processes.start(name)
    asyncio.run(network.processes.wait_ready([name]))


def test_a_simulation_shows_what_would_be_written_and_writes_nothing(network: RunningNetwork) -> None:
    async def scenario() -> None:
        address = await deploy_bank(network, "bank.five")
        async with Client(list(network.urls.values()), key=network.account()) as client:
            before = await client.call(address, "balance", 1)
            answer = await client.simulate(address, "send_payment", 1, 2, 5)
            assert answer["status"] == 0
            assert len(answer["writes"]) == 2
            assert await client.call(address, "balance", 1) == before
            estimate = await client.rpc("estimate_gas", target=address, method="balance", arguments=pack((1,)))
            assert int(estimate["gas_used"]) > 0

    asyncio.run(scenario())


def test_both_signature_schemes_pay(network: RunningNetwork) -> None:
    async def scenario() -> None:
        token = load_source("library/token")
        ethereum_like = PrivateKey.generate(Scheme.SECP256K1)
        async with Client(list(network.urls.values()), key=network.account()) as client:
            address = await client.deploy("points", token, "Points", "PTS", 1_000)
            await client.send(address, "transfer", ethereum_like.address, 100)
            receipt = await client.send(address, "transfer", network.account().address, 40, key=ethereum_like)
            assert receipt.ok
            assert await client.call(address, "balance_of", ethereum_like.address) == 60

    asyncio.run(scenario())


def test_the_example_client_deploys_and_counts(network: RunningNetwork) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "client.py"
    done = subprocess.run(
        [sys.executable, str(example), str(network.info.path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "value is 5"

"""Every workload on a real node: its set-up over the API, then calls signed as a benchmark signs them."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.workloads import Workload, account
from bench.workloads.sources import source
from bench.workloads.workload import Deploy, Setup, SetupCall, Start, deployed
from chain.cli.processes import NetworkProcesses
from chain.client import Client
from chain.crypto import PrivateKey
from chain.node.consortium import create_network, load_account, some_nodes
from tests.unit.bench.test_workloads import FAILING, SMALL

pytestmark = pytest.mark.slow
CALLS = 60


async def outcomes(client: Client, workload: Workload, stranger: PrivateKey) -> Counter[bool]:
    """How many of the first calls succeed, whoever signs those that name nobody."""
    contract = await workload.prepare(client)
    transactions = [
        await client.sign(
            contract, call.method, *call.arguments, gas_limit=call.gas_limit,
            key=stranger if call.signer is None else account(call.signer),
        )
        for call in islice(workload.calls(1), CALLS)
    ]  # fmt: skip
    first = client.height + 1
    for transaction in transactions:  # one after the other: an order's steps may not overtake each other here
        assert [result.code for result in await client.submit([transaction])] == [0]
    found = await client.wait_for_receipts([item.hash for item in transactions], from_height=first)
    return Counter(found[item.hash].status == 0 for item in transactions)


def failing(start: Start) -> Setup:
    contract = yield from deployed(Deploy("bench.failing", source("do_nothing")))
    yield [SetupCall(contract, "something", ())]
    return contract


def test_every_workload_sets_itself_up_and_its_calls_succeed(tmp_path: Path) -> None:
    network = create_network(tmp_path / "net", name="test", nodes=some_nodes(1))
    processes = NetworkProcesses(network)

    async def scenario() -> dict[str, Counter[bool]]:
        await processes.start_all()
        stranger = PrivateKey.generate()
        async with Client(network.nodes[0].rpc_url, key=load_account(network.account_path("operator"))) as client:
            found = {name: await outcomes(client, make(), stranger) for name, make in SMALL.items()}
            with pytest.raises(BenchError, match="set-up failed: something"):
                await Workload("", failing, lambda seed: iter(())).prepare(client)
        return found

    try:
        found = asyncio.run(scenario())
    finally:
        asyncio.run(processes.stop())
    assert {name: count[False] for name, count in found.items()} == {
        name: sum(FAILING.get(name, {}).values()) for name in SMALL
    }

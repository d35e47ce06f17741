"""Deploys the counter on a running network and counts, with the Python client.

    .venv/bin/headrace network init && .venv/bin/headrace network start
    .venv/bin/python examples/client.py headrace-network
"""

import asyncio
import sys
from pathlib import Path

from chain.client import Client
from chain.node.consortium import load_account, load_network


async def main(folder: Path) -> None:
    """Any node may be asked; the client goes on with the next one if one does not answer."""
    network = load_network(folder)
    key = load_account(network.account_path("operator"))
    async with Client([node.rpc_url for node in network.nodes], key=key) as client:
        height = (await client.status())["certified_height"]  # makes the name a new one each time
        address = await client.deploy(f"example.counter{height}", Path(__file__).with_name("counter.py"))
        receipt = await client.send(address, "increase", 5)
        print(f"increase answered {receipt.value!r} in block {receipt.height}: {receipt.event('Changed').fields}")
        print(f"value is {await client.call(address, 'value')!r}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

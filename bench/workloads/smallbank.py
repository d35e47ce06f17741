"""SmallBank's send_payment over accounts drawn uniformly (BenchBase semantics)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from bench.workloads.workload import Call
from chain.client import Client
from contracts.sources import load_source

ACCOUNTS: Final = 10_000
ACCOUNTS_PER_CALL: Final = 250
OPENING_BALANCE: Final = 1_000_000
GAS_LIMIT: Final = 200_000
GAS_LIMIT_CREATE: Final = 100_000_000


class SmallBank:
    """Every payment moves 1 between two different accounts, so none fails for want of funds."""

    async def prepare(self, client: Client) -> bytes:
        address = await client.deploy("bench.smallbank", load_source("library/smallbank"))
        for first in range(0, ACCOUNTS, ACCOUNTS_PER_CALL):
            await client.send(
                address,
                "create_accounts",
                first,
                ACCOUNTS_PER_CALL,
                OPENING_BALANCE,
                OPENING_BALANCE,
                gas_limit=GAS_LIMIT_CREATE,
            )
        return address

    def calls(self, seed: int) -> Iterator[Call]:
        draw = random.Random(seed)
        while True:
            source = draw.randrange(ACCOUNTS)
            target = (source + draw.randrange(1, ACCOUNTS)) % ACCOUNTS
            yield Call("send_payment", (source, target, 1), GAS_LIMIT)

"""The load: sessions that send and read one thing after the other, through the client that applications use, and what
becomes of their transactions in the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final

from bench.chaos.history import Chain, Placed, Read, Send
from chain.client import (
    Client,
    NodesUnreachable,
    Receipt,
    RpcFailed,
    TransactionError,
    TransactionExpired,
    TransactionRefused,
)
from chain.client.receipts import unhex, value_of
from chain.codec import pack
from chain.crypto import PrivateKey
from chain.model.transaction import Transaction
from chain.types import Address

NAME: Final = "chaos.register"
SOURCE: Final = '''\
"""A count for each session, and one of all together."""


class Register(Contract):
    """Every bump counts once."""

    own: Map[int, int]
    total: Value[int]

    @external
    def bump(self, session: int) -> int:
        """Count, and answer the session's count."""
        count = self.own.get(session, 0) + 1
        self.own[session] = count
        self.total.add(1)
        return count

    @view
    def value(self, session: int) -> int:
        return self.own.get(session, 0)
'''
SEND_MS: Final = 15_000  # how long a session waits for a receipt before it goes on and leaves the transaction open
READ_MS: Final = 5_000
PAUSE_S: Final = 0.05  # after an error
READ_SHARE: Final = 0.2
GAS_LIMIT: Final = 200_000
RESEND_MS: Final = 20_000
PAGE: Final = 100  # blocks


class Clock:
    """Milliseconds since the start of the run."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now_ms(self) -> int:
        return int((time.monotonic() - self._start) * 1_000)


class Sessions:
    """`count` sessions over all nodes, each beginning with another one. Their history is `sends` and `reads`."""

    def __init__(
        self, urls: Sequence[str], *, contract: Address, keys: Sequence[PrivateKey], clock: Clock, seed: int
    ) -> None:
        self.sends: list[Send] = []
        self.reads: list[Read] = []
        self.errors = 0  # answers that were neither: a node was away, a read was refused
        self._raws: dict[bytes, Transaction] = {}
        self._urls = list(urls)
        self._contract = contract
        self._keys = keys
        self._clock = clock
        self._seed = seed
        self._stopping = asyncio.Event()

    async def run(self, seconds: float) -> None:
        """All sessions, until the time is over and each has ended what it was doing."""
        async with asyncio.TaskGroup() as tasks:
            for session in range(len(self._keys)):
                tasks.create_task(self._session(session))
            await asyncio.sleep(seconds)
            self._stopping.set()

    async def _session(self, session: int) -> None:
        draw = random.Random(self._seed * 1_000 + session)
        turn = session % len(self._urls)
        urls = [*self._urls[turn:], *self._urls[:turn]]
        async with Client(urls, key=self._keys[session], timeout_ms=SEND_MS) as client:
            while not self._stopping.is_set():
                if draw.random() < READ_SHARE:
                    done = await self._read(client, session)
                else:
                    done = await self._send(client, session)
                if not done:
                    self.errors += 1
                    await asyncio.sleep(PAUSE_S)

    async def _send(self, client: Client, session: int) -> bool:
        try:
            transaction = await client.sign(self._contract, "bump", session, gas_limit=GAS_LIMIT)
        except (RpcFailed, NodesUnreachable):
            return False
        send = Send(
            session=session, tx_hash=transaction.hash, start_ms=self._clock.now_ms(), end_ms=0, outcome="pending"
        )
        self.sends.append(send)
        self._raws[transaction.hash] = transaction
        await self._settle(client, send, transaction, SEND_MS)
        return send.outcome == "certified"

    async def _settle(self, client: Client, send: Send, transaction: Transaction, timeout_ms: int) -> None:
        try:
            receipt = await client.send_signed(transaction, timeout_ms=timeout_ms, check=False)
        except TransactionExpired as error:
            send.outcome, send.reason = "expired", str(error)
        except TransactionRefused as error:
            send.outcome, send.reason = "refused", str(error)
        except (TransactionError, RpcFailed, NodesUnreachable) as error:
            send.outcome, send.reason = "pending", str(error)
        else:
            _certified(send, receipt)
        send.end_ms = self._clock.now_ms()

    async def _read(self, client: Client, session: int) -> bool:
        start_ms, min_height = self._clock.now_ms(), int(client.height)
        try:
            answer = await client.rpc(
                "call", target=self._contract, method="value", arguments=pack((session,)), min_height=min_height,
                within_ms=READ_MS,
            )  # fmt: skip
        except (RpcFailed, NodesUnreachable):
            return False
        value = value_of(answer["result"])
        if answer["status"] != 0 or not isinstance(value, int):
            return False
        self.reads.append(
            Read(
                session=session, start_ms=start_ms, end_ms=self._clock.now_ms(), min_height=min_height,
                height=int(answer["certified_height"]), value=value,
            )
        )  # fmt: skip
        return True

    async def settle(self) -> int:
        """Send again, as a client would, what is still open after everything has healed; how many that were."""
        waiting = [send for send in self.sends if send.outcome in ("pending", "refused")]

        async def again(client: Client, send: Send) -> None:
            send.resent = True
            await self._settle(client, send, self._raws[send.tx_hash], RESEND_MS)

        if waiting:
            async with Client(self._urls, key=self._keys[0]) as client, asyncio.TaskGroup() as tasks:
                for send in waiting:
                    tasks.create_task(again(client, send))
        return len(waiting)


def _certified(send: Send, receipt: Receipt) -> None:
    send.outcome = "certified"
    send.height, send.position, send.receipt = receipt.height, receipt.position, receipt.raw
    send.ok = receipt.ok
    send.value = receipt.value if isinstance(receipt.value, int) else None


async def load_chain(name: str, url: str, *, up_to: int, contract: Address, sessions: int) -> Chain:
    """All blocks of a node up to a height, with every receipt, and each session's count as the node answers it."""
    headers: list[bytes] = []
    transactions: dict[bytes, Placed] = {}
    twice: list[bytes] = []
    async with Client(url, timeout_ms=60_000) as client:
        for height in range(up_to + 1):
            block = await client.rpc("get_block", height=height, full=True, min_height=up_to)
            headers.append(unhex(block["header"]["hash"]))
            for receipt in block["receipts"]:
                tx_hash = unhex(receipt["transaction_hash"])
                if tx_hash in transactions:
                    twice.append(tx_hash)
                transactions[tx_hash] = Placed(height, int(receipt["position"]), unhex(receipt["raw"]))
        counts = {session: await _count(client, contract, session) for session in range(sessions)}
    return Chain(node=name, headers=headers, transactions=transactions, twice=twice, counts=counts)


async def _count(client: Client, contract: Address, session: int) -> int:
    value = await client.call(contract, "value", session)
    return value if isinstance(value, int) else -1

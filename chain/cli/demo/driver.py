"""Sends planned phases to a running network and checks every answer against the expected one.

Transactions are signed here, sent in batches to the nodes in turn, and followed by reading certified blocks. A node
may die meanwhile: what is not certified in time is sent again to another one, with the same bytes, which is harmless
because a transaction's identity is the digest its sender signed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chain.cli.demo.workload import Phase, PlannedCall, Signer
from chain.client import Client, NodesUnreachable, Receipt, RpcFailed, receipt_of
from chain.crypto import PrivateKey
from chain.errors import HeadraceError
from chain.model.signing import sign_transaction
from chain.model.transaction import Transaction
from chain.types import Digest

BATCH: Final = 50
GAS_LIMIT: Final = 3_000_000
RESEND_S: Final = 4.0  # without a new certified transaction: send the rest again
GIVE_UP_S: Final = 60.0
LONG_POLL_MS: Final = 2_000


class DemoFailed(HeadraceError):
    """Something the demonstration promises did not hold."""


@dataclass(slots=True)
class Tally:
    """What came back, over all phases."""

    certified: int = 0
    accepted: Counter[str] = field(default_factory=Counter)  # answered "ok" or a value, by contract
    refused: Counter[str] = field(default_factory=Counter)  # by reason code
    reverted: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    resent: int = 0
    busy_s: float = 0.0  # time in which at least one transaction was under way
    hashes: list[Digest] = field(default_factory=list)

    def count(self, call: PlannedCall, receipt: Receipt, latency_ms: float) -> None:
        self.certified += 1
        self.latencies_ms.append(latency_ms)
        self.hashes.append(receipt.hash)
        if not receipt.ok:
            self.reverted[receipt.error or f"status {receipt.status}"] += 1
        elif isinstance(receipt.value, str) and receipt.value not in ("ok", "match"):
            self.refused[receipt.value] += 1
        else:
            self.accepted[call.contract.split(".")[0]] += 1
        problem = call.problem(receipt.status, receipt.value)
        if problem:
            self.unexpected.append(f"{problem} {receipt.error}".strip())


@dataclass(slots=True)
class _Sent:
    call: PlannedCall
    transaction: Transaction
    at_s: float = 0.0


class Driver:
    """`keys` sign for the organisations by name and for the subjects by index; `contracts` are addresses by name."""

    def __init__(
        self,
        *,
        urls: Mapping[str, str],
        keys: Callable[[Signer], PrivateKey],
        contracts: Mapping[str, bytes],
        tally: Tally,
        progress: Callable[[int], None],
        check_nodes: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """`check_nodes` raises if a node ended that should run: waiting for it would be in vain."""
        self._clients = {name: Client([url], timeout_ms=3_000) for name, url in urls.items()}
        self._reader = Client(list(urls.values()), timeout_ms=20_000)
        self._keys = keys
        self._contracts = contracts
        self._tally = tally
        self._progress = progress
        self._check_nodes = check_nodes
        self._say = say
        self._pending: dict[Digest, _Sent] = {}
        self._busy_since_s = 0.0
        self._changed = asyncio.Event()
        self._last_progress_s = time.monotonic()
        self.avoid: set[str] = set()  # nodes that are down on purpose
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        genesis = await self._reader.genesis()
        self._chain_id = await self._reader.chain_id()
        self._lifetime = genesis.parameters.lifetime_max * 9 // 10
        status = await self._reader.status()
        self._follower = asyncio.create_task(self._follow(int(status["certified_height"]) + 1))

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        for client in (*self._clients.values(), self._reader):
            await client.close()

    async def run(self, phases: Sequence[Phase]) -> None:
        """Phase after phase; raises DemoFailed when the chain stands still."""
        for phase in phases:
            await self._wait_until(phase)
            await self._run_phase(phase)

    async def _wait_until(self, phase: Phase) -> None:
        """Until the wall clock, from which block times come, has passed the phase's moment."""
        delay_s = phase.not_before_ms / 1_000 - time.time()
        if delay_s > 0:
            self._say(f"{phase.name} ({len(phase.calls)}) wait {delay_s:.0f} s, until short-lived attestations expire")
            await asyncio.sleep(delay_s + 0.5)

    async def _run_phase(self, phase: Phase) -> None:
        hashes: list[Digest] = []
        for first in range(0, len(phase.calls), BATCH):
            sent = [self._sign(call) for call in phase.calls[first : first + BATCH]]
            now = time.monotonic()
            if not self._pending:
                self._busy_since_s = now
            for item in sent:
                self._pending[item.transaction.hash] = item
                item.at_s = now
            hashes += [item.transaction.hash for item in sent]
            await self._send([item.transaction for item in sent], turn=first // BATCH)
        await self._settled(hashes)

    def _sign(self, call: PlannedCall) -> _Sent:
        transaction = sign_transaction(
            self._keys(call.signer),
            chain_id=self._chain_id,
            target=self._contracts[call.contract],
            method=call.method,
            arguments=call.arguments,
            expiry=self._reader.height + self._lifetime,
            gas_limit=GAS_LIMIT,
        )
        return _Sent(call, transaction)

    async def _send(self, transactions: Sequence[Transaction], turn: int) -> None:
        """To one node; the next takes over if it does not answer."""
        names = [name for name in self._clients if name not in self.avoid]
        raws = ["0x" + transaction.raw.hex() for transaction in transactions]
        for attempt in range(len(names)):
            client = self._clients[names[(turn + attempt) % len(names)]]
            try:
                await client.rpc("send_transactions", raws=raws)
                return
            except (NodesUnreachable, RpcFailed):
                continue

    async def _settled(self, hashes: Sequence[Digest]) -> None:
        """Waits for the certificates; sends again what does not get any further."""
        self._last_progress_s = time.monotonic()
        turn = 0
        resent_s = time.monotonic()
        while left := [transaction_hash for transaction_hash in hashes if transaction_hash in self._pending]:
            self._check_nodes()
            now = time.monotonic()
            if now - self._last_progress_s > GIVE_UP_S:
                raise DemoFailed(f"{len(left)} transactions are not certified after {GIVE_UP_S:g} s without progress")
            if now - max(self._last_progress_s, resent_s) > RESEND_S:
                resent_s = now
                self._tally.resent += len(left)
                for first in range(0, len(left), BATCH):
                    again = [
                        self._pending[held].transaction for held in left[first : first + BATCH] if held in self._pending
                    ]
                    turn += 1
                    await self._send(again, turn)
            self._changed.clear()
            try:
                async with asyncio.timeout(0.5):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _follow(self, height: int) -> None:
        """Reads every certified block once and matches its receipts."""
        while True:
            try:
                answer = await self._reader.rpc("wait_blocks", from_height=height, timeout_ms=LONG_POLL_MS)
                for block in answer["blocks"]:
                    await self._read_block(int(block["height"]))
                    height = int(block["height"]) + 1
            except (NodesUnreachable, RpcFailed):
                await asyncio.sleep(0.2)

    async def _read_block(self, height: int) -> None:
        block = await self._reader.rpc("get_block", height=height, full=True)
        now = time.monotonic()
        matched = 0
        for document in block["receipts"] or ():
            receipt = receipt_of(document)
            sent = self._pending.pop(receipt.hash, None)
            if sent is not None:
                matched += 1
                self._tally.count(sent.call, receipt, (now - sent.at_s) * 1_000)
        if matched:
            if not self._pending:
                self._tally.busy_s += now - self._busy_since_s
            self._last_progress_s = now
            self._changed.set()
            self._progress(matched)

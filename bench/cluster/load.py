"""The load generator: a process of its own that sends pre-signed transactions at their intended times.

Open loop: transaction i is due at start + i / rate whatever the chain does, and its latency counts from then, so that
a stalled chain shows as latency and not as fewer samples. It runs as `python -m bench.cluster.load`, takes one JSON job
on standard input and answers with one JSON line on standard output when it is ready and one when it is done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any, Final

import aiohttp
import msgspec
import uvloop

from bench.workloads import WORKLOADS
from chain.crypto import PrivateKey, Scheme
from chain.model.signing import sign_transaction
from chain.rpc.errors import ERRORS

TICK_S: Final = 0.01  # what is due within a tick goes out in one request
DRAIN_S: Final = 15.0  # after the last send, how long to wait for certificates
SIGNERS: Final = 64


class LoadJob(msgspec.Struct, frozen=True, kw_only=True):
    urls: tuple[str, ...]
    chain_id: str
    contract: str
    workload: str
    rate: float
    count: int
    expiry: int
    seed: int


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds since the first intended send; NaN-free: a transaction not certified has no entry."""

    due: list[float]
    certified: list[float | None]
    ok: list[bool]
    refused: dict[str, int]
    behind_ms_max: float  # how late the generator itself ever was
    cpu_s: float


def sign_all(job: LoadJob) -> list[bytes]:
    """The job's transactions, signed by several accounts in turn."""
    keys = [
        PrivateKey.from_secret(Scheme.ED25519, (job.seed * SIGNERS + at + 1).to_bytes(32, "big"))
        for at in range(SIGNERS)
    ]
    calls = WORKLOADS[job.workload]().calls(job.seed)
    chain_id, target = bytes.fromhex(job.chain_id), bytes.fromhex(job.contract)
    return [
        sign_transaction(
            keys[at % SIGNERS],
            chain_id=chain_id,
            target=target,
            method=call.method,
            arguments=call.arguments,
            expiry=job.expiry,
            gas_limit=call.gas_limit,
        ).raw
        for at, call in zip(range(job.count), calls, strict=False)
    ]


class Load:
    """One run. `Transaction`s are known by their place in the job."""

    def __init__(self, job: LoadJob, raws: list[bytes], session: aiohttp.ClientSession) -> None:
        self._job = job
        self._hex = ["0x" + raw.hex() for raw in raws]
        self._session = session
        self._place: dict[str, int] = {}
        self.certified: list[float | None] = [None] * job.count
        self.ok = [False] * job.count
        self.refused: Counter[str] = Counter()
        self.behind_s_max = 0.0
        self._open = job.count
        self._done = asyncio.Event()
        self._early: dict[str, tuple[float, bool]] = {}  # certified before the answer to the send came
        self._requests = 0

    async def call(self, url: str, method: str, **params: Any) -> Any:
        self._requests += 1
        body = json.dumps({"jsonrpc": "2.0", "id": self._requests, "method": method, "params": params})
        async with self._session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
            document = msgspec.json.decode(await answer.read())
        if "error" in document:
            raise RuntimeError(f"{method}: {document['error']}")
        return document["result"]

    async def run(self) -> None:
        """Send everything when it is due, then wait for the certificates that are still to come."""
        url = self._job.urls[0]
        height = (await self.call(url, "status"))["certified_height"]
        watcher = asyncio.create_task(self._watch(url, height + 1))
        start = time.monotonic() + 0.2
        self.start = start
        sends: set[asyncio.Task[None]] = set()
        rate, count = self._job.rate, self._job.count
        sent = turn = 0
        while sent < count:
            now = time.monotonic()
            due = min(count, int((now - start) * rate) + 1) if now >= start else 0
            if due > sent:
                self.behind_s_max = max(self.behind_s_max, now - (start + sent / rate))
                task = asyncio.create_task(self._send(self._job.urls[turn % len(self._job.urls)], sent, due))
                sends.add(task)
                task.add_done_callback(sends.discard)
                sent, turn = due, turn + 1
            await asyncio.sleep(TICK_S)
        if sends:
            await asyncio.wait(sends)
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._done.wait()
        except TimeoutError:
            pass
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

    async def _send(self, url: str, first: int, last: int) -> None:
        try:
            answer = await self.call(url, "send_transactions", raws=self._hex[first:last])
        except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
            self.refused[type(error).__name__] += last - first
            self._settle(last - first)
            return
        for place, item in enumerate(answer["results"], first):
            if item["code"]:
                self.refused[ERRORS[item["code"]][0]] += 1
                self._settle(1)
                continue
            early = self._early.pop(item["hash"], None)
            if early is not None:
                self._certify(place, *early)
            else:
                self._place[item["hash"]] = place

    async def _watch(self, url: str, height: int) -> None:
        while True:
            answer = await self.call(url, "wait_blocks", from_height=height, timeout_ms=5_000)
            now = time.monotonic() - self.start
            for block in answer["blocks"]:
                blob = block["hashes"]
                for at, status in enumerate(block["statuses"]):
                    transaction_hash = "0x" + blob[2 + 64 * at : 66 + 64 * at]
                    place = self._place.pop(transaction_hash, None)
                    if place is not None:
                        self._certify(place, now, status == 0)
                    else:
                        self._early[transaction_hash] = (now, status == 0)
            height = answer["next_height"]

    def _certify(self, place: int, at: float, ok: bool) -> None:
        self.certified[place] = at
        self.ok[place] = ok
        self._settle(1)

    def _settle(self, count: int) -> None:
        self._open -= count
        if self._open == 0:
            self._done.set()


async def _run(job: LoadJob, raws: list[bytes]) -> LoadResult:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        load = Load(job, raws, session)
        cpu = time.process_time()
        await load.run()
        return LoadResult(
            due=[at / job.rate for at in range(job.count)],
            certified=load.certified,
            ok=load.ok,
            refused=dict(load.refused),
            behind_ms_max=load.behind_s_max * 1_000,
            cpu_s=time.process_time() - cpu,
        )


def main() -> None:
    """Read the job, sign, say so, wait for the word, run, answer."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=LoadJob)
    raws = sign_all(job)
    sys.stdout.buffer.write(b'{"ready": true}\n')
    sys.stdout.buffer.flush()
    if not sys.stdin.buffer.readline():
        return  # the harness is gone
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_run(job, raws))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

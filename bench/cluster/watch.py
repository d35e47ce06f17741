"""The watching process: `python -m bench.cluster.watch` follows one node's blocks and notes when each transaction was
first seen certified.

It is a process of its own so that neither sending nor sampling delays what it sees.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from bench.cluster.children import read_line, say
from bench.cluster.parts import Share
from bench.cluster.records import COUNTERS, SEEN, HashIndex, interleave
from bench.cluster.send import Ready, Start

WAIT_MS: Final = 2_000
ANSWER_S: Final = 2.0  # beyond the wait
RETRY_S: Final = 0.05
BLOCKS: Final = 100


class WatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """`shares` are the parts of each load process. Blocks from `from_height` on are read from the first of `urls`, and
    from the next whenever one does not answer."""

    folder: str
    shares: tuple[tuple[str, ...], ...]
    urls: tuple[str, ...]
    from_height: int


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """Everything is sent: end when so many are certified, or after `drain_s`."""

    certified: int
    drain_s: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    certified: int
    cpu_s: float  # from the start of the load on
    height: int  # the last block read


class _Block(msgspec.Struct, frozen=True):
    hashes: str
    statuses: list[int]


class _Result(msgspec.Struct, frozen=True):
    blocks: list[_Block]
    next_height: int


class _Answer(msgspec.Struct, frozen=True):
    result: _Result | None = None


class Watcher:
    """Times are seconds since the start."""

    def __init__(self, job: WatchJob) -> None:
        self._job = job
        hashes = interleave([Share([Path(part) for part in parts]).hashes() for parts in job.shares])
        self._index = HashIndex(hashes)
        self.certified: NDArray[np.float64] = np.full(len(hashes), np.nan)
        self.statuses: NDArray[np.uint16] = np.zeros(len(hashes), dtype=np.uint16)
        self.count = 0
        self.height = job.from_height - 1
        self._decoder = msgspec.json.Decoder(_Answer)
        self._counters = np.memmap(Path(job.folder) / COUNTERS, dtype=np.int64, mode="r+")
        self._progress = asyncio.Event()

    async def follow(self, session: aiohttp.ClientSession, start: float) -> None:
        """Until cancelled; `start` is on the monotonic clock."""
        turn = 0
        while True:
            request = {
                "jsonrpc": "2.0", "id": 1, "method": "wait_blocks",
                "params": {"from_height": self.height + 1, "timeout_ms": WAIT_MS, "limit": BLOCKS},
            }  # fmt: skip
            try:
                url = self._job.urls[turn % len(self._job.urls)]
                async with session.post(url, data=msgspec.json.encode(request)) as response:
                    result = self._decoder.decode(await response.read()).result
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
                result = None
            if result is None:
                turn += 1
                await asyncio.sleep(RETRY_S)
            else:
                self._take(result, time.monotonic() - start)

    def _take(self, result: _Result, now: float) -> None:
        for block in result.blocks:
            if not block.statuses:
                continue
            places = self._index.places(bytes.fromhex(block.hashes[2:]))
            known = places >= 0
            places = places[known]
            fresh = np.isnan(self.certified[places])
            self.certified[places[fresh]] = now
            self.statuses[places] = np.array(block.statuses, dtype=np.uint16)[known]
            self.count += int(np.count_nonzero(fresh))
            processes = len(self._counters)
            self._counters += np.bincount(places[fresh] % processes, minlength=processes)
        self.height = result.next_height - 1
        if result.blocks:
            self._progress.set()

    async def reach(self, expected: Expect) -> None:
        """Until so many are certified or the time is over."""
        try:
            async with asyncio.timeout(expected.drain_s):
                while self.count < expected.certified:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return


async def _run(job: WatchJob) -> None:
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_MS / 1_000 + ANSWER_S)) as session:
        watcher = Watcher(job)
        say(Ready(count=len(watcher.certified)))
        start = await loop.run_in_executor(None, read_line, Start)
        if start is None:
            return
        cpu = time.process_time()
        following = asyncio.create_task(watcher.follow(session, start.at))
        expected = await loop.run_in_executor(None, read_line, Expect)
        if expected is not None:
            await watcher.reach(expected)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        cpu_s = time.process_time() - cpu
    if expected is None:
        return  # the harness is gone
    np.savez(Path(job.folder) / SEEN, certified=watcher.certified, statuses=watcher.statuses)
    say(Seen(certified=watcher.count, cpu_s=cpu_s, height=watcher.height))


def main() -> None:
    job = read_line(WatchJob)
    if job is None:
        sys.exit(0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(job))


if __name__ == "__main__":
    main()

"""A load process: `python -m bench.cluster.send` sends its share of signed transactions at their intended times.

Open loop: transaction j of process p of P is due at start + (j P + p) / rate whatever the chain does, and its latency
counts from then, so that a stalled chain shows as latency and not as fewer samples. With `in_flight_max` the loop is
closed instead: a transaction is due when it is sent, and at most so many wait for their certificate.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from bench.cluster.children import read_line, say
from bench.cluster.http import HttpError, Poster
from bench.cluster.parts import Share
from bench.cluster.records import COUNTERS, NO_ANSWER, SENT, answer_codes

TICK_S: Final = 0.01  # what is due within a tick goes out in one request, of each process in turn
BATCH_MAX: Final = 1_000  # transactions of a request
REQUESTS_MAX: Final = 200  # open at a time; what is due meanwhile waits, and its latency counts
ATTEMPTS: Final = 3  # nodes asked to take a batch, the one after the other, if one does not answer
ANSWER_S: Final = 30.0


class SendJob(msgspec.Struct, frozen=True, kw_only=True):
    """Process number `process` of `processes`; `rate` is that of all together."""

    folder: str
    parts: tuple[str, ...]
    urls: tuple[str, ...]
    process: int
    processes: int
    rate: float
    in_flight_max: int = 0  # of all processes together; 0: open loop
    until_s: float = 0.0  # of a closed loop: nothing is sent later; 0: everything is sent


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A process has everything in place."""

    count: int


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """On the monotonic clock, in seconds; all processes of a machine share it."""

    at: float


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    accepted: int
    cpu_s: float  # from the start of the load on
    behind_ms_max: float  # how late the process itself ever was


class Sender:
    """One share. Times are seconds since the start."""

    def __init__(self, job: SendJob, share: Share, start: float) -> None:
        self._job = job
        self._share = share
        self._start = start
        self._posters = [Poster(url, "/transactions", timeout_s=ANSWER_S) for url in job.urls]
        self._tick_s = TICK_S * job.processes
        self._hashes = share.hashes()
        count = len(share)
        self.due: NDArray[np.float64] = (np.arange(count) * job.processes + job.process) / job.rate
        self.answered: NDArray[np.float64] = np.full(count, np.nan)
        self.codes: NDArray[np.int32] = np.full(count, NO_ANSWER, dtype=np.int32)
        self.behind_s_max = 0.0
        counters = Path(job.folder) / COUNTERS
        self._certified = np.memmap(counters, dtype=np.int64, mode="r") if job.in_flight_max else None

    async def run(self) -> None:
        """Send everything when it is due and take the answers."""
        open_requests: set[asyncio.Task[None]] = set()
        count, sent, turn = len(self._share), 0, self._job.process
        while sent < count:
            now = time.monotonic() - self._start
            if 0 < self._job.until_s <= now:
                self.due[sent:] = np.nan  # of a closed loop: there was no time for these
                break
            last = self._last_due(now, sent)
            if last == sent:
                await asyncio.sleep(self._pause(now, sent))
                continue
            if self._certified is None:
                self.behind_s_max = max(self.behind_s_max, now - float(self.due[sent]))
            else:
                self.due[sent:last] = now
            task = asyncio.create_task(self._send(turn, sent, last))
            open_requests.add(task)
            task.add_done_callback(open_requests.discard)
            sent, turn = last, turn + 1
            while len(open_requests) >= REQUESTS_MAX:
                await asyncio.wait(open_requests, return_when=asyncio.FIRST_COMPLETED)
            if last < count and (self._certified is not None or self.due[last] > time.monotonic() - self._start):
                await asyncio.sleep(self._tick_s)
        if open_requests:
            await asyncio.wait(open_requests)
        for poster in self._posters:
            await poster.close()

    def _last_due(self, now: float, sent: int) -> int:
        """The end of what is to be sent in one request now."""
        if now < 0:
            return sent
        if self._certified is not None:
            room = self._job.in_flight_max // self._job.processes - sent + int(self._certified[self._job.process])
            return min(len(self._share), sent + max(0, min(room, BATCH_MAX)))
        due = int(np.searchsorted(self.due, now, side="right"))
        return max(sent, min(due, sent + BATCH_MAX))

    def _pause(self, now: float, sent: int) -> float:
        if self._certified is not None and now >= 0:
            return self._tick_s
        return max(0.001, float(self.due[sent]) - now)

    async def _send(self, turn: int, first: int, last: int) -> None:
        body = self._share.request(first, last)
        for attempt in range(ATTEMPTS):
            try:
                status, answer = await self._posters[(turn + attempt) % len(self._posters)].post(body)
            except HttpError:
                continue
            if status != 200:
                self.codes[first:last] = -status
                return
            self.answered[first:last] = time.monotonic() - self._start
            self.codes[first:last] = answer_codes(answer, self._hashes[first:last])
            return


async def _run(job: SendJob, share: Share) -> None:
    start = read_line(Start)
    if start is None:
        return
    cpu = time.process_time()
    sender = Sender(job, share, start.at)
    await sender.run()
    cpu_s = time.process_time() - cpu
    np.savez(Path(job.folder) / SENT.format(job.process), due=sender.due, answered=sender.answered, codes=sender.codes)
    accepted = int(np.count_nonzero(sender.codes == 0))
    say(Sent(accepted=accepted, cpu_s=cpu_s, behind_ms_max=sender.behind_s_max * 1_000))


def main() -> None:
    job = read_line(SendJob)
    if job is None:
        return
    share = Share([Path(part) for part in job.parts])
    say(Ready(count=len(share)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(job, share))


if __name__ == "__main__":
    main()

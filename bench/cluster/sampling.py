"""Looking at the nodes while they are loaded, so seldom that it costs them little: the nodes are asked in turn."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp

from bench.cluster.measure import MemorySample, NodeSample, disk_bytes, memory_of, sample, sample_all
from bench.cluster.results import Depth, Memory, NodeAt
from bench.cluster.target import Target
from chain.client import Client, NodesUnreachable
from chain.client.stages import HEIGHTS_PER_CALL
from chain.pipeline.spans import HeightSpans
from chain.types import Height

EVERY_S: Final = 1.0
HEIGHTS_BEHIND_MAX: Final = 2_000  # a node keeps the times of some 4,000 heights


class Sampler:
    """Of one load. `watched` is the number of the node whose stages are read."""

    def __init__(self, target: Target, session: aiohttp.ClientSession, *, watched: int, first_height: int) -> None:
        self._target = target
        self._session = session
        self._watched = watched
        self._next_height = first_height
        self.heights: list[HeightSpans] = []
        self.taken: list[tuple[int, NodeSample]] = []  # (number of the node, sample)

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            NodeExited: a node has ended by itself.
        """
        turn = 0
        while True:
            await asyncio.sleep(EVERY_S)
            self._target.check()
            node = turn % len(self._target.urls)
            turn += 1
            try:
                one = await sample(self._session, self._target.urls[node], self._target.pids()[node])
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
            self.taken.append((node, one))
            if one.height - self._next_height > HEIGHTS_BEHIND_MAX:
                await self.read_heights(one.height - HEIGHTS_PER_CALL)

    async def everywhere(self) -> list[NodeSample | None]:
        """All nodes now."""
        return await sample_all(self._session, self._target.urls, self._target.pids())

    async def memory(self, start_s: float) -> Memory:
        """Of all nodes now; `start_s` is the start of the load on the monotonic clock."""
        at_s = round(time.monotonic() - start_s, 2)
        pids = [pid for pid in self._target.pids() if pid is not None]
        if not pids:
            told = [one.resident_bytes for one in await self.everywhere() if one is not None]
            return Memory(at_s=at_s, resident=_mean(told))
        found: list[MemorySample] = [await asyncio.to_thread(memory_of, pid) for pid in pids]
        bare = [one.pss - one.pss_lmdb for one in found]
        return Memory(
            at_s=at_s,
            resident=_mean([one.resident for one in found]),
            pss=_mean([one.pss for one in found]),
            pss_without_lmdb=_mean(bare),
            pss_without_lmdb_max=float(max(bare)),
        )

    async def disk(self) -> float | None:
        """Bytes of a mean node; None: not known."""
        folders = self._target.data_folders()
        if not folders:
            return None
        return _mean([await asyncio.to_thread(disk_bytes, folder) for folder in folders])

    async def read_heights(self, last: int) -> None:
        """When the watched node's stages worked on the heights up to `last`, as far as it still knows."""
        try:
            async with Client(self._target.urls[self._watched]) as client:
                while self._next_height <= last:
                    answer = await client.rpc("get_stages", from_height=self._next_height, limit=HEIGHTS_PER_CALL)
                    if not answer["heights"]:
                        break
                    for item in answer["heights"]:
                        ended = [one for one in item["spans"] if one["end_us"] is not None]
                        spans = {one["stage"]: (int(one["start_us"]), int(one["end_us"])) for one in ended}
                        height = Height(int(item["height"]))
                        if height > last:
                            break
                        self.heights.append(HeightSpans(height, int(item["transactions"]), {}, spans))
                    self._next_height = int(answer["heights"][-1]["height"]) + 1
        except NodesUnreachable:
            return

    def samples(self, start_s: float) -> list[NodeAt]:
        return [
            NodeAt(
                at_s=round(one.at_s - start_s, 2),
                node=node,
                height=one.height,
                cpu_s=round(one.cpu_s, 3),
                resident=one.resident_bytes,
                pool=one.pool,
                depths=one.depths,
            )
            for node, one in self.taken
        ]

    def depths(self, first_s: float, last_s: float) -> dict[str, Depth]:
        """Of all samples between two moments of the monotonic clock."""
        found: dict[str, list[float]] = {}
        for _, one in self.taken:
            if first_s <= one.at_s < last_s:
                for name, value in one.depths.items():
                    found.setdefault(name, []).append(value)
        return {
            name: Depth(mean=round(sum(values) / len(values), 2), max=max(values)) for name, values in found.items()
        }


def _mean(values: list[int]) -> float:
    return round(sum(values) / len(values), 1) if values else 0.0

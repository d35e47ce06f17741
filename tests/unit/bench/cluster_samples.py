"""Results of bench cluster made by hand, and a server that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from bench.cluster.plan import ClusterPlan
from bench.cluster.results import (
    Counts,
    Cpu,
    Depth,
    Disk,
    HeightSpan,
    Latency,
    LoadFigures,
    Memory,
    Point,
    Result,
    Run,
    Series,
    Slices,
    Stages,
)

BOX = {
    "processor": "Abacus", "cores": 2, "memory_gib": 4.0, "system": "Linux", "python": "3.11.7", "versions": {},
    "commit": "abc1234",
    "calibration": {
        "sha256_200_bytes_us": 0.4, "ed25519_verify_us": 45.0, "ed25519_verify_lanes_us": 7.0, "two_processes_gain": 1.9
    },
}  # fmt: skip

_POINT = Point(
    role="run",
    repeat=0,
    seed=1,
    offered_tps=100.0,
    closed_loop=False,
    warmup_s=1.0,
    seconds=10.0,
    tps=100.0,
    counts=Counts(offered=1_000, accepted=1_000, ordered=1_000, certified=1_000),
    failed=2,
    failed_by_reason={"expired": 2},
    latency_ms=Latency(p50=1, p90=2, p95=3, p99=4, p999=8, max=9, mean=1.5),
    cdf=[(1.0, 0.5), (9.0, 1.0)],
    blocks=10,
    transactions_per_block=100.0,
    cpu=Cpu(us_per_tx_per_node=150.0, by_work_us={"verify": 50.0}, busy_share={"verify": 0.1}, cores_per_node=0.3),
    stages=Stages(overlap=1.5, mean_ms={"pack": 1.0}, busy_share={"pack": 0.01}),
    depths={"pool": Depth(mean=10.0, max=20.0)},
    spans=[HeightSpan(height=5, transactions=100, stages={"pack": (0, 1_000)})],
    memory=[Memory(at_s=0.0, resident=3e8, pss=2e8, pss_without_lmdb=1e8, pss_without_lmdb_max=1.1e8)],
    disk=Disk(bytes_start=0, bytes_end=500_000, bytes_per_tx=500.0),
    slices=Slices(transactions=100, tps=[100.0, 98.0], last_against_first=0.98),
    series=Series(accepted=[100], certified=[100]),
    samples=[],
    load=LoadFigures(processes=1, send_us_per_tx=10, watch_us_per_tx=2, sign_us_per_tx=60, behind_ms_max=5),
)


def point(**changed: Any) -> Point:
    return msgspec.structs.replace(_POINT, **changed)


def result(*, runs: dict[str, list[Point]]) -> Result:
    return Result(
        name="made",
        created="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        machine=BOX,
        runs=[
            Run(name=name, question="", plan=ClusterPlan(name=name).document(), points=points)
            for name, points in runs.items()
        ],
    )


@contextlib.asynccontextmanager
async def serving(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Its URL; every connection is closed at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*tasks)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The body of the next request.

    Raises:
        asyncio.IncompleteReadError: there is none; the other side has closed.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))

"""What nodes cost: CPU of their processes, CPU by kind of work, memory with and without the databases' pages, disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

DATABASE_SUFFIX: Final = b".mdb"
BLOCK_BYTES: Final = 512  # unit of st_blocks


class NodeSample(msgspec.Struct, frozen=True, kw_only=True):
    """At one moment; seconds and bytes. `cpu_s` counts the node process and what it started: as the system says where
    the node runs here, else as its metrics say."""

    at_s: float  # on the monotonic clock
    cpu_s: float
    work_s: dict[str, float]
    resident_bytes: int
    height: int
    pool: int
    depths: dict[str, float]


class MemorySample(msgspec.Struct, frozen=True, kw_only=True):
    """Of a node's processes together, bytes. PSS divides what is shared among those who share it."""

    resident: int
    pss: int
    pss_lmdb: int


def members(pid: int) -> list[psutil.Process]:
    """A process and all its living descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its living descendants."""
    total = 0.0
    for member in members(pid):
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_of(pid: int) -> MemorySample:
    """Of a process and all its living descendants."""
    resident = pss = pss_lmdb = 0
    for member in members(pid):
        try:
            resident += member.memory_info().rss
            own, own_lmdb = proportional(Path(f"/proc/{member.pid}/smaps").read_bytes())
        except (psutil.NoSuchProcess, OSError):
            continue
        pss += own
        pss_lmdb += own_lmdb
    return MemorySample(resident=resident, pss=pss, pss_lmdb=pss_lmdb)


def proportional(smaps: bytes) -> tuple[int, int]:
    """(PSS of all mappings, PSS of those of LMDB's files) of what /proc/PID/smaps says, bytes."""
    pss = pss_lmdb = 0
    is_database = False
    for line in smaps.splitlines():
        if line.startswith(b"Pss:"):
            size = int(line.split()[1]) * 1024
            pss += size
            pss_lmdb += size if is_database else 0
        elif b"-" in line.split(b" ", 1)[0]:  # the head of a mapping: START-END permissions ... path
            is_database = line.removesuffix(b" (deleted)").endswith(DATABASE_SUFFIX)
    return pss, pss_lmdb


def disk_bytes(folder: Path) -> int:
    """Blocks in use below a folder; files may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * BLOCK_BYTES
        except OSError:
            continue
    return total


async def sample(session: aiohttp.ClientSession, url: str, pid: int | None) -> NodeSample:
    """One node's metrics; `pid` None: it runs elsewhere.

    Raises:
        aiohttp.ClientError, TimeoutError: it does not answer.
    """
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    at_s = time.monotonic()
    cpu_s = await asyncio.to_thread(cpu_seconds, pid) if pid is not None else None
    return parse_metrics(text, at_s=at_s, cpu_s=cpu_s)


def parse_metrics(text: str, *, at_s: float, cpu_s: float | None) -> NodeSample:
    """The sample in a node's metrics; without `cpu_s` CPU is what they say of the node and its executors."""
    plain: dict[str, float] = {}
    work: dict[str, float] = {}
    depths: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for item in family.samples:
            if item.name == "headrace_pipeline_cpu_seconds_total":
                work[item.labels["work"]] = item.value
            elif item.name == "headrace_pipeline_stage_depth_items":
                depths[item.labels["stage"]] = item.value
            elif not item.labels:
                plain[item.name] = item.value
    depths["pool"] = plain.get("headrace_pool_transactions", 0.0)
    depths["pool_waiting"] = plain.get("headrace_pool_waiting_transactions", 0.0)
    told = plain.get("headrace_node_cpu_seconds_total", 0.0) + plain.get("headrace_executor_cpu_seconds_total", 0.0)
    return NodeSample(
        at_s=at_s,
        cpu_s=told if cpu_s is None else cpu_s,
        work_s=work,
        resident_bytes=int(plain.get("headrace_node_resident_bytes", 0)),
        height=int(plain.get("headrace_store_height", 0)),
        pool=int(depths["pool"]),
        depths=depths,
    )


async def sample_all(
    session: aiohttp.ClientSession, urls: Sequence[str], pids: Sequence[int | None]
) -> list[NodeSample | None]:
    """All nodes at about one moment; None for one that does not answer."""

    async def one(url: str, pid: int | None) -> NodeSample | None:
        try:
            return await sample(session, url, pid)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    return list(await asyncio.gather(*[one(url, pid) for url, pid in zip(urls, pids, strict=True)]))

"""What a run cost: CPU of every node's processes, CPU by kind of work, memory."""

from __future__ import annotations

import aiohttp
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families


class NodeSample(msgspec.Struct, frozen=True, kw_only=True):
    """At one moment; seconds and bytes. CPU counts the node process and its executors, ended ones included."""

    cpu_s: float
    work_s: dict[str, float]
    resident_bytes: int
    height: int


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its living descendants."""
    process = psutil.Process(pid)
    total = 0.0
    for member in (process, *process.children(recursive=True)):
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def resident_bytes(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))


async def sample(session: aiohttp.ClientSession, url: str, pid: int) -> NodeSample:
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    work: dict[str, float] = {}
    height = 0
    for family in text_string_to_metric_families(text):
        for item in family.samples:
            if item.name == "headrace_pipeline_cpu_seconds_total":
                work[item.labels["work"]] = item.value
            elif item.name == "headrace_store_height":
                height = int(item.value)
    return NodeSample(cpu_s=cpu_seconds(pid), work_s=work, resident_bytes=resident_bytes(pid), height=height)

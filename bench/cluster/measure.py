"""What a run cost: CPU of every node's processes, CPU by kind of work, stage overlap, and the machine it ran on."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

from chain.crypto import PrivateKey, Scheme, verify_batch

PACKAGES = ("cryptography", "msgpack", "lmdb", "uvloop", "numba", "msgspec", "PyNaCl", "coincurve", "aiohttp")


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


def machine() -> dict[str, Any]:
    """The box, its speed at the two things a node does most, and the versions that ran."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "calibration": {"sha256_200_bytes_us": _hash_us(), "ed25519_verify_us": _verify_us()},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=5,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _hash_us() -> float:
    data, rounds = bytes(200), 50_000
    start = time.process_time()
    for _ in range(rounds):
        hashlib.sha256(data).digest()
    return round((time.process_time() - start) / rounds * 1e6, 3)


def _verify_us() -> float:
    key = PrivateKey.from_secret(Scheme.ED25519, bytes(31) + b"\x01")
    message = bytes(32)
    items = [(int(Scheme.ED25519), key.public_key, message, key.sign(message))] * 500
    start = time.process_time()
    verify_batch(items)
    return round((time.process_time() - start) / len(items) * 1e6, 1)

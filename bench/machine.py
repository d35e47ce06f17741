"""The box a benchmark ran on: what it is, how fast at the two things a node does most, and the versions that ran."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from chain.crypto import PrivateKey, Scheme
from chain.crypto.batches import LIBRARIES, Checker, checker_of

SIGNATURES: Final = 256  # of a batch
SECONDS: Final = 0.3  # of each measurement
SPIN_LEAD_S: Final = 0.15  # for both processes to be there
SPIN: Final = """
import sys, time
start, end = float(sys.argv[1]), float(sys.argv[2])
while time.monotonic() < start:
    pass
rounds = 0
while time.monotonic() < end:
    rounds += sum(range(1000)) > 0
print(rounds)
"""
PACKAGES: Final = ("cryptography", "msgpack", "lmdb", "uvloop", "numba", "msgspec", "PyNaCl", "coincurve", "aiohttp")


def machine() -> dict[str, Any]:
    """The fields that every report carries. Takes some two seconds; what is measured wants a quiet machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "load_average": round(os.getloadavg()[0], 2),
        "calibration": {
            "sha256_200_bytes_us": _hash_us(),
            "ed25519_verify_us": _verify_us(LIBRARIES),
            "ed25519_verify_lanes_us": _lanes_us(),
            "two_processes_gain": two_processes_gain(),
        },
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
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
    data, rounds = bytes(200), 100_000
    start = time.process_time()
    for _ in range(rounds):
        hashlib.sha256(data).digest()
    return round((time.process_time() - start) / rounds * 1e6, 3)


def _verify_us(checker: Checker) -> float:
    """A signature in a batch; CPU of the calling process."""
    key = PrivateKey.from_secret(Scheme.ED25519, bytes(31) + b"\x01")
    message = bytes(32)
    items = [(int(Scheme.ED25519), key.public_key, message, key.sign(message))] * SIGNATURES
    checker.check(items)  # what is loaded or compiled at first use does not count
    rounds, start = 0, time.process_time()
    while (spent := time.process_time() - start) < SECONDS:
        checker.check(items)
        rounds += 1
    return round(spent / rounds / len(items) * 1e6, 1)


def _lanes_us() -> float | None:
    """The same by the lanes kernel; None: this processor has none."""
    checker = checker_of("auto")
    return None if checker is LIBRARIES else _verify_us(checker)


def two_processes_gain() -> float:
    """How much two busy processes get done at once, against one alone: near 2 on two cores that nobody else uses.

    Below 1.8 the figures of a run on this machine say as much about its other users.
    """
    alone = sum(_spin(1))
    return round(sum(_spin(2)) / alone, 2)


def _spin(processes: int) -> list[int]:
    """Rounds that each of so many processes made in the same stretch of time."""
    start = time.monotonic() + SPIN_LEAD_S
    command = [sys.executable, "-I", "-S", "-c", SPIN, str(start), str(start + SECONDS)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [int(process.communicate(timeout=30)[0]) for process in running]

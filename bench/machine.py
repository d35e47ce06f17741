"""The box a benchmark ran on: what it is, how fast at the two things a node does most, and the versions that ran."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from chain.crypto import PrivateKey, Scheme, verify_batch

PACKAGES: Final = ("cryptography", "msgpack", "lmdb", "uvloop", "numba", "msgspec", "PyNaCl", "coincurve", "aiohttp")


def machine() -> dict[str, Any]:
    """The fields that every report carries."""
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

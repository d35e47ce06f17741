"""Starts a node whose wall clock the harness can move: `python -m bench.chaos.launch CLOCK CONFIG`.

CLOCK is a file of eight bytes, the offset in milliseconds, signed and little-endian, which the harness rewrites while
the node runs. Everything else is `headrace node run --config CONFIG`: the node itself knows nothing of this.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from chain.cli.main import main

OFFSET = struct.Struct("<q")


def set_offset(path: Path, offset_ms: int) -> None:
    """Move the clock of the node that was started with this file."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.write(OFFSET.pack(offset_ms))


def _moved_clock(path: Path) -> tuple[Callable[[], int], Callable[[], float]]:
    file = path.open("rb")  # stays open with the process
    view = mmap.mmap(file.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    real_ns, real_s = time.time_ns, time.time

    def time_ns() -> int:
        return real_ns() + 1_000_000 * int(OFFSET.unpack_from(view)[0])

    def time_s() -> float:
        return real_s() + int(OFFSET.unpack_from(view)[0]) / 1_000

    return time_ns, time_s


if __name__ == "__main__":
    time.time_ns, time.time = _moved_clock(Path(sys.argv[1]))
    sys.exit(main(["node", "run", "--config", sys.argv[2]]))

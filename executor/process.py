"""Starting an executor process and watching where it is: the node's half of `executor.worker`."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

_PLACE: Final = struct.Struct("<qq")  # height, position in the block
POLL_S: Final = 0.005
SOCKET_BYTES: Final = 4 * 1024 * 1024  # a block fits, so nobody waits for its reader; the system may give less
PROGRESS_BYTES: Final = _PLACE.size
_ROOT: Final = Path(__file__).resolve().parent.parent
NOWHERE: Final = (0, -1)
READY: Final = -2  # the position of an executor that has started and waits for its first share


class SharedProgress:
    """A place in memory that an executor writes and its parent reads, also after the executor was killed."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, PROGRESS_BYTES)

    def enter(self, height: int, position: int) -> None:
        _PLACE.pack_into(self._map, 0, height, position)

    def place(self) -> tuple[int, int]:
        """(height, position) last entered."""
        height, position = _PLACE.unpack_from(self._map, 0)
        return height, position

    def close(self) -> None:
        self._map.close()


class NoProgress:
    """Where nobody watches."""

    def enter(self, height: int, position: int) -> None:
        pass


class ExecutorProcess:
    """A running executor: its process, the node's end of its socket, and what it last worked on."""

    def __init__(self, *, control: socket.socket | None = None) -> None:
        """Start one. It inherits nothing but its end of a socket pair, a shared progress mark and, for the lead, the
        far end of `control`, over which it gets the sockets of the others.

        Raises:
            OSError: the system starts no more processes.
        """
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        with theirs, _shared_file() as shared:
            shared.truncate(PROGRESS_BYTES)
            self.progress = SharedProgress(shared.fileno())
            self.progress.enter(*NOWHERE)
            descriptors = [theirs.fileno(), shared.fileno(), *([control.fileno()] if control is not None else [])]
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "executor.worker", str(os.getpid()), *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """End it at once, whatever it does. Its socket is the caller's to close."""
        self.process.kill()
        self.process.wait()
        self.progress.close()

    async def wait(self, timeout_s: float) -> None:
        """Until it has ended by itself (its socket is closed), or the time is over and it is ended."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.alive and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(POLL_S)
        self.end()


def _environment() -> dict[str, str]:
    """The node's, plus the folder this package was imported from; numeric libraries are to start no threads, which the
    sandbox would refuse."""
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "PYTHONPATH": str(_ROOT) + (os.pathsep + known if known else ""),
    }


def _shared_file() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("headrace-progress"), "w+b")
    return tempfile.TemporaryFile()

"""Batches of signatures checked in processes of their own, behind the interface of `chain.crypto.batches.Checker`.

A batch is one frame to a worker and one frame back:

    request   4 bytes length, then msgpack: a list of [scheme, public key, message, signature]
    answer    8 bytes CPU time of the worker so far in microseconds, then one byte an item: 1 accepted, 0 refused

A worker ends when its standard input does, so it cannot outlive its node; Ctrl-C of a terminal is left to the node.
"""

from __future__ import annotations

import os
import queue
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from chain.crypto.schemes import Item
from chain.errors import InvariantError

WORKERS_MAX: Final = 64
END_S: Final = 5.0  # for a worker to end by itself
FRAME_BYTES_MAX: Final = 2**28
_LENGTH: Final = struct.Struct("<I")
_CPU: Final = struct.Struct("<Q")
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[tuple[int, bytes, bytes, bytes]])


class _Worker:
    """A running process; one thread at a time talks to it."""

    def __init__(self, kernel: str) -> None:
        known = os.environ.get("PYTHONPATH")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "chain.crypto.verify_pool", kernel],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_ROOT) + (os.pathsep + known if known else "")},
        )
        self.cpu_us = 0

    def check(self, items: Sequence[Item]) -> list[bool]:
        """Raises OSError: the worker has ended."""
        source, sink = self.process.stdout, self.process.stdin
        if source is None or sink is None:
            raise InvariantError("a worker without pipes")
        frame = _encoder.encode(items)
        sink.write(_LENGTH.pack(len(frame)) + frame)
        sink.flush()
        answer = source.read(_CPU.size + len(items))
        if len(answer) != _CPU.size + len(items):
            raise BrokenPipeError("a worker ended in the middle of a batch")
        (self.cpu_us,) = _CPU.unpack_from(answer)
        return [verdict == 1 for verdict in answer[_CPU.size :]]

    def end(self) -> None:
        """By itself if it can, by force after `END_S`."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # it is gone, and what was on its way with it
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class VerifyPool:
    """So many workers. `check` may be called by any number of threads; each has a worker for the length of a batch.

    A worker that ended is replaced and its batch checked again, once.
    """

    def __init__(self, workers: int, kernel: str) -> None:
        """`kernel` as in `chain.crypto.batches.checker_of`. Returns when the workers answer.

        Raises:
            InvariantError: a worker ends before it has answered.
        """
        if not 1 <= workers <= WORKERS_MAX:
            raise InvariantError(f"{workers} workers, must be 1..{WORKERS_MAX}")
        self._kernel = kernel
        self._all = [_Worker(kernel) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._gone_cpu_us = 0
        for worker in self._all:
            self._idle.put(worker)
        try:
            for worker in self._all:
                worker.check(())
        except OSError:
            self.close()
            raise InvariantError("a process that checks signatures does not start") from None

    @property
    def cpu_us(self) -> int:
        """CPU time of all workers so far, in microseconds."""
        return self._gone_cpu_us + sum(worker.cpu_us for worker in self._all)

    def check(self, items: Sequence[Item]) -> list[bool]:
        """The verdict of each item, in order.

        Raises:
            InvariantError: two workers in a row ended over this batch.
        """
        if not items:
            return []
        worker = self._idle.get()
        try:
            try:
                return worker.check(items)
            except OSError:
                worker = self._replace(worker)
                return worker.check(items)
        except OSError:
            raise InvariantError("two processes in a row ended while they checked signatures") from None
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers. No `check` may be under way."""
        for worker in self._all:
            worker.end()

    def _replace(self, worker: _Worker) -> _Worker:
        fresh = _Worker(self._kernel)
        self._gone_cpu_us += worker.cpu_us
        self._all[self._all.index(worker)] = fresh
        worker.end()
        return fresh


def serve(source: IO[bytes], sink: IO[bytes], check: Callable[[Sequence[Item]], list[bool]]) -> None:
    """Answer batches until the input ends."""
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if length > FRAME_BYTES_MAX:
            return
        frame = source.read(length)
        if len(frame) != length:
            return
        items = _decoder.decode(frame)
        verdicts = bytes(check(items)) if items else b""
        sink.write(_CPU.pack(time.process_time_ns() // 1_000) + verdicts)
        sink.flush()


def main() -> None:
    """One worker: `python -m chain.crypto.verify_pool KERNEL`."""
    from chain.crypto.batches import checker_of

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer, checker_of(sys.argv[1]).check)
    except BrokenPipeError:  # the node is gone
        os._exit(0)


if __name__ == "__main__":
    main()

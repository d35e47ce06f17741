"""A state that remembers what one transaction asked it for, and how that compares with what was predicted."""

from __future__ import annotations

from typing import Protocol

from contracts.runtime import Outcome
from contracts.system.registry import SYSTEM_ADDRESS
from executor.summary import Mode

EVERYTHING = b"everything"


class Base(Protocol):
    """What lies beneath."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]: ...


class Recorder:
    """Every read and scan of one transaction; `peek` is no read."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self.reads: set[bytes] = set()
        self.scans: set[bytes] = set()

    def get(self, key: bytes) -> bytes | None:
        self.reads.add(key)
        return self._base.get(key)

    def peek(self, key: bytes) -> bytes | None:
        return self._base.get(key)

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self.scans.add(prefix)
        return self._base.scan(prefix, limit)


def missed(predicted: dict[bytes, int], seen: Recorder, outcome: Outcome) -> set[tuple[str, bytes]]:
    """What the transaction touched and nobody predicted; code and names, which every call reads, are left out."""
    added = {key for key, add in outcome.adds.items() if add.delta is not None}
    touched = {("read", key): Mode.READ for key in seen.reads | seen.scans}
    touched |= {("write", key): Mode.WRITE for key in outcome.writes.keys() - added}
    touched |= {("add", key): Mode.ADD for key in added}
    return {
        (kind, key)
        for (kind, key), mode in touched.items()
        if not key.startswith(SYSTEM_ADDRESS) and not _covered(predicted, key, mode)
    }


def touched_keys(seen: Recorder, outcome: Outcome) -> set[bytes]:
    """All keys and prefixes of the transaction, without code and names."""
    keys = seen.reads | seen.scans | outcome.writes.keys() | outcome.adds.keys()
    return {key for key in keys if not key.startswith(SYSTEM_ADDRESS)}


def _covered(predicted: dict[bytes, int], key: bytes, mode: int) -> bool:
    """An add is covered by a write, too. A group covers what begins with its name."""
    wanted = mode | Mode.WRITE if mode == Mode.ADD else mode
    for name in (EVERYTHING, key):
        if predicted.get(name, 0) & wanted:
            return True
    return any(predicted.get(key[:length], 0) & wanted for length in range(20, len(key)))

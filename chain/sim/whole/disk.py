"""The disk of one node: what survives its processes, and what a disk does wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from chain.sim.whole.loop import PowerLost
from chain.store import environment
from chain.store.memory import DiskFull, MemoryEnvironment, MemoryFile, Tables

STORE_POWER: Final = 10  # blocks and state are written that much more seldom than the journal
KINDS: Final = ("blocks", "journal", "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFaults:
    """Times in milliseconds, (least, most); rates per 100,000 commits."""

    journal_ms: tuple[int, int]  # a write of the journal
    store_ms: tuple[int, int]  # a write of blocks and state
    slow_ms: tuple[int, int]  # on top, while the disk is slow
    power_rate: int  # the power goes at this very commit, just before or just after it


class SimDisk:
    """Three environments under one folder.

    `watch(kind, before, after)` is told of every commit that has reached the disk. A commit is whole or not there, as
    LMDB promises; the machine may stop between any two of them.
    """

    def __init__(self, folder: Path, random: Random, watch: Callable[[str, Tables, Tables], None]) -> None:
        self.folder = folder
        self.random = random
        self.slow = False
        self.full = False
        self.refused = False  # a commit, since the process that runs now began
        self.power_rate = 0
        self.files: dict[str, MemoryFile] = {
            kind: MemoryFile(at_commit=partial(self._at_commit, kind), on_commit=_watcher(kind, watch))
            for kind in KINDS
        }
        environment.openers[folder] = self._open

    def close(self) -> None:
        """The run is over."""
        environment.openers.pop(self.folder, None)

    def crash(self) -> None:
        for file in self.files.values():
            file.crash()

    def tables(self, kind: str) -> Tables:
        """What is durable."""
        return self.files[kind].durable

    def _open(self, path: str, **options: Any) -> MemoryEnvironment:
        return self.files[Path(path).name].open(path, **options)

    def _at_commit(self, kind: str, when: Literal["before", "after"]) -> None:
        if self.full and when == "before":
            self.refused = True
            raise DiskFull("no space left on device")
        rate = self.power_rate if kind == "journal" else STORE_POWER * self.power_rate
        if rate and self.random.randrange(200_000) < rate:
            raise PowerLost(f"{when} a commit")


def _watcher(kind: str, watch: Callable[[str, Tables, Tables], None]) -> Callable[[Tables, Tables], None]:
    return lambda before, after: watch(kind, before, after)

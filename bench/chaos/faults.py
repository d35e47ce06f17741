"""What is done to the nodes: drawn from a seed, injected, healed."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.chaos.launch import set_offset
from bench.chaos.proxy import Fabric
from chain.cli.processes import NetworkProcesses, Running
from chain.node.consortium import NetworkInfo

KINDS: Final = {
    "kill": "SIGKILL to the node and its executors, started again",
    "freeze": "SIGSTOP to the node and its executors, then SIGCONT",
    "partition": "nothing passes between the node and the others",
    "mute": "nothing that the node sends arrives",
    "deaf": "nothing that is sent to the node arrives",
    "slow": "everything to and from the node is delayed",
    "cut": "its connections are reset, again and again",
    "disk_full": "the operating system lets none of its files grow; when it has stopped it gets room and is started",
    "clock": "its wall clock jumps, and later back",
    "power": "all nodes are killed at once and started again",
}
CUT_EVERY_S: Final = 0.3
DISK_WAIT_S: Final = 30.0  # for a node without room to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: `amount` is milliseconds of delay or of the clock's jump, where the kind has one."""

    kind: str
    node: str  # empty: all
    seconds: float
    pause_s: float  # of quiet before it
    amount: int = 0


def draw_faults(seed: int, nodes: Sequence[str], kinds: Sequence[str]) -> Iterator[Fault]:
    """Endless: each kind once in every round, in an order and on nodes that the seed decides."""
    draw = random.Random(seed)
    while True:
        for kind in draw.sample(list(kinds), len(kinds)):
            amount = 0
            if kind == "slow":
                amount = draw.choice((20, 100, 300))
            elif kind == "clock":
                amount = draw.choice((-600_000, -5_000, 3_000, 30_000, 3_600_000))
            yield Fault(
                kind=kind,
                node="" if kind == "power" else draw.choice(list(nodes)),
                seconds=round(draw.uniform(0.5, 4.0), 2),
                pause_s=round(draw.uniform(0.3, 1.5), 2),
                amount=amount,
            )


class Injector:
    """Injects faults into one network and takes them back. `heal_all` leaves nothing frozen, cut or down."""

    def __init__(
        self, network: NetworkInfo, processes: NetworkProcesses, fabric: Fabric, clock_of: Callable[[str], Path]
    ) -> None:
        self._network = network
        self._processes = processes
        self._fabric = fabric
        self._clock_of = clock_of
        self._frozen: set[str] = set()
        self.ended_by_itself: dict[str, int] = {}  # exit codes of nodes whose disk was full

    async def inject(self, fault: Fault) -> None:
        """The whole fault: it is over and healed on return, the node may still be coming back."""
        name = fault.node
        match fault.kind:
            case "kill":
                await self._processes.kill(name)
                await asyncio.sleep(fault.seconds)
                self._processes.start(name)
            case "freeze":
                self._freeze(name)
                await asyncio.sleep(fault.seconds)
                self._thaw(name)
            case "partition" | "mute" | "deaf":
                self._fabric.isolate(name, sends=fault.kind == "deaf", hears=fault.kind == "mute")
                await asyncio.sleep(fault.seconds)
                self._fabric.heal()
            case "slow":
                for link in self._fabric.of(name):
                    link.slow(fault.amount)
                await asyncio.sleep(fault.seconds)
                self._fabric.heal()
            case "cut":
                await self._cut(name, fault.seconds)
            case "disk_full":
                await self._fill(name, fault.seconds)
            case "clock":
                set_offset(self._clock_of(name), fault.amount)
                await asyncio.sleep(fault.seconds)
                set_offset(self._clock_of(name), 0)
            case "power":
                names = [node.name for node in self._network.nodes]
                await asyncio.gather(*(self._processes.kill(each) for each in names))
                await asyncio.sleep(fault.seconds)
                for each in names:
                    self._processes.start(each)

    async def heal_all(self) -> None:
        """Everything runs, hears and sends again, with room and the right time."""
        self._fabric.heal()
        for name in list(self._frozen):
            self._thaw(name)
        for node in self._network.nodes:
            set_offset(self._clock_of(node.name), 0)
            running = self._processes.running(node.name)
            if running is None:
                self._processes.start(node.name)
            else:
                _limit_files(running, resource.RLIM_INFINITY)

    def thaw_all(self) -> None:
        """Frozen processes cannot stop: before the end."""
        for name in list(self._frozen):
            self._thaw(name)

    def _freeze(self, name: str) -> None:
        self._frozen.add(name)
        self._signal(name, signal.SIGSTOP)

    def _thaw(self, name: str) -> None:
        self._frozen.discard(name)
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        """To the whole group: a node leads one, its executors are in it."""
        running = self._processes.running(name)
        if running is not None:
            os.killpg(running.pid, number)

    async def _cut(self, name: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            for link in self._fabric.of(name):
                link.cut()
            await asyncio.sleep(CUT_EVERY_S / 2)
            self._fabric.heal()
            await asyncio.sleep(CUT_EVERY_S)

    async def _fill(self, name: str, seconds: float) -> None:
        """RLIMIT_FSIZE at the size of its largest file: the next write that grows it fails, as on a full disk."""
        running = self._processes.running(name)
        if running is None:
            return
        data = self._network.node(name).folder / "data"
        largest = max((path.stat().st_size for path in data.rglob("*") if path.is_file()), default=0)
        _limit_files(running, largest)
        loop = asyncio.get_running_loop()
        end = loop.time() + DISK_WAIT_S
        while self._processes.running(name) is not None and loop.time() < end:
            await asyncio.sleep(0.1)
        if self._processes.running(name) is None:
            self.ended_by_itself[name] = self._processes.exit_code(name) or 0
            await asyncio.sleep(seconds)
            self._processes.start(name)
        else:
            _limit_files(running, resource.RLIM_INFINITY)


def _limit_files(running: Running, size: int) -> None:
    """How large any file of a process may become; the hard limit stays, so that it can be taken back."""
    try:
        process = psutil.Process(running.pid)
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
    except psutil.Error:
        return  # it has just ended

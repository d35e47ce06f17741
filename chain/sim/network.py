"""Links between nodes: delay, loss, duplication, reordering, one-way partitions.

A link that lost a message comes back later, and both ends are told, as after a broken TCP connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

from chain.sim.clock import Clock
from chain.sim.faults import NetworkFaults

Link = tuple[int, int]  # slots of source and target
REQUEST_TIMEOUT_MS = 1_000


class Endpoint(Protocol):
    """What the network needs of a node."""

    alive: bool

    @property
    def frozen(self) -> bool: ...

    def receive(self, source: int, data: bytes) -> None: ...

    def connected(self, peer: int) -> None: ...


class Network:
    """Carries bytes between slots; a slot is a process, which is a validator except where there are twins."""

    def __init__(self, clock: Clock, random: Random, faults: NetworkFaults) -> None:
        self.faults = faults
        self.blocked: set[Link] = set()
        self.endpoints: list[Endpoint] = []
        self.sent = 0
        self.lost = 0
        self.duplicated = 0
        self.in_flight = 0
        self._clock = clock
        self._random = random
        self._broken: dict[Link, bool] = {}  # (low, high); True while a reconnection is under way

    def delay(self) -> int:
        faults, random = self.faults, self._random
        if faults.straggler_rate and random.randrange(1_000) < faults.straggler_rate:
            return random.randint(*faults.straggler_ms)
        return random.randint(*faults.delay_ms)

    def passes(self, source: int, target: int) -> bool:
        return (source, target) not in self.blocked and self.endpoints[target].alive

    def send(self, source: int, target: int, data: bytes) -> None:
        self.sent += 1
        copies = 1
        if self.faults.duplication_rate and self._random.randrange(1_000) < self.faults.duplication_rate:
            self.duplicated += 1
            copies = 2
        for _ in range(copies):
            self.in_flight += 1
            self._clock.after(self.delay(), lambda: self._arrive(source, target, data))

    def _arrive(self, source: int, target: int, data: bytes) -> None:
        self.in_flight -= 1
        lost = self.faults.loss_rate and self._random.randrange(1_000) < self.faults.loss_rate
        if lost or not self.passes(source, target):
            self.lost += 1
            self.breaks(source, target)
            return
        self.endpoints[target].receive(source, data)

    def request(
        self, source: int, target: int, compute: Callable[[], bytes | None], answer: Callable[[bytes | None], None]
    ) -> None:
        """Ask the node at `target`; `answer(None)` where either way is lost or it has nothing to say."""

        def arrived() -> None:
            reached = self.passes(source, target) and not self.endpoints[target].frozen
            data = compute() if reached else None
            if data is None:
                self._clock.after(REQUEST_TIMEOUT_MS // 4, lambda: answer(None))
                return
            self._clock.after(self.delay(), lambda: answer(data if self.passes(target, source) else None))

        self._clock.after(self.delay(), arrived)

    def breaks(self, one: int, other: int) -> None:
        """A message between them was lost: the connection is gone until it can be made anew."""
        link = (min(one, other), max(one, other))
        if self._broken.get(link):
            return
        self._broken[link] = True
        self._clock.after(self._random.randint(*self.faults.reconnect_ms), lambda: self._reconnect(link))

    def _reconnect(self, link: Link) -> None:
        one, other = link
        if not (self.passes(one, other) and self.passes(other, one)):
            self._broken[link] = False  # stays broken until `retry`
            return
        del self._broken[link]
        self.endpoints[one].connected(other)
        self.endpoints[other].connected(one)

    def retry(self) -> None:
        """Something was healed or restarted: try every broken link again."""
        for link in sorted(self._broken):
            if not self._broken[link]:
                self._broken[link] = True
                self._clock.after(self._random.randint(*self.faults.reconnect_ms), partial(self._reconnect, link))

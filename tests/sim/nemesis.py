"""The hand of fate: crashes, partitions, clocks and disks, struck at random moments of the chaos phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chain.types import View

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.world import World


class Nemesis:
    """One method a kind of fault; `counts` says how often each struck."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts: dict[str, int] = {}
        self.active = False

    def start(self) -> None:
        self.active = True
        self._schedule()

    def _schedule(self) -> None:
        world = self._world

        def strike() -> None:
            if self.active:
                self.strike(world.random.choice(world.plan.strikes))
                self._schedule()

        world.clock.after(world.random.randint(*world.plan.strike_ms), strike)

    def strike(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._world.trace.add(self._world.clock.now, "****", kind)
        getattr(self, kind)()

    def _any(self, *, alive: bool) -> SimNode | None:
        nodes = [node for node in self._world.nodes if node.alive is alive]
        return self._world.random.choice(nodes) if nodes else None

    def crash(self) -> None:
        node = self._any(alive=True)
        if node is not None:
            node.crash()

    def crash_leader(self) -> None:
        """Whoever leads the highest view that anybody is in."""
        alive = [node for node in self._world.nodes if node.alive]
        if alive:
            leader = self._world.validators.leader(View(max(node.view for node in alive)))
            for node in alive:
                if node.validator == leader:
                    node.crash()

    def freeze(self) -> None:
        """A process stands still while its connections live; then it goes on as if nothing had been."""
        node = self._any(alive=True)
        if node is not None:
            node.frozen_until = self._world.clock.now + self._world.random.choice((50, 500, 4_000))

    def crash_all(self) -> None:
        for node in self._world.nodes:
            if node.alive:
                node.crash()

    def restart(self) -> None:
        node = self._any(alive=False)
        if node is not None:
            node.boot()
            self._world.network.retry()

    def isolate(self) -> None:
        node = self._world.random.choice(self._world.nodes)
        self.cut([node.slot])

    def split(self) -> None:
        slots = [node.slot for node in self._world.nodes]
        self._world.random.shuffle(slots)
        self.cut(slots[: self._world.random.randint(1, len(slots) - 1)])

    def cut(self, side: list[int]) -> None:
        """No message passes between `side` and the rest, either way."""
        others = [node.slot for node in self._world.nodes if node.slot not in side]
        for one in side:
            for other in others:
                self._world.network.blocked |= {(one, other), (other, one)}

    def one_way(self) -> None:
        """A node hears but is not heard, or the other way round; by all, or by some."""
        random = self._world.random
        node = random.choice(self._world.nodes)
        deaf = random.random() < 0.5
        for other in self._world.nodes:
            if other is not node and random.random() < 0.8:
                self._world.network.blocked.add((other.slot, node.slot) if deaf else (node.slot, other.slot))

    def heal(self) -> None:
        self._world.network.blocked.clear()
        self._world.network.retry()

    def skew(self) -> None:
        node = self._world.random.choice(self._world.nodes)
        bound = self._world.plan.node.skew_ms_max
        node.skew_ms = self._world.random.randint(-bound, bound)

    def slow_disk(self) -> None:
        node = self._world.random.choice(self._world.nodes)
        node.disk_slow = not node.disk_slow

    def regroup(self) -> None:
        """Twins speak to other halves from now on."""
        self._world.byzantine.regroup()

    def end(self) -> None:
        """Everything heals and every node runs."""
        self.active = False
        self._world.trace.add(self._world.clock.now, "****", "calm")
        self._world.network.blocked.clear()
        for node in self._world.nodes:
            node.disk_slow = False
            node.frozen_until = 0
            node.skew_ms = max(-1_000, min(1_000, node.skew_ms))
        for node in self._world.nodes:
            if not node.alive:
                node.boot()
        self._world.network.retry()

"""The hand of fate: crashes, partitions, clocks and disks, struck at random moments of the chaos phase."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from consensus.messages import Commit, Message, Prepare

if TYPE_CHECKING:
    from chain.sim.node import SimNode
    from chain.sim.world import World


@dataclass(slots=True)
class _Stranded:
    """Up to `view` only the node at `slot` hears prepares, and nobody hears commits."""

    slot: int
    view: int
    cut_off: bool = False


class Nemesis:
    """One method a kind of fault; `counts` says how often each struck."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts: dict[str, int] = {}
        self.active = False
        self._stranded: _Stranded | None = None

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
            leader = max(alive, key=lambda node: node.place).replica.leader
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

    def strand(self) -> None:
        """One node alone prepares what is proposed for a while. Then nobody hears it for so long that the others go on
        to a view in which nothing is known of that."""
        world = self._world
        if self._stranded is None:
            lucky = world.random.choice(world.nodes)
            self._stranded = _Stranded(lucky.slot, max(node.view for node in world.nodes))
            prepares_ms = world.random.choice((100, 400, 1_500))
            world.clock.after(prepares_ms, self._cut_off)
            world.clock.after(prepares_ms + 3 * world.plan.timers.view_timeout_ms + 500, self._rescue)

    def _cut_off(self) -> None:
        if self._stranded is not None:
            self._stranded.cut_off = True

    def _rescue(self) -> None:
        """What was lost is made up for by new connections, as with any loss."""
        if self._stranded is not None:
            self._stranded = None
            for one, other in combinations(range(len(self._world.nodes)), 2):
                self._world.network.breaks(one, other)

    def swallows(self, source: SimNode, target: SimNode, message: Message) -> bool:
        """Whether `message` does not arrive although the two are connected."""
        if self._stranded is None:
            return False
        lucky, view = self._stranded.slot, self._stranded.view
        if self._stranded.cut_off and lucky in (source.slot, target.slot):
            return True
        if not isinstance(message, Prepare | Commit) or message.view > view:
            return False
        return isinstance(message, Commit) or target.slot != lucky

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
        self._rescue()
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

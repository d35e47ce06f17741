"""The hand of fate for whole nodes: one method a kind of strike, named in `plan.STRIKES`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chain.sim.whole.network import SILENCE_US

if TYPE_CHECKING:
    from chain.sim.whole.member import Member
    from chain.sim.whole.world import World


class Nemesis:
    """`counts` says how often each kind struck."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts: dict[str, int] = {}

    async def run(self) -> None:
        world = self._world
        while world.chaos:
            await asyncio.sleep(world.random.randint(*world.plan.strike_ms) / 1_000)
            if world.chaos:
                self.strike(world.random.choice(world.plan.strikes))

    def strike(self, kind: str) -> None:
        self.count(kind)
        self._world.tell("****", kind)
        getattr(self, kind)()

    def count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def _any(self, *, alive: bool) -> Member | None:
        members = [member for member in self._world.members if member.process.alive is alive]
        return self._world.random.choice(members) if members else None

    # --- processes ---

    def crash(self) -> None:
        member = self._any(alive=True)
        if member is not None:
            member.end("killed")

    def crash_leader(self) -> None:
        """Whoever leads the highest view that anybody is in."""
        running = [member for member in self._world.members if member.node is not None and member.process.alive]
        if running:
            ahead = max(running, key=lambda member: member.node.replica.view if member.node is not None else 0)
            assert ahead.node is not None
            self._world.members[self._world.slots[ahead.node.replica.leader]].end("killed, the leader")

    def crash_all(self) -> None:
        for member in self._world.members:
            member.end("killed with all others")

    def power_all(self) -> None:
        for member in self._world.members:
            member.end("power failure", power=True)
            member.disk.crash()

    def stop(self) -> None:
        """Asked to stop, as an operator would."""
        member = self._any(alive=True)
        if member is not None and member.running:
            self._world.loop.spawn(member.process, member.stop())

    def restart(self) -> None:
        member = self._any(alive=False)
        if member is not None:
            member.boot()

    def freeze(self) -> None:
        """A process stands still while its connections live, and then goes on as if nothing had been."""
        world = self._world
        member = self._any(alive=True)
        if member is None or member.process.frozen:
            return
        process = member.process
        world.loop.freeze(process)
        for_us = world.random.choice((50_000, 500_000, 6_000_000))
        world.loop.at(world.loop.now_us + for_us, world.loop.thaw, process)
        if for_us > SILENCE_US:
            world.loop.at(world.loop.now_us + SILENCE_US, self._gone_silent, member.slot)

    def _gone_silent(self, slot: int) -> None:
        """Nobody has heard of it for so long that all have given it up."""
        for other in self._world.members:
            if self._world.members[slot].process.frozen and other.slot != slot:
                self._world.network.cut(slot, other.slot)

    # --- network ---

    def isolate(self) -> None:
        self._cut([self._world.random.choice(self._world.members).slot])

    def split(self) -> None:
        slots = [member.slot for member in self._world.members]
        self._world.random.shuffle(slots)
        self._cut(slots[: self._world.random.randint(1, len(slots) - 1)])

    def _cut(self, side: list[int]) -> None:
        for one in side:
            for other in self._world.members:
                if other.slot not in side:
                    self._world.network.block(one, other.slot)
                    self._world.network.block(other.slot, one)

    def one_way(self) -> None:
        """A node hears and is not heard, or the other way round; by all, or by some."""
        random, network = self._world.random, self._world.network
        slot = random.choice(self._world.members).slot
        deaf = random.random() < 0.5
        for other in self._world.members:
            if other.slot != slot and random.random() < 0.8:
                network.block(*((other.slot, slot) if deaf else (slot, other.slot)))

    def break_links(self) -> None:
        """All connections of a node break at once."""
        slot = self._world.random.choice(self._world.members).slot
        for other in self._world.members:
            self._world.network.cut(slot, other.slot)

    def heal(self) -> None:
        self._world.network.heal()

    # --- machines ---

    def skew(self) -> None:
        bound = self._world.plan.node.skew_ms_max
        self._world.random.choice(self._world.members).skew_ms = self._world.random.randint(-bound, bound)

    def slow_disk(self) -> None:
        disk = self._world.random.choice(self._world.members).disk
        disk.slow = not disk.slow

    def full_disk(self) -> None:
        disk = self._world.random.choice(self._world.members).disk
        disk.full = not disk.full

    # --- the end ---

    def end(self) -> None:
        """Everything heals and every node runs."""
        world = self._world
        for member in world.members:
            member.disk.slow = member.disk.full = False
            member.disk.power_rate = 0
            member.skew_ms = max(-200, min(200, member.skew_ms))
            if member.process.frozen:
                world.loop.thaw(member.process)
        world.network.heal()

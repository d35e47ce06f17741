"""What a client was told is ordered stays ordered, although the certificate of the order may not be durable yet."""

from __future__ import annotations

import contextvars

import pytest

from chain.model.block import Proposal
from chain.node.node import Node
from chain.sim.whole.loop import Process
from chain.sim.whole.plan import quiet_plan
from chain.sim.whole.world import World
from chain.store.layout import height_key, unpack_parts
from chain.types import Digest

BLACKOUTS = 4
DARK_US = 20_000


class Witness:
    """Notes what nodes call ordered, and turns the power off everywhere right after some of it was said."""

    def __init__(self, world: World, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: dict[int, set[Digest]] = {}
        self.blackouts = 0
        self.undurable = 0  # heights called ordered whose certificate stood in no journal when the power went
        self._world = world
        self._every = every
        self._said = 0
        self._strike = False
        self._after_step = world.loop.after_step
        world.loop.after_step = self._step
        execute = Node.execute

        def noted(node: Node, proposal: Proposal, digest: Digest) -> None:
            execute(node, proposal, digest)
            if node.ordered.height_of(proposal.hashes[:32]) == proposal.height:
                self.told.setdefault(proposal.height, set()).add(digest)
                self._said += 1
                self._strike = (self._strike or self._said % self._every == 0) and self.blackouts < BLACKOUTS

        monkeypatch.setattr(Node, "execute", noted)

    def _step(self, process: Process) -> None:
        if not self._strike or not all(member.running for member in self._world.members):
            self._after_step(process)
            return
        self._strike = False
        self.blackouts += 1
        promises, members = self._world.promises, self._world.members
        durable = set().union(*(promises.memory(member.name).ordered for member in members))
        self.undurable += len({(at, digest) for at, digests in self.told.items() for digest in digests} - durable)
        for member in members:
            member.end("the power is gone everywhere", power=True)
        at_us = self._world.loop.now_us + DARK_US
        self._world.loop.at(at_us, self._light, context=contextvars.Context())

    def _light(self) -> None:
        for member in self._world.members:
            if not member.process.alive:
                member.boot()


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "every"), [(4, 1), (4, 3), (7, 5)])
def test_what_was_called_ordered_is_what_is_stored_there_after_the_power_failed_everywhere(
    nodes: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(seed=every, nodes=nodes, plan=quiet_plan(window=8, block_transactions_max=1, chaos_ms=400))
    witness = Witness(world, every, monkeypatch)
    try:
        world.run()
        stored = world.members[0].disk.tables("blocks")[b"blocks"].values
        digests = {height: {Digest(unpack_parts(stored[height_key(height)])[2])} for height in witness.told}
        assert witness.told == digests
        assert witness.blackouts == BLACKOUTS and len(witness.told) > BLACKOUTS
        assert witness.undurable, "the power never failed before the certificate was durable: this shows nothing"
    finally:
        world.close()

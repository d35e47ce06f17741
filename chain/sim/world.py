"""A whole run: a cluster, a client, a nemesis and the checkers, all drawn from one seed.

First chaos, in which only safety is promised; then calm, in which every transaction must become final everywhere; then
silence: an idle chain sends nothing and arms no timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import msgspec

from chain.model.block import Certificate, Header
from chain.model.genesis import ChainParameters, chain_id, genesis_header
from chain.model.validators import ValidatorSet
from chain.sim.bounds import check_bounds
from chain.sim.byzantine import Byzantine
from chain.sim.checkers import Checkers, Violation
from chain.sim.clock import Clock
from chain.sim.core import Core
from chain.sim.disk import Journal, StoredBlock
from chain.sim.faults import CALM_NETWORK, CALM_NODE, Plan, draw_plan, small
from chain.sim.keys import sim_genesis, sim_validators, transaction_digest
from chain.sim.members import Change, SimMembers, change_digest, draw_changes
from chain.sim.nemesis import Nemesis
from chain.sim.network import Network
from chain.sim.node import SimNode
from chain.sim.trace import Trace
from chain.types import ValidatorId
from consensus import encode_signed
from consensus.effects import Broadcast, Diverged, ReportFault, Send
from consensus.messages import Message, Verified

LIVENESS_MS: Final = 120_000  # from the end of chaos until every transaction is final on every node
SILENCE_MS: Final = 120_000  # from then on until nothing at all happens any more


BOUNDS_EVERY: Final = 32  # steps of a node between two walks through its memory

Intercept = Callable[[SimNode, SimNode, Message], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run did. `problem` is empty if every promise held."""

    seed: int
    nodes: int
    cut_short: bool  # `faults.small`
    problem: str
    digest: str
    height: int
    view: int
    transactions: int
    skipped: int
    speculated: int  # heights handed to the executors before they were ordered, and of those ...
    kept: int
    discarded: int
    virtual_ms: int
    recovery_ms: int
    steps: int
    messages: int
    lost: int
    crashes: int
    strikes: dict[str, int]
    byzantine: str
    epochs: int = 1  # how many validator sets were in force


class World:
    """Owns everything; `run_seed` plays the usual three phases, a script calls the pieces itself."""

    def __init__(
        self, *, seed: int, nodes: int, plan: Plan | None = None, cut_short: bool = False, story: bool = False
    ) -> None:
        self.seed = seed
        self.random = Random(f"headrace/{seed}/{nodes}")
        drawn = plan if plan is not None else draw_plan(self.random, nodes=nodes)
        if plan is None:
            changes = draw_changes(Random(f"headrace/members/{seed}/{nodes}"), drawn.weights)
            drawn = replace(drawn, changes=changes)
        self.cut_short = cut_short
        self.plan = small(drawn) if cut_short else drawn
        self.node_faults = self.plan.node
        self.clock = Clock()
        self.trace = Trace(story=story)
        parameters = ChainParameters(window=self.plan.window, block_transactions_max=self.plan.block_transactions_max)
        genesis = sim_genesis(weights=self.plan.weights or (1,) * nodes, parameters=parameters)
        self.parameters = parameters
        self.chain_id = chain_id(genesis)
        self.genesis_header: Header = genesis_header(genesis)
        self.validators = ValidatorSet(genesis.validators)
        named = [number for change in self.plan.changes for number, _ in change.members]
        self.known = sim_validators((1,) * max(nodes, 1 + max(named, default=0)))
        self.changes: dict[bytes, ValidatorSet] = {}  # by the hash of the system transaction
        self.waiting_changes: list[Change] = []
        self.core = Core(known=self.known, chain_id=self.chain_id, parameters=parameters, timers=self.plan.timers)
        self.network = Network(self.clock, self.random, self.plan.network)
        self.checkers = Checkers(
            members=self.new_members(), chain_id=self.chain_id, genesis=self.genesis_header
        )
        self.byzantine = Byzantine(self)
        self.nemesis = Nemesis(self)
        self.transactions = 0
        self.expect_divergence = False
        self.intercept: Intercept | None = None  # scripts: True where a message is not to be sent
        self.nodes: list[SimNode] = []
        self._make_nodes()
        self._complete = False
        self._unstored: dict[int, set[bytes]] = {node.slot: set() for node in self.honest}

    def _make_nodes(self) -> None:
        dishonest = self._draw_dishonest()
        for slot, member in enumerate(self.validators.members):
            honest = slot not in dishonest
            self.nodes.append(SimNode(self, slot=slot, validator=member.id, name=f"n{slot}", honest=honest))
        if self.plan.byzantine == "twins":
            for first in dishonest:
                twin = self.nodes[first]
                name = f"{twin.name}'"
                self.nodes.append(
                    SimNode(self, slot=len(self.nodes), validator=twin.validator, name=name, honest=False)
                )
        for number, member in enumerate(self.known[len(self.validators) :], start=len(self.validators)):
            slot = len(self.nodes)  # they only follow until they are added
            self.nodes.append(SimNode(self, slot=slot, validator=member.id, name=f"n{number}", honest=True))
        liars = {self.known[number].id for number in dishonest}
        self.waiting_changes = [change for change in self.plan.changes if self._is_bearable(change, liars)]
        self.network.endpoints.extend(self.nodes)
        self._by_validator: dict[bytes, SimNode] = {node.validator: node for node in reversed(self.nodes)}
        self.byzantine.regroup()

    def set_of(self, change: Change) -> ValidatorSet:
        """The validator set that a change asks for."""
        return ValidatorSet(
            msgspec.structs.replace(self.known[number], weight=weight) for number, weight in change.members
        )

    def _is_bearable(self, change: Change, liars: set[ValidatorId]) -> bool:
        target = self.set_of(change)
        return target.weight(liars) <= target.tolerated_weight

    def new_members(self) -> SimMembers:
        """What the genesis says, to go on from by executing."""
        return SimMembers(first=self.validators, window=self.plan.window, changes=self.changes)

    def _draw_dishonest(self) -> list[int]:
        """Slots of the validators that lie: no more weight than is tolerated."""
        members = list(enumerate(self.validators.members))
        self.random.shuffle(members)
        chosen: list[int] = []
        room = self.validators.tolerated_weight
        for slot, member in members:
            if self.plan.byzantine and len(chosen) < self.plan.byzantine_count and member.weight <= room:
                chosen.append(slot)
                room -= member.weight
        return sorted(chosen)

    @property
    def honest(self) -> list[SimNode]:
        return [node for node in self.nodes if node.honest]

    def twins(self) -> list[tuple[SimNode, SimNode]]:
        """Pairs of processes of one validator."""
        pairs = ((self._by_validator[node.validator], node) for node in self.nodes)
        return [(first, second) for first, second in pairs if first is not second]

    def turn_dishonest(self, node: SimNode) -> None:
        """From now on nothing is promised to, or by, this node."""
        node.honest = False
        self._unstored.pop(node.slot, None)

    def peers(self, node: SimNode) -> list[SimNode]:
        return [peer for peer in self.nodes if peer.validator != node.validator]

    def node_of(self, validator: bytes) -> SimNode:
        return self._by_validator[validator]

    def last_block(self, node: SimNode) -> tuple[Header, Certificate | None]:
        """What a restarted node finds on its disk."""
        items = node.disk_blocks.items
        return (items[-1].header, items[-1].certificate) if items else (self.genesis_header, None)

    # --- what nodes ask of the world ---

    def transmit(self, node: SimNode, effect: Broadcast | Send) -> None:
        message = effect.message
        if node.honest and message.sender == node.validator:
            stored = node.disk_blocks.height
            self.checkers.on_send(
                node.validator, message.message, node.journal, window=self.plan.window, stored=stored
            )
        targets = [
            peer
            for peer in self.peers(node)
            if (isinstance(effect, Broadcast) or peer.validator == effect.to)
            and self.byzantine.speaks_to(node.slot, peer.slot)
        ]
        data = encode_signed(message)
        for peer in targets:
            if self.strikes_now(node):
                return  # it dies in the middle of a broadcast
            if self.intercept is not None and self.intercept(node, peer, message.message):
                continue
            if self.nemesis.swallows(node, peer, message.message):
                continue
            frames = [data] if node.honest or self.plan.byzantine != "liar" else self.byzantine.bend(node, message)
            for frame in frames:
                self.network.send(node.slot, peer.slot, frame)

    def strikes_now(self, node: SimNode) -> bool:
        """Whether the node dies at this very point; then it is dead already."""
        if not node.alive:
            return True
        rate = self.node_faults.crash_rate
        if rate and self.nemesis.active and self.random.randrange(100_000) < rate:
            self.nemesis.counts["crash_point"] = self.nemesis.counts.get("crash_point", 0) + 1
            node.crash()
            return True
        return False

    def after_step(self, node: SimNode) -> None:
        node.replica.validate_state()
        if node.steps % BOUNDS_EVERY == 0:
            check_bounds(
                node.replica,
                window=self.plan.window,
                nodes=len(self.known),
                transactions_max=self.plan.block_transactions_max,
                restored_heights=node.restored_heights,
            )

    def on_verified(self, message: Verified[Message]) -> None:
        self.checkers.on_heard(message.sender, message.message, self._journal_of)

    def _journal_of(self, validator: bytes) -> Journal | None:
        node = self.node_of(validator)
        return node.journal if node.honest else None

    def on_fault_reported(self, node: SimNode, effect: ReportFault) -> None:
        if node.honest and all(peer.honest for peer in self.nodes if peer.validator == effect.peer):
            raise Violation("false_accusation", f"{node.name} accuses an honest peer of {effect.reason}")

    def on_unverified(self, node: SimNode, source: int, reason: str) -> None:
        if self.nodes[source].honest:
            raise Violation("honest_verify", f"{node.name} refuses a message of {self.nodes[source].name}: {reason}")

    def on_diverged(self, node: SimNode, effect: Diverged) -> None:
        if node.honest and not self.expect_divergence:
            raise Violation("divergence", f"{node.name} diverged at h{effect.height}: {effect.reason}")

    def on_stored(self, node: SimNode, blocks: list[StoredBlock]) -> None:
        if node.honest:
            for block in blocks:
                self._unstored[node.slot].difference_update(block.proposal.transaction_hashes())
            self._complete = not any(self._unstored.values())

    # --- the client ---

    def submit(self, count: int, to: list[SimNode]) -> list[bytes]:
        """Hand `count` new transactions to each of the nodes."""
        fresh: list[bytes] = [transaction_digest(self.transactions + at) for at in range(count)]
        self.transactions += count
        self.checkers.proposed.update(fresh)
        self._complete = False
        for unstored in self._unstored.values():
            unstored.update(fresh)
        for node in to:
            if node.alive:
                node.add_transactions(fresh)
        return fresh

    def submit_change(self, change: Change) -> bytes:
        """Ask for a membership change, of everybody who runs."""
        transaction = change_digest(len(self.changes))
        self.changes[transaction] = self.set_of(change)
        self.trace.add(self.clock.now, "****", f"change {len(self.changes) - 1}: {change.members}")
        self.checkers.proposed.add(transaction)
        self._complete = False
        for unstored in self._unstored.values():
            unstored.add(transaction)
        for node in self.nodes:
            if node.alive:
                node.add_transactions([transaction])
        return transaction

    @property
    def is_changing(self) -> bool:
        """A change is submitted that not all honest nodes have put into force."""
        return len(self.checkers.schedule.epochs) <= len(self.changes) or any(
            node.replica.epoch_base < self.checkers.schedule.epochs[-1][0] - 1 for node in self.honest
        )

    def keep_changing(self, active: Callable[[], bool]) -> None:
        """Ask for the plan's changes at their times, one after the other."""

        def change() -> None:
            if not active() or not self.waiting_changes:
                return
            due_ms = self.waiting_changes[0].at_rate * self.plan.chaos_ms // 1_000 - self.clock.now
            if due_ms <= 0 and not self.is_changing:
                self.submit_change(self.waiting_changes.pop(0))
            self.clock.after(max(50, due_ms), change)

        if self.waiting_changes:
            self.clock.after(0, change)

    def finish_changes(self) -> int:
        """Put into force what is left of the plan's changes; how long that took."""
        took = 0
        while self.waiting_changes:
            self.submit_change(self.waiting_changes.pop(0))
            took += self.demand_progress()
        return took

    def resubmit(self) -> None:
        """A client that waited in vain for a transaction hands it to another node."""
        lost: set[bytes] = set().union(*self._unstored.values())
        for transaction in sorted(lost):
            self.random.choice(self.honest).add_transactions([transaction])

    def keep_submitting(self, active: Callable[[], bool]) -> None:
        def submit() -> None:
            if not active():
                return
            if self.transactions < self.plan.transactions_max:
                alive = [node for node in self.nodes if node.alive]
                if alive:
                    count = self.random.randint(*self.plan.submit_count)
                    self.submit(count, self.random.sample(alive, min(len(alive), self.plan.submit_nodes)))
            self.clock.after(self.random.randint(*self.plan.submit_ms), submit)

        self.clock.after(0, submit)

    # --- phases ---

    def run_for(self, duration_ms: int) -> None:
        self.clock.run(until_ms=self.clock.now + duration_ms)

    def run_until(self, condition: Callable[[], bool], *, limit_ms: int) -> int:
        """How long it took until `condition` held. Raises Violation("script") after `limit_ms`."""
        start = self.clock.now
        if not self.clock.run(until_ms=start + limit_ms, done=condition):
            raise Violation("script", f"what the script waits for did not happen within {limit_ms} ms")
        return self.clock.now - start

    def boot(self) -> None:
        for node in self.nodes:
            node.boot()
        self.network.retry()

    def calm(self) -> None:
        """No more faults: all nodes run, all links work, clocks agree nearly enough."""
        drawn = self.plan.node
        self.network.faults = CALM_NETWORK
        self.node_faults = replace(
            CALM_NODE,
            pool_survives=drawn.pool_survives,
            gossip=drawn.gossip,
            overlap=drawn.overlap,
            prunes=drawn.prunes,
            reserved_waits=drawn.reserved_waits,
        )
        self.nemesis.end()

    def complete(self) -> bool:
        """Every transaction is final on every honest node, and all honest nodes stand at one height."""
        if not self._complete:
            return False
        honest = self.honest
        return (
            all(node.disk_blocks.height == honest[0].disk_blocks.height for node in honest)
            and all(node.replica.boundary is None for node in honest)
            and all(node.replica.epoch_base == honest[0].replica.epoch_base for node in honest)
        )

    def demand_progress(self, limit_ms: int = LIVENESS_MS) -> int:
        """Run until complete; how long that took. Raises Violation("liveness") after `limit_ms`."""
        start = self.clock.now
        self._complete = not any(self._unstored.values())
        if not self.clock.run(until_ms=start + limit_ms, done=self.complete):
            heights = " ".join(f"{node.name}:{node.disk_blocks.height}/v{node.view}" for node in self.nodes)
            missing = max(len(unstored) for unstored in self._unstored.values())
            raise Violation("liveness", f"{missing} transactions not final after {limit_ms} ms of calm; {heights}")
        return self.clock.now - start

    def demand_silence(self, limit_ms: int = SILENCE_MS) -> None:
        """Run until nothing is left to happen; the dishonest are dead. Raises Violation("silence")."""
        for node in self.nodes:
            if not node.honest:
                node.crash()
        end = self.clock.now + limit_ms
        self.clock.run(until_ms=end, done=lambda: len(self.clock) == 0)
        for node in self.honest:
            if node.timers:
                raise Violation("silence", f"{node.name} has timers armed: {[timer.value for timer in node.timers]}")
        if len(self.clock):
            raise Violation("silence", f"{len(self.clock)} actions still to come after {limit_ms} ms without work")

    def report(self, *, problem: str, recovery_ms: int) -> Report:
        honest = self.honest
        return Report(
            seed=self.seed,
            nodes=len(self.validators),
            cut_short=self.cut_short,
            problem=problem,
            digest=self.trace.digest,
            height=max(node.disk_blocks.height for node in honest),
            view=max(node.view for node in honest),
            transactions=self.transactions,
            skipped=max(node.execution.skipped for node in honest),
            speculated=sum(node.ahead.speculated for node in honest),
            kept=sum(node.ahead.kept for node in honest),
            discarded=sum(node.ahead.discarded for node in honest),
            virtual_ms=self.clock.now,
            recovery_ms=recovery_ms,
            steps=sum(node.steps for node in self.nodes),
            messages=self.network.sent,
            lost=self.network.lost,
            crashes=sum(node.crashes for node in self.nodes),
            strikes=dict(sorted(self.nemesis.counts.items())),
            byzantine=self.plan.byzantine,
            epochs=len(self.checkers.schedule.epochs),
        )


def run_seed(seed: int, *, nodes: int, cut_short: bool = False, story: bool = False) -> tuple[Report, World]:
    """Chaos, calm, silence. A broken promise or a bug of the core ends the run and stands in `Report.problem`."""
    world = World(seed=seed, nodes=nodes, cut_short=cut_short, story=story)
    problem = ""
    recovery_ms = -1
    try:
        world.boot()
        world.nemesis.start()
        world.keep_submitting(lambda: world.nemesis.active)
        world.keep_changing(lambda: world.nemesis.active)
        world.clock.run(until_ms=world.plan.chaos_ms)
        world.calm()
        world.resubmit()
        world.submit(3, [world.random.choice(world.honest)])
        recovery_ms = world.demand_progress()
        if world.finish_changes():
            world.submit(3, [world.random.choice(world.honest)])
            world.demand_progress()
        world.demand_silence()
    except Exception as error:  # noqa: BLE001  every failure of the core is a finding, and the story must be told
        problem = f"{type(error).__name__}: {error}"
    return world.report(problem=problem, recovery_ms=recovery_ms), world

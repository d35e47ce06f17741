"""A lead and its executors in one process, with everything that can go wrong between them drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec

from chain.codec import Record
from chain.model.merkle import unpack_writes
from contracts.runtime import Machine, Outcome
from executor.governor import Governor
from executor.outcome import ExecutionInput, ExecutionOutput, ShareOutcome
from executor.parallel import Lead
from executor.plan import Planner
from executor.process import NoProgress
from executor.protocol import ChannelLost, OfferShare, Overlay, RunShare
from executor.state import BaseState
from executor.transactions import ChainContext
from executor.worker import Share, answer_share, decode_share
from tests.blocks.store import MemoryStore
from tests.blocks.worlds import CHAIN_ID, GAS_MAX, World

FATES: Final = ("dead_at_once", "dead_before", "dead_after", "garbled", "stale", "wrong_block")


class CountingMachine(Machine):
    """Knows how often each transaction was executed."""

    def __init__(self, rule_set: int) -> None:
        super().__init__(rule_set)
        self.runs: Counter[bytes] = Counter()

    def execute(self, *arguments: Any, **named: Any) -> Outcome:
        self.runs[named["transaction_hash"]] += 1
        return super().execute(*arguments, **named)


@cache
def shared_machine(rule_set: int) -> CountingMachine:
    """One machine for all crews: compiling the contracts once is enough."""
    return CountingMachine(rule_set)


def chain_context(world: World) -> ChainContext:
    return ChainContext(
        chain_id=CHAIN_ID, rule_set=world.rule_set, transaction_gas_max=GAS_MAX, deployers=world.deployers
    )


def store_of(world: World) -> MemoryStore:
    """A store that holds the world at its height."""
    return MemoryStore(world.height, world.values, world.root)


class Member:
    """An executor behind the lead's interface that runs at once or late, dies, garbles, or answers another question."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._base = BaseState(crew.store.view())
        self._base.release()
        self._request: RunShare | None = None
        self._offered: Share | None = None
        self._answer: ShareOutcome | None = None
        self._previous: ShareOutcome | None = None
        self._fate = "fine"
        self.closed = False

    def send(self, share: Record) -> None:
        assert isinstance(share, RunShare)
        crew = self._crew
        self._fate = crew.draw.choice(FATES) if crew.draw.random() < crew.faults else "fine"
        if self._fate == "dead_at_once":
            raise ChannelLost("dead")
        self._previous, self._answer, self._request = self._answer or self._previous, None, share
        if crew.draw.random() < 0.5:
            self._run()

    def offer(self, share: OfferShare) -> bool:
        if self._crew.draw.random() < 0.3:
            return False
        if self._crew.draw.random() < self._crew.faults / 4:
            raise ChannelLost("dead before it was asked")
        self._offered = decode_share(share)
        return True

    def _run(self) -> None:
        assert self._request is not None
        crew = self._crew
        before = crew.machine.runs.copy()
        self._answer = answer_share(
            self._request, offered=self._offered, chain=crew.chain, base=self._base, machine=crew.machine,
            progress=NoProgress(),
        )
        self._base.release()  # as between two requests
        self._ran = crew.machine.runs - before
        self._request = None

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        crew = self._crew
        crew.store_some()
        if self._fate == "dead_before":
            raise ChannelLost("dead before it ran")
        if self._answer is None:
            self._run()
        assert self._answer is not None
        if self._fate == "fine":
            return self._answer
        crew.wasted.update(self._ran)
        if self._fate == "garbled":
            return garbled(self._answer, crew.draw)
        if self._fate == "stale" and self._previous is not None:
            return self._previous
        if self._fate == "wrong_block":
            return msgspec.structs.replace(self._answer, number=self._answer.number - 1)
        raise ChannelLost("dead after it ran")

    def close(self) -> None:
        self.closed = True


def garbled(answer: ShareOutcome, draw: random.Random) -> ShareOutcome:
    """An answer whose parts do not fit together, in one place."""
    fields: list[str] = []
    for name in answer.__struct_fields__:
        value = getattr(answer, name)
        if isinstance(value, bytes) or (isinstance(value, tuple) and value and name not in ("scans", "adds")):
            fields.append(name)
    name = draw.choice(fields)
    value = getattr(answer, name)
    if isinstance(value, tuple):
        return msgspec.structs.replace(answer, **{name: value[:-1]})
    wrong = draw.choice((value + bytes(4), value + b"\0"))
    return msgspec.structs.replace(answer, **{name: wrong})


class Whim(Governor):
    """Now and then runs a block as one unit for no reason, so that executors miss it."""

    def __init__(self, mode: str, chance: float, draw: random.Random) -> None:
        super().__init__(mode)
        self._chance = chance
        self._draw = draw

    def before(self, *, transactions: int, executors: int) -> str | None:
        reason = super().before(transactions=transactions, executors=executors)
        return "whim" if reason is None and self._draw.random() < self._chance else reason


class Crew:
    """A lead and its members over a store that lags behind."""

    def __init__(
        self,
        world: World,
        *,
        executors: int,
        planner: Planner,
        draw: random.Random,
        mode: str = "forced",
        faults: float = 0.0,
        lag: float = 0.5,
        whim: float = 0.0,
    ) -> None:
        """`lag`: the chance that a height that could be stored is not; `faults`: that an executor fails at a share;
        `whim`: that a block runs as one unit."""
        self.world = world
        self.draw = draw
        self.faults = faults
        self.lag = lag
        self.store = store_of(world)
        self.chain = chain_context(world)
        self.machine = shared_machine(world.rule_set)
        self.wasted: Counter[bytes] = Counter()  # executions lost with an executor
        self.lost = 0
        self._executors = executors
        self._planner = planner
        self._mode = mode
        self._whim = whim
        self._missing: list[int] = []
        self._unstored: list[ExecutionOutput] = []
        self.lead = self._new_lead()

    def _new_lead(self) -> Lead:
        lead = Lead(
            base=BaseState(self.store.view()),
            machine=self.machine,
            chain=self.chain,
            planner=self._planner,
            governor=Whim(self._mode, self._whim, self.draw),
            progress=NoProgress(),
            executors=self._executors,
            lost=self._on_lost,
        )
        for index in range(1, self._executors):
            lead.attach(index, Member(self))
        self._missing = []
        return lead

    def _on_lost(self, index: int, reason: str) -> None:
        self.lost += 1
        self._missing.append(index)

    # --- what the node does ---

    def execute(self, transactions: Sequence[bytes], *, time_ms: int, attempt: int = 1) -> ExecutionOutput:
        """Execute the next height."""
        self._replace_lost()
        block = ExecutionInput.of(height=self.lead.height + 1, time_ms=time_ms, transactions=transactions)
        output = self.lead.execute(block, attempt=attempt)
        self._unstored.append(output)
        return output

    def execute_two(
        self, first: Sequence[bytes], second: Sequence[bytes], *, times_ms: tuple[int, int]
    ) -> tuple[ExecutionOutput, ExecutionOutput]:
        """Execute the next two heights as the lead does when both are there: the second one is planned while the first
        one runs, and is with the executors before the first one is sealed."""
        self._replace_lost()
        height, lead = self.lead.height + 1, self.lead
        job = lead.plan(ExecutionInput.of(height=height, time_ms=times_ms[0], transactions=first))
        lead.dispatch(job)
        lead.run(job)
        following = lead.plan(ExecutionInput.of(height=height + 1, time_ms=times_ms[1], transactions=second))
        if self.draw.random() < 0.8:
            lead.offer(following)
        lead.finish(job)
        lead.dispatch(following)
        outputs = [lead.seal(job)]
        self._unstored.append(outputs[0])
        self.store_some()
        lead.run(following)
        lead.finish(following)
        outputs.append(lead.seal(following))
        self._unstored.append(outputs[1])
        return outputs[0], outputs[1]

    def _replace_lost(self) -> None:
        """Put new executors in the place of lost ones, now or at a later block."""
        for index in self._missing[:]:
            if self.draw.random() < 0.6:
                self.lead.attach(index, Member(self))
                self._missing.remove(index)

    def store_some(self) -> None:
        """Store some of the heights that are executed; also in the middle of a block."""
        while self._unstored and self.draw.random() > self.lag:
            output = self._unstored.pop(0)
            self.store.store(output.height, unpack_writes(output.writes), output.state_root)

    @property
    def unstored(self) -> int:
        """Heights that may still be discarded."""
        return len(self._unstored)

    def discard(self, height: int) -> None:
        """A view change replaced what was executed at `height` and above."""
        self.lead.discard(height)
        self._unstored = [output for output in self._unstored if output.height < height]

    def restart_lead(self) -> None:
        """The lead died between two blocks; the next one is told what is not stored yet."""
        self.lead = self._new_lead()
        self.lead.catch_up(
            [
                Overlay(height=output.height, state_root=output.state_root, writes=output.writes)
                for output in self._unstored
            ]
        )


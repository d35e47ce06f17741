"""A lead whose steps a test takes one by one, with executors in this process that are watched and can be spoiled."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from chain.codec import Record
from chain.model.merkle import unpack_writes
from executor.governor import Governor
from executor.outcome import ExecutionInput, ExecutionOutput, ShareOutcome
from executor.parallel import Job, Lead
from executor.plan import PlainPlanner, Plan, Planner
from executor.planners import FixedPredictor
from executor.predict import Predictor
from executor.protocol import ChannelLost, OfferShare, RunShare
from executor.state import BaseState
from tests.unit.executor.shares import Marks
from tests.unit.executor.workbench import (
    ARENA,
    CHAIN,
    Loopback,
    MemoryReader,
    Oracle,
    account,
    block_of,
    deployment,
    machine,
    results_of,
    transaction,
)


class Dealt:
    """Deals transactions out as the test says: `deal(height, position)` is the executor's place in the plan."""

    def __init__(self, deal: Callable[[int, int], int]) -> None:
        self.deal = deal

    def plan(self, block: ExecutionInput, *, base: BaseState, executors: int, head_start: float) -> Plan:
        shares: list[list[int]] = [[] for _ in range(executors)]
        for position in range(len(block.transactions)):
            shares[min(self.deal(block.height, position), executors - 1)].append(position)
        loads = [len(share) for share in shares]
        return Plan(
            shares=shares, loads=loads, shards=2, heaviest_shard=1, shard_sizes=(1, 1), conflicts=0, methods=()
        )

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        pass


class Watched:
    """A link that notes what it is asked, and answers with what `spoil` makes of the answer."""

    def __init__(self, link: Loopback) -> None:
        self._link = link
        self.requests: list[RunShare] = []
        self.timeouts_s: list[float] = []
        self.spoil: Callable[[ShareOutcome], ShareOutcome] = lambda answer: answer
        self.is_dead = False

    def send(self, share: Record) -> None:
        if self.is_dead:
            raise ChannelLost("dead")
        assert isinstance(share, RunShare)
        self.requests.append(share)
        self._link.send(share)

    def offer(self, share: OfferShare) -> bool:
        return self._link.offer(share)

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        self.timeouts_s.append(timeout_s)
        return self.spoil(self._link.receive(timeout_s=timeout_s))

    def close(self) -> None:
        self._link.close()

    @property
    def closed(self) -> bool:
        return self._link.closed


class Scene:
    """A board, the oracle that knows what is right, and a lead with watched executors over a store that lags."""

    def __init__(
        self,
        *,
        executors: int = 2,
        planner: Planner | None = None,
        predictor: Predictor | None = None,
        mode: str = "forced",
    ) -> None:
        self.oracle = Oracle()
        raw, self.board = deployment(0, "board", ARENA, (0,))
        self.oracle.run([raw, self.call("fund", 50, sender=1)])
        self.reader = self.oracle.reader.fork()
        self.marks = Marks()
        self.lost: list[tuple[int, str]] = []
        self.executors = executors
        self.planner = planner or PlainPlanner(predictor or FixedPredictor(everything=False))
        self.mode = mode
        self.lead = self.new_lead()
        self.links: dict[int, Watched] = {}
        for index in range(1, executors):
            self.attach(index)

    def new_lead(self) -> Lead:
        return Lead(
            base=BaseState(MemoryReader(self.reader)),
            machine=machine(),
            chain=CHAIN,
            planner=self.planner,
            governor=Governor(self.mode),
            progress=self.marks,
            executors=self.executors,
            lost=lambda index, reason: self.lost.append((index, reason)),
        )

    def attach(self, index: int) -> Watched:
        link = self.links[index] = Watched(Loopback(self.reader, machine=machine()))
        self.lead.attach(index, link)
        return link

    def call(self, method: str, *arguments: object, sender: int = 0) -> bytes:
        return transaction(sender, self.board, method, arguments)  # type: ignore[arg-type]

    def counts(self, count: int = 4) -> list[bytes]:
        """Every one of them reads what the one before it wrote."""
        return [self.call("count", 1) for _ in range(count)]

    def store(self, output: ExecutionOutput) -> None:
        self.reader.store(output.height, unpack_writes(output.writes), output.state_root)

    def execute(self, raws: Sequence[bytes]) -> ExecutionOutput:
        return self.lead.execute(block_of(self.lead.height + 1, raws))

    def both(self, raws: Sequence[bytes]) -> ExecutionOutput:
        """Execute on the lead and on the oracle; they must agree."""
        output = self.execute(raws)
        assert results_of(output) == results_of(self.oracle.run(raws))
        return output

    def random_block(self, draw: random.Random) -> list[bytes]:
        return [
            draw.choice((
                lambda: self.call("count", draw.randrange(9)),
                lambda: self.call("put", draw.randrange(3), draw.randrange(3), draw.randrange(20)),
                lambda: self.call("drop", draw.randrange(3), draw.randrange(3)),
                lambda: self.call("strict", draw.randrange(3), draw.randrange(3)),
                lambda: self.call("sum_group", draw.randrange(3), draw.randrange(3)),
                lambda: self.call("follow", draw.randrange(3), draw.randrange(3)),
                lambda: self.call("append", draw.randrange(9)),
                lambda: self.call("fund", draw.randrange(9), sender=draw.randrange(3)),
                lambda: self.call("send", account(draw.randrange(3)).address, draw.randrange(60), sender=1),
            ))()
            for _ in range(draw.randrange(12))
        ]  # fmt: skip


def overlapped(scene: Scene, blocks: Sequence[ExecutionInput]) -> list[ExecutionOutput]:
    """As `executor.worker.serve_lead` does when all of them are there."""
    lead, outputs = scene.lead, []
    job: Job | None = None
    for at, block in enumerate(blocks):
        if job is None:
            job = lead.plan(block)
            lead.dispatch(job)
        lead.run(job)
        following = lead.plan(blocks[at + 1]) if at + 1 < len(blocks) else None
        lead.finish(job)
        if following is not None:
            lead.dispatch(following)
        outputs.append(lead.seal(job))
        job = following
    return outputs

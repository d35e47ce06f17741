"""A run of whole nodes: chaos, calm, silence; everything it does follows from its seed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import structlog

from chain.model.genesis import ChainParameters, Genesis, chain_id, genesis_header
from chain.model.validators import Validator, ValidatorSet
from chain.net import Channel
from chain.rpc.services import TransactionStatus
from chain.sim.checkers import Violation
from chain.sim.trace import Trace, describe_message
from chain.sim.whole.checkers import Promises
from chain.sim.whole.client import Clients, gone
from chain.sim.whole.council import Council
from chain.sim.whole.keys import Signatures, validator_key
from chain.sim.whole.liar import Liar
from chain.sim.whole.limits import check_limits, check_rest
from chain.sim.whole.loop import START_US, Process, SimLoop, current_process
from chain.sim.whole.member import EPOCH_MS, Member
from chain.sim.whole.nemesis import Nemesis
from chain.sim.whole.network import Network, SimGateway
from chain.sim.whole.plan import Plan, calmed, draw_plan, small
from chain.store.memory import Tables
from chain.types import ValidatorId
from consensus import decode_signed

LIVENESS_MS: Final = 120_000  # from the end of chaos until every transaction is final on every node
SILENCE_MS: Final = 120_000  # from then on until nothing at all happens any more
LOOK_S: Final = 0.1
LIMITS_EVERY: Final = 200  # callbacks of the run between two looks at a node's queues


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run did. `problem` is empty if every promise held; `stalled`: progress or silence was missing."""

    seed: int
    nodes: int
    cut_short: bool
    problem: str
    stalled: bool
    plan: str  # what the seed drew
    digest: str  # of the trace
    height: int
    view: int
    transactions: int
    receipts: int  # certified, as clients were told
    epochs: int  # validator sets
    virtual_ms: int
    recovery_ms: int  # of the calm until all was final everywhere
    steps: int  # callbacks
    messages: int
    connections_lost: int
    lives: int
    leads_lost: int
    strikes: dict[str, int]
    lies: dict[str, int]


class World:
    """Owns everything of one run; `close` it."""

    def __init__(
        self, *, seed: int, nodes: int, plan: Plan | None = None, cut_short: bool = False, story: bool = False
    ) -> None:
        self.seed = seed
        self.cut_short = cut_short
        self.random = Random(f"headrace/whole/{seed}/{nodes}")
        drawn = plan if plan is not None else draw_plan(self.random, nodes=nodes)
        self.plan = self.drawn = small(drawn) if cut_short else drawn
        self.trace = Trace(story=story)
        self.chaos = True
        self.recovery_ms = -1
        self.signatures = Signatures()
        keys = [validator_key(f"n{slot}") for slot in range(nodes)]
        self.genesis = Genesis(
            name="simulation",
            created_ms=EPOCH_MS,
            parameters=ChainParameters(
                window=self.plan.window, block_transactions_max=self.plan.block_transactions_max, lifetime_max=20_000,
                snapshot_interval=self.plan.snapshot_interval,
            ),
            validators=tuple(
                Validator(name=f"n{slot}", public_key=key.public_key, weight=1) for slot, key in enumerate(keys)
            ),
            ca_certificate_sha256=bytes(32),
            deployers=(),
        )  # fmt: skip
        self.chain_id = chain_id(self.genesis)
        validators = ValidatorSet(self.genesis.validators)
        self.promises = Promises(
            chain_id=self.chain_id, genesis=genesis_header(self.genesis), validators=validators,
            window=self.plan.window, verify=self.signatures.verify,
        )  # fmt: skip
        self.loop = SimLoop(self.random, job_us=self._job_us, lost=self._lost, failed=self._failed)
        self.loop.after_step = self._after_step
        self.network = Network(self.loop, self.random, self.plan.network, self)
        self.slots: dict[ValidatorId, int] = {member.id: slot for slot, member in enumerate(validators.members)}
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-sim-"))
        liars = self.random.sample(range(nodes), self.plan.liars)
        self.members = [
            Member(self, slot=slot, key=key, folder=self.folder / f"n{slot}", honest=slot not in liars)
            for slot, key in enumerate(keys)
        ]
        self.liar = Liar(self.random)
        self.nemesis = Nemesis(self)
        self.clients = Clients(self, self.random)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._limits_in = LIMITS_EVERY

    def close(self) -> None:
        self.loop.bury([member.process for member in self.members])
        for member in self.members:
            member.end("the run is over")
            member.disk.close()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what is where ---

    @property
    def honest(self) -> list[Member]:
        return [member for member in self.members if member.honest]

    @property
    def height(self) -> int:
        """The highest block stored anywhere."""
        return len(self.promises.blocks) - 1

    @property
    def now_ms(self) -> int:
        return (self.loop.now_us - START_US) // 1_000

    def member_of(self, process: Process) -> Member:
        return self.members[int(process.name.split(".")[0][1:])]

    def tell(self, who: str, text: str) -> None:
        self.trace.add(self.now_ms, who, self.without_folder(text))

    def without_folder(self, text: str) -> str:
        """The folder of a run has another name each time."""
        return text.replace(f"{self.folder}/", "")

    def chance(self, rate: int, of: int) -> bool:
        return rate > 0 and self.chaos and self.random.randrange(of) < rate

    def violate(self, error: Exception, cause: BaseException | None = None) -> None:
        """A promise is broken: the run ends after this callback, and the first reason counts."""
        if self.loop.broken is None:
            error.__cause__ = cause
            self.loop.broken = error

    def _guarded(self, check: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except Violation as violation:
            self.violate(violation)
            return ""

    # --- what the parts report ---

    def on_commit(self, member: Member, kind: str, before: Tables, after: Tables) -> None:
        if member.honest:
            told = self._guarded(self.promises.on_commit, member.name, kind, before, after)
            if told:
                self.tell(member.name, f"durable: {told}")

    def on_send(self, gateway: SimGateway, peer: ValidatorId | None, channel: Channel, payload: bytes) -> bool:
        member = self.members[gateway.slot]
        if self.chance(self.plan.node.send_crash_rate, 100_000):
            self.nemesis.count("crash_at_send")
            member.end("killed as it was about to send")
            return False
        if channel is Channel.CONSENSUS:
            signed = decode_signed(payload)
            to = "all" if peer is None else f"n{self.slots[peer]}"
            self.tell(member.name, f"to {to}: {describe_message(signed.message)}")
            if member.honest and signed.sender == member.key.validator_id:
                self._guarded(self.promises.on_send, member.name, member.key.validator_id, signed.message)
        return True

    def bend(self, gateway: SimGateway, channel: str, payload: bytes) -> Sequence[bytes]:
        if self.members[gateway.slot].honest:
            return (payload,)
        return self.liar.bend(channel, payload)

    def on_log(self, event: str, fields: dict[str, Any]) -> None:
        """A record of a node's log."""
        process = current_process()
        if process is None or not process.alive:
            return
        member = self.member_of(process)
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if name != "evidence")
        self.tell(member.name, f"log {event} {shown[:200]}")
        if not member.honest:
            return
        if event == "diverged":
            self.violate(Violation("divergence", f"{member.name}: {shown}"))
        elif event == "peer_fault":
            accused = self.members[self.slots[ValidatorId(bytes.fromhex(fields["peer"]))]]
            if accused.honest and fields["reason"] != "gossip_dropped":
                reason = fields["reason"]
                self.violate(Violation("false_accusation", f"{member.name} accuses {accused.name}: {reason}"))

    def check_receipt(self, member: Member, transaction: bytes, status: TransactionStatus) -> None:
        if member.honest:
            blocks = member.disk.tables("blocks")
            self._guarded(
                self.promises.on_receipt, member.name, transaction, status.height or 0, status.receipt, blocks
            )

    def _job_us(self, process: Process, lane: str) -> int:
        plan, member = self.plan, self.member_of(process)
        times = {
            "journal": plan.disk.journal_ms, "store": plan.disk.store_ms, "verify": plan.node.verify_ms,
        }.get(lane, plan.node.serve_ms)  # fmt: skip
        slow = lane != "verify" and member.disk.slow
        return self.network.ms(times) + (self.network.ms(plan.disk.slow_ms) if slow else 0)

    def _lost(self, process: Process) -> None:
        self.nemesis.count("power_at_commit")
        self.member_of(process).end("the power went at a commit", power=True)

    def _failed(self, process: Process | None, context: dict[str, Any]) -> None:
        """What escaped a callback (`chain.node.run` ends the node then)."""
        error = context.get("exception")
        if process is None:
            if isinstance(error, Exception) and "handle" in context:
                self.violate(error)
        elif process.alive and isinstance(error, Exception):
            self.member_of(process).fail(error)

    def _after_step(self, process: Process) -> None:
        if self.chance(self.plan.node.crash_rate, 1_000_000):
            self.nemesis.count("crash_anywhere")
            self.member_of(process).end("killed between two steps")
            return
        self._limits_in -= 1
        if self._limits_in == 0:
            self._limits_in = LIMITS_EVERY
            self.inspect(self.member_of(process))

    def inspect(self, member: Member) -> None:
        """All queues of a node are within their bounds."""
        if member.honest and member.node is not None:
            self._guarded(check_limits, member.name, member.node, self.plan)

    # --- the run ---

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.violate(error)

    async def call(self, member: Member, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of work in a node's process. Raises ConnectionError when the process ends before."""
        task = self.loop.spawn(member.process, work)
        await asyncio.wait((task,))
        if task.cancelled():
            raise gone(member.process)
        return task.result()

    async def play(self) -> None:
        """Chaos, then calm until everything is final. Raises Violation."""
        for member in self.members:
            member.disk.power_rate = self.plan.disk.power_rate
            member.boot()
        for number in range(self.plan.clients):
            self.spawn(self.clients.run(number))
        self.spawn(self.nemesis.run())
        if self.plan.changes:
            self.spawn(Council(self, self.random).run())
        await asyncio.sleep(self.plan.chaos_ms / 1_000)
        await self.calm()

    async def calm(self) -> None:
        """No more faults; every transaction becomes final on every honest node."""
        self.chaos = False
        self.plan = calmed(self.plan)
        self.network.faults = self.plan.network
        self.tell("****", "calm")
        self.nemesis.end()
        for _ in range(2):
            self.spawn(self.clients.bring_through(self.clients.make()))
        start = self.loop.now_us
        while not self.complete():
            if self.loop.now_us - start > LIVENESS_MS * 1_000:
                self._stalled()
            for member in self.members:
                if not member.process.alive:
                    member.boot()
            await asyncio.sleep(LOOK_S)
        self.recovery_ms = (self.loop.now_us - start) // 1_000

    def complete(self) -> bool:
        """Every transaction is final and all honest validators in force stand at one height."""
        return not self.clients.open and all(
            member.running and member.height == self.height for member in self.in_force()
        )

    def in_force(self) -> list[Member]:
        """Honest members whose key is in the set of the next height."""
        validators = self.promises.sets.at(self.height + 1)
        return [member for member in self.honest if member.key.validator_id in validators]

    def _stalled(self) -> None:
        heights = " ".join(f"{member.name}:{member.height}" for member in self.members)
        raise Violation(
            "liveness", f"{len(self.clients.open)} transactions not final after {LIVENESS_MS} ms of calm; {heights}"
        )

    def run(self) -> None:
        """Play, then demand silence and look at what is left on the disks. Raises whatever went wrong."""
        self.loop.run_until_complete(self.loop.create_task(self.play()))
        for member in self.members:
            if not member.honest:
                member.end("a liar, no longer needed")
        if not self.loop.drain(SILENCE_MS * 1_000):
            raise Violation("silence", f"still to come without any work: {self.loop.pending()}")
        for member in self.in_force():
            if member.node is not None:
                check_rest(member.name, member.node, self.plan)
        self.promises.check_lost(self.clients.receipts)
        for member in self.honest:
            self.promises.check_state(member.name, member.height, member.disk.tables("state"))

    def report(self, problem: str, *, stalled: bool) -> Report:
        views = [member.node.replica.view for member in self.members if member.node is not None]
        return Report(
            seed=self.seed,
            nodes=len(self.members),
            cut_short=self.cut_short,
            problem=problem,
            stalled=stalled,
            plan=str(self.drawn),
            digest=self.trace.digest,
            height=self.height,
            view=max(views, default=0),
            transactions=len(self.clients.requests),
            receipts=len(self.clients.receipts),
            epochs=len(self.promises.sets),
            virtual_ms=self.now_ms,
            recovery_ms=self.recovery_ms,
            steps=self.loop.steps,
            messages=self.network.sent,
            connections_lost=self.network.broken,
            lives=sum(member.lives for member in self.members),
            leads_lost=sum(member.leads_lost for member in self.members),
            strikes=dict(sorted(self.nemesis.counts.items())),
            lies=dict(sorted(self.liar.lies.items())),
        )


def run_seed(
    seed: int, *, nodes: int, plan: Plan | None = None, cut_short: bool = False, story: bool = False
) -> tuple[Report, Trace]:
    """One run. A broken promise or a bug ends it and stands in `Report.problem`."""
    world = World(seed=seed, nodes=nodes, plan=plan, cut_short=cut_short, story=story)

    def to_story(logger: object, method: str, record: Any) -> Any:
        world.on_log(record.pop("event"), record)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[to_story])
    problem, stalled = "", False
    try:
        world.run()
    except Exception as error:  # noqa: BLE001  every failure is a finding, and the story must be told
        problem = world.without_folder(f"{type(error).__name__}: {error}")
        stalled = isinstance(error, Violation) and error.promise in ("liveness", "silence")
        world.tell("****", problem)
    finally:
        report = world.report(problem, stalled=stalled)
        world.close()
        structlog.configure(**before)
    return report, world.trace

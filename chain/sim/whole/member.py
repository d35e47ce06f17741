"""One validator: its disk, its clock, and the process of `chain.node.Node` that runs there now, if any."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chain.config import NodeConfig
from chain.config.node import (
    AblationConfig,
    ConsensusConfig,
    ExecutorConfig,
    GatewayConfig,
    IdentityConfig,
    PeerConfig,
    PoolConfig,
    RpcConfig,
)
from chain.crypto import Verifier
from chain.errors import StoreError
from chain.model.signing import ValidatorKey
from chain.net import GatewayHandlers
from chain.node.archive import load_journal, open_node_store
from chain.node.node import Node
from chain.node.services import Services
from chain.node.surroundings import Surroundings
from chain.sim.checkers import Violation
from chain.sim.whole.disk import SimDisk
from chain.sim.whole.engine import SimEngine
from chain.sim.whole.loop import PowerLost, Process
from chain.sim.whole.network import SimGateway
from chain.store import Store
from chain.types import Instant, ValidatorId

if TYPE_CHECKING:
    from chain.sim.whole.world import World

EPOCH_MS = 1_700_000_000_000  # what every clock shows at the start, give or take its skew


class Member:
    """`honest` is False for one whose words are bent on the way out."""

    def __init__(self, world: World, *, slot: int, key: ValidatorKey, folder: Path, honest: bool) -> None:
        self.world = world
        self.slot = slot
        self.key = key
        self.name = f"n{slot}"
        self.honest = honest
        self.disk = SimDisk(folder, world.random, partial(world.on_commit, self))
        self.folder = folder
        self.skew_ms = 0
        self.lives = 0
        self.stopping = False
        self.process = Process(f"{self.name}.0")
        self.process.alive = False
        self.node: Node | None = None
        self._store: Store | None = None
        self._engine: SimEngine | None = None
        self.views_entered = 0
        self.leads_lost = 0

    @property
    def running(self) -> bool:
        """It has started, and neither ended nor stands still."""
        return self.process.alive and self.node is not None and not self.process.frozen and not self.stopping

    @property
    def services(self) -> Services:
        if self.node is None:
            raise RuntimeError(f"{self.name} is not running")
        return Services(self.node)

    @property
    def height(self) -> int:
        """The last block on its disk."""
        table = self.disk.tables("blocks").get(b"blocks")
        return len(table.keys) - 1 if table is not None and table.keys else 0

    # --- life ---

    def boot(self) -> None:
        """Start a process from what is on the disk."""
        world = self.world
        self.lives += 1
        self.process = Process(f"{self.name}.{self.lives}")
        self.node = None
        self.stopping = False
        self.disk.refused = False
        if self.honest:
            world.promises.on_boot(self.name, self.height)
        world.tell(self.name, f"boot, life {self.lives}, {self.height} blocks")
        world.loop.spawn(self.process, self._live())

    async def _live(self) -> None:
        """What `chain.node.run` does, without its API server and signals."""
        try:
            self._store = open_node_store(self.folder, self.world.genesis)
            node = Node(
                config=self._config(), genesis=self.world.genesis, key=self.key, store=self._store,
                records=load_journal(self._store), around=self._surroundings(),
            )  # fmt: skip
        except PowerLost:
            self.end("the power went while it opened its store")
            return
        except Exception as error:  # noqa: BLE001  a full disk, or a bug
            self.fail(error)
            return
        self.node = node
        try:
            await node.start()
            await node.failed
        except Exception as error:  # noqa: BLE001  whatever ends a node is judged here
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """The node ended itself: right where its disk refuses a write, a broken promise anywhere else."""
        if not self.process.alive:
            return
        if self.honest and not (isinstance(error, StoreError) and self.disk.refused):
            self.world.violate(Violation("node_runs", f"{self.name} failed: {type(error).__name__}: {error}"), error)
        self.end(f"failed: {error}")

    async def stop(self) -> None:
        """As after SIGTERM: the API is closed first."""
        self.stopping = True
        if self.node is not None:
            await self.node.stop()
        self.end("stopped")

    def end(self, why: str, *, power: bool = False) -> None:
        """The process is gone, at once and wherever it was; with `power`, the whole machine."""
        if not self.process.alive:
            return
        self.world.tell(self.name, f"ends, {why}")
        if self.node is not None:
            self.views_entered += self.node.consensus.views_entered
            if self.honest:
                self.world.inspect(self)
        self.world.loop.kill(self.process)
        self.world.network.leave(self.slot)
        if self._engine is not None:
            self.leads_lost += self._engine.leads_lost
            self._engine.close()
            self._engine = None
        if self._store is not None and self._store.blocks.environment.users:
            self._store.close()
        self._store = None
        self.node = None
        if power:
            self.disk.crash()

    # --- what it is made of ---

    def _surroundings(self) -> Surroundings:
        world, process = self.world, self.process

        def wall_ms() -> Instant:
            return Instant(EPOCH_MS + world.loop.now_us // 1_000 + self.skew_ms)

        return Surroundings(
            wall_ms=wall_ms,
            monotonic_ms=lambda: Instant(world.loop.now_us // 1_000),
            now_us=lambda: world.loop.now_us,
            thread_cpu_ns=lambda: 0,  # nothing costs CPU here
            gateway=cast("Any", partial(self._gateway, process)),
            engine=cast("Any", self._make_engine),
            verifier=partial(Verifier, check=world.signatures.verify_batch),
        )

    def _gateway(self, process: Process, config: NodeConfig, *, own: ValidatorId, handlers: GatewayHandlers,
                 **others: Any) -> SimGateway:  # fmt: skip
        return SimGateway(
            self.world.network, process, slot=self.slot, own=own, slots=self.world.slots, handlers=handlers
        )

    def _make_engine(self, **arguments: Any) -> SimEngine:
        world = self.world
        self._engine = SimEngine(
            world.loop,
            work_us=lambda: world.network.ms(world.plan.node.execute_ms),
            dies=lambda: world.chance(world.plan.node.lead_dies_rate, 1_000),
            **{name: value for name, value in arguments.items() if name not in ("executors", "mode")},
        )
        return self._engine

    def _config(self) -> NodeConfig:
        settings = self.world.plan.settings
        return NodeConfig(
            folder=self.folder,
            node=IdentityConfig(name=self.name, organisation=self.name, role="bank"),
            rpc=RpcConfig(port=20_000 + self.slot),
            gateway=GatewayConfig(port=30_000 + self.slot),
            peers=tuple(
                PeerConfig(validator=validator, name=f"n{slot}", host="127.0.0.1", port=30_000 + slot)
                for validator, slot in self.world.slots.items()
                if slot != self.slot
            ),
            executor=ExecutorConfig(speculate=settings.speculate),
            pool=PoolConfig(
                transactions_max=settings.pool_transactions_max, pooled_ms_max=settings.pooled_ms_max
            ),
            consensus=ConsensusConfig(
                view_timeout_ms=settings.view_timeout_ms,
                view_timeout_ms_max=settings.view_timeout_ms_max,
                retransmit_ms=settings.retransmit_ms,
                block_interval_ms=settings.block_interval_ms,
            ),
            ablation=AblationConfig(pipeline="on" if settings.pipelined else "off"),
        )

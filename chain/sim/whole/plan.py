"""What may go wrong in a run of whole nodes, and how often: the seed draws the rates, the rates drive the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from chain.sim.whole.disk import DiskFaults
from chain.sim.whole.network import NetworkFaults

Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFaults:
    """Times in milliseconds, (least, most)."""

    verify_ms: Range  # a batch of signatures
    serve_ms: Range  # a read for a peer, or the check of what one sent
    execute_ms: Range  # a block
    lead_dies_rate: int  # per thousand blocks
    crash_rate: int  # per million callbacks: the process ends right after one
    send_crash_rate: int  # per 100,000 messages: it ends in the middle of a broadcast
    skew_ms_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What node.toml says, drawn as well."""

    view_timeout_ms: int
    view_timeout_ms_max: int
    retransmit_ms: int
    pooled_ms_max: int
    block_interval_ms: int
    speculate: bool
    pool_transactions_max: int
    pipelined: bool = True  # never drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run. The nemesis strikes about every `strike_ms` during `chaos_ms`, choosing among `strikes`."""

    window: int
    block_transactions_max: int
    chaos_ms: int
    strike_ms: Range
    strikes: tuple[str, ...]
    clients: int
    pause_ms: Range  # of a client between two transactions
    transactions_max: int
    short_expiry_rate: int  # per mille of transactions, expiring within a few heights
    changes: int  # of the validator set, asked for by its members
    snapshot_interval: int  # heights
    liars: int  # validators whose words are bent on their way out
    network: NetworkFaults
    disk: DiskFaults
    node: NodeFaults
    settings: NodeSettings


STRIKES: Final = {
    "crash": 3, "crash_all": 1, "crash_leader": 2, "power_all": 1, "stop": 2, "restart": 5, "freeze": 2, "heal": 5,
    "isolate": 2, "split": 2, "one_way": 2, "break_links": 2, "skew": 2, "slow_disk": 2, "full_disk": 1,
}  # fmt: skip


def draw_plan(random: Random, *, nodes: int) -> Plan:
    """Everything a seed decides before the run starts."""
    kinds = [kind for kind in sorted(STRIKES) if random.random() < 0.6]
    strikes = tuple(kind for kind in sorted({*kinds, "restart", "heal"}) for _ in range(STRIKES[kind]))
    return Plan(
        window=random.choice((1, 2, 4, 8)),
        block_transactions_max=random.choice((1, 3, 10)),
        chaos_ms=random.choice((3_000, 6_000, 12_000)),
        strike_ms=(20, random.choice((300, 1_500, 4_000))),
        strikes=strikes,
        clients=random.choice((2, 4, 8)),
        pause_ms=(0, random.choice((20, 100, 600))),
        transactions_max=random.choice((60, 120, 200)),
        short_expiry_rate=random.choice((0, 0, 50, 300)),
        changes=random.choice((0, 0, 1, 3)),
        snapshot_interval=random.choice((0, 18, 25)),  # above SNAPSHOT_LAG; genesis files have 50 and more
        liars=1 if random.random() < 0.35 else 0,
        network=_draw_network(random),
        disk=_draw_disk(random),
        node=_draw_node(random),
        settings=_draw_settings(random),
    )


def _draw_network(random: Random) -> NetworkFaults:
    fast = random.choice((1, 5, 20, 60))
    return NetworkFaults(
        delay_ms=(random.choice((0, 1, fast)), fast * random.choice((1, 2, 5))),
        straggler_rate=random.choice((0, 0, 10, 50)),
        straggler_ms=(50, random.choice((200, 1_000, 3_000))),
        loss_rate=random.choice((0, 0, 1, 5, 20)),
        duplication_rate=random.choice((0, 0, 20, 100)),
        reconnect_ms=(10, random.choice((50, 300, 1_000))),
    )


def _draw_disk(random: Random) -> DiskFaults:
    return DiskFaults(
        journal_ms=(0, random.choice((1, 3, 20))),
        store_ms=(0, random.choice((2, 20, 200, 1_000))),
        slow_ms=(50, random.choice((200, 1_500))),
        power_rate=random.choice((0, 1_000, 5_000)),
    )


def _draw_node(random: Random) -> NodeFaults:
    return NodeFaults(
        verify_ms=(0, random.choice((1, 2, 20))),
        serve_ms=(0, random.choice((1, 5, 100))),
        execute_ms=(0, random.choice((1, 20, 200))),
        lead_dies_rate=random.choice((0, 0, 20, 200)),
        crash_rate=random.choice((0, 0, 20, 200)),
        send_crash_rate=random.choice((0, 0, 50, 400)),
        skew_ms_max=random.choice((0, 50, 2_000, 40_000)),
    )


def _draw_settings(random: Random) -> NodeSettings:
    view_timeout_ms = random.choice((100, 500, 1_000, 2_000))
    return NodeSettings(
        view_timeout_ms=view_timeout_ms,
        view_timeout_ms_max=view_timeout_ms * random.choice((1, 4, 16)),
        retransmit_ms=random.choice((50, 250, 500)),
        pooled_ms_max=random.choice((300, 1_000, 3_000)),
        block_interval_ms=random.choice((0, 10, 50)),
        speculate=random.random() < 0.8,
        pool_transactions_max=random.choice((20, 1_000, 1_000)),
    )


def small(plan: Plan) -> Plan:
    """The same plan cut short: some of these fit into a test run."""
    return replace(
        plan, chaos_ms=min(plan.chaos_ms, 2_000), strike_ms=(20, min(plan.strike_ms[1], 400)),
        transactions_max=min(plan.transactions_max, 25),
    )  # fmt: skip


def calmed(plan: Plan) -> Plan:
    """What is left of a plan when the chaos is over: slow parts stay as slow as they are, within reason."""
    disk, node = plan.disk, plan.node
    return replace(
        plan,
        network=NetworkFaults(
            delay_ms=(1, 10), straggler_rate=0, straggler_ms=(0, 0), loss_rate=0, duplication_rate=0,
            reconnect_ms=(10, 100),
        ),
        disk=replace(disk, store_ms=(0, min(disk.store_ms[1], 100)), power_rate=0),
        node=replace(node, lead_dies_rate=0, crash_rate=0, send_crash_rate=0, skew_ms_max=200),
    )  # fmt: skip


def quiet_plan(
    *,
    window: int = 4,
    block_transactions_max: int = 3,
    chaos_ms: int = 0,
    strikes: tuple[str, ...] = ("heal",),
    liars: int = 0,
    changes: int = 0,
    speculate: bool = True,
    pipelined: bool = True,
) -> Plan:
    """Nothing goes wrong by itself: for scripts, which do the damage at the moments they choose."""
    return Plan(
        window=window, block_transactions_max=block_transactions_max, chaos_ms=chaos_ms, strike_ms=(20, 400),
        strikes=strikes, clients=2, pause_ms=(0, 20), transactions_max=30, short_expiry_rate=0, changes=changes,
        snapshot_interval=0, liars=liars,
        network=NetworkFaults(
            delay_ms=(1, 5), straggler_rate=0, straggler_ms=(0, 0), loss_rate=0, duplication_rate=0,
            reconnect_ms=(10, 50),
        ),
        disk=DiskFaults(journal_ms=(0, 2), store_ms=(0, 5), slow_ms=(50, 100), power_rate=0),
        node=NodeFaults(
            verify_ms=(0, 1), serve_ms=(0, 1), execute_ms=(0, 5), lead_dies_rate=0, crash_rate=0, send_crash_rate=0,
            skew_ms_max=0,
        ),
        settings=NodeSettings(
            view_timeout_ms=1_000, view_timeout_ms_max=8_000, retransmit_ms=250, pooled_ms_max=1_000,
            block_interval_ms=10, speculate=speculate, pool_transactions_max=1_000, pipelined=pipelined,
        ),
    )  # fmt: skip

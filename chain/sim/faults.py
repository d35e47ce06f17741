"""What may go wrong, and how often: one seed draws the rates, the rates drive the run.

Rates are per mille, times milliseconds, ranges inclusive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from chain.sim.members import Change

Range = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFaults:
    delay_ms: Range
    straggler_rate: int  # a message that takes `straggler_ms` instead
    straggler_ms: Range
    loss_rate: int
    duplication_rate: int
    reconnect_ms: Range  # from the loss of a message to the connection's return


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFaults:
    sync_ms: Range  # one sync of the journal
    execute_ms: Range
    store_ms: Range
    pack_ms: Range
    slow_disk_ms: Range  # the same sync while a disk is slow
    skew_ms_max: int
    crash_rate: int  # per 100,000 effects carried out
    pool_survives: bool  # a restart finds the pool as it was
    gossip: bool  # a new transaction goes to all at once, not only when overdue
    overlap: bool  # the core takes events while a sync runs
    overdue_ms: int
    reserved_waits: bool  # a transaction in a live proposal still counts as waiting in the pool
    prunes: bool  # the journal forgets what is at or below the last stored block


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFaults:
    """Settings of the core, drawn as well: time-outs far too short for the network are a fault, too."""

    view_timeout_ms: int
    view_timeout_ms_max: int
    retransmit_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run. The nemesis strikes about every `strike_ms` during `chaos_ms`, choosing among `strikes`."""

    window: int
    block_transactions_max: int
    chaos_ms: int
    strike_ms: Range
    strikes: tuple[str, ...]  # names of `Nemesis` methods; more frequent ones stand in it more than once
    submit_ms: Range
    submit_count: Range  # transactions at once
    submit_nodes: int  # how many nodes are told of each
    transactions_max: int
    speculate: bool  # nodes execute what is prepared and not ordered yet
    byzantine: str  # "", "twins" or "liar"
    byzantine_count: int  # how many validators, as far as their weight is tolerated
    weights: tuple[int, ...]  # of the validators
    network: NetworkFaults
    node: NodeFaults
    timers: TimerFaults
    changes: tuple[Change, ...] = ()  # of the validator set


CALM_NETWORK = NetworkFaults(
    delay_ms=(1, 20), straggler_rate=0, straggler_ms=(0, 0), loss_rate=0, duplication_rate=0, reconnect_ms=(5, 50)
)
CALM_NODE = NodeFaults(
    sync_ms=(1, 4), execute_ms=(1, 20), store_ms=(1, 20), pack_ms=(0, 5), slow_disk_ms=(1, 4), skew_ms_max=0,
    crash_rate=0, pool_survives=True, gossip=True, overlap=True, overdue_ms=1_000,
    reserved_waits=False, prunes=True,
)  # fmt: skip

CALM_TIMERS = TimerFaults(view_timeout_ms=1_000, view_timeout_ms_max=8_000, retransmit_ms=250)

STRIKES = (
    "crash", "crash_all", "crash_leader", "freeze", "heal", "isolate", "one_way", "regroup", "restart", "skew",
    "slow_disk", "split", "strand",
)  # fmt: skip
_WEIGHTS = {"restart": 4, "heal": 4, "strand": 4, "crash": 3, "crash_all": 1}


def draw_network(random: Random) -> NetworkFaults:
    fast = random.choice((1, 5, 20, 80))
    return NetworkFaults(
        delay_ms=(random.choice((0, 1, fast)), fast * random.choice((1, 2, 5))),
        straggler_rate=random.choice((0, 0, 10, 100)),
        straggler_ms=(50, random.choice((200, 1_000, 5_000))),
        loss_rate=random.choice((0, 0, 5, 30, 150)),
        duplication_rate=random.choice((0, 0, 20, 200)),
        reconnect_ms=(10, random.choice((50, 500, 2_000))),
    )


def draw_node(random: Random) -> NodeFaults:
    return NodeFaults(
        sync_ms=(0, random.choice((1, 5, 30))),
        execute_ms=(0, random.choice((1, 20, 300))),
        store_ms=(0, random.choice((1, 20, 300, 2_000))),
        pack_ms=(0, random.choice((1, 20))),
        slow_disk_ms=(50, random.choice((200, 1_500))),
        skew_ms_max=random.choice((0, 50, 2_000, 40_000)),
        crash_rate=random.choice((0, 0, 20, 200)),
        pool_survives=random.random() < 0.5,
        gossip=random.random() < 0.7,
        overlap=random.random() < 0.7,
        overdue_ms=random.choice((300, 1_000, 3_000)),
        reserved_waits=random.random() < 0.3,
        prunes=random.random() < 0.7,
    )


def draw_timers(random: Random) -> TimerFaults:
    view_timeout_ms = random.choice((100, 500, 1_000, 2_000))
    return TimerFaults(
        view_timeout_ms=view_timeout_ms,
        view_timeout_ms_max=view_timeout_ms * random.choice((1, 4, 16)),
        retransmit_ms=random.choice((50, 250, 500)),
    )


def draw_weights(random: Random, *, nodes: int) -> tuple[int, ...]:
    if random.random() < 0.85:
        return (1,) * nodes
    return tuple(random.choice((1, 1, 2, 3)) for _ in range(nodes))


def draw_plan(random: Random, *, nodes: int) -> Plan:
    """Everything a seed decides before the run starts."""
    kinds = [kind for kind in STRIKES if random.random() < 0.6] + ["restart", "heal"]
    strikes = tuple(kind for kind in sorted(set(kinds)) for _ in range(_WEIGHTS.get(kind, 2)))
    return Plan(
        window=random.choice((1, 2, 4, 8)),
        block_transactions_max=random.choice((1, 3, 10)),
        chaos_ms=random.choice((3_000, 8_000, 20_000)),
        strike_ms=(20, random.choice((300, 1_500, 5_000))),
        strikes=strikes,
        submit_ms=(1, random.choice((40, 200, 1_000))),
        submit_count=(1, random.choice((1, 5))),
        submit_nodes=random.choice((1, 2, nodes)),
        transactions_max=160,
        byzantine=random.choice(("", "", "", "", "", "", "twins", "liar")),
        byzantine_count=random.choice((1, 2)),
        weights=draw_weights(random, nodes=nodes),
        network=draw_network(random),
        node=draw_node(random),
        timers=draw_timers(random),
        speculate=random.random() < 0.85,
    )


def small(plan: Plan) -> Plan:
    """The same plan cut short: many of these fit into a test run."""
    return replace(plan, chaos_ms=min(plan.chaos_ms, 2_500), strike_ms=(20, 500), transactions_max=40)


def calm_plan(
    *,
    weights: tuple[int, ...] = (),
    speculate: bool = True,
    window: int = 4,
    block_transactions_max: int = 3,
    byzantine: str = "",
    byzantine_count: int = 1,
    network: NetworkFaults = CALM_NETWORK,
    node: NodeFaults = CALM_NODE,
    timers: TimerFaults = CALM_TIMERS,
    changes: tuple[Change, ...] = (),
) -> Plan:
    """Nothing goes wrong by itself: for scripts, which do the damage at the moments they choose."""
    return Plan(
        window=window, block_transactions_max=block_transactions_max, chaos_ms=0, strike_ms=(1, 1), strikes=("heal",),
        submit_ms=(10, 30), submit_count=(1, 2), submit_nodes=1, transactions_max=1_000, speculate=speculate,
        byzantine=byzantine, byzantine_count=byzantine_count, weights=weights, network=network, node=node,
        timers=timers, changes=changes,
    )  # fmt: skip

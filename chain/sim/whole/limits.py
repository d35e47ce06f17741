"""Every queue of a node is bounded: looked at from outside, while it runs."""

from __future__ import annotations

from chain.node.gossip import GOSSIP_BATCHES_MAX
from chain.node.node import BACKLOG_HEIGHTS_MAX, Node
from chain.sim.checkers import Violation
from chain.sim.whole.plan import Plan

LIVE_MAX = 4  # proposals of one height that are alive at once, a view change or two included


def check_limits(name: str, node: Node, plan: Plan) -> None:
    """Raises Violation("bounded") for a queue that is longer than any honest need."""
    heights = plan.window + BACKLOG_HEIGHTS_MAX + 1
    bounds = {
        "proposals being obtained": (len(node.obtainer), LIVE_MAX * heights),
        "live proposals": (len(node.bodies), 128 + LIVE_MAX * heights),
        "executed and not stored": (len(node._executed), 128 + heights),
        "heights being executed": (node.execute_stage.depth, 128 + heights),
        "blocks to store": (node.store_stage.depth, 128 + heights),
        "pack requests": (node.pack.depth, 4),
        "gossip batches": (max(node.gossip_intake._batches.values(), default=0), GOSSIP_BATCHES_MAX),
        "transactions in the pool": (
            len(node.pool), plan.settings.pool_transactions_max + LIVE_MAX * heights * plan.block_transactions_max
        ),
        "effects not carried out": (len(node.consensus._outbox), 5_000),
    }  # fmt: skip
    for what, (length, bound) in bounds.items():
        if length > bound:
            raise Violation("bounded", f"{name}: {length} {what}, at most {bound}")


def check_rest(name: str, node: Node, plan: Plan) -> None:
    """When all is done, nothing is left of it in memory. Raises Violation("bounded")."""
    rest = {
        "proposals being obtained": (len(node.obtainer), LIVE_MAX * plan.window),  # of views that were left
        "live proposals": (len(node.bodies), LIVE_MAX * plan.window),
        "executed and not stored": (len(node._executed), 0),
        "ordered transactions": (len(node.ordered), 0),
        "who waits for something": (len(node.waiters), 0),
    }
    for what, (length, bound) in rest.items():
        if length > bound:
            raise Violation("bounded", f"{name}: {length} {what} left when all is done, at most {bound}")

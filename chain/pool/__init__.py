"""Accepted transactions that are not yet in an executed proposal, and the way in."""

from chain.pool.gossip import GOSSIP_BYTES, Gossip, TransactionsMessage
from chain.pool.intake import Intake, IntakeResult
from chain.pool.pool import Pool, PoolLimits

__all__ = ["GOSSIP_BYTES", "Gossip", "Intake", "IntakeResult", "Pool", "PoolLimits", "TransactionsMessage"]

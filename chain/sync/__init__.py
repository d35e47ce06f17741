"""Getting what this node misses from the others, and giving them what they miss."""

from chain.sync.blocks import BlockFetcher
from chain.sync.checking import BlockChecker, CheckedBlock
from chain.sync.proposals import ProposalObtainer, Wanted
from chain.sync.server import ServingBudget, SyncServer
from chain.sync.wire import RequestKind

__all__ = [
    "BlockChecker", "BlockFetcher", "CheckedBlock", "ProposalObtainer", "RequestKind", "ServingBudget", "SyncServer",
    "Wanted",
]  # fmt: skip

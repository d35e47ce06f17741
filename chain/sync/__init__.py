"""Getting what this node misses from the others, and giving them what they miss."""

from chain.sync.blocks import BlockFetcher, CheckedBlock
from chain.sync.proposals import ProposalObtainer, Wanted
from chain.sync.server import SyncServer
from chain.sync.wire import RequestKind

__all__ = ["BlockFetcher", "CheckedBlock", "ProposalObtainer", "RequestKind", "SyncServer", "Wanted"]

"""What a node keeps on disk: certified blocks, the state they lead to, and the consensus journal.

`open_store` opens the three environments of a data folder under one lock and puts the state right. Blocks are made
durable before the state: a crash in between leaves the state behind, and the write sets of the blocks are replayed.
"""

from chain.store.blocks import BlockStore, StoredBlock
from chain.store.environment import STORE_FORMAT, check_file
from chain.store.events import StoredEvent, find_events
from chain.store.folder import Store, StoreLimits, open_store
from chain.store.indexing import IndexLimits
from chain.store.joining import JOINING, JoinFolder
from chain.store.journal import KEPT, JournalProposal, JournalRecord, JournalStore
from chain.store.reading import BlockInputs, StoredChain
from chain.store.snapshots import SNAPSHOTS_KEPT, SnapshotFile, SnapshotFolder
from chain.store.state import StateReader, StateStore

__all__ = [
    "JOINING", "KEPT", "SNAPSHOTS_KEPT", "STORE_FORMAT", "BlockInputs", "BlockStore", "IndexLimits", "JoinFolder",
    "JournalProposal", "JournalRecord", "JournalStore", "SnapshotFile", "SnapshotFolder", "StateReader", "StateStore",
    "Store", "StoreLimits", "StoredBlock", "StoredChain", "StoredEvent", "check_file", "find_events", "open_store",
]  # fmt: skip

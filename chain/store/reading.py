"""A node's stored chain, read by another process: to look at what happened, not to take part.

The node may run meanwhile. LMDB gives every read a snapshot; all it touches in the node's folder is the reader table
(`lock.mdb`), in which any reader must stand so that the pages it looks at are not used again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from chain.errors import BadInput, StoreError
from chain.model.block import Header, WriteSet, decode_header
from chain.model.merkle import state_root
from chain.store.blocks import BlockStore, StoredBlock
from chain.store.journal import JournalStore
from chain.store.state import StateStore

RUN_BLOCKS: Final = 256  # write sets applied in one transaction when a state is made again
RUN_KEYS: Final = 200_000  # ... or fewer, when they are large
BLOCKS, JOURNAL, STATE = "blocks", "journal", "state"


class BlockInputs(NamedTuple):
    """A stored block, its header, and the raw transactions that it executed, in order."""

    block: StoredBlock
    header: Header
    transactions: list[bytes]


class StoredChain:
    """The blocks and bodies in a data folder, for reading."""

    def __init__(self, path: Path, genesis: Header) -> None:
        """Open the data folder `path` of a chain that starts with `genesis`.

        Raises:
            StoreError: there is no finished data folder, or it is damaged.
            ConfigError: it belongs to another chain.
        """
        if not path.is_dir():
            raise StoreError(f"{path}: no such folder; the node makes it when it first starts")
        self.path = path
        self._genesis = genesis
        with contextlib.ExitStack() as undo:
            self.blocks = BlockStore(path / BLOCKS, genesis, readonly=True)
            undo.callback(self.blocks.close)
            self._journal = JournalStore(path / JOURNAL, chain_id=genesis.chain_id, readonly=True)
            undo.pop_all()

    def close(self) -> None:
        self._journal.close()
        self.blocks.close()

    def __enter__(self) -> StoredChain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def proposal(self, digest: bytes) -> tuple[bytes, list[bytes]] | None:
        """(encoded proposal, its raw transactions), stored as a block or not; None if it is not here."""
        return self._journal.proposal(digest)

    def inputs(self, height: int) -> BlockInputs:
        """A block above genesis with everything that its execution started from.

        Raises:
            BadInput: `not_found` or `pruned`; the text says which heights there are.
        """
        tip = self.blocks.height()
        if height == 0:
            raise BadInput("not_found", "block 0 is genesis: nothing was executed in it; the first block is 1")
        if not 0 < height <= tip:
            raise BadInput("not_found", f"no block {height} is stored in {self.path}, the highest is {tip}")
        block = self.blocks.block(height)
        found = None if block is None else self._journal.proposal(block.proposal_digest)
        if block is None or found is None:
            raise BadInput("pruned", f"block {height} or its transactions are no longer in {self.path}")
        skipped = frozenset(block.skipped)
        executed = [raw for at, raw in enumerate(found[1]) if at not in skipped]
        return BlockInputs(block, decode_header(block.header), executed)

    @contextlib.contextmanager
    def state_before(
        self,
        height: int,
        folder: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        snapshot_interval: int = 0,
    ) -> Iterator[StateStore]:
        """The state after `height - 1` in a new environment in `folder`, made from the write sets of all blocks up to
        there; it is the caller's to remove. `progress` is told (heights applied, heights to apply).

        `snapshot_interval`, the chain's, where a node is to go on from this state: it then also keeps the state at the
        last snapshot height, as the node's own does. 0: it is only looked at.

        Raises:
            BadInput: `pruned`: a write set on the way is gone.
            StoreError: a write set does not lead to the state root of its header, or the disk refuses.
        """
        state = StateStore(
            folder / STATE, chain_id=self._genesis.chain_id, genesis_state_root=self._genesis.state_root,
            snapshot_interval=snapshot_interval,
        )  # fmt: skip
        try:
            self._replay(state, height - 1, progress)
            yield state
        finally:
            state.close()

    def _replay(self, state: StateStore, last: int, progress: Callable[[int, int], None]) -> None:
        root: bytes = self._genesis.state_root
        run: list[tuple[int, bytes, WriteSet]] = []
        keys = 0
        for height in range(1, last + 1):
            header, writes = self.blocks.header(height), self.blocks.writes(height)
            if header is None or writes is None:
                raise BadInput("pruned", f"block {height} is no longer in {self.path}: the state cannot be made again")
            write_set = self.blocks.write_set(height)
            root = state_root(root, write_set)
            if root != decode_header(header).state_root:
                raise StoreError(f"{self.path}: the write set of block {height} does not lead to its state root")
            run.append((height, root, write_set))
            keys += len(write_set)
            if len(run) == RUN_BLOCKS or keys >= RUN_KEYS or height == last:
                state.apply(run)
                run, keys = [], 0
                progress(height, last)

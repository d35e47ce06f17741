"""Taking snapshots: the state at a snapshot height is read in a thread, while the chain goes on, and written to a file.

The header `SNAPSHOT_LAG` heights later commits to its root; only that header waits for it. The state store keeps what
the height needs until that header is stored, so a restart in between takes the snapshot again, with the same root.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor

from chain.errors import StoreError
from chain.model.block import SNAPSHOT_LAG, decode_header, snapshot_height
from chain.model.snapshot import SnapshotHead
from chain.pipeline.spans import CpuMeter
from chain.store import SnapshotFolder, Store
from chain.types import Height


class SnapshotTaker:
    """What `ExecuteStage` asks for roots. `stored` is called on the loop after each durable write."""

    def __init__(
        self,
        *,
        store: Store,
        interval: int,
        thread: Executor,
        cpu: CpuMeter,
        taken: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`taken` is called when a root is known, `failed` when the state could not be read or written down."""
        self._blocks, self._state = store.blocks, store.state
        self._folder: SnapshotFolder = store.snapshots
        self._interval = interval
        self._thread = thread
        self._cpu = cpu
        self._taken = taken
        self._failed = failed
        self._running: asyncio.Future[SnapshotHead] | None = None
        self.taken_count = 0

    def start(self) -> None:
        """After a restart: take what was not finished."""
        self._look()

    def root_in(self, height: Height) -> bytes | None:
        """What the header at `height` says of the state: nothing, a root, or (None) a root that is not known yet."""
        at = snapshot_height(height, self._interval)
        if at is None:
            return b""
        head = self._folder.head(at)
        return None if head is None else head.root

    @property
    def is_taking(self) -> bool:
        return self._running is not None

    def stored(self, height: Height) -> None:
        """Blocks up to `height` are durable."""
        self._look()

    def _look(self) -> None:
        at = self._state.snapshot_height
        if at is None or self._running is not None:
            return
        if self._folder.head(at) is None:
            loop = asyncio.get_running_loop()
            self._running = loop.run_in_executor(self._thread, self._take, at)
            self._running.add_done_callback(self._on_done)
        elif self._state.height() >= at + SNAPSHOT_LAG:
            self._state.release_snapshot(at)

    def _take(self, height: int) -> SnapshotHead:
        """In a thread. After each chunk the loop may go first: its work takes milliseconds, this takes seconds."""
        with self._cpu.measure("snapshot"), self._state.snapshot(height) as pairs:
            head = self._folder.write(height, pairs, pause=_yield_thread)
        header = self._blocks.header(height + SNAPSHOT_LAG)
        if header is not None and decode_header(header).snapshot_root != head.root:
            with self._folder.reading(height) as file:
                if file is not None:  # else the next start would find it, ask no more, and serve it
                    file.path.unlink(missing_ok=True)
            raise StoreError(
                f"{self._state.path}: the state at height {height} has the root {head.root.hex()}, block "
                f"{height + SNAPSHOT_LAG} says otherwise. Move the state folder away: it is made again from the blocks"
            )
        return head

    def _on_done(self, done: asyncio.Future[SnapshotHead]) -> None:
        self._running = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._failed(error)
            return
        self.taken_count += 1
        self._taken()
        self._look()


def _yield_thread() -> None:
    time.sleep(0)

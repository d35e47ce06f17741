"""What every stage of the production line looks like to the others."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from chain.errors import InvariantError

ItemT = TypeVar("ItemT")


class Stage(Protocol):
    """One step of a block's life: takes items from a bounded queue, works on them in order, hands them on.

    `run` returns only when cancelled; an exception out of it stops the node.
    """

    name: str

    @property
    def depth(self) -> int:
        """Items waiting."""
        ...

    async def run(self) -> None: ...


class StageQueue(Generic[ItemT]):
    """The bounded queue in front of a stage. The window of the consensus core bounds what can be in flight, so a full
    queue is our bug and not back-pressure."""

    def __init__(self, name: str, bound: int) -> None:
        self._queue: asyncio.Queue[ItemT] = asyncio.Queue(bound)
        self._name = name

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, item: ItemT) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            raise InvariantError(f"stage {self._name}: more than {self._queue.maxsize} items queued") from None

    async def get(self) -> ItemT:
        return await self._queue.get()

    async def get_all(self) -> list[ItemT]:
        """Waits for one item, then takes everything that is there."""
        items = [await self._queue.get()]
        while not self._queue.empty():
            items.append(self._queue.get_nowait())
        return items

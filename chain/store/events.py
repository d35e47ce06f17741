"""Finding events: by contract and name, over a range of heights, in block order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chain.codec import decode
from chain.errors import BadInput
from chain.model.block import Event, Receipt
from chain.store.blocks import BlockStore
from chain.store.indexing import Place
from chain.types import ADDRESS_BYTES, Digest

EVENTS_MAX: Final = 10_000  # one answer
EVENT_SCAN_HEIGHTS_MAX: Final = 10_000  # without a contract every receipt of the range is read


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its place in the chain."""

    height: int
    position: int  # of its transaction among the executed ones of the block
    index: int  # within its transaction
    transaction_hash: Digest
    event: Event

    @property
    def place(self) -> Place:
        return self.height, self.position, self.index


def find_events(
    blocks: BlockStore,
    *,
    contract: bytes | None = None,
    name: str | None = None,
    first: int = 1,
    last: int | None = None,
    after: Place | None = None,
    limit: int = 1_000,
) -> list[StoredEvent]:
    """Events of the heights `first`..`last` (the tip by default), ascending by place, at most `limit`.

    `after` is the `place` of the last event already seen: the next page starts behind it.

    Raises:
        BadInput: a contract that is no address, a limit outside 1..`EVENTS_MAX`, or no contract and a range over
            `EVENT_SCAN_HEIGHTS_MAX` heights.
    """
    if not 1 <= limit <= EVENTS_MAX:
        raise BadInput("out_of_range", f"limit is {limit}, must be 1..{EVENTS_MAX}")
    if contract is not None and len(contract) != ADDRESS_BYTES:
        raise BadInput("out_of_range", f"contract has {len(contract)} bytes, must have {ADDRESS_BYTES}")
    end = blocks.height() if last is None else min(last, blocks.height())
    start = max(first, 1, after[0] if after is not None else 1)
    if contract is None:
        if end - start >= EVENT_SCAN_HEIGHTS_MAX:
            raise BadInput(
                "out_of_range", f"without a contract the range may span {EVENT_SCAN_HEIGHTS_MAX} heights, not more"
            )
        places = _all_places(blocks, start, end)
    else:
        places = blocks.event_places(contract, name, start, end)
    found: list[StoredEvent] = []
    receipts: dict[tuple[int, int], Receipt] = {}
    for place in places:
        if after is not None and place <= after:
            continue
        event = _load(blocks, place, receipts)
        if name is None or event.event.name == name:
            found.append(event)
            if len(found) == limit:
                break
    return found


def _load(blocks: BlockStore, place: Place, receipts: dict[tuple[int, int], Receipt]) -> StoredEvent:
    height, position, index = place
    receipt = receipts.get((height, position))
    if receipt is None:
        data = blocks.receipt_at(height, position)
        assert data is not None, "the index names stored blocks only"
        receipts.clear()  # places come in order: no earlier receipt is needed again
        receipt = receipts[height, position] = decode(Receipt, data)
    return StoredEvent(
        height=height, position=position, index=index, transaction_hash=Digest(receipt.transaction_hash),
        event=receipt.events[index],
    )  # fmt: skip


def _all_places(blocks: BlockStore, first: int, last: int) -> Iterator[Place]:
    for height in range(first, last + 1):
        for position, data in enumerate(blocks.receipts(height) or ()):
            for index in range(len(decode(Receipt, data).events)):
                yield height, position, index

"""Blocks, headers, events: the certified chain."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from chain.rpc.definitions import METHODS, Call, Count, HeightNumber, Milliseconds, ReadParams
from chain.rpc.errors import BUSY, NOT_FOUND, NOT_READY, PRUNED, invalid_params, not_found
from chain.rpc.methods.targets import resolve_target
from chain.rpc.results import BlockResult, BlocksResult, EventsResult, FoundEvent, HeaderResult, OutcomeResult
from chain.rpc.services import EventFilter

EVENTS_LIMIT: Final = 1_000
BLOCKS_LIMIT: Final = 100
EVENT_HEIGHTS_MAX: Final = 100_000  # heights one get_events may look through

AtHeight = Annotated[HeightNumber | None, Meta(description="null: the highest certified one.")]


class GetHeader(ReadParams, frozen=True, kw_only=True):
    height: AtHeight = None


class GetBlock(ReadParams, frozen=True, kw_only=True):
    height: AtHeight = None
    full: Annotated[bool, Meta(description="With all receipts.")] = False


class WaitBlocks(ReadParams, frozen=True, kw_only=True):
    from_height: HeightNumber
    timeout_ms: Annotated[Milliseconds, Meta(description="Wait so long for a block at `from_height`; 0: do not.")] = 0
    limit: Annotated[Count, Meta(description="At most so many blocks; the server may give fewer.")] = BLOCKS_LIMIT


class GetEvents(ReadParams, frozen=True, kw_only=True):
    from_height: HeightNumber
    to_height: Annotated[HeightNumber | None, Meta(description="Included; null: the certified one.")] = None
    contract: Annotated[str | None, Meta(description="Only of this contract: address or name.")] = None
    name: Annotated[str | None, Meta(description="Only of this event's name.")] = None
    limit: Annotated[Count, Meta(description="The page ends with the block in which so many are reached.")] = (
        EVENTS_LIMIT
    )


@METHODS.add("get_header", tag="blocks", errors=(NOT_FOUND, PRUNED, NOT_READY))
async def get_header(call: Call, params: GetHeader) -> HeaderResult:
    """The executed header of a block: what validators signed. `raw` is its canonical encoding."""
    return HeaderResult.of(await _header(call, call.height if params.height is None else params.height))


@METHODS.add("get_block", tag="blocks", errors=(NOT_FOUND, PRUNED, NOT_READY))
async def get_block(call: Call, params: GetBlock) -> BlockResult:
    """A certified block: header, certificate, hashes and statuses of its transactions, with `full` their receipts."""
    services = call.services
    height = call.height if params.height is None else params.height
    header = await _header(call, height)
    hashes = await services.hashes(height) or b""
    receipts = await services.receipts(height) or ()
    certificate, proposal = await services.certificate(height), await services.proposal(height)
    return BlockResult.of(header, certificate, proposal, hashes, receipts, full=params.full)


@METHODS.add("wait_blocks", tag="blocks", errors=(BUSY, NOT_READY), waits=True)
async def wait_blocks(call: Call, params: WaitBlocks) -> BlocksResult:
    """What the blocks from `from_height` on executed: the cheap way to follow many transactions.

    With `timeout_ms` the answer comes as soon as a block is certified at `from_height` (long polling); without, at
    once. An empty list is no error. Ask again from `next_height`.
    """
    first = params.from_height
    if first > call.height and params.timeout_ms:
        with call.api.waits:
            await call.services.wait_height(first, call.timeout_ms(params.timeout_ms))
        call.speaks_for(call.services.certified_height())
    last = min(call.height, first + min(params.limit, call.limits.blocks_max) - 1)
    blocks: list[OutcomeResult] = []
    for height in range(first, last + 1):
        outcomes = await call.services.outcomes(height)
        if outcomes is not None:
            blocks.append(OutcomeResult(height=height, hashes=outcomes.hashes, statuses=outcomes.statuses))
    return BlocksResult(blocks=blocks, next_height=max(first, last + 1))


@METHODS.add("get_events", tag="blocks", errors=(NOT_FOUND, NOT_READY))
async def get_events(call: Call, params: GetEvents) -> EventsResult:
    """Events of certified blocks, ascending by height, position and index; a page at a time."""
    to_height = call.height if params.to_height is None else min(params.to_height, call.height)
    if to_height - params.from_height >= EVENT_HEIGHTS_MAX:
        raise invalid_params(f"from_height..to_height spans over {EVENT_HEIGHTS_MAX} heights; ask in parts")
    if to_height < params.from_height:
        return EventsResult(events=(), next_height=None)
    contract = await resolve_target(call, params.contract, "contract") if params.contract is not None else None
    limit = min(params.limit, call.limits.events_max)
    wanted = EventFilter(
        from_height=params.from_height, to_height=to_height, contract=contract, name=params.name, limit=limit
    )
    page = await call.services.events(wanted)
    return EventsResult(events=tuple(FoundEvent.of(item) for item in page.events), next_height=page.next_height)


async def _header(call: Call, height: int) -> bytes:
    header = await call.services.header(height) if height <= call.height else None
    if header is None:
        raise not_found(f"no block {height} is certified here, the highest is {call.height}")
    return header

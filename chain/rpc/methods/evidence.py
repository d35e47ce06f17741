"""What `headrace doctor` compares two nodes by: write sets of certified blocks, and the report of a diverged node."""

from __future__ import annotations

from typing import Any

from chain.rpc.definitions import METHODS, Call, HeightNumber, Params, ReadParams
from chain.rpc.errors import NOT_FOUND, NOT_READY, PRUNED, not_found
from chain.rpc.services import Shown


class GetWriteSet(ReadParams, frozen=True, kw_only=True):
    height: HeightNumber


class GetDivergence(Params, frozen=True, kw_only=True):
    """No parameters."""


class WriteSetResult(Shown, frozen=True, kw_only=True):
    """`writes` is the packed tuple of (state key, value or null), ascending by key, that leads from the state root of
    the block before to this block's."""

    height: int
    writes: bytes


class DivergenceResult(Shown, frozen=True, kw_only=True):
    """null while the node agrees with the others, else the contents of its divergence.json."""

    divergence: Any


@METHODS.add("get_write_set", tag="blocks", errors=(NOT_FOUND, PRUNED, NOT_READY))
async def get_write_set(call: Call, params: GetWriteSet) -> WriteSetResult:
    """What a certified block changed in the state. Together with the header before it this proves its state root."""
    writes = await call.services.writes(params.height) if params.height <= call.height else None
    if writes is None:
        raise not_found(f"no write set of block {params.height} is here, the highest certified is {call.height}")
    return WriteSetResult(height=params.height, writes=writes)


@METHODS.add("get_divergence", tag="node")
async def get_divergence(call: Call, params: GetDivergence) -> DivergenceResult:
    """Why this node stopped voting, with what it had executed at that height: for comparison with a healthy node."""
    return DivergenceResult(divergence=call.services.divergence())

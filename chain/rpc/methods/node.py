"""The node itself: status, consensus, pool, peers, genesis, and the description of the API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from chain.model.genesis_json import genesis_to_json
from chain.rpc.definitions import METHODS, Call, Count, HeightNumber, Params, ReadParams
from chain.rpc.results import (
    DiscoverResult,
    ExecutionsResult,
    GenesisResult,
    PeersResult,
    StagesResult,
)
from chain.rpc.services import ConsensusStatus, MembersView, NodeStatus, PoolStatus


class Nothing(Params, frozen=True, kw_only=True):
    """No parameters."""


class GetValidators(ReadParams, frozen=True, kw_only=True):
    height: Annotated[HeightNumber | None, Meta(description="The set in force there; null: for the next block.")] = None


class GetRecent(Params, frozen=True, kw_only=True):
    from_height: Annotated[HeightNumber | None, Meta(description="null: the last `limit` heights.")] = None
    limit: Annotated[Count, Meta(description="At most so many heights; only recent ones are kept.")] = 50


@METHODS.add("status", tag="node")
async def status(call: Call, params: Nothing) -> NodeStatus:
    """One look at the node: heights, view, pool, peers, executors, stage times, and what an operator should look at."""
    return call.services.status()


@METHODS.add("get_consensus_status", tag="node")
async def get_consensus_status(call: Call, params: Nothing) -> ConsensusStatus:
    """View, leader, ordered, certified and stored height, and whether this node has diverged."""
    return call.services.consensus_status()


@METHODS.add("get_pool_status", tag="node")
async def get_pool_status(call: Call, params: Nothing) -> PoolStatus:
    """How full the transaction pool is."""
    return call.services.pool_status()


@METHODS.add("get_peers", tag="node")
async def get_peers(call: Call, params: Nothing) -> PeersResult:
    """The other nodes, and which of them are connected."""
    return PeersResult(peers=list(call.services.peers()))


@METHODS.add("get_validators", tag="node")
async def get_validators(call: Call, params: GetValidators) -> MembersView:
    """The validators in force, the set that is scheduled, observers, and open changes with their approvals."""
    return call.services.members(params.height)


@METHODS.add("get_stages", tag="node")
async def get_stages(call: Call, params: GetRecent) -> StagesResult:
    """When recent heights were in each stage of the pipeline, by this node's clock."""
    first, limit = _recent(call, params)
    return StagesResult(heights=list(call.services.stages(first, limit)))


@METHODS.add("get_executions", tag="node")
async def get_executions(call: Call, params: GetRecent) -> ExecutionsResult:
    """How this node executed recent blocks: mode and reason, shards, conflicts, second runs, busy time of executors."""
    first, limit = _recent(call, params)
    return ExecutionsResult(heights=list(call.services.executions(first, limit)))


@METHODS.add("get_genesis", tag="node")
async def get_genesis(call: Call, params: Nothing) -> GenesisResult:
    """The genesis: chain parameters, first validators, CA certificate, accounts with the right to deploy."""
    return GenesisResult(chain_id=call.services.chain_id(), genesis=genesis_to_json(call.services.genesis()))


@METHODS.add("rpc.discover", tag="node")
async def discover(call: Call, params: Nothing) -> DiscoverResult:
    """This API as an OpenRPC document, generated from the definitions the server itself runs on."""
    from chain.rpc.openrpc import openrpc_document

    return DiscoverResult(**openrpc_document())


def _recent(call: Call, params: GetRecent) -> tuple[int, int]:
    """(first height, how many at most)."""
    limit = min(params.limit, call.limits.blocks_max)
    return (max(0, call.height - limit + 1) if params.from_height is None else params.from_height), limit

"""What the API shows of this node: `chain.rpc.services.NodeServices`, answered from the store and the running parts.

Only what is stored here is shown, and only certified blocks are stored: every answer speaks for the certified height.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final, TypeVar

import structlog

from chain.codec import decode, pack, unpack_trusted
from chain.errors import BadInput, InvariantError
from chain.model.block import Receipt
from chain.model.genesis import Genesis
from chain.node.divergence import load_divergence
from chain.node.members import Role
from chain.node.members_view import members_view
from chain.node.metrics import render_metrics
from chain.node.node import Node
from chain.pipeline.spans import STAGES, summarize
from chain.rpc.services import (
    BlockOutcomes,
    ConsensusStatus,
    EventFilter,
    EventItem,
    EventPage,
    HeightExecution,
    HeightStages,
    MembersView,
    NodeStatus,
    PeerView,
    PoolStatus,
    QueryResult,
    StageSpan,
    SubmitResult,
    TransactionLocation,
    TransactionState,
    TransactionStatus,
    WaitLevel,
)
from chain.store import StoredEvent, find_events
from chain.store.events import EVENTS_MAX
from chain.types import Digest, Height, ValidatorId
from contracts.system import SYSTEM_ADDRESS
from executor import ExecutionStats, QueryInput, QueryOutput

SUMMARY_HEIGHTS: Final = 100
DAY_MS: Final = 86_400_000
SYSTEM_GAS: Final = 10_000_000  # for reads of the system contract on the API's own behalf
ResultT = TypeVar("ResultT")

log = structlog.get_logger("headrace.node")


class Services:
    """Implements `NodeServices` for one running node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- standing ---

    def certified_height(self) -> int:
        return self._node.last_header.height

    def chain_id(self) -> bytes:
        return self._node.chain_id

    def is_live(self) -> bool:
        return not self._node.failed.done()

    def is_ready(self) -> bool:
        return self.is_live() and self._node.is_ready

    def metrics(self) -> bytes:
        return render_metrics(self._node)

    def status(self) -> NodeStatus:
        node = self._node
        recent = node.spans.recent(Height(max(0, node.last_header.height - SUMMARY_HEIGHTS)), 2 * SUMMARY_HEIGHTS)
        connected = node.gateway.connected()
        return NodeStatus(
            name=node.config.node.name,
            version=version("headrace"),
            chain_id=node.chain_id,
            chain_name=node.genesis.name,
            validator_id=node.validator_id,
            ready=self.is_ready(),
            consensus=self.consensus_status(),
            pool=self.pool_status(),
            block_time_ms=node.last_header.time_ms,
            transactions_total=node.transactions_total,
            peers_connected=len(connected),
            peers_total=len(node.gateway.peers),
            executors=node.config.executor.count,
            executors_alive=node.engine.executors_alive,
            uptime_ms=node.around.wall_ms() - node.started_ms,
            stage_mean_us={stage: int(mean * 1_000) for stage, mean in summarize(recent).mean_ms.items()},
            problems=tuple(self._problems(connected)),
        )

    def _problems(self, connected: Collection[ValidatorId]) -> list[str]:
        node = self._node
        problems = []
        if node.diverged:
            problems.append(f"this node stopped voting: {node.diverged}")
        others = [member for member in node.validators.members if member.id != node.validator_id]
        if lost := [member.name for member in others if member.id not in connected]:
            problems.append(f"{len(lost)} of {len(node.validators)} validators cannot be reached: {', '.join(lost)}")
        if not node.config.ablation.fsync:
            problems.append("ablation.fsync is false: if the machine crashes, throw this node's data away")
        if not node.config.is_pipelined:
            problems.append("ablation.pipeline is off: a node for measurements")
        if node.members.role in _OUTSIDE:
            problems.append(_OUTSIDE[node.members.role])
        expires = node.members.certificate_expires()
        if expires is not None and (days := int((expires.timestamp() * 1_000 - node.around.wall_ms()) // DAY_MS)) < 30:
            problems.append(f"this node's certificate is valid for {max(0, days)} more days: renew it")
        if node.replica.is_changing:
            problems.append(f"a view change to view {node.replica.view} is under way")
        if node.fetcher.running:
            problems.append("this node is behind and fetches blocks from its peers")
        return problems

    def consensus_status(self) -> ConsensusStatus:
        node, replica = self._node, self._node.replica
        leader = node.validators.get(replica.leader)
        return ConsensusStatus(
            view=replica.view,
            leader=replica.leader,
            leader_name=leader.name if leader is not None else "",
            changing=replica.is_changing,
            is_validator=node.validator_id in node.validators,
            ordered_height=replica.ordered_height,
            certified_height=replica.certified_height,
            stored_height=node.last_header.height,
            view_changes=node.consensus.views_entered,
            diverged=node.diverged,
            role=node.members.role,
            boundary=node.members.schedule.boundary(node.last_header.height + 1),
        )

    def pool_status(self) -> PoolStatus:
        pool, limits = self._node.pool, self._node.config.pool
        return PoolStatus(
            transactions=len(pool),
            bytes=pool.bytes_held,
            transactions_max=limits.transactions_max,
            bytes_max=limits.bytes_max,
            reserved=len(pool) - pool.waiting_count,
        )

    def peers(self) -> Sequence[PeerView]:
        connected = set(self._node.gateway.connected())
        return [
            PeerView(
                name=peer.name,
                id=peer.validator,
                address=f"{peer.host}:{peer.port}",
                connected=peer.validator in connected,
                certified_height=self._node.consensus.peer_certified.get(ValidatorId(peer.validator), 0),
            )
            for peer in self._node.members.peers()
        ]

    def members(self, height: int | None) -> MembersView:
        return members_view(self._node.members, height)

    def genesis(self) -> Genesis:
        return self._node.genesis

    def stages(self, from_height: int, limit: int) -> Sequence[HeightStages]:
        offset_us = self._node.clock_offset_us
        return [
            HeightStages(
                height=entry.height,
                transactions=entry.transactions,
                spans=tuple(
                    StageSpan(
                        stage=stage,
                        start_us=entry.spans[stage][0] + offset_us,
                        end_us=entry.spans[stage][1] + offset_us,
                    )
                    for stage in STAGES
                    if stage in entry.spans
                ),
            )
            for entry in self._node.spans.recent(Height(from_height), limit)
        ]

    def executions(self, from_height: int, limit: int) -> Sequence[HeightExecution]:
        return [
            HeightExecution(
                height=entry.height,
                transactions=entry.transactions,
                **{name: getattr(entry.stats, name) for name in ExecutionStats.__struct_fields__},
            )
            for entry in self._node.executions.recent(from_height, limit)
        ]

    # --- transactions ---

    async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
        if self._node.diverged:
            message = "this node stopped voting; send to another one"
            return [SubmitResult(hash=b"", error="halted", message=message) for _ in raws]
        if self._node.members.role in _OUTSIDE:
            message = f"{_OUTSIDE[self._node.members.role]}; send to another one"
            return [SubmitResult(hash=b"", error="not_ready", message=message) for _ in raws]
        results = await self._node.submit(raws)
        return [
            SubmitResult(
                hash=result.hash or b"",
                error=result.error.code if result.error else "",
                message=result.error.message if result.error else "",
            )
            for result in results
        ]

    async def wait_transaction(self, tx_hash: bytes, level: WaitLevel, timeout_ms: int) -> TransactionStatus:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1_000
        rank = {"accepted": 1, "ordered": 2, "certified": 3}[level]
        seen = False
        while True:
            status = self._where(tx_hash)
            if status.state is TransactionState.UNKNOWN and seen:
                return TransactionStatus(state=TransactionState.EXPIRED)
            seen = seen or status.state is not TransactionState.UNKNOWN
            if _RANK[status.state] >= rank or (left := deadline - loop.time()) <= 0:
                return status
            await self._node.waiters.transaction_moved(tx_hash, left)

    def _where(self, tx_hash: bytes) -> TransactionStatus:
        node, digest = self._node, Digest(tx_hash)
        if (height := node.ordered.height_of(digest)) is not None:
            return TransactionStatus(state=TransactionState.ORDERED, height=height)
        if digest in node.pool:  # it leaves the pool when it is executed, before its block is stored
            return TransactionStatus(state=TransactionState.PENDING)
        location = node.store.blocks.transaction_location(tx_hash)
        if location is None or location[0] > node.last_header.height:
            return TransactionStatus(state=TransactionState.UNKNOWN)
        return TransactionStatus(
            state=TransactionState.CERTIFIED,
            height=location[0],
            position=location[1],
            receipt=node.store.blocks.receipt_at(*location),
        )

    async def wait_height(self, height: int, timeout_ms: int) -> bool:
        if height <= self._node.last_header.height:
            return True
        return await self._node.waiters.height_reached(height, timeout_ms / 1_000)

    async def query(
        self, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int, signed: bool
    ) -> QueryResult:
        return _shown(await self._ask(sender, target, method, arguments, gas_limit, signed=signed))

    async def simulate(
        self, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int
    ) -> QueryResult:
        return _shown(await self._ask(sender, target, method, arguments, gas_limit, simulate=True))

    async def _ask(
        self,
        sender: bytes,
        target: bytes,
        method: str,
        arguments: bytes,
        gas_limit: int,
        *,
        signed: bool = False,
        simulate: bool = False,
    ) -> QueryOutput:
        question = QueryInput(
            sender=sender,
            target=target,
            method=method,
            arguments=arguments,
            gas_limit=min(gas_limit, self._node.parameters.transaction_gas_max),
            time_ms=self._node.last_header.time_ms,
            signed=signed,
            simulate=simulate,
        )
        try:
            return await self._node.engine.query(question)
        except InvariantError as error:  # a read is no consensus matter: it must not stop the node
            log.error("query_failed", error=str(error))
            raise BadInput("busy", "the query executor failed; try again") from None

    # --- blocks ---

    async def header(self, height: int) -> bytes | None:
        return await self._read(height, self._node.store.blocks.header)

    async def certificate(self, height: int) -> bytes | None:
        return await self._read(height, self._node.store.blocks.certificate)

    async def proposal(self, height: int) -> bytes | None:
        digest = await self._read(height, self._node.store.blocks.proposal_digest)
        return None if digest is None or height == 0 else self._node.store.journal.proposal_bytes(digest)

    async def hashes(self, height: int) -> bytes | None:
        return await self._read(height, self._node.store.blocks.hashes)

    async def receipts(self, height: int) -> Sequence[bytes] | None:
        return await self._read(height, self._node.store.blocks.receipts)

    async def writes(self, height: int) -> bytes | None:
        return await self._read(height, self._node.store.blocks.writes)

    def divergence(self) -> dict[str, Any] | None:
        return load_divergence(self._node.store.path) if self._node.diverged else None

    async def outcomes(self, height: int) -> BlockOutcomes | None:
        return await self._aside(self._outcomes, height) if 0 <= height <= self._node.last_header.height else None

    def _outcomes(self, height: int) -> BlockOutcomes | None:
        blocks = self._node.store.blocks
        hashes, receipts = blocks.hashes(height), blocks.receipts(height)
        if hashes is None or receipts is None:
            raise _pruned(height, blocks.executed_from)
        return BlockOutcomes(
            height=height, hashes=hashes, statuses=tuple(decode(Receipt, receipt).status for receipt in receipts)
        )

    async def _aside(self, read: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Reads that may take long: in a thread of their own kind, so that neither votes nor peers wait for them."""
        return await asyncio.get_running_loop().run_in_executor(self._node.read_thread, partial(read, *arguments))

    async def _read(self, height: int, load: Callable[[int], ResultT | None]) -> ResultT | None:
        if not 0 <= height <= self._node.last_header.height:
            return None
        found = load(height)
        blocks = self._node.store.blocks
        if found is None and 0 < height < blocks.executed_from and height <= blocks.height():
            raise _pruned(height, blocks.base if load == blocks.header else blocks.executed_from)
        return found

    async def transaction(self, tx_hash: bytes) -> TransactionLocation | None:
        node = self._node
        location = node.store.blocks.transaction_location(tx_hash)
        if location is None or location[0] > node.last_header.height:
            raw = node.find_transaction(Digest(tx_hash))
            return None if raw is None else TransactionLocation(raw=raw)
        height, position = location
        raw = node.store.transaction_at(height, position)
        return None if raw is None else TransactionLocation(raw=raw, height=height, position=position)

    async def events(self, event_filter: EventFilter) -> EventPage:
        return await self._aside(self._events, event_filter)

    def _events(self, wanted: EventFilter) -> EventPage:
        """Whole blocks: the page ends with the block in which the limit is reached."""
        blocks, last = self._node.store.blocks, min(wanted.to_height, self._node.last_header.height)
        find = partial(find_events, blocks, contract=wanted.contract, name=wanted.name)
        found = find(first=wanted.from_height, last=last, limit=wanted.limit)
        next_height = None
        if len(found) == wanted.limit:
            end = found[-1].height
            while rest := find(first=end, last=end, after=found[-1].place, limit=EVENTS_MAX):
                found += rest
            next_height = end + 1 if end < last else None
        return EventPage(events=tuple(_event_item(event) for event in found), next_height=next_height)

    # --- contracts ---

    async def code(self, address: bytes) -> str | None:
        return await self._system_text("code", address)

    async def abi(self, address: bytes) -> str | None:
        return await self._system_text("abi", address)

    async def _system_text(self, method: str, address: bytes) -> str | None:
        value = await self._system(method, address)
        return value if isinstance(value, str) else None

    async def resolve(self, name: str) -> bytes | None:
        value = await self._system("resolve", name)
        return value if isinstance(value, bytes) else None

    async def _system(self, method: str, argument: bytes | str) -> object:
        answer = await self._ask(bytes(20), SYSTEM_ADDRESS, method, pack((argument,)), SYSTEM_GAS)
        return unpack_trusted(answer.result) if answer.status == 0 and answer.result else None

    # --- proofs ---

    async def receipt_proof(self, tx_hash: bytes) -> dict[str, Any] | None:
        return await self._aside(self._receipt_proof, tx_hash)

    def _receipt_proof(self, tx_hash: bytes) -> dict[str, Any] | None:
        location = self._node.store.blocks.transaction_location(tx_hash)
        if location is None or location[0] > self._node.last_header.height:
            return None
        members = self._node.members
        found = self._node.store.receipt_proof(tx_hash, members.schedule.at(location[0]))
        return None if found is None else members.with_changes(found, location[0])

    async def value_proof(self, *, key: bytes, height: int | None) -> dict[str, Any] | None:
        at = self._node.last_header.height if height is None else height
        if at > self._node.last_header.height:
            raise BadInput("not_found", f"height {at} is above the certified one, {self._node.last_header.height}")
        return await self._aside(self._value_proof, key, at)

    def _value_proof(self, key: bytes, height: int) -> dict[str, Any]:
        members = self._node.members
        found = self._node.store.value_proof(key, height, members.schedule.at(height))
        return members.with_changes(found, height)


_OUTSIDE: Final = {
    Role.REMOVED: "this node is no validator any more: the others refuse it, what it shows is the past",
    Role.STRANGER: "this node is no member yet: propose it as an observer or validator (headrace members)",
}
_RANK: Final = {
    TransactionState.UNKNOWN: 0,
    TransactionState.PENDING: 1,
    TransactionState.ORDERED: 2,
    TransactionState.CERTIFIED: 3,
    TransactionState.EXPIRED: 4,
}


def _shown(answer: QueryOutput) -> QueryResult:
    return QueryResult(
        status=answer.status,
        gas_used=answer.gas_used,
        result=answer.result,
        error=answer.error,
        events=answer.events,
        height=answer.height,
        writes=answer.writes,
    )


def _event_item(found: StoredEvent) -> EventItem:
    return EventItem(
        height=found.height,
        position=found.position,
        index=found.index,
        transaction_hash=found.transaction_hash,
        contract=found.event.contract,
        name=found.event.name,
        values=found.event.values,
    )


def _pruned(height: int, first: int) -> BadInput:
    return BadInput("pruned", f"this node joined by snapshot and keeps this of heights {first} on, not of {height}")

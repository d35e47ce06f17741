"""A node in memory behind `NodeServices`: a real pool of rules (signatures, chain, expiry, duplicates), one contract.

Transactions are executed when `make_block` is called; nothing happens by itself, so tests decide every moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from chain.codec import encode, pack, unpack
from chain.crypto import PrivateKey, Scheme
from chain.errors import BadInput
from chain.model.block import Certificate, Event, Header, Proposal, Receipt, VoteSignature, encode_header, header_hash
from chain.model.genesis import ChainParameters, Genesis, chain_id, genesis_header
from chain.model.signing import decode_transaction, verify_transactions
from chain.model.transaction import Transaction
from chain.model.validators import Validator
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
    ValidatorView,
    WaitLevel,
)
from chain.types import ZERO_DIGEST

ECHO = bytes.fromhex("ec" * 20)
ECHO_NAME = "test.echo"
ECHO_ABI = json.dumps(
    {
        "contract": "Echo",
        "doc": "",
        "init": [],
        "methods": [
            {
                "name": "look", "mutability": "view", "parameters": [{"name": "words", "type": "str"}],
                "returns": "tuple[Address, bool, tuple[str]]", "doc": "",
            },
            {"name": "say", "mutability": "external", "parameters": [], "returns": None, "doc": ""},
        ],
        "events": [
            {
                "name": "Said",
                "fields": [{"name": "sender", "type": "Address"}, {"name": "words", "type": "str"}],
                "doc": "",
            }
        ],
        "structs": [],
        "storage": [{"name": "log", "kind": "List", "key": [], "value": "str"}],
        "constants": {},
    }
)  # fmt: skip
VALIDATOR_KEYS = [PrivateKey.from_secret(Scheme.ED25519, bytes([at + 1]) * 32) for at in range(4)]
GENESIS = Genesis(
    name="test",
    created_ms=1_700_000_000_000,
    parameters=ChainParameters(),
    validators=tuple(
        Validator(name=f"node-{at}", public_key=key.public_key, weight=1) for at, key in enumerate(VALIDATOR_KEYS)
    ),
    ca_certificate_sha256=bytes(32),
    deployers=(),
)
CHAIN_ID = chain_id(GENESIS)
_ORDER = {"accepted": 1, "ordered": 2, "certified": 3}
_RANK = {TransactionState.PENDING: 1, TransactionState.ORDERED: 2, TransactionState.CERTIFIED: 3}


class FakeNode:
    """Satisfies `NodeServices`; the extra methods drive it."""

    def __init__(self) -> None:
        self.pool: dict[bytes, Transaction] = {}
        self.pool_max = 10_000
        self.headers: list[Header] = [genesis_header(GENESIS)]
        self.blocks: list[list[Transaction]] = [[]]
        self.block_receipts: list[list[Receipt]] = [[]]
        self.where: dict[bytes, tuple[int, int]] = {}
        self.ready = True
        self.broken = False
        self.queries: list[tuple[bytes, str, bool]] = []
        self.refused = 0  # transactions, for want of room
        self.waits: list[asyncio.Future[None]] = []

    # --- driving it ---

    async def make_block(self) -> int:
        """Execute everything in the pool: method `fail` reverts, everything else emits Said(sender, method)."""
        height = len(self.headers)
        transactions = list(self.pool.values())
        self.pool.clear()
        receipts = []
        for position, transaction in enumerate(transactions):
            failed = transaction.body.method == "fail"
            said = Event(contract=ECHO, name="Said", values=pack((transaction.sender, transaction.body.method)))
            receipt = Receipt(
                transaction_hash=transaction.hash, status=int(failed), gas_used=100,
                result=b"" if failed else transaction.body.arguments, error="no_reason" if failed else "",
                events=() if failed else (said,),
            )  # fmt: skip
            receipts.append(receipt)
            self.where[transaction.hash] = (height, position)
        parent = self.headers[-1]
        header = Header(
            chain_id=CHAIN_ID, height=height, time_ms=parent.time_ms + 100, parent_hash=header_hash(parent),
            proposal_digest=ZERO_DIGEST, rule_set=1, validator_set_hash=parent.validator_set_hash,
            transaction_count=len(transactions), transaction_root=ZERO_DIGEST, receipt_root=ZERO_DIGEST,
            state_root=ZERO_DIGEST, gas_used=100 * len(transactions),
        )  # fmt: skip
        self.headers.append(header)
        self.blocks.append(transactions)
        self.block_receipts.append(receipts)
        self.forget_waits()
        return height

    def forget_waits(self) -> None:
        """Whoever waits looks again; after a restart it would have to ask again."""
        waits, self.waits = self.waits, []
        for wait in waits:
            if not wait.done():
                wait.set_result(None)

    # --- NodeServices ---

    def certified_height(self) -> int:
        return len(self.headers) - 1

    def chain_id(self) -> bytes:
        return CHAIN_ID

    def is_live(self) -> bool:
        return True

    def is_ready(self) -> bool:
        return self.ready

    def metrics(self) -> bytes:
        return b"# TYPE headrace_blocks_total counter\nheadrace_blocks_total 0\n"

    def status(self) -> NodeStatus:
        if self.broken:
            raise RuntimeError("a planted bug with a secret in its text")
        return NodeStatus(
            name="node-0", version="0.1.0", chain_id=CHAIN_ID, chain_name="test", validator_id=bytes(20),
            ready=self.ready, consensus=self.consensus_status(), pool=self.pool_status(),
            block_time_ms=self.headers[-1].time_ms, transactions_total=len(self.where), peers_connected=3,
            peers_total=3, executors=1, executors_alive=1, uptime_ms=1, stage_mean_us={"pack": 1},
        )  # fmt: skip

    def consensus_status(self) -> ConsensusStatus:
        height = self.certified_height()
        return ConsensusStatus(
            view=0, leader=bytes(20), leader_name="node-0", changing=False, is_validator=True, ordered_height=height,
            certified_height=height, stored_height=height, view_changes=0,
        )  # fmt: skip

    def pool_status(self) -> PoolStatus:
        size = sum(len(transaction.raw) for transaction in self.pool.values())
        return PoolStatus(
            transactions=len(self.pool), bytes=size, transactions_max=self.pool_max, bytes_max=2**30, reserved=0
        )

    def peers(self) -> Sequence[PeerView]:
        return [PeerView(name="node-1", id=bytes(20), address="127.0.0.1:1", connected=True, certified_height=0)]

    def members(self, height: int | None) -> MembersView:
        if height is not None and height > len(self.headers):
            raise BadInput("not_found", f"height {height} is not certain yet")
        validators = tuple(
            ValidatorView(name=member.name, id=member.id, public_key=member.public_key, weight=member.weight)
            for member in GENESIS.validators
        )
        return MembersView(
            height=len(self.headers) if height is None else height, from_height=0, validators=validators,
            total_weight=4, quorum_weight=3, scheduled=None, observers=(), changes=(),
        )  # fmt: skip

    def genesis(self) -> Genesis:
        return GENESIS

    def stages(self, from_height: int, limit: int) -> Sequence[HeightStages]:
        heights = range(from_height, min(from_height + limit, len(self.headers)))
        span = StageSpan(stage="pack", start_us=1, end_us=None)
        return [HeightStages(height=at, transactions=len(self.blocks[at]), spans=(span,)) for at in heights]

    def executions(self, from_height: int, limit: int) -> Sequence[HeightExecution]:
        heights = range(max(from_height, 1), min(from_height + limit, len(self.headers)))
        return [
            HeightExecution(
                height=at, transactions=len(self.blocks[at]), mode="parallel", reason="planned", shards=3,
                largest_shard=2, shard_sizes=(2, 1, 1), conflicts_predicted=1, conflicts_actual=2, reexecuted=1,
                executors_lost=0, busy_us=(1_500, 700), plan_us=40, validate_us=30, wall_us=1_700, cpu_us=2_300,
            )
            for at in heights
        ]  # fmt: skip

    async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
        return [self._submit(raw) for raw in raws]

    def _submit(self, raw: bytes) -> SubmitResult:
        try:
            transaction = decode_transaction(raw)
        except BadInput as error:
            return SubmitResult(hash=b"", error=error.code, message=error.message)
        code = self._refusal(transaction)
        if not code:
            self.pool[transaction.hash] = transaction
        return SubmitResult(hash=transaction.hash, error=code, message=code)

    def _refusal(self, transaction: Transaction) -> str:
        body = transaction.body
        if body.chain_id != CHAIN_ID:
            return "wrong_chain"
        if body.expiry <= self.certified_height():
            return "expired"
        if transaction.hash in self.pool or transaction.hash in self.where:
            return "duplicate"
        if len(self.pool) >= self.pool_max:
            self.refused += 1
            return "pool_full"
        return "" if verify_transactions([transaction])[0] else "bad_signature"

    def _state(self, tx_hash: bytes) -> TransactionStatus:
        if tx_hash in self.where:
            height, position = self.where[tx_hash]
            receipt = encode(self.block_receipts[height][position])
            return TransactionStatus(
                state=TransactionState.CERTIFIED, height=height, position=position, receipt=receipt
            )
        state = TransactionState.PENDING if tx_hash in self.pool else TransactionState.UNKNOWN
        return TransactionStatus(state=state)

    async def wait_transaction(self, tx_hash: bytes, level: WaitLevel, timeout_ms: int) -> TransactionStatus:
        def settled() -> bool:
            state = self._state(tx_hash).state
            return state == TransactionState.UNKNOWN or _RANK[state] >= _ORDER[level]

        await self._wait(settled, timeout_ms)
        return self._state(tx_hash)

    async def wait_height(self, height: int, timeout_ms: int) -> bool:
        return await self._wait(lambda: self.certified_height() >= height, timeout_ms)

    async def _wait(self, condition: Any, timeout_ms: int) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1_000):
                while not condition():
                    wait: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self.waits.append(wait)
                    await wait
        return bool(condition())

    async def query(
        self, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int, signed: bool
    ) -> QueryResult:
        self.queries.append((sender, method, signed))
        if method == "fail":
            return QueryResult(
                status=1, gas_used=5, result=b"", error="no_reason", events=(), height=self.certified_height()
            )
        return QueryResult(
            status=0, gas_used=7, result=pack((sender, signed, unpack(arguments))), error="", events=(),
            height=self.certified_height(),
        )  # fmt: skip

    async def simulate(
        self, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int
    ) -> QueryResult:
        return QueryResult(
            status=0, gas_used=400, result=arguments, error="", events=(), height=self.certified_height(),
            writes=((b"key", b"\x01"), (b"key2", None)),
        )  # fmt: skip

    async def header(self, height: int) -> bytes | None:
        return encode_header(self.headers[height]) if 0 <= height < len(self.headers) else None

    async def certificate(self, height: int) -> bytes | None:
        if height == 0:
            return None
        signatures = (VoteSignature(validator=bytes(20), signature=bytes(64)),)
        digest = header_hash(self.headers[height])
        return encode(Certificate(kind=4, view=0, height=height, digest=digest, signatures=signatures))

    async def proposal(self, height: int) -> bytes | None:
        if height == 0:
            return None
        hashes = await self.hashes(height) or b""
        return encode(
            Proposal(chain_id=CHAIN_ID, height=height, timestamp_ms=5, proposer=bytes(20), hashes=hashes)
        )

    async def hashes(self, height: int) -> bytes | None:
        return b"".join(transaction.hash for transaction in self.blocks[height])

    async def receipts(self, height: int) -> Sequence[bytes] | None:
        return [encode(receipt) for receipt in self.block_receipts[height]]

    async def writes(self, height: int) -> bytes | None:
        return pack(((b"key", b"value"),)) if 0 < height < len(self.headers) else None

    def divergence(self) -> dict[str, Any] | None:
        return None

    async def outcomes(self, height: int) -> BlockOutcomes | None:
        receipts = self.block_receipts[height]
        return BlockOutcomes(
            height=height,
            hashes=b"".join(receipt.transaction_hash for receipt in receipts),
            statuses=tuple(receipt.status for receipt in receipts),
        )

    async def transaction(self, tx_hash: bytes) -> TransactionLocation | None:
        if tx_hash in self.where:
            height, position = self.where[tx_hash]
            return TransactionLocation(raw=self.blocks[height][position].raw, height=height, position=position)
        pooled = self.pool.get(tx_hash)
        return None if pooled is None else TransactionLocation(raw=pooled.raw)

    async def events(self, event_filter: EventFilter) -> EventPage:
        found: list[EventItem] = []
        for height in range(event_filter.from_height, event_filter.to_height + 1):
            found += [item for item in self._block_events(height) if _matches(item, event_filter)]
            if len(found) >= event_filter.limit and height < event_filter.to_height:
                return EventPage(events=tuple(found), next_height=height + 1)
        return EventPage(events=tuple(found), next_height=None)

    def _block_events(self, height: int) -> list[EventItem]:
        return [
            EventItem(
                height=height, position=position, index=index, transaction_hash=receipt.transaction_hash,
                contract=event.contract, name=event.name, values=event.values,
            )
            for position, receipt in enumerate(self.block_receipts[height])
            for index, event in enumerate(receipt.events)
        ]  # fmt: skip

    async def code(self, address: bytes) -> str | None:
        return "class Echo(Contract): ..." if address == ECHO else None

    async def abi(self, address: bytes) -> str | None:
        return ECHO_ABI if address == ECHO else None

    async def resolve(self, name: str) -> bytes | None:
        return ECHO if name == ECHO_NAME else None

    async def receipt_proof(self, tx_hash: bytes) -> dict[str, Any] | None:
        return {"kind": "receipt", "hash": tx_hash.hex()} if tx_hash in self.where else None

    async def value_proof(self, *, key: bytes, height: int | None) -> dict[str, Any] | None:
        return {"kind": "value", "key": key.hex(), "height": height}


def _matches(item: EventItem, event_filter: EventFilter) -> bool:
    return event_filter.contract in (None, item.contract) and event_filter.name in (None, item.name)

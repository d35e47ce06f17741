"""What the API needs of a node: the seam between `chain.rpc` and `chain.node`.

Rules that hold for every implementation:

- Whatever stands at or below `certified_height()` is readable: header, certificate, receipts, indices, state. Nothing
  above it is shown, except `TransactionState.ORDERED` of `wait_transaction`.
- "Not there" is `None` (or an empty page), never an exception. `chain.errors.BadInput` is the caller's fault and is
  told to it; its `code` is one of `ERROR_CODES`. Anything else that is raised is our bug and is answered as such.
- Records of a block travel in the form in which they are stored (canonical bytes); the API decodes them.
- The caller bounds limits and time-outs before it calls; an implementation may bound them further.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from chain.model.block import Event
from chain.model.genesis import Genesis

WaitLevel = Literal["accepted", "ordered", "certified"]

# Codes a `BadInput` or `SubmitResult.error` may carry; `chain.rpc.errors` gives each its JSON-RPC number.
ERROR_CODES: Final = (
    "malformed", "bad_signature", "duplicate", "expired", "expiry_too_far", "pool_full", "sender_limit", "not_found",
    "wrong_chain", "too_large", "gas_limit", "not_ready", "halted", "busy", "pruned",
)  # fmt: skip


class TransactionState(enum.StrEnum):
    """`UNKNOWN`: never seen here. `EXPIRED`: it was pending and can never execute any more."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    ORDERED = "ordered"
    CERTIFIED = "certified"
    EXPIRED = "expired"


class Shown(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of everything that the API shows; `bytes` become 0x-hex, nothing else changes."""


class SubmitResult(Shown, frozen=True, kw_only=True):
    """`error` is empty if the transaction is in the pool, else one of `ERROR_CODES`; `message` says more.

    `hash` is empty if the transaction could not be decoded. A `duplicate` carries its hash.
    """

    hash: bytes
    error: str = ""
    message: str = ""


class TransactionStatus(Shown, frozen=True, kw_only=True):
    """Where a transaction is. `height` and `position` (in the block) from ORDERED on; `receipt` when CERTIFIED."""

    state: TransactionState
    height: int | None = None
    position: int | None = None
    receipt: bytes | None = None  # encode(Receipt)


class QueryResult(Shown, frozen=True, kw_only=True):
    """What a read or a simulation gave, on the state after block `height`. `writes` only for a simulation."""

    status: int
    gas_used: int
    result: bytes  # packed value, empty where there is none
    error: str
    events: tuple[Event, ...]
    height: int
    writes: tuple[tuple[bytes, bytes | None], ...] = ()


class BlockOutcomes(Shown, frozen=True, kw_only=True):
    """Which transactions a block executed: concatenated 32-byte hashes and a receipt status each, in block order."""

    height: int
    hashes: bytes
    statuses: tuple[int, ...]


class TransactionLocation(Shown, frozen=True, kw_only=True):
    """A transaction's raw bytes; `height` and `position` are None while it is only in the pool."""

    raw: bytes
    height: int | None = None
    position: int | None = None


class EventFilter(Shown, frozen=True, kw_only=True):
    """`from_height..to_height`, both included; `limit` events at least end the page at the end of their block."""

    from_height: int
    to_height: int
    contract: bytes | None = None
    name: str | None = None
    limit: int = 1_000


class EventItem(Shown, frozen=True, kw_only=True):
    """`position` of the transaction in its block, `index` of the event in its receipt."""

    height: int
    position: int
    index: int
    transaction_hash: bytes
    contract: bytes
    name: str
    values: bytes  # packed tuple


class EventPage(Shown, frozen=True, kw_only=True):
    """Events ascending, whole blocks only; go on at `next_height`, None when everything asked for was given."""

    events: tuple[EventItem, ...]
    next_height: int | None


class ValidatorView(Shown, frozen=True, kw_only=True):
    """`endpoint` is HOST:PORT as the chain says it; empty for a node that was there from the beginning."""

    name: str
    id: bytes
    public_key: bytes
    weight: int
    endpoint: str = ""


class ObserverView(Shown, frozen=True, kw_only=True):
    """A node that follows the chain and does not vote."""

    name: str
    id: bytes
    public_key: bytes
    endpoint: str


class ScheduledView(Shown, frozen=True, kw_only=True):
    """The set that is in force next."""

    from_height: int
    validators: tuple[ValidatorView, ...]


class ChangeView(Shown, frozen=True, kw_only=True):
    """An open change: `id` and `name` are of the node that it is about, `approvals` ids of validators.

    `approved_weight` counts those that are in force now; at `quorum_weight` the change is made.
    """

    number: int
    kind: str
    name: str
    id: bytes
    weight: int
    endpoint: str
    proposer: bytes
    proposed_height: int
    approvals: tuple[bytes, ...]
    approved_weight: int
    quorum_weight: int


class MembersView(Shown, frozen=True, kw_only=True):
    """Who is in force at `height`, since `from_height`; validators in the order that decides the leader of a view.

    `scheduled`, `observers` and `changes` are as of now, whatever the height.
    """

    height: int
    from_height: int
    validators: tuple[ValidatorView, ...]
    total_weight: int
    quorum_weight: int
    scheduled: ScheduledView | None
    observers: tuple[ObserverView, ...]
    changes: tuple[ChangeView, ...]


class ConsensusStatus(Shown, frozen=True, kw_only=True):
    """`changing`: has left the last view and waits for `view`. `diverged`: empty, or why this node stopped voting.

    `role`: validator, observer, joining (scheduled as a validator), removed or stranger. Views begin at 0 again in each
    epoch; `boundary` is the last height of this one, if another set is scheduled.
    """

    view: int
    leader: bytes
    leader_name: str
    changing: bool
    is_validator: bool
    ordered_height: int
    certified_height: int
    stored_height: int
    view_changes: int  # views entered by a view change since start
    diverged: str = ""
    role: str = "validator"
    boundary: int | None = None


class PoolStatus(Shown, frozen=True, kw_only=True):
    transactions: int
    bytes: int
    transactions_max: int
    bytes_max: int
    reserved: int  # of `transactions`: in a proposal that is not stored yet


class PeerView(Shown, frozen=True, kw_only=True):
    name: str
    id: bytes
    address: str  # host:port
    connected: bool
    certified_height: int  # as the peer last said


class StageSpan(Shown, frozen=True, kw_only=True):
    """When a height was in one stage, in microseconds since the epoch by this node's clock; `end_us` None: still in."""

    stage: str
    start_us: int
    end_us: int | None


class HeightStages(Shown, frozen=True, kw_only=True):
    height: int
    transactions: int
    spans: tuple[StageSpan, ...]  # in the order of the stages: pack, consensus, execute, checkpoint, store


class HeightExecution(Shown, frozen=True, kw_only=True):
    """How this node executed a block: its own affair, for other nodes do it differently and come to the same block.

    `mode` is "parallel" or "serial", `reason` why. A shard is transactions that one executor must run in order;
    `shard_sizes` are the largest, descending. `conflicts_predicted`: reads that the plan linked to an earlier write of
    the block; `conflicts_actual`: reads that found one, or should have, of a block that ran in parallel. `reexecuted`:
    transactions that ran twice. Times in microseconds: `busy_us` of each executor running transactions, `plan_us` and
    `validate_us` of the first one, `wall_us` from planning to the roots, `cpu_us` of all together.
    """

    height: int
    transactions: int
    mode: str
    reason: str
    shards: int
    largest_shard: int
    shard_sizes: tuple[int, ...]
    conflicts_predicted: int
    conflicts_actual: int
    reexecuted: int
    executors_lost: int
    busy_us: tuple[int, ...]
    plan_us: int
    validate_us: int
    wall_us: int
    cpu_us: int


class NodeStatus(Shown, frozen=True, kw_only=True):
    """One look at a node. `ready`: it answers reads at the head of the chain and takes transactions."""

    name: str
    version: str
    chain_id: bytes
    chain_name: str
    validator_id: bytes
    ready: bool
    consensus: ConsensusStatus
    pool: PoolStatus
    block_time_ms: int  # of the certified block
    transactions_total: int  # executed since genesis
    peers_connected: int
    peers_total: int
    executors: int
    executors_alive: int
    uptime_ms: int
    stage_mean_us: dict[str, int]  # per stage over the last blocks
    problems: tuple[str, ...] = ()  # what an operator should look at, one sentence each


class NodeServices(Protocol):
    """Everything `chain.rpc` asks of the node. See the module's docstring for the rules."""

    def certified_height(self) -> int:
        """Cheap: called once an answer."""

    def chain_id(self) -> bytes: ...

    def is_live(self) -> bool:
        """The process works at all (GET /health/live)."""

    def is_ready(self) -> bool:
        """It takes transactions and reads (GET /health/ready)."""

    def metrics(self) -> bytes:
        """Prometheus text."""

    def status(self) -> NodeStatus: ...

    def consensus_status(self) -> ConsensusStatus: ...

    def pool_status(self) -> PoolStatus: ...

    def peers(self) -> Sequence[PeerView]: ...

    def members(self, height: int | None) -> MembersView:
        """Raises BadInput (`not_found`): which set is in force at that height is not certain yet."""

    def genesis(self) -> Genesis: ...

    def stages(self, from_height: int, limit: int) -> Sequence[HeightStages]: ...

    def executions(self, from_height: int, limit: int) -> Sequence[HeightExecution]:
        """Ascending; only what was executed since the start, and only recent heights are kept."""

    async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
        """Check and take transactions into the pool; one result each, in order. Never raises for bad ones."""

    async def wait_transaction(self, tx_hash: bytes, level: WaitLevel, timeout_ms: int) -> TransactionStatus:
        """As soon as `level` is reached, or EXPIRED, or the time is over (0: at once): the status then."""

    async def wait_height(self, height: int, timeout_ms: int) -> bool:
        """True as soon as `certified_height() >= height`; False when the time is over."""

    async def query(
        self, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int, signed: bool
    ) -> QueryResult:
        """Run a view on the state of the certified height. `signed`: `sender` has proved who it is."""

    async def simulate(
        self, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int
    ) -> QueryResult:
        """Run a transaction on the state of the certified height and drop what it writes, but show it."""

    async def header(self, height: int) -> bytes | None: ...

    async def certificate(self, height: int) -> bytes | None: ...

    async def proposal(self, height: int) -> bytes | None: ...

    async def hashes(self, height: int) -> bytes | None:
        """Concatenated hashes of the executed transactions, block order."""

    async def receipts(self, height: int) -> Sequence[bytes] | None: ...

    async def outcomes(self, height: int) -> BlockOutcomes | None: ...

    async def writes(self, height: int) -> bytes | None:
        """The packed write set of a block."""

    def divergence(self) -> dict[str, Any] | None:
        """The report of the divergence for which this node stopped voting; None while it has not."""

    async def transaction(self, tx_hash: bytes) -> TransactionLocation | None: ...

    async def events(self, event_filter: EventFilter) -> EventPage: ...

    async def code(self, address: bytes) -> str | None: ...

    async def abi(self, address: bytes) -> str | None:
        """The ABI as JSON text; the system contract has one too."""

    async def resolve(self, name: str) -> bytes | None:
        """Address of a contract by its name on the chain."""

    async def receipt_proof(self, tx_hash: bytes) -> dict[str, Any] | None:
        """A JSON document that `chain.offline.verify_proof` checks; None if there is no such certified receipt."""

    async def value_proof(self, *, key: bytes, height: int | None) -> dict[str, Any] | None:
        """The same for the value of a state key at `height` (None: the certified one)."""

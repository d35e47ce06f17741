"""What a running call sees: the state beneath, the transaction it belongs to, its own frame.

Nothing is copied when a call or a transaction begins. All calls of a transaction share one dict of pending writes;
a journal of overwritten entries takes a failed call's part back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from chain.errors import InvariantError
from chain.model.block import Event
from contracts.language import gas as gas_table
from contracts.language.limits import RECURSION_DEPTH_MAX, SCAN_ITEMS_MAX
from contracts.runtime.errors import PYTHON_ERRORS, ContractError, OutOfGas, Status

if TYPE_CHECKING:
    from contracts.runtime.machine import Machine


class Missing:
    """The type of `MISSING`: not looked up yet, as opposed to None, which is known to be absent."""

    __slots__ = ()


MISSING: Final = Missing()


class State(Protocol):
    """The state beneath a transaction's own writes. Each key and prefix is asked for at most once a transaction."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]: ...


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What is the same for every transaction of a block. `time_ms` is the block's time."""

    chain_id: bytes
    height: int
    time_ms: int
    rule_set: int
    transaction_gas_max: int
    deployers: frozenset[bytes]


@dataclass(slots=True)
class Outcome:
    """What a transaction did. Failed: no writes and no events. `result` is packed, empty where nothing is returned."""

    status: int
    gas_used: int
    result: bytes = b""
    error: str = ""
    events: tuple[Event, ...] = ()
    writes: dict[bytes, bytes | None] = field(default_factory=dict)


class Context:
    """One transaction or read: shared by all its frames."""

    __slots__ = (
        "block",
        "depth",
        "events",
        "is_query",
        "is_signed",
        "journal",
        "machine",
        "origin",
        "reads",
        "recursion",
        "scans",
        "state_get",
        "state_scan",
        "transaction_hash",
        "writes",
    )

    def __init__(
        self,
        machine: Machine,
        state: State,
        block: BlockContext,
        origin: bytes,
        transaction_hash: bytes,
        is_query: bool,
        is_signed: bool,
    ) -> None:
        self.machine = machine
        self.block = block
        self.origin = origin
        self.transaction_hash = transaction_hash
        self.is_query = is_query
        self.is_signed = is_signed
        self.state_get: Callable[[bytes], bytes | None] = state.get
        self.state_scan: Callable[[bytes], list[tuple[bytes, bytes]]] = state.scan
        self.writes: dict[bytes, bytes | None] = {}
        self.reads: dict[bytes, bytes | None] = {}
        self.scans: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self.journal: list[tuple[bytes, bytes | Missing | None]] = []
        self.events: list[Event] = []
        self.depth = 0
        self.recursion = 0

    def rollback(self, journal_length: int, events_length: int) -> None:
        """Take back every write and event since the journal and the events had these lengths."""
        journal, writes = self.journal, self.writes
        while len(journal) > journal_length:
            key, old = journal.pop()
            if isinstance(old, Missing):
                del writes[key]
            else:
                writes[key] = old
        del self.events[events_length:]


class Frame:
    """One call into one contract: its gas and what `ctx` shows. Contract code never holds it as a value."""

    __slots__ = ("context", "gas", "journal", "readonly", "reads", "sender", "this", "writes")

    def __init__(self, context: Context, gas: int, sender: bytes, this: bytes, readonly: bool) -> None:
        self.context = context
        self.gas = gas
        self.sender = sender
        self.this = this
        self.readonly = readonly
        self.writes = context.writes
        self.reads = context.reads
        self.journal = context.journal

    # ctx.*

    @property
    def origin(self) -> bytes:
        return self.context.origin

    @property
    def height(self) -> int:
        return self.context.block.height

    @property
    def time_ms(self) -> int:
        return self.context.block.time_ms

    @property
    def chain_id(self) -> bytes:
        return self.context.block.chain_id

    @property
    def transaction_hash(self) -> bytes:
        return self.context.transaction_hash

    @property
    def is_query(self) -> bool:
        return self.context.is_query

    @property
    def is_signed(self) -> bool:
        return self.context.is_signed

    # Storage, below types

    def read(self, key: bytes) -> bytes | None:
        """The value of a key as this transaction sees it."""
        raw = self.writes.get(key, MISSING)
        if raw is MISSING:
            raw = self.reads.get(key, MISSING)
            if raw is MISSING:
                raw = self.fetch(key)
        return raw  # type: ignore[return-value]

    def fetch(self, key: bytes) -> bytes | None:
        """Ask the state beneath, once a key."""
        try:
            raw = self.context.state_get(key)
        except PYTHON_ERRORS as error:
            raise InvariantError(f"the state failed to answer: {error!r}") from error
        self.reads[key] = raw
        return raw

    def write(self, key: bytes, raw: bytes | None) -> None:
        """Put or (None) delete; gas is the caller's business."""
        if self.readonly:
            raise ContractError(Status.FORBIDDEN, "write_in_view")
        writes = self.writes
        self.journal.append((key, writes.get(key, MISSING)))
        writes[key] = raw

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All present keys with the prefix, ascending, as this transaction sees them; charges for each."""
        context = self.context
        rows = context.scans.get(prefix)
        if rows is None:
            try:
                rows = context.scans[prefix] = context.state_scan(prefix)
            except PYTHON_ERRORS as error:
                raise InvariantError(f"the state failed to answer: {error!r}") from error
        self.charge(gas_table.SCAN_ITEM * len(rows) + gas_table.ITEM * len(self.writes))
        pending = {key: raw for key, raw in self.writes.items() if key.startswith(prefix)}
        if pending:
            merged = dict(rows)
            self.charge(gas_table.SCAN_ITEM * len(pending))
            for key, raw in pending.items():
                if raw is None:
                    merged.pop(key, None)
                else:
                    merged[key] = raw
            rows = sorted(merged.items())
        if len(rows) > SCAN_ITEMS_MAX:
            raise ContractError(Status.LIMIT, "scan_items")
        self.charge(sum(len(key) + len(raw) for key, raw in rows) * gas_table.READ_BYTE)
        return rows

    # Gas and depth

    def charge(self, amount: int) -> None:
        self.gas -= amount
        if self.gas < 0:
            raise OutOfGas

    def enter_recursion(self) -> None:
        context = self.context
        context.recursion += 1
        if context.recursion > RECURSION_DEPTH_MAX:
            raise ContractError(Status.LIMIT, "recursion_depth")

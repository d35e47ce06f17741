"""What a running call sees: the state beneath, the transaction it belongs to, its own frame.

Nothing is copied when a call or a transaction begins. All calls of a transaction share one dict of pending writes;
a journal of overwritten entries takes a failed call's part back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from chain.codec import unpack_trusted
from chain.errors import InvariantError
from chain.model.block import Event
from contracts.language import gas as gas_table
from contracts.language.limits import INTEGER_MAX, INTEGER_MIN, RECURSION_DEPTH_MAX, SCAN_ITEMS_MAX
from contracts.runtime.adds import MISSING, Add, Missing, Pending, integer_bytes, integer_of
from contracts.runtime.errors import PYTHON_ERRORS, ContractError, OutOfGas, Status

if TYPE_CHECKING:
    from contracts.runtime.machine import Machine


class State(Protocol):
    """The state beneath a transaction's own writes. Each key and prefix is asked for at most once a transaction."""

    def get(self, key: bytes) -> bytes | None: ...

    def peek(self, key: bytes) -> bytes | None:
        """The value as far as known, which is no read of the transaction: a wrong one costs time only."""
        ...

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first `limit` rows under the prefix, ascending by key."""
        ...


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What is the same for every transaction of a block. `time_ms` is the block's time.

    `validators` are those of genesis, (name, public key, weight); `window` is the chain's. Rule set 3 asks for both.
    """

    chain_id: bytes
    height: int
    time_ms: int
    rule_set: int
    transaction_gas_max: int
    deployers: frozenset[bytes]
    window: int = 1
    validators: tuple[tuple[str, bytes, int], ...] = ()


@dataclass(slots=True)
class Outcome:
    """What a transaction did. Failed: no writes and no events, and nothing left of its adds.

    `result` is packed, empty where nothing is returned. A key whose add has a delta is not among the writes and was not
    read by `State.get`; `contracts.runtime.settle` makes a write of it.
    """

    status: int
    gas_used: int
    result: bytes = b""
    error: str = ""
    events: tuple[Event, ...] = ()
    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    adds: dict[bytes, Add] = field(default_factory=dict)


class _Undo(NamedTuple):
    """In the journal: what a key's pending delta was."""

    delta: int | None


_NOTHING: Final = _Undo(None)


class Context:
    """One transaction or read: shared by all its frames."""

    __slots__ = (
        "adds",
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
        "state",
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
        self.state = state
        self.writes: dict[bytes, bytes | None] = {}
        self.reads: dict[bytes, bytes | None] = {}
        self.scans: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self.adds: dict[bytes, Pending] = {}  # a write of the key stands in front; no key with a delta is in `reads`
        self.journal: list[tuple[bytes, bytes | Missing | _Undo | None]] = []
        self.events: list[Event] = []
        self.depth = 0
        self.recursion = 0

    def rollback(self, journal_length: int, events_length: int) -> None:
        """Take back every write, add and event since the journal and the events had these lengths.

        What adds have observed stays: the caller knows that they succeeded.
        """
        journal, writes = self.journal, self.writes
        while len(journal) > journal_length:
            key, old = journal.pop()
            if isinstance(old, Missing):
                del writes[key]
            elif isinstance(old, _Undo):
                self.adds[key] = self.adds[key]._replace(delta=old.delta)
            else:
                writes[key] = old
        del self.events[events_length:]

    def observed(self, *, failed: bool) -> dict[bytes, Add]:
        """The adds of the outcome. One whose key was read after all becomes a write, so that it is ordered by it."""
        adds: dict[bytes, Add] = {}
        writes = self.writes
        for key, pending in self.adds.items():
            delta, low, high, base, raw = pending
            if failed or key in writes:
                delta = None
            elif delta is not None and raw is not MISSING and low <= base <= high:
                writes[key] = integer_bytes(base + delta)
                delta = None
            adds[key] = Add(delta, low, high)
        return adds


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
        """The value of a key that the transaction neither wrote nor read: the state beneath is asked once a key."""
        context = self.context
        if context.adds and key in context.adds:
            return self._read_added(key, context.adds[key])
        try:
            raw = context.state.get(key)
        except PYTHON_ERRORS as error:
            raise InvariantError(f"the state failed to answer: {error!r}") from error
        self.reads[key] = raw
        return raw

    def _read_added(self, key: bytes, pending: Pending) -> bytes | None:
        """A read ends the commuting: the sum becomes an ordinary write, which a failing call takes back."""
        raw = pending.raw
        if isinstance(raw, Missing):
            try:
                raw = self.context.state.get(key)
            except PYTHON_ERRORS as error:
                raise InvariantError(f"the state failed to answer: {error!r}") from error
        if pending.delta is None:  # a failed call took the add back
            self.reads[key] = raw
            return raw
        base = integer_of(raw)
        if base is None:  # `peek` said otherwise, so this outcome will not hold
            raise self._no_integer(raw)
        self.context.adds[key] = pending._replace(base=base, raw=raw)
        made = integer_bytes(base + pending.delta)
        self.journal.append((key, MISSING))
        self.writes[key] = made
        return made

    def add(self, key: bytes, amount: int, minimum: int, maximum: int) -> None:
        """Add to a stored integer, a missing one counting as 0; without reading it, if that is still possible.

        Raises:
            ContractError: in a view; the sum is out of the bounds or of what can be stored; no integer is stored there.
        """
        if self.readonly:
            raise ContractError(Status.FORBIDDEN, "write_in_view")
        raw = self.writes.get(key, MISSING)
        if raw is MISSING:
            raw = self.reads.get(key, MISSING)
        if isinstance(raw, Missing):
            if self._add_unread(key, amount, max(minimum, INTEGER_MIN), min(maximum, INTEGER_MAX)):
                return
            raw = self.fetch(key)
        value = integer_of(raw)
        if value is None:
            raise self._no_integer(raw)
        value += amount
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise ContractError(Status.ARITHMETIC, "integer_range")
        if value < minimum:
            raise ContractError(Status.ARITHMETIC, "below_minimum")
        if value > maximum:
            raise ContractError(Status.ARITHMETIC, "above_maximum")
        self.write(key, integer_bytes(value))

    def _no_integer(self, raw: bytes | None) -> ContractError:
        """Something else was stored there, as after an upgrade; looking at it costs what reading it would."""
        held = raw or b""
        self.charge(gas_table.WIDE_BYTE * len(held))
        value = unpack_trusted(held)
        return ContractError(Status.TYPE, f"expected int, not {None if value is None else type(value).__name__}")

    def _add_unread(self, key: bytes, amount: int, minimum: int, maximum: int) -> bool:
        """Add without a read; False, and nothing is done, if it seems that the add would fail."""
        adds = self.context.adds
        pending = adds.get(key)
        if pending is None:
            try:
                base = integer_of(self.context.state.peek(key))
            except PYTHON_ERRORS as error:
                raise InvariantError(f"the state failed to answer: {error!r}") from error
            if base is None or not minimum <= base + amount <= maximum:
                return False
            adds[key] = Pending(amount, minimum - amount, maximum - amount, base, MISSING)
            self.journal.append((key, _NOTHING))
            return True
        old, low, high, base, raw = pending
        delta = amount if old is None else old + amount
        if not minimum <= base + delta <= maximum:
            return False
        adds[key] = Pending(delta, max(low, minimum - delta), min(high, maximum - delta), base, raw)
        self.journal.append((key, _Undo(old)))
        return True

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
        changed = len(self.writes)
        if context.adds:
            changed += self._settle_under(prefix)
        scan_rows = context.machine.rules.scan_rows
        rows = context.scans.get(prefix)
        if rows is None:
            try:
                rows = context.scans[prefix] = context.state.scan(prefix, scan_rows)
            except PYTHON_ERRORS as error:
                raise InvariantError(f"the state failed to answer: {error!r}") from error
        self.charge(gas_table.SCAN_ITEM * len(rows) + gas_table.ITEM * changed)
        if len(rows) == scan_rows:  # there are more, which deletions of the transaction's own do not make up for
            raise ContractError(Status.LIMIT, "scan_items")
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

    def _settle_under(self, prefix: bytes) -> int:
        """Make writes of the pending adds under a prefix; the number of keys with an add and no write before that.

        The scan's gas counts those like writes: it must not depend on whether an add had to read its key.
        """
        waiting = [key for key, add in self.context.adds.items() if add.delta is not None and key not in self.writes]
        for key in waiting:
            if key.startswith(prefix):
                self.fetch(key)
        return len(waiting)

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

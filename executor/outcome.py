"""What goes into the execution of a block or of a query, and what comes out."""

from __future__ import annotations

from typing import Final

from chain.codec import Record
from chain.model.block import Event

POSITION_NONE: Final = -1  # no transaction of the block: the version of a value that stands beneath the block


class ExecutionInput(Record, frozen=True, kw_only=True):
    """A block to execute on the state after `height - 1`.

    `transactions` are raw: signatures already checked, none a duplicate, none expired at `height`.
    """

    height: int
    time_ms: int  # block time, milliseconds since the epoch
    parent_state_root: bytes
    transactions: tuple[bytes, ...]


class ExecutionStats(Record, frozen=True, kw_only=True):
    """How a block was executed. Local: differs between nodes and runs, never part of a result."""

    mode: str  # "serial" or "parallel"
    reason: str  # why this mode, snake_case
    shards: int  # 1 where the block ran as one unit
    largest_shard: int  # transactions
    reexecuted: int  # transactions run again in place
    executors_lost: int  # executors that died, hung or answered garbage during this block
    busy_us: tuple[int, ...]  # wall time each executor spent running transactions, by index; 0 where it had none
    plan_us: int  # wall: decode, predict, plan
    validate_us: int  # wall: validate, re-run, roots
    cpu_us: int  # CPU of all executor processes for this block


class ExecutionOutput(Record, frozen=True, kw_only=True):
    """What a block did: byte-equal to serial execution, except for `stats`."""

    height: int
    transaction_root: bytes
    receipt_root: bytes
    state_root: bytes
    gas_used: int
    receipts: tuple[bytes, ...]  # encode(Receipt), in block order
    writes: bytes  # pack of a tuple of (key, value or None), ascending by key
    stats: ExecutionStats


class QueryInput(Record, frozen=True, kw_only=True):
    """A read, or the simulation of a transaction, on the stored state.

    `time_ms` is the block time the contract sees; `signed`: `sender` has proved who it is.
    """

    sender: bytes
    target: bytes
    method: str
    arguments: bytes  # packed tuple
    gas_limit: int
    time_ms: int
    signed: bool = False
    simulate: bool = False  # True: a method that writes may be called, and its writes are shown


class QueryOutput(Record, frozen=True, kw_only=True):
    """`height`: the stored height whose state was read. `writes` is empty unless it was a simulation."""

    height: int
    status: int
    gas_used: int
    result: bytes  # packed value, empty where there is none
    error: str
    events: tuple[Event, ...]
    writes: tuple[tuple[bytes, bytes | None], ...]


class ShareOutcome(Record, frozen=True, kw_only=True):
    """What one executor made of its transactions of one block; item i is the i-th transaction it was given.

    Everything is flat, because a thousand small records cost more than the transactions themselves. A version is the
    position in the block of the transaction that wrote the value, `POSITION_NONE` where it stands beneath the block.
    A transaction that could not be run to an end has an empty receipt, no reads and no writes.
    """

    receipts: tuple[bytes, ...]  # encode(Receipt)
    gas: tuple[int, ...]
    read_keys: tuple[bytes, ...]  # distinct; missing keys too
    read_counts: bytes  # int32 each: how many of `read_refs` belong to transaction i
    read_refs: bytes  # int32 each: index into `read_keys`
    read_versions: bytes  # int32 each: the version seen
    scans: tuple[tuple[int, bytes, tuple[tuple[bytes, int], ...]], ...]  # (i, prefix, versions the block put under it)
    write_keys: tuple[bytes, ...]  # one for each write, in order
    write_values: tuple[bytes | None, ...]
    write_counts: bytes  # int32 each: how many of `write_keys` belong to transaction i
    busy_us: int
    cpu_us: int

    @property
    def count(self) -> int:
        return len(self.receipts)

"""What goes into the execution of a block or of a query, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chain.codec import Record
from chain.crypto import address_of
from chain.model.block import Event
from chain.model.transaction import decode_body, split_transaction, transaction_hash
from chain.types import ADDRESS_BYTES, DIGEST_BYTES

SHARD_SIZES_MAX: Final = 16
POSITION_NONE: Final = -1  # no transaction of the block: the version of a value that stands beneath the block


class ExecutionInput(Record, frozen=True, kw_only=True):
    """A block to execute on the state after `height - 1`.

    `transactions` are raw: signatures already checked, none a duplicate, none expired at `height`. Their hashes and
    senders are known to whoever checked them, so they come along.
    """

    height: int
    time_ms: int  # block time, milliseconds since the epoch
    hashes: bytes  # 32 each
    senders: bytes  # 20 each
    transactions: tuple[bytes, ...]

    @classmethod
    def of(cls, *, height: int, time_ms: int, transactions: Sequence[bytes]) -> ExecutionInput:
        """The same from raw transactions alone.

        Raises:
            DecodeError, BadInput: one of them was never checked.
        """
        hashes, senders = [], []
        for raw in transactions:
            body_bytes, _ = split_transaction(raw)
            body = decode_body(body_bytes)
            hashes.append(transaction_hash(body_bytes))
            senders.append(address_of(body.scheme, body.public_key))
        return cls(
            height=height,
            time_ms=time_ms,
            hashes=b"".join(hashes),
            senders=b"".join(senders),
            transactions=tuple(transactions),
        )

    def hash_at(self, position: int) -> bytes:
        """The hash of one transaction."""
        return self.hashes[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES]

    def sender_at(self, position: int) -> bytes:
        """The sender of one transaction."""
        return self.senders[position * ADDRESS_BYTES : (position + 1) * ADDRESS_BYTES]


class ExecutionStats(Record, frozen=True, kw_only=True):
    """How a block was executed. Local: differs between nodes and runs, never part of a result."""

    mode: str  # "serial" or "parallel"
    reason: str  # why this mode, snake_case
    shards: int  # that the plan found; 1 where there was no plan
    largest_shard: int  # transactions
    shard_sizes: tuple[int, ...]  # transactions of the `SHARD_SIZES_MAX` largest, descending
    conflicts_predicted: int  # reads that the plan linked to an earlier writer of the block
    conflicts_actual: int  # reads and scans that found an earlier write of the block, plus second runs; serial: 0
    reexecuted: int  # transactions run again in place
    executors_lost: int  # executors that died, hung or answered garbage during this block
    busy_us: tuple[int, ...]  # wall time each executor spent running transactions, by index; 0 where it had none
    plan_us: int  # wall: predict, plan
    validate_us: int  # wall: validate, re-run, merge
    wall_us: int  # the lead's, from planning to the roots; other blocks may have run in between
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
    """What one executor's transactions did, in its order; flat, because one is made and sent for every block.

    The executor ran its transactions in block order on the base state and on what they themselves wrote. So whose
    write a read has found follows from `write_keys` and is not sent. A transaction that could not be run to an end has
    an empty receipt, no reads and no writes.
    """

    receipts: tuple[bytes, ...]  # encode(Receipt)
    receipt_hashes: bytes  # their Merkle leaf hashes, 32 each
    gas: tuple[int, ...]
    read_keys: tuple[bytes, ...]  # one for each read, in order; missing keys too
    read_marks: bytes  # int32 each: where in `read_keys` the reads of transaction i end
    scans: tuple[tuple[int, bytes], ...]  # (i, prefix)
    conflicts: int  # reads and scans that found what an earlier transaction of the share wrote
    write_keys: tuple[bytes, ...]  # one for each write, ascending; equal keys in block order
    write_values: tuple[bytes | None, ...]  # of these writes; an add's value is the one this executor knew
    write_counts: bytes  # int32 each: how many of `write_refs` belong to transaction i
    write_refs: bytes  # int32 each: index into `write_keys`
    adds: tuple[tuple[int, bytes, int | None, int, int], ...]  # (i, key, delta, low, high), `contracts.runtime.Add`
    leaves: tuple[bytes, ...]  # write leaves of the last write of each key, ascending
    leaf_hashes: bytes  # 32 each
    number: int  # of the request
    busy_us: int
    cpu_us: int
    end_ns: int  # CLOCK_MONOTONIC, the same in all processes of a machine

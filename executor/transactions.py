"""From raw bytes to a receipt: decoding where a transaction runs, the machine, the roots of a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import msgpack
import msgspec

from chain.codec import Record, encode
from chain.crypto import address_of
from chain.errors import BadInput, InvariantError
from chain.model.block import Receipt, WriteSet
from chain.model.merkle import chain_state_root, merkle_root, write_leaves
from chain.model.transaction import TransactionBody, transaction_hash
from contracts.runtime import BlockContext, Machine, Outcome
from contracts.runtime import State as MachineState
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats

SENDERS_MAX: Final = 65_536  # addresses of public keys remembered, a process

_split = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode
_body = msgspec.msgpack.Decoder(TransactionBody).decode
_sender_of = lru_cache(maxsize=SENDERS_MAX)(address_of)
_array_header = msgpack.Packer().pack_array_header


class ChainContext(Record, frozen=True, kw_only=True):
    """What does not change from block to block of one chain."""

    chain_id: bytes
    rule_set: int
    transaction_gas_max: int
    deployers: tuple[bytes, ...]

    def block(self, *, height: int, time_ms: int) -> BlockContext:
        return BlockContext(
            chain_id=self.chain_id,
            height=height,
            time_ms=time_ms,
            rule_set=self.rule_set,
            transaction_gas_max=self.transaction_gas_max,
            deployers=frozenset(self.deployers),
        )


class Call(NamedTuple):
    """What the machine needs of a transaction."""

    hash: bytes
    sender: bytes
    target: bytes
    method: str
    arguments: bytes
    gas_limit: int


class Progress(Protocol):
    """Where an executor is, readable by its parent after it was killed."""

    def enter(self, height: int, position: int) -> None: ...


def decode_call(raw: bytes) -> Call:
    """The call in a raw transaction that was checked before it was ordered, so its encoding is not checked again.

    Raises:
        InvariantError: it was not checked.
    """
    try:
        body_bytes, _ = _split(raw)
        body = _body(body_bytes)
        sender = _sender_of(body.scheme, body.public_key)
    except (msgspec.DecodeError, BadInput) as error:
        raise InvariantError(f"an ordered transaction does not decode: {error}") from error
    return Call(transaction_hash(body_bytes), sender, body.target, body.method, body.arguments, body.gas_limit)


def run_call(machine: Machine, state: MachineState, block: BlockContext, call: Call) -> tuple[bytes, Outcome]:
    """(canonical receipt, outcome) of one transaction on `state`; whoever owns the state commits the writes.

    Raises:
        InvariantError: our bug; also a failed transaction that leaves writes or events.
    """
    outcome = machine.execute(
        state,
        block,
        sender=call.sender,
        transaction_hash=call.hash,
        target=call.target,
        method=call.method,
        arguments=call.arguments,
        gas_limit=call.gas_limit,
    )
    if outcome.status and (outcome.writes or outcome.events):
        raise InvariantError(f"transaction {call.hash.hex()} failed and left writes or events")
    receipt = Receipt(
        transaction_hash=call.hash,
        status=outcome.status,
        gas_used=outcome.gas_used,
        result=outcome.result,
        error=outcome.error,
        events=outcome.events,
    )
    return encode(receipt), outcome


def seal(
    block: ExecutionInput,
    *,
    hashes: Sequence[bytes],
    receipts: Sequence[bytes],
    writes: WriteSet,
    gas_used: int,
    stats: Callable[[], ExecutionStats],
) -> ExecutionOutput:
    """The output of a block with its roots; `writes` ascending by key; `stats` is asked when all else is done."""
    leaves = write_leaves(writes)
    return ExecutionOutput(
        height=block.height,
        transaction_root=merkle_root(hashes),
        receipt_root=merkle_root(receipts),
        state_root=chain_state_root(block.parent_state_root, merkle_root(leaves)),
        gas_used=gas_used,
        receipts=tuple(receipts),
        writes=_array_header(len(leaves)) + b"".join(leaves),  # what `pack_writes` would give, from the packed pairs
        stats=stats(),
    )

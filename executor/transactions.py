"""From raw bytes to a receipt: decoding where a transaction runs, the machine, the roots of a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgpack
import msgspec

from chain.codec import Record, encode
from chain.errors import InvariantError
from chain.model.merkle import chain_state_root, leaf_hashes, root_of_hashes, write_leaves
from chain.model.transaction import TransactionBody
from contracts.runtime import BlockContext, Machine, Outcome
from contracts.runtime import State as MachineState
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats
from executor.state import Writes

_split = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode
_body = msgspec.msgpack.Decoder(TransactionBody).decode
_array_header = msgpack.Packer().pack_array_header


class ChainContext(Record, frozen=True, kw_only=True):
    """What does not change from block to block of one chain."""

    chain_id: bytes
    rule_set: int
    transaction_gas_max: int
    deployers: tuple[bytes, ...]
    window: int = 1
    validators: tuple[tuple[str, bytes, int], ...] = ()  # of genesis: name, public key, weight

    def block(self, *, height: int, time_ms: int) -> BlockContext:
        return BlockContext(
            chain_id=self.chain_id,
            height=height,
            time_ms=time_ms,
            rule_set=self.rule_set,
            transaction_gas_max=self.transaction_gas_max,
            deployers=frozenset(self.deployers),
            window=self.window,
            validators=self.validators,
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


def decode_call(raw: bytes, transaction_hash: bytes, sender: bytes) -> Call:
    """The call in a raw transaction that was checked before it was ordered, so its encoding is not checked again.

    Raises:
        InvariantError: it was not checked.
    """
    try:
        body = _body(_split(raw)[0])
    except msgspec.DecodeError as error:
        raise InvariantError(f"an ordered transaction does not decode: {error}") from error
    return Call(transaction_hash, sender, body.target, body.method, body.arguments, body.gas_limit)


def call_at(block: ExecutionInput, position: int) -> Call:
    """The call of one transaction of a block."""
    return decode_call(block.transactions[position], block.hash_at(position), block.sender_at(position))


def calls_of(block: ExecutionInput) -> list[Call]:
    """The calls of a block, in order."""
    return [call_at(block, position) for position in range(len(block.transactions))]


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
    # The fields of `Receipt` in order: the same bytes as of a record, without making one.
    receipt = encode((call.hash, outcome.status, outcome.gas_used, outcome.result, outcome.error, outcome.events))
    return receipt, outcome


class Result(NamedTuple):
    """What a block did, with the Merkle leaf hashes that its roots are made of."""

    receipts: list[bytes]
    receipt_hashes: bytes  # 32 each
    gas_used: int
    writes: Writes  # in any order
    packed_writes: bytes  # ascending by key: what `chain.model.merkle.pack_writes` gives
    leaf_hashes: bytes  # of the write leaves, ascending by key; 32 each

    @classmethod
    def of(cls, receipts: list[bytes], gas_used: int, writes: Writes) -> Result:
        """The result of receipts in block order and what the block wrote."""
        leaves = write_leaves(sorted(writes.items()))
        return cls(receipts, leaf_hashes(receipts), gas_used, writes, join_leaves(leaves), leaf_hashes(leaves))


def join_leaves(leaves: Sequence[bytes]) -> bytes:
    """The packed write set that has these leaves."""
    header: bytes = _array_header(len(leaves))
    return header + b"".join(leaves)


class Roots(NamedTuple):
    """What a block's header commits to."""

    transactions: bytes
    receipts: bytes
    state: bytes


def roots_of(block: ExecutionInput, result: Result, *, parent_state_root: bytes) -> Roots:
    hashes = block.hashes
    return Roots(
        transactions=root_of_hashes(leaf_hashes([hashes[at : at + 32] for at in range(0, len(hashes), 32)])),
        receipts=root_of_hashes(result.receipt_hashes),
        state=chain_state_root(parent_state_root, root_of_hashes(result.leaf_hashes)),
    )


def output_of(block: ExecutionInput, result: Result, roots: Roots, stats: ExecutionStats) -> ExecutionOutput:
    return ExecutionOutput(
        height=block.height,
        transaction_root=roots.transactions,
        receipt_root=roots.receipts,
        state_root=roots.state,
        gas_used=result.gas_used,
        receipts=tuple(result.receipts),
        writes=result.packed_writes,
        stats=stats,
    )

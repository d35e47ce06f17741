"""Stored blocks executed again, beside the node: serially and in parallel, against what is stored; or one transaction
traced. Reads the data folder of a node, running or not, and writes only to a folder of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.codec import decode
from chain.errors import BadInput, ConfigError, InvariantError
from chain.model.block import Receipt
from chain.model.genesis import Genesis, chain_id, genesis_header
from chain.model.merkle import merkle_root, unpack_writes, write_leaves
from chain.store import StateReader, StoredChain
from chain.store.reading import BlockInputs
from contracts.system.membership import members_of_genesis
from executor.engine import EXECUTORS_MAX, Engine
from executor.governor import Mode
from executor.outcome import ExecutionInput, ExecutionOutput, ExecutionStats
from executor.state import BaseState
from executor.trace import trace_transaction
from executor.trace_names import Names
from executor.trace_result import TransactionTrace
from executor.transactions import ChainContext

EXECUTORS_MIN: Final = 2
Progress = Callable[[str, int, int], None]  # what is being done, how far it is, how far it goes

_HEADER_FIELDS: Final = ("transaction_root", "receipt_root", "state_root", "gas_used")
_RECEIPT_FIELDS: Final = ("transaction_hash", "status", "error", "gas_used", "result", "events")


def _silent(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must be equal in all of them. Lists are compared whole and shown as their Merkle root."""

    what: str
    stored: bytes | int
    serial: bytes | int
    parallel: bytes | int

    @property
    def agrees(self) -> bool:
        return self.stored == self.serial == self.parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a stored block, its serial and its parallel execution part: `position` and `transaction_hash` of the first
    receipt, or `key` of the first write. A value that is not there at all is None."""

    what: str  # a field of the receipt, or the key in words of its contract
    stored: Any
    serial: Any
    parallel: Any
    position: int | None = None
    transaction_hash: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReplay:
    """A stored block executed again. The figures are of a second run each, when contracts were compiled already."""

    height: int
    transactions: int
    executors: int
    checks: tuple[Check, ...]
    differences: tuple[Difference, ...]  # the first of each kind
    serial: ExecutionStats
    parallel: ExecutionStats

    @property
    def agrees(self) -> bool:
        """Everything that is stored came out again, both ways."""
        return all(check.agrees for check in self.checks)

    @property
    def parallel_equals_serial(self) -> bool:
        return all(check.serial == check.parallel for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """A transaction traced, and whether it came to the receipt that is stored."""

    trace: TransactionTrace
    agrees: bool


class Replayer:
    """Executes the stored blocks of one node again."""

    def __init__(self, data: Path, genesis: Genesis, *, progress: Progress = _silent) -> None:
        """`data` is the node's data folder.

        Raises:
            StoreError, ConfigError: as `StoredChain` says.
        """
        self._genesis = genesis
        self._progress = progress
        self._chain = StoredChain(data, genesis_header(genesis))
        self._context = ChainContext(
            chain_id=chain_id(genesis),
            rule_set=genesis.parameters.rule_set,
            transaction_gas_max=genesis.parameters.transaction_gas_max,
            deployers=tuple(sorted(genesis.deployers)),
            window=genesis.parameters.window,
            validators=members_of_genesis(genesis),
        )

    @property
    def stored(self) -> StoredChain:
        """The blocks and bodies it reads."""
        return self._chain

    @property
    def context(self) -> ChainContext:
        """What the transactions of every block of this chain run with."""
        return self._context

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *_: object) -> None:
        self._chain.close()

    def block(self, height: int, *, executors: int = EXECUTORS_MIN) -> BlockReplay:
        """A block, serially and on `executors` executors, in processes as the node's own.

        Raises:
            BadInput: there is no such block here; the text says which there are.
            ConfigError: `executors` is out of range.
            StoreError: what is stored does not lead to the state before the block.
            InvariantError: it cannot be executed to an end.
        """
        if not EXECUTORS_MIN <= executors <= EXECUTORS_MAX:
            raise ConfigError(f"executors is {executors}, must be {EXECUTORS_MIN}..{EXECUTORS_MAX}")
        inputs = self._chain.inputs(height)
        block = _input(inputs)
        with self._state_before(height) as state:
            self._progress("executing serially", 0, 1)
            first, serial = asyncio.run(self._execute(block, state, executors=1, mode="serial"))
            if _results(first) != _results(serial):
                raise InvariantError(f"block {height}, executed twice serially, came to two results")
            self._progress(f"executing on {executors} executors", 0, 1)
            first, parallel = asyncio.run(self._execute(block, state, executors=executors, mode="forced"))
            if _results(first) != _results(serial):
                parallel = first  # what is wrong once is wrong
            differences = tuple(self._differences(inputs, serial, parallel, state))
        return BlockReplay(
            height=height,
            transactions=len(block.transactions),
            executors=executors,
            checks=_checks(inputs, serial, parallel),
            differences=differences,
            serial=serial.stats,
            parallel=parallel.stats,
        )

    def transaction(self, height: int, which: bytes | int) -> StoredTrace:
        """One transaction of a block, by its hash or position.

        Raises:
            BadInput: there is no such block or transaction here; the text says which there are.
            StoreError, InvariantError: as `block`.
        """
        inputs = self._chain.inputs(height)
        position = self._position(inputs, which)
        with self._state_before(height) as state:
            reader = StateReader(state)
            try:
                trace = trace_transaction(
                    _input(inputs),
                    position,
                    base=BaseState(reader),
                    chain=self._context,
                    progress=lambda done, total: self._progress("running the transactions before it", done, total),
                )
            finally:
                reader.close()
        return StoredTrace(trace=trace, agrees=trace.receipt == inputs.block.receipts[position])

    def _position(self, inputs: BlockInputs, which: bytes | int) -> int:
        height, count = inputs.header.height, len(inputs.transactions)
        if isinstance(which, int):
            if not 0 <= which < count:
                known = f"positions are 0..{count - 1}" if count else "it is empty"
                raise BadInput("not_found", f"no transaction {which} in block {height}: {known}")
            return which
        place = self._chain.blocks.transaction_location(which)
        if place is None:
            raise BadInput("not_found", f"no transaction 0x{which.hex()} is stored here")
        if place[0] != height:
            raise BadInput("not_found", f"transaction 0x{which.hex()} is in block {place[0]}, not in block {height}")
        return place[1]

    @contextmanager
    def _state_before(self, height: int) -> Iterator[Path]:
        with (
            tempfile.TemporaryDirectory(prefix="headrace-replay-") as folder,
            self._chain.state_before(
                height, Path(folder), lambda done, total: self._progress("making the state again", done, total)
            ) as state,
        ):
            yield state.path

    async def _execute(
        self, block: ExecutionInput, state: Path, *, executors: int, mode: Mode
    ) -> tuple[ExecutionOutput, ExecutionOutput]:
        """Twice: the first time contracts are compiled and processes still start, which says nothing of the block."""
        context = self._context
        engine = Engine(
            state_path=state,
            executors=executors,
            chain_id=context.chain_id,
            rule_set=context.rule_set,
            transaction_gas_max=context.transaction_gas_max,
            deployers=frozenset(context.deployers),
            mode=mode,
        )
        try:
            await engine.start()
            first = await engine.execute(block)
            await engine.discard(block.height)
            return first, await engine.execute(block)
        finally:
            await engine.stop()

    # --- what differs ---

    def _differences(
        self, inputs: BlockInputs, serial: ExecutionOutput, parallel: ExecutionOutput, state: Path
    ) -> Iterator[Difference]:
        every = (inputs.block.receipts, serial.receipts, parallel.receipts)
        for position in range(max(map(len, every))):
            receipts = [_receipt(receipts, position) for receipts in every]
            if not receipts[0] == receipts[1] == receipts[2]:
                yield from _receipt_difference(position, receipts)
                break
        writes = [dict(unpack_writes(packed)) for packed in (inputs.block.writes, serial.writes, parallel.writes)]
        for key in sorted(set().union(*writes)):
            values = [written.get(key, b"") for written in writes]  # no stored value is empty
            if not values[0] == values[1] == values[2]:
                yield self._write_difference(key, values, state)
                break

    def _write_difference(self, key: bytes, values: Sequence[bytes | None], state: Path) -> Difference:
        names = Names()
        reader = StateReader(state)
        try:
            names.look_up(key, reader.get, self._context.rule_set)
        finally:
            reader.close()
        shown = ["deleted" if value is None else names.value(key, value) if value else None for value in values]
        what = f"{names.contract(key[:20]) or '0x' + key[:20].hex()} {names.key(key).name}"
        return Difference(what=what, stored=shown[0], serial=shown[1], parallel=shown[2], key=key)


def _input(inputs: BlockInputs) -> ExecutionInput:
    header = inputs.header
    return ExecutionInput.of(height=header.height, time_ms=header.time_ms, transactions=inputs.transactions)


def _results(output: ExecutionOutput) -> tuple[object, ...]:
    return (
        output.transaction_root, output.receipt_root, output.state_root, output.gas_used, output.receipts,
        output.writes,
    )  # fmt: skip


def _checks(inputs: BlockInputs, serial: ExecutionOutput, parallel: ExecutionOutput) -> tuple[Check, ...]:
    stored, header = inputs.block, inputs.header
    hashes = [stored.hashes[at : at + 32] for at in range(0, len(stored.hashes), 32)]
    made = [
        Check(what=name, stored=getattr(header, name), serial=getattr(serial, name), parallel=getattr(parallel, name))
        for name in _HEADER_FIELDS
    ]
    made += [
        Check(
            what="transaction hashes",
            stored=merkle_root(hashes),
            serial=serial.transaction_root,
            parallel=parallel.transaction_root,
        ),
        Check(
            what="receipts",
            stored=merkle_root(stored.receipts),
            serial=merkle_root(serial.receipts),
            parallel=merkle_root(parallel.receipts),
        ),
        Check(
            what="write set",
            stored=merkle_root(write_leaves(unpack_writes(stored.writes))),
            serial=merkle_root(write_leaves(unpack_writes(serial.writes))),
            parallel=merkle_root(write_leaves(unpack_writes(parallel.writes))),
        ),
    ]
    return tuple(made)


def _receipt(receipts: Sequence[bytes], position: int) -> bytes | None:
    return receipts[position] if position < len(receipts) else None


def _receipt_difference(position: int, receipts: Sequence[bytes | None]) -> Iterator[Difference]:
    """The fields that differ, or the receipt as a whole where one of the three is missing."""
    known = [None if raw is None else decode(Receipt, raw) for raw in receipts]
    transaction_hash = next(receipt.transaction_hash for receipt in known if receipt is not None)
    for name in _RECEIPT_FIELDS:
        values = [None if receipt is None else getattr(receipt, name) for receipt in known]
        if not values[0] == values[1] == values[2]:
            shown = [f"{len(value)} events" if name == "events" and value is not None else value for value in values]
            yield Difference(
                what=name, stored=shown[0], serial=shown[1], parallel=shown[2], position=position,
                transaction_hash=transaction_hash,
            )  # fmt: skip

"""The machine: executes transactions and reads, one at a time, and keeps what compiling costs.

Outcomes depend on the code, the input and the state only. The caches below (by code hash, by address and record) save
time and are invisible: code is found through the state in every call, at a fixed price.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from chain.codec import unpack_trusted
from chain.errors import InvariantError
from contracts.language import gas as gas_table
from contracts.language.compiler import code_hash, compile_contract
from contracts.language.limits import CALL_DEPTH_MAX
from contracts.language.rules import NEWEST, RULE_SETS, rules_of
from contracts.runtime.adds import settle
from contracts.runtime.errors import CALL_ERRORS, CallFailed, ContractError, OutOfGas, Status, contract_error
from contracts.runtime.frame import BlockContext, Context, Frame, Outcome, State
from contracts.runtime.instance import Instance, Linked, Method
from contracts.system.contract import SYSTEM_ADDRESS, SystemContract
from contracts.system.registry import ContractRecord, Lifecycle, record_key, source_key

__all__ = ["RULE_SETS", "Machine"]

_LINKED_MAX: Final = 512
_INSTANCES_MAX: Final = 4_096
_RECURSION_LIMIT: Final = 4_000  # Python frames; by their own counters contracts stay below 1,500
_NO_HASH: Final = bytes(32)

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """The most recently used entries, at most `size`."""

    def __init__(self, size: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._size = size

    def get(self, key: K) -> V | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


class Machine:
    """Executes contracts under one rule set. Not to be used by two threads at once."""

    def __init__(self, rule_set: int = NEWEST) -> None:
        """Raises InvariantError for a rule set this version does not know."""
        self.rule_set = rule_set
        self.rules = rules_of(rule_set)
        if sys.getrecursionlimit() < _RECURSION_LIMIT:
            sys.setrecursionlimit(_RECURSION_LIMIT)
        self._linked: _Recent[bytes, Linked] = _Recent(_LINKED_MAX)
        self._instances: _Recent[tuple[bytes, bytes], tuple[Instance, ContractRecord]] = _Recent(_INSTANCES_MAX)
        self._system = SystemContract(self)

    def execute(
        self,
        state: State,
        block: BlockContext,
        *,
        sender: bytes,
        transaction_hash: bytes,
        target: bytes,
        method: str,
        arguments: bytes,
        gas_limit: int,
    ) -> Outcome:
        """Run a transaction. Contract faults end in the outcome; what raises is a bug or the state's failure.

        Raises:
            InvariantError: our bug.
        """
        context = Context(self, state, block, sender, transaction_hash, False, True)
        return self._run(context, sender, target, method, arguments, min(gas_limit, block.transaction_gas_max))

    def query(
        self,
        state: State,
        block: BlockContext,
        *,
        sender: bytes,
        target: bytes,
        method: str,
        arguments: bytes,
        gas_limit: int,
        signed: bool,
    ) -> Outcome:
        """Run a read, or simulate a transaction: `ctx.is_query` is True; the writes are shown and applied nowhere.

        Adds are settled: `writes` shows the sums, `adds` is empty.
        """
        context = Context(self, state, block, sender, _NO_HASH, True, signed)
        outcome = self._run(context, sender, target, method, arguments, min(gas_limit, block.transaction_gas_max))
        outcome.writes = settle(outcome, state.peek)
        outcome.adds = {}
        return outcome

    def _run(
        self, context: Context, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int
    ) -> Outcome:
        frame = Frame(context, gas_limit, sender, target, False)
        try:
            frame.gas -= gas_table.TRANSACTION + gas_table.ARGUMENT_BYTE * len(arguments)
            if frame.gas < 0:
                raise OutOfGas
            result = self._enter(frame, target, method, arguments)
            if frame.gas >= 0:
                adds = context.observed(failed=False) if context.adds else {}
                return Outcome(0, gas_limit - frame.gas, result, "", tuple(context.events), context.writes, adds)
            status, reason = Status.OUT_OF_GAS, ""
        except CALL_ERRORS as caught:
            status, reason = contract_error(caught)
        except (RuntimeError, MemoryError) as bug:  # RecursionError is a RuntimeError; metering should have come first
            raise InvariantError(f"{type(bug).__name__} in contract execution: {bug}") from bug
        adds = context.observed(failed=True)
        if frame.gas < 0 or status == Status.OUT_OF_GAS:
            return Outcome(int(Status.OUT_OF_GAS), gas_limit, b"", "out_of_gas", adds=adds)
        return Outcome(int(status), gas_limit - frame.gas, b"", reason, adds=adds)

    def call(
        self,
        caller: Frame,
        target: bytes,
        method: str,
        arguments: bytes,
        readonly: bool,
        decode: Callable[[Frame, bytes], T],
    ) -> T:
        """A call from one contract into another; the decoded result.

        Raises:
            CallFailed: the callee failed, or its result is not what the caller's interface says; its writes and
                events have been taken back.
            OutOfGas: the transaction is over.
        """
        context = caller.context
        caller.charge(gas_table.CONTRACT_CALL + gas_table.CONTRACT_CALL_BYTE * len(arguments))
        if context.depth >= CALL_DEPTH_MAX:
            raise CallFailed(Status.LIMIT, "call_depth")
        frame = Frame(context, caller.gas, caller.this, target, caller.readonly or readonly)
        journal_length, events_length = len(context.journal), len(context.events)
        context.depth += 1
        try:
            packed = self._enter(frame, target, method, arguments)
            frame.charge(gas_table.CONTRACT_CALL_BYTE * len(packed))
            result = decode(frame, packed)
            context.depth -= 1
            caller.gas = frame.gas
            return result
        except OutOfGas:
            raise
        except CALL_ERRORS as caught:
            status, reason = contract_error(caught)
        context.depth -= 1
        caller.gas = frame.gas
        if caller.gas < 0:
            raise OutOfGas
        context.rollback(journal_length, events_length)
        raise CallFailed(status, reason)

    def _enter(self, frame: Frame, target: bytes, method: str, arguments: bytes) -> bytes:
        if target == SYSTEM_ADDRESS:
            return self._system.run(frame, method, arguments)
        frame.gas -= gas_table.READ
        instance, record = self.instance(frame, target)
        found = instance.methods.get(method)
        if found is None:
            raise ContractError(Status.UNKNOWN_METHOD, f"unknown_method: {method}")
        if found.is_view:
            frame.readonly = True
        elif record.lifecycle != Lifecycle.ACTIVE:
            raise ContractError(Status.FROZEN, "contract_frozen")
        return found.run(frame, arguments)

    def initialise(self, frame: Frame, arguments: bytes) -> None:
        """Run the `init` of the contract at `frame.this`, as part of its deployment."""
        instance, _ = self.instance(frame, frame.this)
        method: Method | None = instance.init
        if method is not None:
            method.run(frame, arguments)
        elif arguments != b"\x90":  # the empty tuple
            raise ContractError(Status.BAD_ARGUMENTS, "the contract has no init and takes no arguments")

    # Code

    def instance(self, frame: Frame, address: bytes) -> tuple[Instance, ContractRecord]:
        """The contract at an address, by way of the state: an upgrade or freeze in this very block is seen.

        Raises:
            ContractError: UNKNOWN_CONTRACT.
        """
        raw = frame.read(record_key(address))
        if raw is None:
            raise ContractError(Status.UNKNOWN_CONTRACT, "unknown_contract")
        found = self._instances.get((address, raw))
        if found is None:
            record = ContractRecord.of(raw)
            if record.lifecycle == Lifecycle.ABOLISHED:
                raise ContractError(Status.UNKNOWN_CONTRACT, "contract_abolished")
            found = (self._link(frame, record.code_hash).bind(address), record)
            self._instances.put((address, raw), found)
        return found

    def _link(self, frame: Frame, digest: bytes) -> Linked:
        linked = self._linked.get(digest)
        if linked is None:
            raw = frame.read(source_key(digest))
            if raw is None:
                raise InvariantError(f"no source for the deployed code {digest.hex()}")
            linked = self.link(str(unpack_trusted(raw)))
        return linked

    def link(self, source: str) -> Linked:
        """A source compiled and linked, from the cache if it is there.

        Raises:
            BadSource: the source may not be deployed.
        """
        digest = code_hash(source)
        linked = self._linked.get(digest)
        if linked is None:
            linked = Linked(compile_contract(source, self.rules.number))
            self._linked.put(digest, linked)
        return linked

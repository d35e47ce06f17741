"""Shares of a block run apart from each other on one base and validated, with a contract whose adds commute."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from chain.codec import Value, pack
from chain.model.merkle import unpack_writes
from contracts.runtime import Machine
from executor.outcome import ExecutionInput, ShareOutcome
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.share import is_well_formed, run_share
from executor.state import BaseState
from executor.transactions import ChainContext, Result, call_at
from executor.validate import ShareResult, Validated, validate
from tests.unit.executor.workbench import CHAIN, MemoryReader, block_of, deployment, transaction

ADDER = '''"""Sums that commute, and everything that disturbs them."""


class Peer(Interface):
    @external
    def add_and_fail(self, key: int, amount: int): ...


class Adder(Contract):
    sums: Map[int, int]
    seen: Map[int, int]

    @external
    def add(self, key: int, amount: int):
        self.sums.add(key, amount)

    @external
    def within(self, key: int, amount: int, low: int, high: int):
        self.sums.add(key, amount, minimum=low, maximum=high)

    @external
    def put(self, key: int, value: int):
        self.sums[key] = value

    @external
    def drop(self, key: int):
        del self.sums[key]

    @external
    def copy(self, key: int, into: int):
        """A read of a sum, written elsewhere."""
        self.seen[into] = self.sums.get(key, 0)

    @external
    def copy_seen(self, key: int, into: int):
        self.seen[into] = self.seen.get(key, 0)

    @external
    def total(self, into: int):
        value = 0
        for key, found in self.sums.scan():
            value = value + found
        self.seen[into] = value

    @external
    def add_read(self, key: int, amount: int) -> int:
        self.sums.add(key, amount)
        return self.sums.get(key, 0)

    @external
    def add_and_fail(self, key: int, amount: int):
        self.sums.add(key, amount, minimum=0)
        require(False, "taken_back")

    @external
    def see(self, key: int, amount: int, into: int):
        """Nothing is left of the add but that it succeeded."""
        try:
            Peer(ctx.this).add_and_fail(key, amount)
        except CallFailed as failure:
            self.seen[into] = failure.status
'''

ADDING: ChainContext = msgspec.structs.replace(CHAIN, rule_set=2)


@cache
def adding_machine() -> Machine:
    """One machine for all tests of rule set 2 that do not care whose compile cache they use."""
    return Machine(2)


class Bench:
    """A contract deployed by account 0, its state in memory, and blocks run on it in shares."""

    def __init__(
        self, source: str = ADDER, arguments: tuple[Value, ...] = (), *, machine: Machine | None = None
    ) -> None:
        """Under rule set 2, or that of `machine`."""
        self.machine = adding_machine() if machine is None else machine
        self.chain = msgspec.structs.replace(ADDING, rule_set=self.machine.rule_set)
        self.reader = MemoryReader()
        self.base = BaseState(self.reader)
        raw, self.contract = deployment(0, "contract", source, arguments)
        result = self.serial(self.block([raw]))
        self._store(result)

    def call(self, method: str, *arguments: Value) -> bytes:
        return transaction(0, self.contract, method, arguments)

    def key(self, variable: str, *parts: Value) -> bytes:
        """Of a value, or of a map's element."""
        return self.contract + variable.encode() + b"\x00" + b"".join(map(pack, parts))

    def block(self, raws: Sequence[bytes]) -> ExecutionInput:
        return block_of(self.base.height + 1, raws)

    def serial(self, block: ExecutionInput) -> Result:
        """What the oracle makes of it."""
        return execute_serially(
            block, base=self.base, machine=self.machine, chain=self.chain, progress=NoProgress()
        )

    def share(self, block: ExecutionInput, positions: Sequence[int], *, machine: Machine | None = None) -> ShareOutcome:
        """What one executor makes of its positions; it must be well-formed."""
        outcome = run_share(
            [call_at(block, position) for position in positions], positions,
            base=self.base, machine=machine or self.machine, progress=NoProgress(),
            context=self.chain.block(height=block.height, time_ms=block.time_ms),
        )  # fmt: skip
        assert is_well_formed(outcome, positions)
        return outcome

    def shares(self, block: ExecutionInput, positions: Sequence[Sequence[int]]) -> list[ShareResult]:
        return [ShareResult(share, self.share(block, share)) for share in positions]

    def validated(
        self, block: ExecutionInput, results: Sequence[ShareResult], *, machine: Machine | None = None
    ) -> Validated:
        """What validation makes of such shares."""
        return validate(
            lambda position: call_at(block, position), len(block.transactions), results,
            base=self.base, machine=machine or self.machine, progress=NoProgress(),
            context=self.chain.block(height=block.height, time_ms=block.time_ms),
        )  # fmt: skip

    def run(self, raws: Sequence[bytes], shares: Sequence[Sequence[int]]) -> tuple[list[ShareResult], int]:
        """(the shares' results, how many ran again); the result must be the oracle's, and is stored."""
        block = self.block(raws)
        results = self.shares(block, shares)
        result, reexecuted, _ = self.validated(block, results)
        expected = self.serial(block)
        assert_equal(result, expected)
        self._store(expected)
        return results, reexecuted

    def store(self, *calls: bytes) -> None:
        """Execute and store a block one by one."""
        self._store(self.serial(self.block(calls)))

    def put(self, key: bytes, value: Value) -> None:
        """Store a value that no method of the contract writes."""
        self.reader.store(self.base.height + 1, [(key, pack(value))])
        self.base.refresh()

    def _store(self, result: Result) -> None:
        self.reader.store(self.base.height + 1, unpack_writes(result.packed_writes))
        self.base.refresh()


class Marks:
    """Notes where an executor was."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []

    def enter(self, height: int, position: int) -> None:
        self.places.append((height, position))


def assert_equal(result: Result, expected: Result) -> None:
    """All of two results is equal, whatever order `writes` has."""
    assert dict(result.writes) == dict(expected.writes)
    assert result._replace(writes={}) == expected._replace(writes={})

"""Contracts that take all they can get: metering stops them long before a limit of the process does.

Peak memory of the worst of them was 330 MiB with 100 million gas, of 4 GiB that a process may have.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from contracts.runtime import Status
from executor.sandbox import DATA_BYTES_MAX
from tests.integration.engine_room import EngineRoom, is_running, run_equal
from tests.unit.executor.workbench import CHAIN, deployment, receipts_of, transaction

pytestmark = pytest.mark.slow

HOG = '''"""Builds the largest values the limits allow, as many of them as the gas allows."""


class Deep(Interface):
    @external
    def dive(self, other: Address, depth: int, inner: int) -> int: ...


class Hog(Contract):
    kept: Map[int, bytes]

    @external
    def blobs(self):
        held = []
        while True:
            held.append(b"a" * 1_048_576)

    @external
    def texts(self):
        """Four bytes in memory for each that is counted."""
        held = []
        wide = "\\U0001f600"
        while True:
            held.append(wide + "a" * 1_048_000)

    @external
    def integers(self):
        """1,000 bits each, no two of them equal."""
        rows = []
        value = (1 << 1_000) - 1
        while True:
            rows.append([value - at for at in range(131_000)])

    @external
    def tables(self):
        rows = []
        while True:
            rows.append([{at: at} for at in range(131_000)])

    @external
    def tuples(self):
        rows = []
        while True:
            rows.append([(at, [at]) for at in range(131_000)])

    @external
    def writes(self):
        at = 0
        while True:
            self.kept[at] = b"a" * 1_048_000
            at = at + 1

    @external
    def grow(self):
        text = b"a"
        while True:
            text = text + text

    @external
    def many(self):
        row = []
        while True:
            row.append(len(row))

    @external
    def power(self) -> int:
        value = 3
        while True:
            value = value * value

    @external
    def sink(self, depth: int) -> int:
        return self.down(depth)

    def down(self, depth: int) -> int:
        return 0 if depth == 0 else 1 + self.down(depth - 1)

    @external
    def dive(self, other: Address, depth: int, inner: int) -> int:
        below = self.down(inner)
        return below if depth == 0 else 1 + Deep(other).dive(ctx.this, depth - 1, inner)
'''

GAS = CHAIN.transaction_gas_max
UNTIL_GAS_ENDS = ("blobs", "texts", "integers", "tables", "tuples", "writes")


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had resident."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not say")


@pytest.mark.parametrize("executors", [1, 2])
def test_memory_hogs_run_out_of_gas_and_every_process_lives(tmp_path: Path, executors: int) -> None:
    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=executors) as room:
            raw, hog = deployment(0, "hog", HOG)
            await run_equal(room, [raw])
            pids = room.engine.process_ids
            block = [transaction(0, hog, method, (), gas_limit=GAS) for method in UNTIL_GAS_ENDS]
            output = await run_equal(room, block)
            assert [receipt.status for receipt in receipts_of(output)] == [Status.OUT_OF_GAS] * len(block)
            assert {receipt.gas_used for receipt in receipts_of(output)} == {GAS}
            assert room.engine.process_ids == pids
            assert all(is_running(pid) for pid in pids)
            assert max(map(peak_bytes, pids)) < DATA_BYTES_MAX // 4
            await run_equal(room, [transaction(0, hog, "sink", (3,))])

    asyncio.run(scenario())


def test_what_grows_beyond_its_limit_fails_and_is_as_deep_as_it_may_be(tmp_path: Path) -> None:
    """Values, recursion and calls: the last that is allowed works, the next one fails, and no process notices."""

    async def scenario() -> None:
        async with EngineRoom(tmp_path, executors=1) as room:
            made = [deployment(0, f"hog.{at}", HOG) for at in range(2)]
            await run_equal(room, [raw for raw, _ in made])
            hog, other = (address for _, address in made)
            pids = room.engine.process_ids
            cases: list[tuple[str, tuple[bytes | int, ...], Status, str]] = [
                ("grow", (), Status.LIMIT, "value_size"),
                ("many", (), Status.LIMIT, "sequence_items"),
                ("power", (), Status.ARITHMETIC, "integer_range"),
                ("sink", (64,), Status.OK, ""),
                ("sink", (65,), Status.LIMIT, "recursion_depth"),
                ("sink", (1_000_000,), Status.LIMIT, "recursion_depth"),
                ("dive", (other, 31, 1), Status.OK, ""),
                ("dive", (other, 31, 64), Status.OK, ""),
                ("dive", (other, 33, 0), Status.LIMIT, "call_depth"),
                ("dive", (other, 1_000, 60), Status.LIMIT, "call_depth"),
            ]
            block = [transaction(0, hog, method, arguments, gas_limit=GAS) for method, arguments, _, _ in cases]
            output = await run_equal(room, block)
            for receipt, (method, _, status, error) in zip(receipts_of(output), cases, strict=True):
                assert (receipt.status, receipt.error.split(" (")[0]) == (status, error), method
            assert room.engine.process_ids == pids
            assert max(map(peak_bytes, pids)) < DATA_BYTES_MAX // 16

    asyncio.run(scenario())

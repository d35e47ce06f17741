"""Any number of executors, any prediction, any timing of the store: the bytes of serial execution."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.model.block import Receipt
from contracts.runtime import Status
from contracts.system.registry import SYSTEM_ADDRESS
from executor.predict import EVERYTHING, AccessTable, Predictor
from executor.state import BaseState
from executor.transactions import Call
from tests.unit.executor.workbench import (
    ARENA,
    ARENA_UPGRADED,
    MemoryReader,
    Oracle,
    Team,
    account,
    deployment,
    receipts_of,
    results_of,
    transaction,
)

ACCOUNTS = 5


class RandomPredictor:
    """Hints without any relation to the transactions; `density` 0 gives none at all, the worst there is."""

    def __init__(self, seed: int, density: float) -> None:
        self._draw = random.Random(seed)
        self._density = density

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        draw, table = self._draw, AccessTable()
        for _ in calls:
            if draw.random() < self._density:
                node = table.node(b"%d" % draw.randrange(6), EVERYTHING, 0)
                table.touch(node if draw.random() < 0.9 else EVERYTHING, draw.choice([1, 2, 3]))
            table.end()
        return table


@pytest.fixture(scope="module")
def world() -> tuple[MemoryReader, list[bytes]]:
    """Two boards with funded accounts and some cells, stored."""
    oracle = Oracle()
    made = [deployment(0, name, ARENA, (0,)) for name in ("board.one", "board.two")]
    output = oracle.run([raw for raw, _ in made])
    assert [receipt.status for receipt in receipts_of(output)] == [0, 0], receipts_of(output)
    boards = [address for _, address in made]
    setup = [transaction(number, board, "fund", (1_000,)) for board in boards for number in range(ACCOUNTS)]
    cells = [(0, 0), (0, 1), (1, 0), (1, 1)]
    setup += [transaction(0, board, "put", (*cell, 5)) for board in boards for cell in cells]
    output = oracle.run(setup)
    assert {receipt.status for receipt in receipts_of(output)} == {0}, receipts_of(output)
    return oracle.reader, boards


class Writer:
    """Draws transactions of every kind; small domains, so that they meet."""

    def __init__(self, draw: random.Random, boards: list[bytes]) -> None:
        self._draw = draw
        self._boards = list(boards)

    def transactions(self, count: int) -> list[bytes]:
        return [self._one() for _ in range(count)]

    def _one(self) -> bytes:
        draw = self._draw
        sender, board = draw.randrange(ACCOUNTS), draw.choice(self._boards)

        def small() -> int:
            return draw.randrange(4)

        gas = draw.choice([5_000_000] * 8 + [3_000, 12_000])
        kind = draw.randrange(16)
        match kind:
            case 0 | 1:
                target = account(draw.randrange(ACCOUNTS)).address
                return transaction(sender, board, "send", (target, draw.choice([1, 400, 5_000])), gas_limit=gas)
            case 2:
                return transaction(sender, board, "put", (small(), small(), draw.randrange(50)), gas_limit=gas)
            case 3:
                return transaction(sender, board, "drop", (small(), small()), gas_limit=gas)
            case 4:
                return transaction(sender, board, "strict", (small(), small()), gas_limit=gas)
            case 5:
                return transaction(sender, board, "sum_group", (small(), small()), gas_limit=gas)
            case 6:
                return transaction(sender, board, "follow", (small(), small()), gas_limit=gas)
            case 7:
                return transaction(sender, board, draw.choice(["append", "count"]), (small(),), gas_limit=gas)
            case 8 | 9 | 10:
                method = draw.choice(["relay", "relay_caught"])
                other = draw.choice([*self._boards, bytes(20)])
                return transaction(sender, board, method, (other, small(), small(), draw.random() < 0.5), gas_limit=gas)
            case 11:
                return transaction(sender, board, "burn", (draw.choice([10, 500, 20_000]),), gas_limit=60_000)
            case 12 if draw.random() < 0.3:
                raw, address = deployment(sender, f"board.{draw.randrange(3)}", ARENA, (small(),))
                self._boards.append(address)  # called in the same block, perhaps before it is there
                return raw
            case 13 if draw.random() < 0.3:
                source = draw.choice([ARENA, ARENA_UPGRADED])
                return transaction(0, SYSTEM_ADDRESS, "upgrade", (board, source), gas_limit=50_000_000)
            case 14 if draw.random() < 0.3:
                return transaction(0, SYSTEM_ADDRESS, draw.choice(["freeze", "unfreeze"]), (board,))
            case 15:
                return transaction(sender, board, draw.choice(["nothing", "init"]), (1,))
        return transaction(sender, board, "fund", (7,), gas_limit=gas)


def _check(
    world: tuple[MemoryReader, list[bytes]], *, seed: int, sizes: list[int], executors: int, predictor: Predictor | None
) -> list[Receipt]:
    """Run the same blocks serially and in parallel; the receipts."""
    reader, boards = world
    draw = random.Random(seed)
    writer = Writer(draw, boards)
    oracle, team = Oracle(reader.fork()), Team(reader.fork(), executors=executors, predictor=predictor)
    receipts = []
    for size in sizes:
        raws = writer.transactions(size)
        expected = oracle.run(raws)
        output = team.run(raws)
        assert results_of(output) == results_of(expected)
        receipts += receipts_of(output)
        team.store(draw.randrange(3))
        if draw.random() < 0.2 and executors > 1:  # an executor that sits a block out must catch up
            team.links[1].broken = not team.links[1].broken
            if 1 not in team.lead._attached:
                team.lead.attach(1, team.links[1])
    return receipts


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 24), min_size=1, max_size=4),
    executors=st.sampled_from([1, 2, 4]),
    density=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_any_block_any_prediction(
    world: tuple[MemoryReader, list[bytes]], seed: int, sizes: list[int], executors: int, density: float | None
) -> None:
    predictor = None if density is None else RandomPredictor(seed, density)
    _check(world, seed=seed, sizes=sizes, executors=executors, predictor=predictor)


@pytest.mark.parametrize("executors", [2, 4, 8, 16])
@pytest.mark.parametrize("density", [None, 0.0, 0.7])
def test_larger_blocks(world: tuple[MemoryReader, list[bytes]], executors: int, density: float | None) -> None:
    """Seeded blocks large enough that every kind of transaction meets every other; all statuses appear."""
    seen: set[int] = set()
    for seed in range(3):
        predictor = None if density is None else RandomPredictor(seed, density)
        receipts = _check(world, seed=1_000 + seed, sizes=[120, 60], executors=executors, predictor=predictor)
        seen |= {receipt.status for receipt in receipts}
    assert seen >= {
        Status.OK, Status.REVERTED, Status.OUT_OF_GAS, Status.UNKNOWN_CONTRACT, Status.UNKNOWN_METHOD,
        Status.MISSING_KEY, Status.FROZEN,
    }  # fmt: skip

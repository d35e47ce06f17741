"""Random programs of adds, writes, reads, scans and failing calls against a small model that knows no commuting."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

import pytest

from chain.codec import pack, unpack
from contracts.language.limits import INTEGER_MAX, INTEGER_MIN
from contracts.runtime import settle
from contracts.runtime.frame import Outcome
from contracts.runtime.testing import DictState, LocalChain

# A program is a flat tuple of (what, key, a, b, c); a call runs the rows from a to b - 1 and skips them here.
ADD, SET, DELETE, GET, HAS, SCAN, CALL, REVERT = range(8)
KEYS: Final = 4  # 0 to 2 are in the map, 3 is the value
SCALES: Final = (1, 1, 1, 2**70, 2**250)
_SOURCE = """
class Self(Interface):
    @external
    def run(self, program: tuple[tuple[int, int, int, int, int], ...], first: int, end: int) -> tuple[int, ...]: ...

class Machine(Contract):
    items: Map[int, int]
    total: Value[int]

    @external
    def run(self, program: tuple[tuple[int, int, int, int, int], ...], first: int, end: int) -> tuple[int, ...]:
        seen = []
        at = first
        while at < end:
            what, key, a, b, c = program[at]
            at += 1
            if what == 0 and key == 3:
                self.total.add(a, minimum=b, maximum=c)
            elif what == 0:
                self.items.add(key, a, minimum=b, maximum=c)
            elif what == 1 and key == 3:
                self.total.set(a)
            elif what == 1:
                self.items[key] = a
            elif what == 2 and key == 3:
                self.total.delete()
            elif what == 2:
                del self.items[key]
            elif what == 3 and key == 3:
                seen.append(self.total.get(77))
            elif what == 3:
                seen.append(self.items.get(key, 77))
            elif what == 4:
                seen.append(1 if (self.total.exists() if key == 3 else key in self.items) else 0)
            elif what == 5:
                for found, value in self.items.scan():
                    seen.append(found)
                    seen.append(value)
            elif what == 6:
                at = b
                try:
                    seen.extend(Self(ctx.this).run(program, a, b))
                except CallFailed as failure:
                    seen.append(-len(failure.reason))
            else:
                revert("asked to")
        return tuple(seen)
"""

Row = tuple[int, int, int, int, int]


class Program(NamedTuple):
    rows: tuple[Row, ...]
    stored: dict[int, int]


class ModelError(Exception):
    """A call of the model failed; the reason without its line."""


def model(program: Program) -> tuple[str, list[int], dict[int, int]]:
    """(error, what was seen, values afterwards) by plain reads and writes on a copy of the values."""

    def run(values: dict[int, int], first: int, end: int) -> list[int]:
        seen: list[int] = []
        at = first
        while at < end:
            what, key, a, b, c = program.rows[at]
            at += 1
            if what == ADD:
                total = values.get(key, 0) + a
                for wrong, reason in (
                    (not INTEGER_MIN <= total <= INTEGER_MAX, "integer_range"),
                    (total < b, "below_minimum"),
                    (total > c, "above_maximum"),
                ):
                    if wrong:
                        raise ModelError(reason)
                values[key] = total
            elif what == SET:
                values[key] = a
            elif what == DELETE:
                values.pop(key, None)
            elif what == GET:
                seen.append(values.get(key, 77))
            elif what == HAS:
                seen.append(int(key in values))
            elif what == SCAN:
                seen += [part for item in sorted(values.items()) if item[0] < 3 for part in item]
            elif what == CALL:
                at, before = b, dict(values)
                try:
                    seen += run(values, a, b)
                except ModelError as error:
                    values.clear()
                    values.update(before)
                    seen.append(-len(located(str(error))))
            else:
                raise ModelError("asked to")
        return seen

    values = dict(program.stored)
    try:
        return "", run(values, 0, len(program.rows)), values
    except ModelError as error:
        return str(error), [], dict(program.stored)


def located(reason: str) -> str:
    return reason if reason == "asked to" else f"{reason} (line 18)"


def generate(draw: random.Random) -> Program:
    scale = draw.choice(SCALES)

    def number() -> int:
        return draw.randint(-9, 9) * scale

    def rows(start: int, depth: int) -> list[Row]:
        made: list[Row] = []
        for _ in range(draw.randint(1, 7)):
            key = draw.randrange(KEYS)
            what = draw.choice((ADD, ADD, ADD, ADD, SET, DELETE, GET, HAS, SCAN, CALL, CALL, REVERT))
            if what == CALL and depth < 3:
                inner = rows(start + len(made) + 1, depth + 1)
                made.append((CALL, 0, start + len(made) + 1, start + len(made) + 1 + len(inner), 0))
                made += inner
            elif what == REVERT and depth and draw.random() < 0.5:
                made.append((REVERT, 0, 0, 0, 0))
            elif what == ADD:
                low, high = (-15 * scale, 15 * scale) if draw.random() < 0.7 else (INTEGER_MIN, INTEGER_MAX)
                made.append((ADD, key, number(), low, high))
            elif what in (SET, DELETE, GET, HAS, SCAN):
                made.append((what, key, number(), 0, 0))
        return made

    return Program(tuple(rows(0, 0)), {key: number() for key in range(KEYS) if draw.random() < 0.6})


class Watched(DictState):
    """Notes which keys were read; `peeked`, where it has a key, is what peek answers."""

    def __init__(self, values: dict[bytes, bytes], peeked: dict[bytes, bytes | None]) -> None:
        super().__init__(values)
        self.reads: list[bytes] = []
        self.peeked = peeked

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        self.reads.append(key)
        return super().get(key, default)

    def peek(self, key: bytes) -> bytes | None:
        return self.peeked[key] if key in self.peeked else super().get(key)


class Room:
    """The machine under test, with the state of the deployed contract."""

    def __init__(self) -> None:
        self.chain = LocalChain()
        self.address = self.chain.deploy("machine", _SOURCE)

    def key(self, number: int) -> bytes:
        return self.address + (b"total\x00" if number == 3 else b"items\x00" + pack(number))

    def run(
        self, program: Program, stored: dict[int, int], peeked: dict[int, int | None] | None = None
    ) -> tuple[Outcome, Watched]:
        state = Watched(
            dict(self.chain.state) | {self.key(key): pack(value) for key, value in stored.items()},
            {self.key(key): None if value is None else pack(value) for key, value in (peeked or {}).items()},
        )
        outcome = self.chain.machine.execute(
            state, self.chain.block(), sender=bytes(20), transaction_hash=bytes(32), target=self.address, method="run",
            arguments=pack((program.rows, 0, len(program.rows))), gas_limit=100_000_000,
        )  # fmt: skip
        return outcome, state

    def values_after(self, outcome: Outcome, state: Watched) -> dict[int, int]:
        values: dict[bytes, bytes | None] = {**state, **settle(outcome, lambda key: DictState.get(state, key))}
        found = {key: values.get(self.key(key)) for key in range(KEYS)}
        return {key: unpack(raw) for key, raw in found.items() if raw is not None}  # type: ignore[misc]


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


def _told(outcome: Outcome) -> tuple[int, int, bytes, str]:
    """What a receipt says."""
    return outcome.status, outcome.gas_used, outcome.result, outcome.error


@pytest.mark.parametrize("seed", range(40))
def test_adds_mean_what_reads_and_writes_would(room: Room, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(10):
        program = generate(draw)
        outcome, state = room.run(program, program.stored)
        error, seen, values = model(program)
        assert outcome.error.partition(" (line")[0] == error, program
        assert (list(unpack(outcome.result)[0:]) if outcome.result else []) == seen, program  # type: ignore[index]
        assert room.values_after(outcome, state) == values, program
        for key, add in outcome.adds.items():
            assert add.holds(DictState.get(state, key)), program
            assert add.delta is None or (key not in outcome.writes and key not in state.reads), program
            assert add.delta is None or not outcome.status


@pytest.mark.parametrize("seed", range(40))
def test_an_observation_is_exactly_what_the_outcome_needs(room: Room, seed: int) -> None:
    """On another value between `low` and `high` the same receipt follows; just outside, another one."""
    draw = random.Random(1_000 + seed)
    for _ in range(10):
        program = generate(draw)
        outcome, state = room.run(program, program.stored)
        for number in range(KEYS):
            add = outcome.adds.get(room.key(number))
            scanned = number < 3 and any(row[0] == SCAN for row in program.rows)
            if add is None or scanned or room.key(number) in state.reads:
                continue
            low, high = max(add.low, INTEGER_MIN), min(add.high, INTEGER_MAX)
            inside = {low, high, draw.randint(low, high)}
            outside = {low - 1, high + 1} - {INTEGER_MIN - 1, INTEGER_MAX + 1}
            for value in sorted(inside | outside):
                other, _ = room.run(program, program.stored | {number: value})
                assert (_told(other) == _told(outcome)) == (value in inside), (program, number, value)
                if value in inside:
                    assert other.adds.keys() == outcome.adds.keys() and other.writes == outcome.writes


@pytest.mark.parametrize("seed", range(40))
def test_a_wrong_peek_is_harmless_or_seen(room: Room, seed: int) -> None:
    """Whatever peek says: if what the adds observed holds on the true values, the outcome is the true one."""
    draw = random.Random(2_000 + seed)
    held = 0
    for _ in range(10):
        program = generate(draw)
        truth, honest = room.run(program, program.stored)
        peeked = {
            key: draw.choice((None, draw.randint(-40, 40), draw.choice((-1, 1)) * 2**254, program.stored.get(key)))
            for key in range(KEYS)
        }
        outcome, state = room.run(program, program.stored, peeked)
        if all(add.holds(DictState.get(state, key)) for key, add in outcome.adds.items()):
            held += 1
            assert _told(outcome) == _told(truth), (program, peeked)
            assert room.values_after(outcome, state) == room.values_after(truth, honest), (program, peeked)
    assert held

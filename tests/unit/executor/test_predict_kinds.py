"""Predictions of loops, adds, deployments and calls of any shape, on contracts made for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from chain.codec import Value, pack
from contracts.runtime import settle
from contracts.runtime.testing import LocalChain
from contracts.system.registry import SYSTEM_ADDRESS, record_key, source_key
from executor.plan import find_shards
from executor.predict import HOT_CALLS, REST_BLOCKS, AccessTable, SummaryPredictor
from executor.state import BaseState
from executor.transactions import Call, run_call
from tests.unit.executor.recorder import EVERYTHING, Recorder, missed
from tests.unit.executor.test_predict import touched

SHELF = '''"""Loops and adds."""


class Box(Struct):
    owner: Address
    slot: int


class Shelf(Contract):
    total: Value[int]
    next_slot: Value[int]
    slots: Map[int, int]
    boxes: Map[tuple[Address, int], Box]
    log: List[int]
    places: Map[str, int]

    def init(self):
        self.next_slot.set(7)

    @external
    def fill(self, first: int, count: int):
        for slot in range(first, first + count):
            self.slots[slot] = 1

    @external
    def spread(self, count: int):
        for slot in range(count):
            self.slots[slot] = self.slots[slot + 1_000] + self.slots[slot + 2_000]
            self.slots[slot + 3_000] = self.slots[slot + 4_000]

    @external
    def move(self, pairs: tuple[tuple[int, int], ...]):
        for source, target in pairs:
            self.slots[target] = self.slots[source]
            del self.slots[source]

    @external
    def put_all(self, boxes: tuple[Box, ...], order: tuple[int, ...]):
        for number, box in enumerate(boxes):
            self.boxes[(box.owner, number)] = box
        for place in sorted(order):
            self.slots[place] = max(place, 3)

    @external
    def squares(self, sides: tuple[int, ...]) -> int:
        wanted = [side * side for side in sides]
        return sum([self.slots.get(area, 0) for area in wanted])

    @external
    def grid(self, rows: tuple[Address, ...], columns: tuple[int, ...]):
        for row in rows:
            for column in columns:
                self.boxes[(row, column)] = Box(owner=ctx.sender, slot=column)

    @external
    def note(self, value: int) -> int:
        self.log.append(value)
        return self.log[-1]

    @external
    def all_notes(self) -> int:
        return sum([self.log[place] for place in range(len(self.log))])

    @external
    def take_slot(self):
        slot = self.next_slot.get()
        self.next_slot.set(slot + 1)
        self.slots[slot] = 1

    @external
    def at_place(self, place: str):
        self.slots[self.places.get(place, 3)] = 1

    @external
    def set_slot(self, slot: int):
        self.next_slot.set(slot)

    @external
    def early(self):
        self.slots[self.next_slot.get() + ctx.height] += 1
        self.slots[ctx.time_ms] = len(self.log)

    @external
    def raise_total(self, by: int, slot: int):
        self.total.add(by, maximum=1_000_000)
        self.slots.add(slot, by)

    @view
    def sum_total(self) -> int:
        return self.total.get()
'''

RELAY = '''"""Calls of every shape."""


class Target(Interface):
    @external
    def take_slot(self): ...

    @external
    def fill(self, first: int, count: int): ...

    @external
    def go(self, depth: int): ...


class Relay(Contract):
    shelf: Value[Address]
    shelves: Map[str, Address]

    def init(self, shelf: Address):
        self.shelf.set(shelf)
        Target(self.shelf.get()).fill(90, 2)
        for number in range(3):
            Target(shelf).fill(number * 10, 1)

    @external
    def go(self, depth: int):
        Target(ctx.this).go(depth)

    @external
    def use(self, first: int):
        Target(self.shelf.get()).fill(first, 2)

    @external
    def point(self, shelf: Address):
        self.shelf.set(shelf)

    @external
    def name(self, name: str, shelf: Address):
        self.shelves[name] = shelf

    @external
    def named(self, name: str, first: int):
        Target(self.shelves[name]).fill(first, 1)

    @external
    def each(self, shelves: tuple[Address, ...], first: int):
        for shelf in shelves:
            Target(shelf).fill(first, 1)
'''

HOP = '''"""Calls the next one."""


class Next(Interface):
    @external
    def hop(self): ...


class Hop(Contract):
    after: Value[Address]
    count: Value[int]

    def init(self, after: Address):
        self.after.set(after)

    @external
    def hop(self):
        self.count.set(1)
        Next(self.after.get()).hop()
'''

GUESS = '''"""Its init calls somebody whom nobody knows."""


class Target(Interface):
    @external
    def find(self) -> Address: ...


class Guess(Contract):
    def init(self, first: Address):
        Target(Target(first).find()).find()
'''


class World:
    """A chain with a shelf and a relay to it."""

    def __init__(self) -> None:
        self.chain = LocalChain()
        self.alice, self.bob = self.chain.account("alice"), self.chain.account("bob")
        self.shelf = self.chain.deploy("shelf", SHELF)
        self.relay = self.chain.deploy("relay", RELAY, self.shelf)
        self._hash = 0

    def call(self, target: bytes, method: str, *arguments: Value, sender: bytes | None = None) -> Call:
        self._hash += 1
        return Call(
            hash=self._hash.to_bytes(32, "big"), sender=sender or self.alice, target=target, method=method,
            arguments=pack(arguments), gas_limit=10_000_000,
        )  # fmt: skip

    def table(self, calls: Sequence[Call], predictor: SummaryPredictor | None = None) -> AccessTable:
        """The prediction, which is the same whether methods are interpreted or compiled."""
        height, base = self.chain.height + 1, cast(BaseState, self.chain.state)
        predictors = [predictor] if predictor else [SummaryPredictor(hot_calls=hot) for hot in (1_000_000, 0)]
        tables = [one.predict(calls, base=base, height=height, time_ms=self.chain.time_ms) for one in predictors]
        assert touched(tables[0]) == touched(tables[-1])
        return tables[-1]

    def one(self, target: bytes, method: str, *arguments: Value, sender: bytes | None = None) -> dict[bytes, int]:
        """Names and modes of a call, and that they cover what it really touches."""
        call = self.call(target, method, *arguments, sender=sender)
        (hint,) = touched(self.table([call]))
        state = Recorder(self.chain.state)
        _, outcome = run_call(self.chain.machine, state, self.chain.block(), call)
        assert outcome.status == 0, outcome.error
        assert missed(hint, state, outcome) == set()
        self.chain.state.apply(settle(outcome, state.peek))
        return hint

    def slots(self, *numbers: int, mode: int) -> dict[bytes, int]:
        return {self.shelf + b"slots\x00" + pack(number): mode for number in numbers}


@pytest.fixture
def world() -> World:
    return World()


def test_loops_over_arguments_are_expanded(world: World) -> None:
    assert world.one(world.shelf, "fill", 5, 3) == world.slots(5, 6, 7, mode=2)
    assert world.one(world.shelf, "fill", 5, 0) == {}
    assert world.one(world.shelf, "move", ((5, 1), (6, 1))) == world.slots(1, mode=2) | world.slots(5, 6, mode=3)
    boxes = ((world.bob, 1), (world.alice, 2))
    keys = [world.shelf + b"boxes\x00" + pack(owner) + pack(number) for number, (owner, _) in enumerate(boxes)]
    assert world.one(world.shelf, "put_all", boxes, (9, 4)) == dict.fromkeys(keys, 2) | world.slots(4, 9, mode=2)
    assert world.one(world.shelf, "squares", (2, 3)) == world.slots(4, 9, mode=1)
    grid = world.one(world.shelf, "grid", (world.alice, world.bob), (1, 2))
    assert set(grid) == {
        world.shelf + b"boxes\x00" + pack(row) + pack(column) for row in (world.alice, world.bob) for column in (1, 2)
    }


def test_loops_beyond_the_bound_widen(world: World) -> None:
    assert len(world.one(world.shelf, "fill", 0, 256)) == 256
    assert world.one(world.shelf, "fill", 0, 257) == {world.shelf + b"slots": 2}
    assert world.one(world.shelf, "grid", (world.alice,), tuple(range(300))) == {
        world.shelf + b"boxes\x00" + pack(world.alice): 2
    }
    rows = tuple([world.chain.account(f"row {number}") for number in range(30)])
    wide = world.one(world.shelf, "grid", rows, tuple(range(20)))  # 600 keys: rows that come late widen
    assert 200 < len(wide) < 300


def test_transactions_with_very_many_keys_may_touch_everything(world: World) -> None:
    calls = [world.call(world.shelf, "spread", count) for count in (20, 250)]
    few, many = touched(world.table(calls))
    assert len(few) == 100
    assert many == {EVERYTHING: 3}


def test_calls_are_followed_six_deep(world: World) -> None:
    after, hops = world.shelf, []
    for number in range(8):
        after = world.chain.deploy(f"hop{number}", HOP, after)
        hops.append(after)
    deep = touched(world.table([world.call(hop, "hop") for hop in hops]))
    assert [len(hint) for hint in deep] == [2, 4, 6, 8, 10, 12, 1, 1]
    assert deep[-1] == {EVERYTHING: 3}


def test_stored_lengths_and_values_stand_in_keys(world: World) -> None:
    log = world.shelf + b"log\x01"
    first = world.shelf + b"log\x00" + bytes(8)
    assert world.one(world.shelf, "note", 4) == {log: 3, first: 2, world.shelf + b"log": 1}
    assert world.one(world.shelf, "note", 5)[world.shelf + b"log\x00" + bytes(7) + b"\x01"] == 2
    items = [world.shelf + b"log\x00" + bytes(7) + bytes([place]) for place in range(2)]
    assert world.one(world.shelf, "all_notes") == {log: 1, **dict.fromkeys(items, 1)}
    assert world.one(world.shelf, "take_slot") == {world.shelf + b"next_slot\x00": 3} | world.slots(7, mode=2)


def test_keys_that_are_the_same_for_a_whole_block(world: World) -> None:
    for slot in (5, 2**63, 2**200):
        assert world.chain.call(world.shelf, "set_slot", slot).ok
        height = world.chain.height + 1
        call = world.call(world.shelf, "early")
        expected = world.slots(slot + height, mode=3) | world.slots(world.chain.time_ms, mode=2)
        (hint, same) = touched(world.table([call, call]))
        assert hint == same
        assert expected.items() <= hint.items()
    assert world.chain.call(world.shelf, "set_slot", 2**256 - 1).ok
    (hint,) = touched(world.table([world.call(world.shelf, "early")]))
    assert hint[world.shelf + b"slots"] == 3  # no key can hold that number


def test_adds_are_predicted_as_adds_and_do_not_order(world: World) -> None:
    assert world.one(world.shelf, "raise_total", 5, 1) == {world.shelf + b"total\x00": 4} | world.slots(1, mode=4)
    raises = [world.call(world.shelf, "raise_total", 5, slot) for slot in (1, 2, 1)]
    assert find_shards(world.table(raises))[0] == [0, 1, 2]
    reader = world.call(world.shelf, "sum_total")
    assert find_shards(world.table([*raises, reader]))[0] == [0, 0, 0, 0]


def test_calls_are_followed_to_addresses_in_values_maps_and_arguments(world: World) -> None:
    other = world.chain.deploy("other", SHELF)
    assert world.one(world.relay, "use", 3) == {world.relay + b"shelf\x00": 1} | world.slots(3, 4, mode=2)
    assert world.chain.call(world.relay, "name", "x", world.shelf).ok
    name = world.relay + b"shelves\x00" + pack("x")
    assert world.one(world.relay, "named", "x", 3) == {name: 1} | world.slots(3, mode=2)
    both = world.one(world.relay, "each", (world.shelf, other), 3)
    assert both == world.slots(3, mode=2) | {other + b"slots\x00" + pack(3): 2}


def test_a_target_that_nobody_stored_and_endless_calls_may_touch_everything(world: World) -> None:
    calls = [world.call(world.relay, "named", "nobody", 1), world.call(world.relay, "go", 5)]
    assert touched(world.table(calls)) == [{EVERYTHING: 3}, {EVERYTHING: 3}]


def test_a_deployment_is_followed_into_its_init(world: World) -> None:
    call = world.call(SYSTEM_ADDRESS, "deploy", "second", RELAY, pack((world.shelf,)))
    (hint,) = touched(world.table([call]))
    state = Recorder(world.chain.state)
    _, outcome = run_call(world.chain.machine, state, world.chain.block(), call)
    assert outcome.status == 0, outcome.error
    assert missed(hint, state, outcome) == set()
    assert EVERYTHING not in hint
    assert world.slots(0, 10, 20, 90, 91, mode=2).items() <= hint.items()
    others = [
        world.call(world.shelf, "move", ((number, 50),)) for number in (30, 90)
    ]  # the one moves what nobody fills, the other what init filled
    assert find_shards(world.table([call, *others]))[0] == [0, 1, 0]


def test_a_deployment_whose_init_cannot_be_followed_may_touch_everything(world: World) -> None:
    calls = [
        world.call(SYSTEM_ADDRESS, "deploy", "guess", GUESS, pack((world.shelf,))),
        world.call(SYSTEM_ADDRESS, "deploy", "broken", "Interface (" * 2_000, pack(())),
        world.call(SYSTEM_ADDRESS, "deploy", "refused", GUESS, pack((world.shelf, 1))),
        world.call(SYSTEM_ADDRESS, "deploy", 5, GUESS, b""),
        world.call(SYSTEM_ADDRESS, "explode", b""),
    ]
    hints = touched(world.table(calls))
    assert [EVERYTHING in hint for hint in hints] == [True, False, False, False, False]
    assert hints[3:] == [{}, {}]


def test_arguments_that_are_none_predict_nothing(world: World) -> None:
    whole = world.call(world.shelf, "fill", 1, 1)
    broken = [b"", b"\xc1", b"\x92\x01", pack(5), b"\x91" * 100_000 + b"\x01", pack(("x",)), pack((1, 2, 3))]
    calls = [whole._replace(arguments=arguments) for arguments in broken]
    assert touched(world.table(calls)) == [{}] * len(calls)


ODD: list[Any] = [
    None, True, -1, 2**63, 2**64, -(2**200), b"", b"x" * 600, "text", (), (1,), ((1, 2), (3, 4)), ((), None),
    (b"x" * 20, 5), ("a" * 2_000,), tuple(range(300)), ((2**200, 2**200),),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=[repr(value)[:20] for value in ODD])
def test_no_arguments_make_prediction_fail(world: World, odd: Value) -> None:
    arity = {"fill": 2, "move": 1, "put_all": 2, "squares": 1, "grid": 2, "note": 1, "raise_total": 2, "at_place": 1}
    calls = [world.call(world.shelf, method, *[odd] * count) for method, count in arity.items()]
    calls += [world.call(world.relay, method, odd, odd) for method in ("named", "each", "name")]
    calls += [world.call(world.relay, method, odd) for method in ("use", "point", "go")]
    assert world.table(calls).count == len(calls)
    endless = [world.call(world.shelf, "fill", 0, 2**number) for number in (40, 63, 64, 200, 255)]
    assert all(hint == {world.shelf + b"slots": 2} for hint in touched(world.table(endless)))


def test_compiled_methods_notice_a_new_address_at_the_next_block(world: World) -> None:
    """Within `REST_BLOCKS` of the last time the method is interpreted, afterwards it is compiled anew."""
    other = world.chain.deploy("other", SHELF)
    predictor = SummaryPredictor(hot_calls=0)
    use = world.call(world.relay, "use", 3)
    old = touched(world.table([use], predictor))
    assert world.shelf + b"slots\x00" + pack(3) in old[0]
    assert world.chain.call(world.relay, "point", other).ok
    for _ in range(REST_BLOCKS + 2):
        assert touched(world.table([use, use], predictor))[1] == {
            world.relay + b"shelf\x00": 1, other + b"slots\x00" + pack(3): 2, other + b"slots\x00" + pack(4): 2,
        }  # fmt: skip
        world.chain.height += 1
    upgraded = SHELF.replace("self.slots[slot] = 1", "self.slots[slot + 100] = 1")
    assert world.chain.call(SYSTEM_ADDRESS, "upgrade", other, upgraded).ok
    assert other + b"slots\x00" + pack(103) in touched(world.table([use], predictor))[0]


def test_methods_are_compiled_when_they_are_hot_and_only_if_small(world: World) -> None:
    predictor = SummaryPredictor()
    fill = world.call(world.shelf, "fill", 1, 2)
    state = cast(BaseState, world.chain.state)
    for count in (HOT_CALLS // 2, HOT_CALLS):
        hints = touched(predictor.predict([fill] * count, base=state, height=5, time_ms=1))
        assert hints == [world.slots(1, 2, mode=2)] * count
    assert list(predictor._flattened) == [(world.shelf, "fill")]
    calls = "".join([f"        Target(self.shelf.get()).fill(by * {number}, 3)\n" for number in range(1, 64)])
    twice = RELAY + f"\n    @external\n    def much(self, by: int):\n{calls}"
    twice += f"\n    @external\n    def more(self, by: int):\n{calls}{calls.replace('* ', '* 100')}"
    relay = world.chain.deploy("much", twice, world.shelf)
    assert len(world.one(relay, "much", 100)) == 1 + 63 * 3
    (hint,) = touched(world.table([world.call(relay, "more", 100)]))
    assert hint == {EVERYTHING: 3}  # more calls than are followed


def test_a_block_that_manages_contracts_reads_the_records_of_those_it_calls(world: World) -> None:
    calls = [
        world.call(SYSTEM_ADDRESS, "freeze", world.shelf),
        world.call(world.relay, "use", 3),
        world.call(world.chain.account("nobody"), "f"),
    ]
    hints = touched(world.table(calls))
    assert hints[0] == {record_key(world.shelf): 3}
    assert hints[1].items() >= {record_key(world.shelf): 1, record_key(world.relay): 1}.items()
    assert hints[2] == {record_key(calls[2].target): 1, calls[2].target: 3}
    assert touched(world.table(calls[1:]))[1] == {}
    assert source_key(bytes(32)) not in hints[0]

"""From a seed to a few blocks of one chain.

The seed also draws the mood: which kinds of transactions there are, how many keys they fight for, how unevenly, and how
tight their gas is; a case that does little does it often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from chain.codec import Value, encode, pack
from chain.model.transaction import TransactionBody, decode_body, join_transaction, split_transaction
from contracts.system.registry import SYSTEM_ADDRESS
from tests.blocks.arena import arena_source, upgraded
from tests.blocks.worlds import (
    ACCOUNTS,
    GAS,
    World,
    account,
    arena_world,
    block_time_ms,
    deployed_by,
    suite_call,
    suite_worlds,
    transaction,
)

BLOCKS_MAX: Final = 4
DECOYS: Final = 2
SIZES: Final = (2, 3, 5, 8, 13, 21, 34, 55, 90)
BLIND: Final = frozenset(
    (
        "put", "blind", "erase", "route", "sum_group", "sum_all", "clear_group", "add", "add_hot", "add_within",
        "add_pot", "add_twice", "add_over_set", "set_over_add", "delete_over_add", "sum_set", "sum_delete", "sum_scan",
        "counter_hit", "counter_stock", "counter_take",
    )
)  # fmt: skip
ADDS: Final = frozenset(
    (
        "add", "add_within", "add_pot", "add_twice", "add_fail", "add_caught", "add_self_caught", "add_over_set",
        "set_over_add", "sum_set", "sum_read", "counter_stock", "counter_take",
    )
)  # fmt: skip
PAIRS: Final = (
    ("erase", "need"), ("erase", "sum_all"), ("make", "need"), ("blind", "ratio"), ("blind", "look"),
    ("put", "sum_group"), ("take", "clear_group"), ("put", "take"), ("route", "via"), ("append", "last"),
    ("sum_delete", "sum_read"), ("sum_delete", "sum_has"), ("sum_set", "sum_scan"), ("add_within", "sum_read"),
    ("add", "add_read"), ("sum_set", "add_within"), ("sum_delete", "add_twice"), ("add_huge", "add_within"),
    ("add", "add_scan"), ("blind", "bump"), ("add", "sum_read"), ("sum_set", "sum_read"),
)  # fmt: skip
SYSTEM_GAS: Final = 20_000_000
BAD_SOURCE: Final = "import os\n"
SMALL_SOURCE: Final = '''"""Made in the block."""


class Small(Contract):
    value: Value[int]

    def init(self, start: int):
        self.value.set(100 // start)

    @external
    def count(self, amount: int) -> int:
        self.value.set(self.value.get() + amount)
        return self.value.get()
'''


@dataclass(frozen=True, slots=True)
class Case:
    """Blocks of raw transactions to execute one after the other on a world."""

    seed: int
    world: World
    blocks: tuple[tuple[bytes, ...], ...]
    decoys: tuple[tuple[bytes, ...], ...] = ()  # blocks to execute in between, and to discard

    def time_ms(self, index: int) -> int:
        """The block time of a block of this case."""
        return max(self.world.time_ms, block_time_ms(self.world.height + 1 + index))

    def only(self, blocks: Sequence[Sequence[bytes]]) -> Case:
        """The same with other blocks."""
        return replace(self, blocks=tuple(tuple(block) for block in blocks))


def case_of(seed: int, *, kind: str = "", blocks: int = 0) -> Case:
    """The case of a seed, the same in every process; of one kind of world and of so many blocks if they are given."""
    draw = random.Random(f"headrace/blocks/{seed}")
    rule_set = draw.choice(RULE_SETS)
    kind = kind or draw.choices(("arena", "credit", "income"), (10, 1, 1))[0]
    writer: _Arena | _Suite
    if kind == "arena":
        world = arena_world(rule_set, restricted=draw.random() < 0.3)
        writer = _Arena(draw, world, seed)
    else:
        world = draw.choice(suite_worlds(kind, rule_set))
        writer = _Suite(draw, world, seed)
    sizes = [draw.choice(writer.sizes) for _ in range(blocks or draw.randint(1, BLOCKS_MAX))]
    made = tuple(tuple(writer.block(size)) for size in sizes)
    return Case(seed, world, made, tuple(tuple(writer.block(draw.choice(writer.sizes[:5]))) for _ in range(DECOYS)))


RULE_SETS: Final = (1, 2, 2, 2)  # the newest most often


class _Zipf:
    """Numbers below `size`, the small ones more often; exponent 0 is uniform."""

    def __init__(self, draw: random.Random, size: int, exponent: float) -> None:
        self._draw = draw
        self._values = range(size)
        self._weights = [1 / (number + 1) ** exponent for number in self._values]

    def __call__(self) -> int:
        return self._draw.choices(self._values, self._weights)[0]


class _Suite:
    """Planned calls of the next phases of a suite's life, for few people, some twice, some out of order."""

    sizes: tuple[int, ...] = (3, 8, 20, 40)

    def __init__(self, draw: random.Random, world: World, seed: int) -> None:
        self._draw = draw
        self._world = world
        self._nonce = seed << 32
        self._calls = [(phase, index) for phase in world.phases for index in range(len(phase.calls))]
        self._order = draw.choice(("planned", "shuffled", "windowed"))
        self._tight = draw.random() < 0.2
        self._at = 0

    def block(self, size: int) -> list[bytes]:
        draw = self._draw
        made = []
        for _ in range(size):
            if self._order == "planned":
                at, self._at = self._at, self._at + (draw.random() < 0.9)
            elif self._order == "windowed":
                at = draw.randrange(self._at, self._at + 8)
                self._at += draw.random() < 0.7
            else:
                at = draw.randrange(len(self._calls))
            phase, index = self._calls[at % len(self._calls)]
            self._nonce += 1
            gas_limit = draw.randrange(2_000, 40_000) if self._tight and draw.random() < 0.3 else 1_000_000
            made.append(suite_call(self._world, phase, index, nonce=self._nonce, gas_limit=gas_limit))
        return made


class _Arena:
    """Calls of the arenas, the tokens, SmallBank and the system contract."""

    def __init__(self, draw: random.Random, world: World, seed: int) -> None:
        self._draw = draw
        self._world = world
        self._nonce = seed << 32
        self.sizes: tuple[int, ...] = SIZES
        self._key = _Zipf(draw, draw.choice((1, 3, 10, 60)), draw.choice((0.0, 0.9, 1.5)))
        self._sender = _Zipf(draw, draw.choice((1, 3, ACCOUNTS)), draw.choice((0.0, 1.0)))
        self._arena = _Zipf(draw, draw.choice((1, 2, len(world.arenas))), draw.choice((0.0, 1.0)))
        self._arenas = world.arenas
        self._made: list[bytes] = []  # contracts deployed by this case
        kinds = self._kinds()
        names = sorted(kinds)
        chosen = draw.sample(names, draw.choice((2, 4, 8, len(names))))
        rare = [name for name in names if name.startswith("system_")]
        mood = draw.choices(("any", "blind", "adds", "pair", "ruled"), (10, 3, 4, 3, 2))[0]
        if mood == "adds" and world.rule_set >= 2:  # adds at their bounds, with little that makes them wait
            chosen = draw.sample(sorted(ADDS), draw.choice((1, 2, 3)))
            self._key = _Zipf(draw, draw.choice((1, 3)), 0.0)
            self.sizes = SIZES[:6]
            kinds = self._kinds()
        elif mood == "blind":  # nothing that reads a key: what sets, deletes, adds and scans, in small blocks
            chosen = draw.sample([name for name in names if name in BLIND], draw.choice((2, 3, 5)))
            self.sizes = SIZES[:6]
        elif mood == "pair":  # one that changes and one that looks, so that a single conflict stands alone
            chosen = list(draw.choice([pair for pair in PAIRS if kinds.keys() >= set(pair)]))
            self._key = _Zipf(draw, draw.choice((2, 8)), 0.0)
            self.sizes = SIZES[:5]
            kinds = self._kinds()
        elif mood == "ruled":  # deployments, names, permissions and who depends on them
            chosen = [*draw.sample(rare, draw.randint(3, len(rare))), "ask_system", "count"]
        elif draw.random() < 0.5:
            chosen = [name for name in chosen if name not in rare] or ["count", "bump"]
        self._makers = [kinds[name] for name in chosen]
        self._weights = [draw.choice((1, 2, 8)) * (0.2 if name in rare and mood != "ruled" else 1) for name in chosen]
        self._tight = draw.choice((0.0, 0.0, 0.05, 0.4))
        self._odd = draw.choice((0.0, 0.0, 0.1))  # calls that cannot succeed, or not as meant

    def block(self, size: int) -> list[bytes]:
        draw, made = self._draw, []
        weights = self._weights
        if draw.random() < 0.3:  # this block does without some of what the case does
            weights = [weight if draw.random() < 0.5 else 0 for weight in weights]
        for _ in range(size):
            maker = draw.choices(self._makers, weights if any(weights) else self._weights)[0]
            raw = maker()
            if draw.random() < self._odd:
                raw = self._spoilt(raw)
            made.append(raw)
        return made

    # --- pieces ---

    def _a(self) -> bytes:
        return self._arenas[self._arena()]

    def _some(self, most: int) -> tuple[bytes, ...]:
        return tuple(self._a() for _ in range(self._draw.randint(0, most)))

    def _rarely(self, chance: float = 0.25) -> bool:
        return self._draw.random() < chance

    def _to(self, target: bytes, method: str, *arguments: Value, gas_limit: int = GAS, sender: int = -1) -> bytes:
        draw = self._draw
        self._nonce += 1
        if draw.random() < self._tight:
            gas_limit = int(2_000 * 40 ** draw.random())  # 2,000 to 80,000, small ones as often as large ones
        signer = account(self._sender() if sender < 0 else sender)
        return transaction(signer, target, method, arguments, nonce=self._nonce, gas_limit=gas_limit)

    def _call(self, method: str, *arguments: Value) -> bytes:
        return self._to(self._a(), method, *arguments)

    def _spoilt(self, raw: bytes) -> bytes:
        """The same transaction with a part that is not as it should be."""
        body = decode_body(split_transaction(raw)[0])
        fields = {name: getattr(body, name) for name in body.__struct_fields__}
        match self._draw.randrange(5):
            case 0:
                fields["method"] = "no_such_method"
            case 1:
                fields["target"] = bytes(19) + bytes((self._draw.randrange(2, 256),))
            case 2:
                fields["arguments"] = pack((1, "two"))
            case 3:
                fields["arguments"] = b"\xc1"
            case _:
                fields["gas_limit"] = self._draw.choice((0, 1, 2_100, 1 << 62))
        return join_transaction(encode(TransactionBody(**fields)), bytes(64))

    # --- kinds ---

    def _kinds(self) -> dict[str, Callable[[], bytes]]:
        draw, to, key, call = self._draw, self._to, self._key, self._call

        def amount() -> int:
            return draw.randrange(-3, 30)

        def flag() -> bool:
            return self._rarely()

        def someone() -> bytes:
            return account(self._sender()).address

        token = partial(draw.choice, self._world.tokens)
        bank = self._world.contracts["bank"]
        kinds: dict[str, Callable[[], bytes]] = {
            "count": lambda: call("count", amount()),
            "bump": lambda: call("bump", key(), amount()),
            "blind": lambda: call("blind", key(), amount()),
            "fund": lambda: call("fund", amount()),
            "send": lambda: call("send", someone(), draw.choice((1, 400, 5_000))),
            "shift": lambda: call("shift", key(), key()),
            "make": lambda: call("make", key(), amount()),
            "drop": lambda: call("drop", key()),
            "erase": lambda: call("erase", key()),
            "need": lambda: call("need", key()),
            "ratio": lambda: call("ratio", key()),
            "grow": lambda: call("grow", key()),
            "put": lambda: call("put", key() % 4, key(), amount()),
            "take": lambda: call("take", key() % 4, key()),
            "sum_group": lambda: call("sum_group", key() % 4, key() % 4),
            "sum_all": lambda: call("sum_all", key()),
            "clear_group": lambda: call("clear_group", key() % 5),
            "follow": lambda: call("follow", key() % 4, key()),
            "append": lambda: call("append", amount()),
            "last": lambda: call("last", key()),
            "rewrite": lambda: call("rewrite", key(), amount()),
            "burn": lambda: to(self._a(), "burn", draw.choice((10, 100_000)), gas_limit=60_000),
            "work": lambda: to(
                self._a(), "work", key(), draw.randrange(30), gas_limit=draw.choice((9_000, 12_000, GAS))
            ),
            "deep": lambda: call("deep", key(), draw.choice((3, 60, 70))),
            "look": lambda: call("look", key()),
            "poke": lambda: call("poke", key(), amount(), flag()),
            "relay": lambda: call("relay", self._a(), key(), amount(), flag()),
            "relay_caught": lambda: call("relay_caught", self._a(), key(), amount(), flag()),
            "via": lambda: call("via", key() % 4, key(), amount(), flag()),
            "route": lambda: call("route", key() % 4, self._a()),
            "star": lambda: call("star", self._some(5), key(), amount(), flag()),
            "hop": lambda: call("hop", self._some(6), key(), amount(), flag()),
            "spiral": lambda: call("spiral", self._a(), draw.choice((2, 5, 30, 40)), flag()),
            "ask": lambda: call("ask", self._a(), key()),
            "ask_system": lambda: call("ask_system", self._subject(), draw.choice(("arena.0", "small.1")), key()),
            "write_by_view": lambda: call("write_by_view", self._a(), key()),
            "run": lambda: call("run", self._program(draw.randint(1, 14))),
            "token_transfer": lambda: to(token(), "transfer", someone(), draw.choice((0, 1, 60, 250))),
            "token_approve": lambda: to(token(), "approve", someone(), draw.choice((0, 50, 500))),
            "token_from": lambda: to(token(), "transfer_from", someone(), someone(), draw.choice((1, 40))),
            "token_mint": lambda: to(token(), "mint", someone(), draw.choice((1, 10)), sender=draw.choice((0, 0, 1))),
            "token_owner": lambda: to(token(), "set_owner", someone(), sender=draw.choice((0, -1))),
            "token_balance": lambda: to(token(), "balance_of", someone()),
            "bank_pay": lambda: to(bank, "send_payment", key(), key(), draw.choice((1, 30, 90))),
            "bank_check": lambda: to(bank, "write_check", key(), draw.choice((1, 150))),
            "bank_merge": lambda: to(bank, "amalgamate", key(), key()),
            "bank_savings": lambda: to(bank, "transact_savings", key(), draw.choice((-60, 20))),
        }
        return kinds | self._system_kinds() | (self._add_kinds() if self._world.rule_set >= 2 else {})

    def _add_kinds(self) -> dict[str, Callable[[], bytes]]:
        draw, call, key = self._draw, self._call, self._key
        small = partial(draw.choice, (-12, -5, -1, 1, 3, 5, 12, 12))
        low, high = partial(draw.choice, (-10, 0, 2, 12)), partial(draw.choice, (24, 40, 60))
        counter = self._world.contracts["counter"]

        def item() -> str:
            return f"item {key() % 3}"

        return {
            "counter_hit": lambda: self._to(counter, "hit", item()),
            "counter_stock": lambda: self._to(counter, "stock", item(), draw.choice((1, 20, 40_000))),
            "counter_take": lambda: self._to(counter, "take", item(), draw.choice((1, 5, 20_000))),
            "counter_left": lambda: self._to(counter, "left", item()),
            "add": lambda: call("add", key(), small()),
            "add_hot": lambda: call("add", 0, small()),
            "add_within": lambda: call("add_within", key(), small(), low(), high()),
            "add_pot": lambda: call("add_pot", small()),
            "add_twice": lambda: call("add_twice", key(), small(), small(), low(), high()),
            "add_read": lambda: call("add_read", key(), small()),
            "add_after_read": lambda: call("add_after_read", key(), small()),
            "add_over_set": lambda: call("add_over_set", key(), small()),
            "set_over_add": lambda: call("set_over_add", key(), small()),
            "delete_over_add": lambda: call("delete_over_add", key(), small()),
            "add_fail": lambda: call("add_fail", key(), small(), self._rarely()),
            "add_caught": lambda: call("add_caught", self._a(), key(), small(), self._rarely(0.5)),
            "add_self_caught": lambda: call("add_self_caught", key(), small(), self._rarely(0.5)),
            "add_huge": lambda: call("add_huge", key(), self._rarely(0.5)),
            "add_scan": lambda: call("add_scan", key(), small()),
            "sum_set": lambda: call("sum_set", key(), draw.choice((0, 5, 100))),
            "sum_delete": lambda: call("sum_delete", key()),
            "sum_read": lambda: call("sum_read", key(), key()),
            "sum_has": lambda: call("sum_has", key(), key()),
            "sum_scan": lambda: call("sum_scan", key()),
        }

    def _system_kinds(self) -> dict[str, Callable[[], bytes]]:
        draw = self._draw
        source = arena_source(self._world.rule_set)

        def system(method: str, *arguments: Value) -> bytes:
            sender = draw.choice((0, 0, 0, -1))
            return self._to(SYSTEM_ADDRESS, method, *arguments, gas_limit=SYSTEM_GAS, sender=sender)

        def upgrade() -> bytes:
            new = draw.choice((upgraded(source), upgraded(source), source, BAD_SOURCE))
            return system("upgrade", self._subject(), new)

        def deploy() -> bytes:
            name = draw.choice(("arena.0", *(f"small.{number}" for number in range(5))))
            wrong = self._rarely(0.1)
            raw = system(
                "deploy", name, BAD_SOURCE if self._rarely(0.1) else SMALL_SOURCE, pack((0 if wrong else 1,))
            )
            self._made.append(deployed_by(raw))
            return raw

        def abolish() -> bytes:
            worthy = bool(self._made) or self._rarely(0.1)  # an arena that is gone makes a dull case
            return system("abolish", self._subject(0.95) if worthy else bytes(20))

        def made() -> bytes:
            return self._to(self._subject(1.0), draw.choice(("count", "count", "absent")), draw.randrange(5))

        return {
            "system_upgrade": upgrade,
            "system_deploy": deploy,
            "system_made": made,
            "system_freeze": lambda: system("freeze", self._subject()),
            "system_unfreeze": lambda: system("unfreeze", self._subject()),
            "system_abolish": abolish,
            "system_admin": lambda: system("set_admin", self._subject(), account(self._sender()).address),
            "system_info": lambda: system("info", self._subject()),
            "system_code": lambda: system("code", self._subject()),
            "system_resolve": lambda: system("resolve", draw.choice(("arena.1", "small.1", "nobody"))),
        }

    def _subject(self, made: float = 0.2) -> bytes:
        """A contract: an arena or one that this case deploys."""
        if self._made and self._draw.random() < made:
            return self._draw.choice(self._made)
        return self._a()

    def _program(self, steps: int) -> tuple[tuple[int, int, int], ...]:
        draw = self._draw
        codes = 22 if self._world.rule_set >= 2 else 15
        made = []
        for at in range(steps):
            code = draw.randrange(codes)
            a, b = self._key(), self._key()
            if code in (10, 11):
                a, b = draw.randrange(4), draw.randint(0, steps - at)
            elif code in (6, 12, 13):
                a = a % 4
            elif code in (15, 16, 18):
                b = draw.choice((-9, -2, 1, 6))
            made.append((code, a, b))
        return tuple(made)

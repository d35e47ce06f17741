"""From a number to a scenario: every combination where there are few enough, seeded draws where there are not.

Every second number walks through an enumeration: `Splits` and `Hidings` in turn, each in a fixed order that jumps
about, so that any run of numbers is a fair sample, and visits each combination once. The other numbers, and all beyond
the enumerations' ends, are drawn from the seed. The same number and seed give the same scenario, whatever ran before.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod
from random import Random
from typing import Final

from chain.sim.twins.scenario import (
    CHECKPOINT,
    COMMIT,
    NEW_VIEW,
    PRE_PREPARE,
    PREPARE,
    STATUS,
    VIEW_CHANGE,
    VOTES,
    Cut,
    Late,
    Order,
    Round,
    Scenario,
)

ROUNDS_MAX: Final = 7
_ALL: Final = (1 << 7) - 1  # every kind of message
_PHASES: Final = (COMMIT | CHECKPOINT, PREPARE | COMMIT | CHECKPOINT, CHECKPOINT)
_FAMILIES: Final = ((4, 1), (4, 1), (4, 1), (4, 1), (4, 1), (4, 1), (7, 2), (7, 1))  # (validators, doubled), drawn from


class Walk:
    """The numbers below the product of `radices` as digits, each once, neighbours far apart."""

    def __init__(self, *radices: int) -> None:
        self._radices = radices
        self.size = prod(radices)
        self._stride = int(self.size * 0.381966)
        while gcd(self._stride, self.size) != 1:
            self._stride += 1

    def digits(self, index: int) -> list[int]:
        rest = index * self._stride % self.size
        digits = []
        for radix in self._radices:
            rest, digit = divmod(rest, radix)
            digits.append(digit)
        return digits


class Splits:
    """Four validators, one doubled, two rounds: each way to split the five processes in two, in both rounds; in each
    nobody, one side, the other or both time out; in the first, votes of later phases reach everybody or one process.
    """

    def __init__(self) -> None:
        splits = [tuple(mask >> at & 1 for at in range(5)) for mask in range(16)]
        self._rounds = [(groups, drive) for groups in splits for drive in range(4) if drive < 2 or max(groups)]
        self._walk = Walk(4, len(_CUTS), len(self._rounds), len(self._rounds))
        self.size = self._walk.size

    def scenario(self, index: int, number: int) -> Scenario:
        """The combination visited as the `index`-th, counted from 0."""
        twin, cut, first, second = self._walk.digits(index)
        rounds = (_driven(*self._rounds[first], _CUTS[cut]), _driven(*self._rounds[second], ()))
        return _enumerated(number, index, twin, rounds)


class Hidings:
    """Four validators, one doubled, three rounds; in the second and third each process in turn, or none, is alone and
    all others time out; in the first two, votes of later phases reach everybody or one process.

    Two locks for one height, and the process that knows what was ordered away when they meet: so few rounds suffice.
    """

    def __init__(self) -> None:
        self._walk = Walk(4, len(_CUTS), 6, len(_CUTS), 6)
        self.size = self._walk.size

    def scenario(self, index: int, number: int) -> Scenario:
        """The combination visited as the `index`-th, counted from 0."""
        twin, first, hidden, second, last = self._walk.digits(index)
        rounds = (
            Round(groups=(0,) * 5, cuts=_CUTS[first], proposals=2),
            replace(_driven(_alone(hidden), 1, _CUTS[second]), repeats=False),
            replace(_driven(_alone(last), 1, ()), repeats=False),
        )
        return _enumerated(number, index, twin, rounds)


def _one_hears() -> tuple[tuple[Cut, ...], ...]:
    cuts: list[tuple[Cut, ...]] = [()]
    for kinds in _PHASES[:2]:
        cuts += [(Cut(kinds=kinds, sources=31, targets=31 & ~(1 << one)),) for one in range(5)]
    return tuple(cuts)


def _alone(process: int) -> tuple[int, ...]:
    """Five processes, one of them (5: none) alone."""
    return tuple(int(at == process) for at in range(5))


def _driven(groups: tuple[int, ...], drive: int, cuts: tuple[Cut, ...]) -> Round:
    driven = sum(1 << at for at, group in enumerate(groups) if drive >> group & 1)
    return Round(groups=groups, driven=driven, proposals=2, cuts=cuts)


def _enumerated(number: int, index: int, twin: int, rounds: tuple[Round, ...]) -> Scenario:
    heals = index % 4 == 0
    return Scenario(
        number=number, nodes=4, twins=(twin,), window=2, rounds=rounds, heals=heals, drops_twins=index % 8 == 0
    )


_CUTS: Final = _one_hears()
ENUMERATIONS: Final = (Splits(), Hidings())


def _enumeration(number: int) -> tuple[Splits | Hidings, int] | None:
    """The enumeration that this number belongs to, and how many of it came before."""
    enumeration, index = ENUMERATIONS[number // 2 % 2], number // 4
    return (enumeration, index) if number % 2 == 0 and index < enumeration.size else None


def scenario_of(number: int, *, seed: int = 0) -> Scenario:
    """The scenario of this number (from 0) and seed."""
    enumerated = _enumeration(number)
    if enumerated is not None:
        return enumerated[0].scenario(enumerated[1], number)
    return Draw(number, seed).scenario()


def nodes_of(number: int, *, seed: int = 0) -> int:
    """How many validators scenario `number` has; cheaper than making it."""
    return 4 if _enumeration(number) is not None else Draw(number, seed).nodes


class Draw:
    """A scenario drawn from a seed, with what is known to be nasty drawn often."""

    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._random = Random(f"twins/{seed}/{number}")
        self.nodes, self._doubled = self._random.choice(_FAMILIES)
        self._processes = self.nodes + self._doubled

    def scenario(self) -> Scenario:
        random = self._random
        twins = tuple(sorted(random.sample(range(min(self.nodes, 4)), self._doubled)))
        count = random.choice((2, 3, 3, 4, 4, 5, 6, ROUNDS_MAX))
        plot = random.random()
        if plot < 0.15:
            twins = tuple(range(self._doubled))
            rounds = self._two_proposals(count)
        elif plot < 0.4:
            rounds = self._hide(count)
        else:
            rounds = tuple(self._round() for _ in range(count))
        return Scenario(
            number=self._number,
            nodes=self.nodes,
            twins=twins,
            window=random.choice((2, 2, 3)),
            rounds=rounds,
            order=random.choice((Order.FIRST, Order.ANY, Order.ANY, Order.LAST)),
            seed=random.randrange(2**32),
            eager=random.random() < 0.6,
            stores_late=random.random() < 0.3,
            refused=(self._mask(0.4), self._mask(0.5)) if random.random() < 0.1 else (0, 0),
            heals=random.random() < 0.25,
            drops_twins=random.random() < 0.5,
        )

    def _mask(self, chance: float) -> int:
        return sum(1 << at for at in range(self._processes) if self._random.random() < chance)

    def _round(self) -> Round:
        random = self._random
        groups = self._groups()
        driven, leader = 0, None
        if random.random() < 0.65:
            driven = sum(1 << at for at, group in enumerate(groups) if group == 0 or random.random() < 0.3)
            if random.random() < 0.15:
                driven = self._mask(0.5)
            if random.random() < 0.3:
                leader = random.randrange(self.nodes)
        return Round(
            groups=groups,
            leader=leader if driven else None,
            driven=driven,
            proposals=random.choice((0, 1, 1, 1, 2, 3)),
            cuts=tuple(self._cut() for _ in range(random.choice((0, 0, 1, 1, 2)))),
            late=random.choice((Late.KEPT, Late.KEPT, Late.KEPT, Late.WITHIN, Late.ALL)),
            starved=self._mask(0.3) if random.random() < 0.12 else 0,
            repeats=random.random() < 0.6,
            crash=(random.randrange(self._processes), random.randint(1, 25)) if random.random() < 0.15 else None,
        )

    def _hide(self, count: int) -> tuple[Round, ...]:
        """In each round few hear the later votes; those are hidden in the next one, while all others time out."""
        random = self._random
        rounds: list[Round] = []
        everybody, hidden = (1 << self._processes) - 1, 0
        for number in range(count):
            groups = tuple(hidden >> at & 1 for at in range(self._processes))
            hearing = self._few()
            kinds = random.choice((*_PHASES, PREPARE | COMMIT | CHECKPOINT, COMMIT | CHECKPOINT, NEW_VIEW))
            cuts = (Cut(kinds=kinds, sources=everybody, targets=everybody & ~hearing),)
            rounds.append(
                Round(
                    groups=_numbered(list(groups)),
                    driven=everybody & ~hidden if number and random.random() < 0.85 else 0,
                    proposals=random.choice((1, 1, 2)),
                    cuts=cuts if random.random() < 0.8 else (),
                    late=Late.WITHIN if random.random() < 0.1 else Late.KEPT,
                    repeats=random.random() < 0.2,
                    crash=(random.randrange(self._processes), random.randint(1, 25)) if random.random() < 0.1 else None,
                )
            )
            hidden = hearing if random.random() < 0.8 else self._few()
        return tuple(rounds)

    def _two_proposals(self, count: int) -> tuple[Round, ...]:
        """Both processes of the first leader propose, to some and to the others; then comes a crash or a time-out."""
        random = self._random
        everybody, second = (1 << self._processes) - 1, self.nodes
        some = self._few() if random.random() < 0.6 else self._mask(0.5)
        cuts = [
            Cut(kinds=PRE_PREPARE, sources=1, targets=everybody & ~some),
            Cut(kinds=PRE_PREPARE, sources=1 << second, targets=some),
        ]
        if random.random() < 0.6:
            cuts.append(Cut(kinds=CHECKPOINT, sources=everybody, targets=self._few() | some))
        starved = some if random.random() < 0.5 else 0
        together = (0,) * self._processes
        first = Round(groups=together, proposals=random.choice((1, 1, 2)), cuts=tuple(cuts), starved=starved)
        crash = random.choice([at for at in range(self._processes) if some >> at & 1] or [0]), random.randint(1, 10)
        kept = tuple(cuts[2:]) if random.random() < 0.7 else ()
        then = Round(
            groups=together,
            driven=everybody if random.random() < 0.3 else 0,
            proposals=random.choice((0, 1)),
            cuts=kept,
            crash=crash if random.random() < 0.7 else None,
            repeats=random.random() < 0.7,
        )
        return (first, then, *(self._round() for _ in range(count - 1)))

    def _few(self) -> int:
        """One process, or as many as there are faulty validators."""
        faulty = (self.nodes - 1) // 3
        return sum(1 << at for at in self._random.sample(range(self._processes), self._random.randint(1, faulty)))

    def _groups(self) -> tuple[int, ...]:
        """Group 0 has a quorum of validators most of the time: whoever cannot get on is safe and dull."""
        random = self._random
        kind = random.random()
        if kind < 0.2:
            return (0,) * self._processes
        if kind < 0.75:  # up to F validators away, the second processes somewhere
            faulty = (self.nodes - 1) // 3
            away = set(random.sample(range(self.nodes), random.randint(1, faulty)))
            groups = [int(at in away) for at in range(self.nodes)]
            groups += [random.randrange(2) for _ in range(self._doubled)]
        else:
            count = random.choice((2, 2, 3))
            groups = [random.randrange(count) for _ in range(self._processes)]
        return _numbered(groups)

    def _cut(self) -> Cut:
        random = self._random
        kinds = random.choice(
            (*_PHASES, *_PHASES, PRE_PREPARE, PREPARE, COMMIT, CHECKPOINT, VIEW_CHANGE, NEW_VIEW,
             VIEW_CHANGE | NEW_VIEW, VOTES, _ALL & ~VIEW_CHANGE, _ALL & ~STATUS)
        )  # fmt: skip
        everybody = (1 << self._processes) - 1
        sources = everybody if random.random() < 0.7 else self._mask(0.5)
        kind = random.random()
        if kind < 0.4:  # one process hears it, the others do not
            targets = everybody & ~(1 << random.randrange(self._processes))
        elif kind < 0.7:
            targets = 1 << random.randrange(self._processes)
        else:
            targets = self._mask(0.5)
        return Cut(kinds=kinds, sources=sources, targets=targets)


def _numbered(groups: list[int]) -> tuple[int, ...]:
    """The same groups, numbered from 0 by size, the largest first."""
    order = sorted(set(groups), key=lambda group: (-groups.count(group), group))
    return tuple(order.index(group) for group in groups)

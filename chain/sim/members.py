"""Membership in the simulated chain: a fake system contract, and the changes of a run.

A change is one transaction that names a whole set. The block that executes it schedules the set, unless another one is
pending already: then the transaction does nothing, as the real contract refuses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from chain.model.validators import VALIDATORS_MIN, ValidatorSchedule, ValidatorSet
from chain.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Submitted after `at_rate` per mille of the chaos. `members`: (number of the node, weight), leaders in order."""

    at_rate: int
    members: tuple[tuple[int, int], ...]


class SimMembers:
    """The set of each height, as follows from the blocks executed so far."""

    def __init__(self, *, first: ValidatorSet, window: int, changes: Mapping[bytes, ValidatorSet]) -> None:
        """`changes`: what each system transaction asks for."""
        self.schedule = ValidatorSchedule(first)
        self._window = window
        self._changes = changes

    def execute(self, height: int, transactions: Sequence[bytes]) -> ValidatorSet | None:
        """The set that block `height` schedules by executing `transactions`."""
        for transaction in transactions:
            target = self._changes.get(transaction)
            if target is not None and self.schedule.boundary(height) is None:
                self.schedule.add(height + self._window + 1, target)
                return target
        return None


def change_digest(number: int) -> Digest:
    """The hash of the system transaction `number` of a run."""
    return Digest(hashlib.sha256(b"membership change %d" % number).digest())


def draw_changes(random: Random, weights: Sequence[int]) -> tuple[Change, ...]:
    """None, one or two changes of a set that begins with nodes 0, 1, ... of these weights."""
    if random.random() < 0.4:
        return ()
    present = dict(enumerate(weights))
    newcomer = len(weights)
    changes: list[Change] = []
    at_rate = random.randint(0, 600)
    for _ in range(random.choice((1, 1, 2))):
        for kind in random.sample(("add", "add_three", "remove", "replace", "weigh", "turn"), random.choice((1, 1, 2))):
            if kind in ("add", "add_three", "replace"):
                for _ in range(3 if kind == "add_three" else 1):
                    present[newcomer] = 1
                    newcomer += 1
            if kind == "replace" or (kind == "remove" and len(present) > VALIDATORS_MIN):
                del present[random.choice(sorted(present)[: len(present) - 1])]
            if kind == "remove" and len(present) > VALIDATORS_MIN + 1:
                del present[random.choice(sorted(present))]
            if kind == "weigh":
                present[random.choice(sorted(present))] = random.choice((1, 2, 3))
            if kind == "turn":
                first = next(iter(present))
                present[first] = present.pop(first)
        changes.append(Change(at_rate=at_rate, members=tuple(present.items())))
        at_rate = random.randint(at_rate, 1_000)
    return tuple(changes)

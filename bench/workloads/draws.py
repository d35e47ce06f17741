"""What is drawn: pairs of accounts, popular ones by Zipf's law, names by weight. Equal seeds draw the same."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate


def uniform_pair(items: int, draw: random.Random) -> tuple[int, int]:
    """Two different ones."""
    first = draw.randrange(items)
    return first, (first + draw.randrange(1, items)) % items


def zipf_weights(items: int, exponent: float) -> list[float]:
    """Cumulative weights of the ranks 1..items, rank r weighing r ** -exponent."""
    return list(accumulate([rank**-exponent for rank in range(1, items + 1)]))


class Zipf:
    """Items 0..items-1, some of them far more popular; which ones is drawn at first, so they lie anywhere."""

    def __init__(self, items: int, exponent: float, draw: random.Random) -> None:
        self._weights = zipf_weights(items, exponent)
        self._by_rank = list(range(items))
        draw.shuffle(self._by_rank)

    def one(self, draw: random.Random) -> int:
        weights = self._weights
        return self._by_rank[min(bisect_left(weights, draw.random() * weights[-1]), len(weights) - 1)]

    def pair(self, draw: random.Random) -> tuple[int, int]:
        """Two different ones."""
        first = second = self.one(draw)
        while second == first:
            second = self.one(draw)
        return first, second


class Mix:
    """Names with weights."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._lots = tuple(name for name, weight in weights.items() for _ in range(weight))

    def one(self, draw: random.Random) -> str:
        return self._lots[int(draw.random() * len(self._lots))]

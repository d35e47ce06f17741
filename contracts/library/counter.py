"""Counters that all may raise at once: hits by name, and a stock that is never oversold."""

STOCK_MAX = 100_000


class Counter(Contract):
    """Adding needs no look at the number, so calls that count or take the same thing do not wait for each other."""

    hits: Map[str, int]
    items: Map[str, int]

    @external
    def hit(self, name: str):
        """Count one more."""
        self.hits.add(name, 1)

    @external
    def stock(self, item: str, count: int):
        """Put some of an item on the shelf, which has a limit."""
        require(count > 0, "count")
        self.items.add(item, count, maximum=STOCK_MAX)

    @external
    def take(self, item: str, count: int):
        """Take some of an item; fails if there are not so many."""
        require(count > 0, "count")
        self.items.add(item, -count, minimum=0)

    @view
    def hits_of(self, name: str) -> int:
        return self.hits.get(name, 0)

    @view
    def left(self, item: str) -> int:
        return self.items.get(item, 0)

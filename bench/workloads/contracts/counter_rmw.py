"""One counter that every call reads and writes: nothing about it can run at the same time."""


class Counter(Contract):
    """Hits so far."""

    hits: Value[int]

    @external
    def hit(self, amount: int):
        """Count, by reading the old value and writing the new one."""
        self.hits.set(self.hits.get(0) + amount)

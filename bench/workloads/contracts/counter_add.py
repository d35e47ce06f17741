"""One counter that every call adds to without looking: additions commute."""


class Counter(Contract):
    """Hits so far."""

    hits: Value[int]

    @external
    def hit(self, amount: int):
        """Count, without knowing what was counted before."""
        self.hits.add(amount)

"""The smallest useful contract: a counter that only its owner resets, and that says so."""


class Changed(Event):
    """The count after a change, and who changed it."""

    by: Address
    count: int


class Counter(Contract):
    """Counts up."""

    owner: Value[Address]
    count: Value[int]

    def init(self):
        self.owner.set(ctx.sender)
        self.count.set(0)

    @external
    def increase(self, by: int) -> int:
        """Adds `by`, which must be positive, and answers the new count."""
        require(by > 0, "not_positive")
        self._change(self.count.get() + by)
        return self.count.get()

    @external
    def reset(self):
        """Back to zero; the owner's privilege."""
        require(ctx.sender == self.owner.get(), "not_owner")
        self._change(0)

    @view
    def value(self) -> int:
        return self.count.get()

    def _change(self, count):
        self.count.set(count)
        emit(Changed(by=ctx.sender, count=count))

"""What a transaction costs when its contract does nothing."""


class Nothing(Contract):
    """No state."""

    @external
    def nothing(self):
        """Do nothing."""
        return

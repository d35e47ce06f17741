"""A small table that some calls change and others add up: every sum depends on every change before it."""


class Board(Contract):
    """Rows by number, sums by the number of whoever asked."""

    rows: Map[int, int]
    sums: Map[int, int]

    @external
    def put(self, row: int, value: int):
        """Set a row."""
        self.rows[row] = value

    @external
    def total(self, number: int):
        """Keep the sum of all rows."""
        self.sums[number] = sum([value for key, value in self.rows.scan()])
